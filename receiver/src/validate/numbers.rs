//! Checks every number of a payload, in any field.
//!
//! The payload is serialised to nowhere, by a formatter that checks the numbers and tracks their path. So a new field is checked
//! without being listed here, and the payload is not copied.

use std::fmt::Write as _;
use std::io;

use serde::Serialize;
use serde_json::ser::Formatter;
use wire::Payload;

use super::{BodyError, rules};

/// Checks the numbers of a payload. The error is about the first invalid one.
pub(super) fn check(payload: &Payload) -> Result<(), BodyError> {
    let mut wrong = None;
    let formatter = Numbers { path: vec![], in_key: false, wrong: &mut wrong };
    let walked = payload.serialize(&mut serde_json::Serializer::with_formatter(io::sink(), formatter));
    match wrong {
        Some(wrong) => Err(wrong),
        None => walked.map_err(|error| BodyError::invalid("payload", error.to_string())),
    }
}

enum Step {
    Field(String),
    Index(usize),
}

struct Numbers<'a> {
    path: Vec<Step>,
    in_key: bool,
    wrong: &'a mut Option<BodyError>,
}

impl Numbers<'_> {
    fn field(&self) -> String {
        self.path.iter().fold("payload".to_owned(), |mut field, step| {
            let _ = match step {
                Step::Field(name) => write!(field, ".{name}"),
                Step::Index(index) => write!(field, "[{index}]"),
            };
            field
        })
    }

    fn note(&mut self, checked: Result<(), BodyError>) -> io::Result<()> {
        checked.map_err(|wrong| {
            *self.wrong = Some(wrong);
            io::ErrorKind::InvalidData.into()
        })
    }
}

impl Formatter for Numbers<'_> {
    fn write_f64<W: ?Sized + io::Write>(&mut self, _: &mut W, value: f64) -> io::Result<()> {
        if rules::quantity("", value).is_ok() {
            return Ok(());
        }
        self.note(rules::quantity(self.field(), value))
    }

    fn write_u64<W: ?Sized + io::Write>(&mut self, _: &mut W, value: u64) -> io::Result<()> {
        if rules::integer("", value).is_ok() {
            return Ok(());
        }
        self.note(rules::integer(self.field(), value))
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.path.push(Step::Field(String::new()));
        Ok(())
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, _: &mut W, _: bool) -> io::Result<()> {
        self.in_key = true;
        if let Some(Step::Field(name)) = self.path.last_mut() {
            name.clear();
        }
        Ok(())
    }

    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, _: &mut W, text: &str) -> io::Result<()> {
        if let (true, Some(Step::Field(name))) = (self.in_key, self.path.last_mut()) {
            name.push_str(text);
        }
        Ok(())
    }

    fn end_object_key<W: ?Sized + io::Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.in_key = false;
        Ok(())
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.path.pop();
        Ok(())
    }

    fn begin_array<W: ?Sized + io::Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.path.push(Step::Index(0));
        Ok(())
    }

    fn begin_array_value<W: ?Sized + io::Write>(&mut self, _: &mut W, first: bool) -> io::Result<()> {
        if let (false, Some(Step::Index(index))) = (first, self.path.last_mut()) {
            *index += 1;
        }
        Ok(())
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.path.pop();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(change: impl FnOnce(&mut serde_json::Value)) -> Option<String> {
        let stats = serde_json::json!({"peak": 1.0, "avg": 0.5});
        let container = serde_json::json!({
            "name": "build", "cpu_cores": stats, "memory_bytes": stats,
            "series": {"step_seconds": 1.0, "cpu_cores": [0.5, 1.0], "memory_bytes": [1, 2]},
        });
        let mut payload = serde_json::json!({
            "start_time": "2026-02-06T14:30:00Z", "end_time": "2026-02-06T14:30:10Z", "duration_seconds": 10.0,
            "sample_count": 5, "containers": [container, container],
        });
        change(&mut payload);
        check(&serde_json::from_value(payload).unwrap()).err().map(|error| error.to_string())
    }

    #[test]
    fn a_number_is_named_by_its_path_wherever_it_is() {
        assert_eq!(wrong(|_| {}), None);
        let negative = "is -1; a number that is 0 or more is accepted";
        let large =
            "is 9223372036854775808, which is more than 63 bits; at most 9223372036854775807 is accepted";
        let found = wrong(|payload| payload["duration_seconds"] = (-1.0).into()).unwrap();
        assert_eq!(found, format!("payload.duration_seconds {negative}"));
        let found =
            wrong(|payload| payload["containers"][1]["series"]["cpu_cores"][1] = (-1.0).into()).unwrap();
        assert_eq!(found, format!("payload.containers[1].series.cpu_cores[1] {negative}"));
        let found = wrong(|payload| payload["containers"][1]["cpu_cores"]["avg"] = (-1.0).into()).unwrap();
        assert_eq!(found, format!("payload.containers[1].cpu_cores.avg {negative}"));
        let found = wrong(|payload| payload["sample_count"] = (1_u64 << 63).into()).unwrap();
        assert_eq!(found, format!("payload.sample_count {large}"));
        assert_eq!(wrong(|payload| payload["sample_count"] = i64::MAX.into()), None);
    }
}
