//! Joins what a sidecar and the node's collector report about the same pod, so that a run is one row no matter which of
//! them measured it. Pure.
//!
//! `group` decides which summaries belong to the same run, `containers` which containers are the same and whose figures
//! are taken, `lists` whose processes and commands. The result depends only on the set of summaries, so the order in
//! which they arrive makes no difference.

mod containers;
mod group;
mod lists;
#[cfg(test)]
mod tests;

use std::cmp::{Ordering, Reverse};

use serde_json::Value;
use wire::{Attribution, Payload, Source};

use self::containers::{Chosen, containers};
pub use self::group::{groups, places};

/// A collector's figures count as equally good only if it watched for at least this share of the longest watch.
const AS_LONG: f64 = 0.9;

/// A summary as it was received.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// The run that the summary names.
    pub run_id: String,
    /// Which attempt.
    pub run_attempt: Option<u32>,
    /// Identifier that the collector makes once per run.
    pub summary_id: String,
    /// Number of the summary.
    pub seq: u64,
    /// Whether it is the collector's last summary.
    pub is_final: bool,
    /// What the collector reported.
    pub payload: Payload,
}

/// A run joined from its summaries.
#[derive(Debug, Clone, PartialEq)]
pub struct Joined {
    /// The CI system's identifier of the run.
    pub run_id: String,
    /// Which attempt.
    pub run_attempt: Option<u32>,
    /// Whether a collector has sent its last summary.
    pub is_final: bool,
    /// The collectors that measured it, the best source first.
    pub sources: Vec<Source>,
    /// The best figures of all summaries.
    pub payload: Payload,
    /// The part that everything outside the containers is taken from.
    base: usize,
    /// For each container of the payload: the part that it is taken from, and its index there.
    taken: Vec<(usize, usize)>,
}

/// Joins the summaries of one run. Returns `None` if there are none.
pub fn join(parts: &[Part]) -> Option<Joined> {
    let watches = parts.iter().enumerate().map(|(part, told)| {
        let counts = told.payload.containers.len();
        Watch { part, at: 0, seconds: told.payload.duration_seconds, counts }
    });
    let order: Vec<usize> = ranked(parts, watches.collect()).into_iter().map(|watch| watch.part).collect();
    let best = order.iter().map(|at| &parts[*at]);
    let base = *order.first()?;
    let named = best.clone().find(|part| !part.is_unnamed()).unwrap_or(&parts[base]);
    let chosen = containers(parts, &order);
    Some(Joined {
        run_id: named.run_id.clone(),
        run_attempt: parts.iter().filter_map(|part| part.run_attempt).max(),
        is_final: parts.iter().any(|part| part.is_final),
        sources: best.filter_map(Part::source).collect(),
        payload: payload(parts, &order, &chosen)?,
        base,
        taken: chosen.iter().map(|chosen| (chosen.part, chosen.at)).collect(),
    })
}

impl Joined {
    /// The payload as JSON, including the fields of `texts` (the payloads as received) that this version does not know.
    pub fn text(&self, texts: &[&str]) -> serde_json::Result<String> {
        let mut payload = serde_json::to_value(&self.payload)?;
        let came: Vec<Value> =
            texts.iter().map(|text| serde_json::from_str(text)).collect::<Result<_, _>>()?;
        if let Some(containers) = payload.get_mut("containers").and_then(Value::as_array_mut) {
            for (container, (part, at)) in containers.iter_mut().zip(&self.taken) {
                add_unknown(container, &came[*part]["containers"][*at]);
            }
        }
        add_unknown(&mut payload, &came[self.base]);
        serde_json::to_string(&payload)
    }
}

/// Adds the fields that `value` lacks. It already has all known fields, so only unknown ones are added.
fn add_unknown(value: &mut Value, other: &Value) {
    let (Some(value), Some(other)) = (value.as_object_mut(), other.as_object()) else { return };
    for (name, field) in other.iter().filter(|(_, field)| !field.is_null()) {
        value.entry(name.clone()).or_insert_with(|| field.clone());
    }
}

impl Part {
    fn mode(&self) -> &str {
        self.payload.collector.as_ref().map_or("", |collector| &collector.mode)
    }

    fn variant(&self) -> Option<&str> {
        self.payload.ci.as_ref()?.variant.as_deref()
    }

    /// Whether the summary names no run. A manifest without the CI system's identifier uses the pod's UID as the run's.
    fn is_unnamed(&self) -> bool {
        self.payload.containers.iter().any(|container| container.pod_uid.as_ref() == Some(&self.run_id))
    }

    fn source(&self) -> Option<Source> {
        Source::of(&self.payload, Some((&self.summary_id, self.seq)), self.is_final)
    }

    /// Sort key of parts that watched for about as long as each other: the best figures come first.
    fn quality(&self) -> (Reverse<bool>, Reverse<bool>) {
        let is_ebpf = self.payload.collector.as_ref().is_some_and(|collector| collector.source == "ebpf");
        (Reverse(is_ebpf), Reverse(self.payload.complete == Some(true)))
    }

    /// Decides between parts that are otherwise equal.
    fn last_resort(&self) -> (u64, Reverse<bool>, &str, u64) {
        let lost = self.payload.attribution.as_ref().map_or(u64::MAX, |attribution| attribution.lost_records);
        (lost, Reverse(self.mode() == "node"), &self.summary_id, self.seq)
    }
}

/// How well a part saw a container, or the run as a whole.
#[derive(Debug)]
struct Watch {
    part: usize,
    /// Index of the container in the part.
    at: usize,
    /// How long it was watched.
    seconds: f64,
    /// How many of the kernel's own counts are known; for a whole part, its number of containers.
    counts: usize,
}

/// Sorts watches, the best figures first. A watch that is much shorter than the longest is worse, whatever its source.
/// Otherwise eBPF is better than `/proc`, the whole run better than a part of it, and a longer watch better than a
/// shorter one.
fn ranked(parts: &[Part], mut watches: Vec<Watch>) -> Vec<Watch> {
    let longest = watches.iter().map(|watch| watch.seconds).fold(0.0, f64::max);
    let is_short = |watch: &Watch| watch.seconds < AS_LONG * longest;
    watches.sort_by(|one, other| {
        let (a, b) = (&parts[one.part], &parts[other.part]);
        is_short(one)
            .cmp(&is_short(other))
            .then_with(|| a.quality().cmp(&b.quality()))
            .then_with(|| other.seconds.total_cmp(&one.seconds))
            .then_with(|| other.counts.cmp(&one.counts))
            .then_with(|| a.last_resort().cmp(&b.last_resort()))
            .then_with(|| one.at.cmp(&other.at))
    });
    watches
}

fn payload(parts: &[Part], order: &[usize], chosen: &[Chosen]) -> Option<Payload> {
    let all = || order.iter().map(|at| &parts[*at].payload);
    let base = all().next()?;
    let start_time = all().map(|payload| payload.start_time).min()?;
    let end_time = all().map(|payload| payload.end_time).max()?;
    let seconds = end_time.duration_since(start_time).as_secs_f64();
    let is_complete = |complete| all().any(|payload| payload.complete == Some(complete)).then_some(complete);
    let lists = lists::lists(parts, *order.first()?, chosen);
    Some(Payload {
        start_time,
        end_time,
        duration_seconds: base.duration_seconds.max(seconds),
        cpu_total_percent: all().find_map(|payload| payload.cpu_total_percent),
        mem_used_bytes: all().find_map(|payload| payload.mem_used_bytes),
        pod: all().find_map(|payload| payload.pod),
        containers: chosen.iter().map(|chosen| chosen.usage(parts, start_time)).collect(),
        top_cpu_processes: lists.by_cpu,
        top_mem_processes: lists.by_memory,
        top_commands: lists.commands,
        steps: lists::steps(parts, order, start_time),
        ci: all().filter_map(|payload| payload.ci.clone()).reduce(|one, other| one.or(&other)),
        attribution: attribution(parts, order, chosen),
        quantile_method: all().filter_map(|payload| payload.quantile_method).max(),
        complete: is_complete(true).or_else(|| is_complete(false)),
        ..base.clone()
    })
}

/// Keeps the total equal to the sum of the containers and the unattributed time.
fn attribution(parts: &[Part], order: &[usize], chosen: &[Chosen]) -> Option<Attribution> {
    let (base, told) = order.iter().find_map(|at| Some((*at, parts[*at].payload.attribution.as_ref()?)))?;
    let of_one = chosen.iter().all(|chosen| chosen.part == base);
    if of_one && chosen.len() == parts[base].payload.containers.len() {
        return Some(told.clone());
    }
    let taken = || chosen.iter().map(|chosen| chosen.container(parts));
    let cpu_seconds = told.unattributed_cpu_seconds + taken().filter_map(|one| one.cpu_seconds).sum::<f64>();
    Some(Attribution {
        cpu_seconds,
        exited_cpu_seconds: told.exited_cpu_seconds.min(cpu_seconds),
        process_count: taken().filter_map(|one| one.process_count).sum(),
        ..told.clone()
    })
}

/// Orders the largest first, and unknown values last.
fn descending(one: Option<f64>, other: Option<f64>) -> Ordering {
    other.unwrap_or(-1.0).total_cmp(&one.unwrap_or(-1.0))
}
