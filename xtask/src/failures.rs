//! Passes on the output of `cargo test` as it comes, collects the failures in it, and gives tests of a live machine a second
//! try.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::command::{announced, take_surroundings};

/// The closing table shows at most this much of a test's message.
const MAX_CHARS: usize = 400;

/// More failures than this are no accident of timing.
const MAX_AGAIN: usize = 3;

/// Runs tests. The error names each test that failed, with its first message.
pub(crate) fn told(test: &mut Command) -> Result<()> {
    let failures = failures(test)?;
    ensure!(failures.of.is_empty(), "{}", failures.tell());
    Ok(())
}

/// The same for tests that `filter`, one of the command's arguments, selects, and that compare figures on a live machine. A
/// few tests that fail get a second try. Returns what is to be told of those that passed only then.
pub(crate) fn told_twice(test: &mut Command, filter: &str) -> Result<Option<String>> {
    let first = failures(test)?;
    if first.of.is_empty() {
        return Ok(None);
    }
    ensure!(first.of.len() <= MAX_AGAIN, "{}", first.tell());
    println!("Second try for what failed: {}", first.tell());
    told(&mut with_names(test, filter, &first.of.keys()))?;
    Ok(Some(format!("at the second try; at the first, {}", first.tell())))
}

/// A command that runs the tests of these names in place of those that a filter selects.
fn with_names<'a>(
    test: &Command,
    filter: &str,
    names: &(impl Iterator<Item = &'a String> + Clone),
) -> Command {
    let mut again = Command::new(test.get_program());
    for word in test.get_args() {
        if word == filter {
            again.arg("--exact").args(names.clone());
        } else {
            again.arg(word);
        }
    }
    take_surroundings(&mut again, test);
    again
}

/// Runs tests and returns what failed. It is an error if the command fails without a failed test.
fn failures(test: &mut Command) -> Result<Failures> {
    let line = announced(test);
    let mut child = test.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot run {line}"))?;
    let output = child.stdout.take().context("no standard output")?;
    let mut failures = Failures::default();
    for text in BufReader::new(output).split(b'\n') {
        let text = text?;
        let text = String::from_utf8_lossy(&text);
        println!("{text}");
        failures.read(&text);
    }
    let status = child.wait()?;
    if failures.of.is_empty() && !status.success() {
        bail!("{line}: {status}");
    }
    Ok(failures)
}

/// Failed tests by name, with each one's message.
#[derive(Debug, Default)]
struct Failures {
    of: BTreeMap<String, String>,
    place: Place,
}

/// The position in a test program's output.
#[derive(Debug, Default)]
enum Place {
    /// Outside the list of failures.
    #[default]
    Elsewhere,
    /// In the list of failures; in the output of the named test, if there is a name.
    Failures(Option<String>),
    /// In the message of a test's panic.
    Message(String),
}

impl Failures {
    fn read(&mut self, line: &str) {
        self.place = match std::mem::take(&mut self.place) {
            _ if line == "failures:" => Place::Failures(None),
            _ if line == "successes:" || line.starts_with("test result: ") => Place::Elsewhere,
            Place::Elsewhere => Place::Elsewhere,
            place => {
                match (line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----")), place) {
                    (Some(name), _) => {
                        self.of.entry(name.to_owned()).or_default();
                        Place::Failures(Some(name.to_owned()))
                    }
                    (None, Place::Failures(Some(name))) if line.contains("panicked at ") => {
                        Place::Message(name)
                    }
                    (None, Place::Message(name)) if ends_message(line) => Place::Failures(Some(name)),
                    (None, Place::Message(name)) => {
                        let message = self.of.entry(name.clone()).or_default();
                        if message.chars().count() + line.chars().count() < MAX_CHARS {
                            message.push_str(line.trim());
                            message.push(' ');
                        }
                        Place::Message(name)
                    }
                    (None, place) => place,
                }
            }
        };
    }

    fn tell(&self) -> String {
        let lines = self.of.iter().map(|(name, message)| format!("\n    {name}: {}", message.trim()));
        format!("{} failed:{}", self.of.len(), lines.collect::<String>())
    }
}

/// Whether a panic's message ends before this line.
fn ends_message(line: &str) -> bool {
    line.is_empty() || line == "stack backtrace:" || line.starts_with("note: run with")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_try_runs_what_failed_and_nothing_else() {
        let mut test = Command::new("nsenter");
        test.args(["cargo", "test", "--", "groups::x::", "--skip", "alone::"]).env("A", "b").current_dir("/");
        let names = ["groups::x::one".to_owned(), "groups::x::two".to_owned()];
        let again = with_names(&test, "groups::x::", &names.iter());
        let words: Vec<_> = again.get_args().collect();
        assert_eq!(
            words,
            ["cargo", "test", "--", "--exact", "groups::x::one", "groups::x::two", "--skip", "alone::"]
        );
        assert_eq!(again.get_program(), "nsenter");
        assert_eq!(again.get_envs().count(), 1);
        assert_eq!(again.get_current_dir(), test.get_current_dir());
    }

    #[test]
    fn each_failure_is_told_with_its_message() {
        let output = "\
running 3 tests
test a::one ... ok
test a::two ... FAILED
test a::three ... FAILED

successes:

---- a::one stdout ----
thread 'a::one' (1) panicked at x.rs:1:1:
caught

failures:

---- a::two stdout ----
said before

thread 'a::two' (2) panicked at tests/it/a.rs:1:2:
assertion failed: no
  left: 1
stack backtrace:
   0: nothing
note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace

---- a::three stdout ----

thread 'a::three' (3) panicked at tests/it/a.rs:9:2:
gone

failures:
    a::three
    a::two
";
        let mut failures = Failures::default();
        output.lines().for_each(|line| failures.read(line));
        assert_eq!(
            failures.tell(),
            "2 failed:\n    a::three: gone\n    a::two: assertion failed: no left: 1"
        );
    }
}
