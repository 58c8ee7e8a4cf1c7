//! What is wrong with the configuration, and whether that keeps the program from starting.

use anyhow::{Result, anyhow};
use program::arguments::Sources;

/// What was found to be wrong so far. In front of a command, unless it is to be strict, only a value that was typed and has
/// the wrong form stops the start: what the environment says, and what files and networks are like, is nothing that a
/// build should fail for.
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

    /// What the argument `id` holds, or `instead` if its form is wrong; an error is told behind the argument's name.
    pub(super) fn form<T>(&mut self, id: &str, value: Result<T>, instead: T) -> Result<T> {
        let value = value.map_err(|error| {
            let (name, what) = (self.sources.name(id), format!("{error:#}"));
            let colon = if what.starts_with("is ") || what.starts_with("has ") { "" } else { ":" };
            anyhow!("{name}{colon} {what}")
        });
        if self.sources.is_typed(id) { value } else { self.state(value, instead) }
    }

    /// What is there, or `instead` if it is not as it should be.
    pub(super) fn state<T>(&mut self, value: Result<T>, instead: T) -> Result<T> {
        match value {
            Err(error) if self.tolerant => {
                self.found.push(format!("{error:#}"));
                Ok(instead)
            }
            value => value,
        }
    }

    /// Tells of something that no mode stops for.
    pub(super) fn note(&mut self, what: String) {
        self.found.push(what);
    }

    /// What to call an argument in a message: by its flag, or the variable that it came from.
    pub(super) fn name(&self, id: &str) -> String {
        self.sources.name(id)
    }

    pub(super) fn into_found(self) -> Vec<String> {
        self.found
    }
}
