//! Each rule of validation, once: the checks of this module and the description of the API use the same constants.

use wire::Payload;

use super::BodyError;

/// The largest integer that is accepted: SQLite's are signed.
pub(crate) const MAX_INTEGER: u64 = i64::MAX.cast_unsigned();

/// A list of a payload: its field, its maximum length, and a function that returns its length.
pub(crate) type List = (&'static str, usize, fn(&Payload) -> usize);

/// Lists of a payload with a maximum length. No pod has more containers, and no collector lists more processes, commands or steps.
pub(crate) const LISTS: [List; 5] = [
    ("containers", 1000, |payload| payload.containers.len()),
    ("top_cpu_processes", 10_000, |payload| payload.top_cpu_processes.len()),
    ("top_mem_processes", 10_000, |payload| payload.top_mem_processes.len()),
    ("top_commands", 10_000, |payload| payload.top_commands.len()),
    ("steps", 1000, |payload| payload.steps.len()),
];

/// A regular expression for what [`name`] accepts, except for the length: no control characters, and not only whitespace.
pub(crate) const NAME: &str =
    "^[^\\x00-\\x1f\\x7f-\\x9f]*[^\\s\\x00-\\x1f\\x7f-\\x9f][^\\x00-\\x1f\\x7f-\\x9f]*$";

/// A regular expression for what [`wire::url_fault`] accepts, except for the length.
pub(crate) const URL: &str = "^https?://[\\x21-\\x7e]*$";

/// Checks a name of a push, which is stored as it is.
pub(super) fn name(field: &str, text: &str) -> Result<(), BodyError> {
    match wire::name_fault(text) {
        None => Ok(()),
        Some(detail) => Err(BodyError::invalid(field, detail)),
    }
}

/// Checks an integer.
pub(super) fn integer(field: impl Into<String>, value: u64) -> Result<(), BodyError> {
    if value <= MAX_INTEGER {
        return Ok(());
    }
    let detail = format!("is {value}, which is more than 63 bits; at most {MAX_INTEGER} is accepted");
    Err(BodyError::invalid(field, detail))
}

/// Checks a number of a payload. All of them are quantities, and none can be negative.
pub(super) fn quantity(field: impl Into<String>, value: f64) -> Result<(), BodyError> {
    if value.is_finite() && value >= 0.0 {
        return Ok(());
    }
    Err(BodyError::invalid(field, format!("is {value}; a number that is 0 or more is accepted")))
}
