//! Validates summaries: types first, then values. An error names the field by its path into the body.

mod numbers;
pub(crate) mod rules;
mod strict;

use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::error::Category;
use serde_json::value::RawValue;
use wire::{CpuHistogram, Payload, Scope, ScopeError, Submission};

use self::strict::Strict;

/// Why a body was rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// It is not JSON.
    #[error("{0}")]
    Malformed(String),
    /// A field has an invalid value.
    #[error("{field} {detail}")]
    Invalid {
        /// The field, by its path into the body.
        field: String,
        /// What is wrong and what would be accepted.
        detail: String,
    },
}

impl BodyError {
    fn invalid(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), detail: detail.into() }
    }
}

/// A valid submission.
#[derive(Debug)]
pub struct Valid {
    /// The submission, with its payload as raw JSON.
    pub submission: Submission<Box<RawValue>>,
    /// The parsed payload.
    pub payload: Payload,
    /// The scope of the run.
    pub scope: Scope,
}

/// Reads and checks the body of a push.
pub fn submission(body: &[u8]) -> Result<Valid, BodyError> {
    let submission: Submission<Box<RawValue>> = parse(body, "")?;
    let payload: Payload = parse(submission.payload.get().as_bytes(), "payload.")?;
    let scope = Scope::new(
        &submission.organization,
        Some(&submission.repository),
        Some(&submission.workflow),
        Some(&submission.job),
    )?;
    rules::name("run_id", &submission.run_id)?;
    match (&submission.summary_id, submission.seq) {
        (Some(id), Some(seq)) => {
            rules::name("summary_id", id)?;
            rules::integer("seq", seq)?;
        }
        (None, None) => {}
        (Some(_), None) => {
            return Err(BodyError::invalid("seq", "is missing, but summary_id is given; they go together"));
        }
        (None, Some(_)) => {
            return Err(BodyError::invalid("summary_id", "is missing, but seq is given; they go together"));
        }
    }
    check_payload(&payload)?;
    // Unknown fields are stored as they are, for a reader that knows them.
    let _: Strict = parse(body, "")?;
    Ok(Valid { submission, payload, scope })
}

/// Parses JSON. An error names line and column if the body is not JSON, and the path of a value with the wrong type.
pub fn parse<T: DeserializeOwned>(body: &[u8], prefix: &str) -> Result<T, BodyError> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let parsed = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        // serde_json calls a number in place of a name a syntax error.
        let is_name_missing = || inner.to_string().starts_with("expected value");
        let is_json = || serde_json::from_slice::<IgnoredAny>(body).is_ok();
        if inner.classify() != Category::Data && !(is_name_missing() && is_json()) {
            return BodyError::Malformed(format!("the body is not JSON: {inner}"));
        }
        let field =
            if path == "." { prefix.trim_end_matches('.').to_owned() } else { format!("{prefix}{path}") };
        let hint =
            if field.ends_with("_time") { "; a time such as 2026-02-06T14:30:00Z is accepted" } else { "" };
        BodyError::invalid(missing_field(&field, &inner), format!("{inner}{hint}"))
    })?;
    deserializer.end().map_err(|error| BodyError::Malformed(format!("the body is not JSON: {error}")))?;
    Ok(parsed)
}

/// The path of the field at fault. The error for a missing field has the path of its object, so the name is added.
fn missing_field(path: &str, error: &serde_json::Error) -> String {
    let text = error.to_string();
    let missing = text.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
    match missing {
        Some(field) if path.is_empty() => field.to_owned(),
        Some(field) => format!("{path}.{field}"),
        None => path.to_owned(),
    }
}

impl From<ScopeError> for BodyError {
    fn from(error: ScopeError) -> Self {
        Self::invalid(error.field, error.to_string())
    }
}

fn check_payload(payload: &Payload) -> Result<(), BodyError> {
    if payload.end_time < payload.start_time {
        let detail = format!("{} is before start_time {}", payload.end_time, payload.start_time);
        return Err(BodyError::invalid("payload.end_time", detail));
    }
    for (list, most, length) in rules::LISTS {
        let length = length(payload);
        if length > most {
            let detail = format!("has {length} elements; at most {most} are accepted");
            return Err(BodyError::invalid(format!("payload.{list}"), detail));
        }
    }
    if let Some(ci) = &payload.ci {
        for (field, text) in ci.texts() {
            if let Some(text) = text {
                rules::name(&format!("payload.ci.{field}"), text)?;
            }
        }
        if let Some(detail) = ci.url.as_deref().and_then(wire::url_fault) {
            return Err(BodyError::invalid("payload.ci.url", detail));
        }
    }
    for (index, container) in payload.containers.iter().enumerate() {
        let field = |rest: &str| format!("payload.containers[{index}].{rest}");
        rules::name(&field("name"), &container.name)?;
        if !container.cpu_cores_histogram.as_ref().is_none_or(CpuHistogram::is_sound) {
            let accepted = "pairs of a bucket, ascending, and its seconds, 0 or more, are accepted";
            let last = CpuHistogram::LAST_BUCKET;
            return Err(BodyError::invalid(
                field("cpu_cores_histogram"),
                format!("is not a histogram; {accepted}; the last bucket is {last}"),
            ));
        }
    }
    numbers::check(payload)
}
