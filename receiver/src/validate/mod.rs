//! What a summary is: types, and then sense. Everything wrong is named by its path into the body.

mod strict;

use serde::de::DeserializeOwned;
use serde_json::error::Category;
use serde_json::value::RawValue;
use wire::{ContainerUsage, CpuHistogram, Payload, Scope, ScopeError, Stats, Submission};

use self::strict::Strict;

/// More containers than this no pod has.
const MAX_CONTAINERS: usize = 1000;
/// More processes or commands than this no summary tells of.
const MAX_LISTED: usize = 10_000;
/// The longest name that is accepted, in characters.
const MAX_NAME: usize = 512;

/// Why a body was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// It is not JSON.
    #[error("{0}")]
    Malformed(String),
    /// A field has a value that is not accepted.
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

/// A submission that makes sense.
#[derive(Debug)]
pub struct Valid {
    /// As it came, the payload raw.
    pub submission: Submission<Box<RawValue>>,
    /// The payload, read.
    pub payload: Payload,
    /// Whose run it is.
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
    name("run_id", &submission.run_id)?;
    match (&submission.summary_id, submission.seq) {
        (Some(id), Some(seq)) => {
            name("summary_id", id)?;
            if seq > i64::MAX.cast_unsigned() {
                return Err(BodyError::invalid("seq", format!("is {seq}; at most {} is accepted", i64::MAX)));
            }
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
    // Fields that are not known are kept as they came, for a reader that knows them.
    let _: Strict = parse(body, "")?;
    Ok(Valid { submission, payload, scope })
}

/// Reads JSON: what is no JSON is told by line and column, what has the wrong type by its path.
pub fn parse<T: DeserializeOwned>(body: &[u8], prefix: &str) -> Result<T, BodyError> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let parsed = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        match inner.classify() {
            Category::Data => {
                let field = if path == "." {
                    prefix.trim_end_matches('.').to_owned()
                } else {
                    format!("{prefix}{path}")
                };
                let hint = if field.ends_with("_time") {
                    "; a time such as 2026-02-06T14:30:00Z is accepted"
                } else {
                    ""
                };
                BodyError::invalid(missing_field(&field, &inner), format!("{inner}{hint}"))
            }
            _ => BodyError::Malformed(format!("the body is no JSON: {inner}")),
        }
    })?;
    deserializer.end().map_err(|error| BodyError::Malformed(format!("the body is no JSON: {error}")))?;
    Ok(parsed)
}

/// A missing field is an error of the object that lacks it: name the field itself.
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

fn check_container(index: usize, container: &ContainerUsage) -> Result<(), BodyError> {
    let field = |rest: &str| format!("payload.containers[{index}].{rest}");
    name(&field("name"), &container.name)?;
    stats(&field("cpu_cores"), &container.cpu_cores)?;
    stats(&field("memory_bytes"), &container.memory_bytes)?;
    optional_stats(&field("working_set_bytes"), container.working_set_bytes.as_ref())?;
    for (rest, value) in [
        ("cpu_seconds", container.cpu_seconds),
        ("cpu_request_cores", container.cpu_request_cores),
        ("cpu_limit_cores", container.cpu_limit_cores),
        ("cpu_bound_cores", container.cpu_bound_cores),
        ("unnamed_cpu_seconds", container.unnamed_cpu_seconds),
        ("cgroup_cpu_seconds", container.cgroup_cpu_seconds),
        ("cpu_throttled_seconds", container.cpu_throttled_seconds),
    ] {
        optional_number(&field(rest), value)?;
    }
    for (rest, value) in [
        ("memory_request_bytes", container.memory_request_bytes),
        ("memory_limit_bytes", container.memory_limit_bytes),
        ("memory_bound_bytes", container.memory_bound_bytes),
        ("memory_peak_bytes", container.memory_peak_bytes),
        ("memory_needed_at_least_bytes", container.memory_needed_at_least_bytes),
        ("memory_needed_at_most_bytes", container.memory_needed_at_most_bytes),
        ("cpu_periods", container.cpu_periods),
        ("cpu_throttled_periods", container.cpu_throttled_periods),
        ("oom_kills", container.oom_kills),
        ("restarts", container.restarts),
    ] {
        if value.is_some_and(|value| value > i64::MAX.cast_unsigned()) {
            return Err(BodyError::invalid(field(rest), "is more than 63 bits"));
        }
    }
    if let Some(series) = &container.series {
        number(&field("series.step_seconds"), series.step_seconds)?;
        for (at, cores) in series.cpu_cores.iter().enumerate() {
            number(&field(&format!("series.cpu_cores[{at}]")), *cores)?;
        }
    }
    for (at, nested) in container.nested.iter().enumerate() {
        number(&field(&format!("nested[{at}].cpu_seconds")), nested.cpu_seconds)?;
    }
    if !container.cpu_cores_histogram.as_ref().is_none_or(CpuHistogram::is_sound) {
        let accepted = "pairs of a bucket, ascending, and its seconds, 0 or more, are accepted";
        let last = CpuHistogram::LAST_BUCKET;
        return Err(BodyError::invalid(
            field("cpu_cores_histogram"),
            format!("is no histogram; {accepted}; the last bucket is {last}"),
        ));
    }
    Ok(())
}

fn check_payload(payload: &Payload) -> Result<(), BodyError> {
    if payload.end_time < payload.start_time {
        let detail = format!("{} is before start_time {}", payload.end_time, payload.start_time);
        return Err(BodyError::invalid("payload.end_time", detail));
    }
    number("payload.duration_seconds", payload.duration_seconds)?;
    optional_stats("payload.cpu_total_percent", payload.cpu_total_percent.as_ref())?;
    optional_stats("payload.mem_used_bytes", payload.mem_used_bytes.as_ref())?;
    if payload.containers.len() > MAX_CONTAINERS {
        let detail =
            format!("has {} elements; at most {MAX_CONTAINERS} are accepted", payload.containers.len());
        return Err(BodyError::invalid("payload.containers", detail));
    }
    for (index, container) in payload.containers.iter().enumerate() {
        check_container(index, container)?;
    }
    if let Some(overhead) = &payload.pod_overhead {
        number("payload.pod_overhead.cpu_seconds", overhead.cpu_seconds)?;
        stats("payload.pod_overhead.memory_bytes", &overhead.memory_bytes)?;
    }
    let lists = [
        ("payload.top_cpu_processes", payload.top_cpu_processes.len()),
        ("payload.top_mem_processes", payload.top_mem_processes.len()),
        ("payload.top_commands", payload.top_commands.len()),
    ];
    if let Some((field, length)) = lists.into_iter().find(|(_, length)| *length > MAX_LISTED) {
        return Err(BodyError::invalid(
            field,
            format!("has {length} elements; at most {MAX_LISTED} are accepted"),
        ));
    }
    for (index, process) in payload.top_cpu_processes.iter().enumerate() {
        let field = |rest: &str| format!("payload.top_cpu_processes[{index}].{rest}");
        number(&field("peak_cpu_percent"), process.peak_cpu_percent)?;
        optional_number(&field("avg_cpu_percent"), process.avg_cpu_percent)?;
        optional_number(&field("cpu_seconds"), process.cpu_seconds)?;
    }
    for (index, command) in payload.top_commands.iter().enumerate() {
        let field = |rest: &str| format!("payload.top_commands[{index}].{rest}");
        number(&field("cpu_seconds"), command.cpu_seconds)?;
        optional_number(&field("unseen_children_cpu_seconds"), command.unseen_children_cpu_seconds)?;
    }
    let interval = payload.collector.as_ref().map(|collector| collector.interval_seconds);
    optional_number("payload.collector.interval_seconds", interval)?;
    if let Some(attribution) = &payload.attribution {
        for (rest, value) in [
            ("cpu_seconds", attribution.cpu_seconds),
            ("exited_cpu_seconds", attribution.exited_cpu_seconds),
            ("unattributed_cpu_seconds", attribution.unattributed_cpu_seconds),
            ("collector_cpu_seconds", attribution.collector_cpu_seconds),
        ] {
            number(&format!("payload.attribution.{rest}"), value)?;
        }
    }
    Ok(())
}

fn stats(field: &str, stats: &Stats) -> Result<(), BodyError> {
    let values = [("peak", Some(stats.peak)), ("avg", Some(stats.avg))];
    let percentiles = [("p99", stats.p99), ("p95", stats.p95), ("p75", stats.p75), ("p50", stats.p50)];
    values
        .into_iter()
        .chain(percentiles)
        .try_for_each(|(rest, value)| optional_number(&format!("{field}.{rest}"), value))
}

fn optional_stats(field: &str, value: Option<&Stats>) -> Result<(), BodyError> {
    value.map_or(Ok(()), |value| stats(field, value))
}

fn optional_number(field: &str, value: Option<f64>) -> Result<(), BodyError> {
    value.map_or(Ok(()), |value| number(field, value))
}

/// A quantity: JSON has no infinities and no NaN, but a number may be negative.
fn number(field: &str, value: f64) -> Result<(), BodyError> {
    if value.is_finite() && value >= 0.0 {
        return Ok(());
    }
    Err(BodyError::invalid(field, format!("is {value}; a number that is 0 or more is accepted")))
}

fn name(field: &str, text: &str) -> Result<(), BodyError> {
    let detail = if text.trim().is_empty() {
        "is empty".to_owned()
    } else if text.chars().count() > MAX_NAME {
        format!("is {} characters long; at most {MAX_NAME} are accepted", text.chars().count())
    } else if let Some(control) = text.chars().find(|c| c.is_control()) {
        format!("contains the control character {control:?}")
    } else {
        return Ok(());
    };
    Err(BodyError::invalid(field, detail))
}
