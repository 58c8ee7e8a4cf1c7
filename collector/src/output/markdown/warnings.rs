//! Warnings that a reader should not overlook.

use wire::rules::{NEAR_LIMIT, is_throttled};
use wire::{ContainerSummary, ContainerUsage, Payload};

use super::escape;
use crate::output::shown::{ABOVE_ALLOWS, bytes, cores, cpu_bound, memory_bound, seconds};

/// Use below this share of the request or limit is waste.
const LITTLE: f64 = 0.2;
/// If more than this share of the CPU time has no container, the containers' figures are too low.
const UNATTRIBUTED: f64 = 0.05;

/// Sentences in Markdown, the most serious first.
pub(super) fn of(payload: &Payload) -> Vec<String> {
    let each = |warning: fn(&ContainerUsage) -> Option<String>| {
        payload
            .containers
            .iter()
            .filter_map(move |usage| Some(format!("{} {}", escape::name(&usage.name), warning(usage)?)))
    };
    let mut warnings: Vec<String> =
        each(oom_kills).chain(each(maybe_killed)).chain(each(memory)).chain(each(throttled)).collect();
    warnings.extend(measurement(payload));
    let told = payload.collector.iter().flat_map(|collector| &collector.warnings);
    warnings.extend(told.map(|warning| escape::text(warning)));
    warnings.extend(each(little_cpu).chain(each(little_memory)));
    warnings
}

fn oom_kills(usage: &ContainerUsage) -> Option<String> {
    let kills = usage.oom_kills.filter(|kills| *kills > 0)?;
    let limit = match (memory_bound(usage), usage.memory_limit_bytes) {
        (Some(bound), None) => format!(", it has no limit of its own, {ABOVE_ALLOWS} {}", bytes(bound)),
        (Some(bound), Some(limit)) => {
            format!(", its limit is {}, {ABOVE_ALLOWS} {}", bytes(limit as f64), bytes(bound))
        }
        (None, limit) => {
            limit.map_or(String::new(), |limit| format!(", its limit is {}", bytes(limit as f64)))
        }
    };
    let processes = if kills == 1 { "1 process".to_owned() } else { format!("{kills} processes") };
    Some(format!("ran out of memory: {processes} killed{limit}"))
}

fn maybe_killed(usage: &ContainerUsage) -> Option<String> {
    ContainerSummary::new(usage, None)
        .may_be_oom_killed()
        .then(|| "was ended by SIGKILL, perhaps for want of memory".to_owned())
}

/// The memory that it needed, by the rule that recommendations use.
fn needed_bytes(usage: &ContainerUsage) -> f64 {
    ContainerSummary::new(usage, None).memory_needed().0
}

fn memory(usage: &ContainerUsage) -> Option<String> {
    let bound = memory_bound(usage);
    let limit = bound.or(usage.memory_limit_bytes.map(|limit| limit as f64))?;
    let needed = needed_bytes(usage);
    (needed >= NEAR_LIMIT * limit).then(|| {
        let (used, share, limit) = (bytes(needed), percent(needed / limit), bytes(limit));
        match bound {
            Some(_) => format!("used {used} of memory, {share} of the {limit} that {ABOVE_ALLOWS}"),
            None => format!("used {used} of memory, {share} of its limit, {limit}"),
        }
    })
}

fn throttled(usage: &ContainerUsage) -> Option<String> {
    let periods = usage.cpu_periods.zip(usage.cpu_throttled_periods).filter(|(all, _)| *all > 0);
    let (all, throttled) = periods?;
    let share = throttled as f64 / all as f64;
    let time =
        usage.cpu_throttled_seconds.map_or(String::new(), |time| format!(" ({} in all)", seconds(time)));
    let slowed = match (cpu_bound(usage), usage.cpu_limit_cores) {
        (Some(bound), _) => format!("the {} cores that {ABOVE_ALLOWS}", cores(bound)),
        (None, Some(limit)) => format!("its limit of {} cores", cores(limit)),
        (None, None) => "its limit".to_owned(),
    };
    is_throttled(share).then(|| {
        format!("was throttled in {} of its CPU periods{time}: {slowed} slowed it down", percent(share))
    })
}

fn little_cpu(usage: &ContainerUsage) -> Option<String> {
    let (asked, what) = asked(usage.cpu_request_cores, usage.cpu_limit_cores)?;
    let used = usage.cpu_cores.p95.unwrap_or(usage.cpu_cores.peak);
    (used < LITTLE * asked).then(|| {
        let share = percent(used / asked);
        format!("used {} cores (p95), {share} of its {what}, {}", cores(used), cores(asked))
    })
}

fn little_memory(usage: &ContainerUsage) -> Option<String> {
    let bytes_of = |bytes: u64| bytes as f64;
    let (asked, what) =
        asked(usage.memory_request_bytes.map(bytes_of), usage.memory_limit_bytes.map(bytes_of))?;
    let used = needed_bytes(usage);
    (used < LITTLE * asked).then(|| {
        let share = percent(used / asked);
        format!("used {} of memory, {share} of its {what}, {}", bytes(used), bytes(asked))
    })
}

/// The amount that is reserved for it: the request, or the limit if no request is known.
fn asked(request: Option<f64>, limit: Option<f64>) -> Option<(f64, &'static str)> {
    request.map(|request| (request, "request")).or(limit.map(|limit| (limit, "limit")))
}

/// What the measurement missed.
fn measurement(payload: &Payload) -> Option<String> {
    let mut gaps = Vec::new();
    if payload.complete == Some(false) {
        gaps.push("the run was not measured from its beginning to its end".to_owned());
    }
    if let Some(attribution) = &payload.attribution {
        if attribution.missed_samples > 0 {
            let due = attribution.missed_samples + payload.sample_count;
            gaps.push(format!("{} of {due} samples were missed", attribution.missed_samples));
        }
        if attribution.lost_records > 0 {
            gaps.push(format!("{} records of the eBPF program were lost", attribution.lost_records));
        }
        let unattributed = attribution.unattributed_cpu_seconds / attribution.cpu_seconds;
        if unattributed > UNATTRIBUTED {
            gaps.push(format!("{} of the CPU time found no container", percent(unattributed)));
        }
    }
    if let Some(hidden) = payload.collector.as_ref().and_then(|collector| collector.hidden.as_ref()) {
        gaps.push(format!("not everything was seen: {}", escape::text(hidden)));
    }
    (!gaps.is_empty()).then(|| format!("The measurement is incomplete: {}", gaps.join("; ")))
}

fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    if percent < 9.95 { format!("{percent:.1} %") } else { format!("{percent:.0} %") }
}
