//! Problems in the configuration, and whether they prevent the start.

use anyhow::{Result, anyhow};
use program::arguments::Sources;

/// The problems found so far. In front of a command, unless it is strict, only a malformed value on the command line prevents
/// the start: a build should not fail because of its environment, its files or the network.
#[derive(Debug)]
pub(super) struct Problems<'a> {
    sources: &'a Sources,
    tolerant: bool,
    found: Vec<String>,
}

impl<'a> Problems<'a> {
    pub(super) fn new(sources: &'a Sources, tolerant: bool) -> Self {
        Self { sources, tolerant, found: Vec::new() }
    }

    /// The value of the argument `id`, or `instead` if it is malformed and that is tolerated. An error begins with the argument's
    /// name.
    pub(super) fn form<T>(&mut self, id: &str, value: Result<T>, instead: T) -> Result<T> {
        let value = value.map_err(|error| {
            let (name, what) = (self.sources.name(id), format!("{error:#}"));
            let colon = if what.starts_with("is ") || what.starts_with("has ") { "" } else { ":" };
            anyhow!("{name}{colon} {what}")
        });
        if self.sources.is_typed(id) { value } else { self.state(value, instead) }
    }

    /// The value, or `instead` if it is an error and that is tolerated.
    pub(super) fn state<T>(&mut self, value: Result<T>, instead: T) -> Result<T> {
        match value {
            Err(error) if self.tolerant => {
                self.found.push(format!("{error:#}"));
                Ok(instead)
            }
            value => value,
        }
    }

    /// Records a problem that prevents the start in no mode.
    pub(super) fn note(&mut self, what: String) {
        self.found.push(what);
    }

    /// The argument's name in messages: its flag, or the variable that it came from.
    pub(super) fn name(&self, id: &str) -> String {
        self.sources.name(id)
    }

    pub(super) fn into_found(self) -> Vec<String> {
        self.found
    }
}
