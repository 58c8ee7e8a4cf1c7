//! A container of a run.

use wire::Certainty;
use wire::rules::{Whose, is_throttled};
use wire::{ContainerSummary, ContainerUsage, Stats, StepUsage};

use super::unknown;
use crate::ui::chart::{Chart, Unit, X};
use crate::ui::components::Badge;
use crate::ui::format;

/// What is shown of a container.
pub(super) struct ContainerSection {
    pub(super) name: String,
    pub(super) detail: String,
    pub(super) badges: Vec<Badge>,
    pub(super) charts: Vec<Chart>,
    pub(super) stats: Vec<StatRow>,
    pub(super) facts: Vec<(&'static str, String)>,
    /// The time series as a table: when, CPU and memory.
    pub(super) course: Vec<[String; 3]>,
    pub(super) nested: Vec<[String; 4]>,
}

/// Name, peak, p99, p95, p75, p50, mean.
pub(super) struct StatRow {
    pub(super) name: &'static str,
    pub(super) values: Vec<(&'static str, String)>,
}

/// `steps`: those of the job, which are marked in the charts.
pub(super) fn container(usage: &ContainerUsage, steps: &[StepUsage]) -> ContainerSection {
    let (charts, course) = usage.series.as_ref().map(|series| course(usage, series)).unwrap_or_default();
    let charts = charts.into_iter().map(|chart| chart.steps(steps)).collect();
    let detail = [usage.runtime.clone(), usage.id.as_ref().map(|id| id.chars().take(12).collect())];
    let mut badges = vec![];
    if let Some(kills) = usage.oom_kills.filter(|kills| *kills > 0) {
        badges.push(Badge { kind: "bad", text: format!("{kills} OOM-killed") });
    }
    if ContainerSummary::new(usage, None).may_be_oom_killed() {
        badges.push(Badge { kind: "bad", text: "ended by SIGKILL".to_owned() });
    }
    if let Some(share) = throttled(usage).filter(|share| is_throttled(*share)) {
        badges.push(Badge {
            kind: "warn",
            text: format!("throttled in {} of periods", format::percent(share)),
        });
    }
    if let Some(near) = ContainerSummary::new(usage, None).memory_near() {
        let text = match near.whose {
            Whose::Own => "at its memory limit",
            Whose::Above | Whose::Machine => "at its pod's or node's memory limit",
        };
        badges.push(Badge { kind: "warn", text: text.to_owned() });
    }
    let mut stats = vec![
        stat_row("CPU", &usage.cpu_cores, format::cores),
        stat_row("Memory (RSS)", &usage.memory_bytes, format::bytes),
    ];
    if let Some(working_set) = &usage.working_set_bytes {
        stats.push(stat_row("Working set", working_set, format::bytes));
    }
    let nested = usage.nested.iter().map(|inner| {
        [
            inner.id.chars().take(12).collect(),
            format::seconds(inner.cpu_seconds),
            format::count(inner.process_count),
            format::bytes(inner.peak_mem_bytes as f64),
        ]
    });
    ContainerSection {
        name: usage.name.clone(),
        detail: detail.into_iter().flatten().collect::<Vec<_>>().join(" "),
        badges,
        charts,
        stats,
        facts: facts(usage),
        course,
        nested: nested.collect(),
    }
}

pub(super) fn throttled(usage: &ContainerUsage) -> Option<f64> {
    let periods = usage.cpu_periods.filter(|periods| *periods > 0)?;
    Some(usage.cpu_throttled_periods? as f64 / periods as f64)
}

/// Facts from the container's own cgroup and its settings. Unknown ones are left out.
fn facts(usage: &ContainerUsage) -> Vec<(&'static str, String)> {
    let bytes = |value: u64| format::bytes(value as f64);
    let throttling = usage.cpu_throttled_seconds.map(|seconds| {
        let share = throttled(usage).map(|share| format!(", in {} of its periods", format::percent(share)));
        format!("{}{}", format::seconds(seconds), share.unwrap_or_default())
    });
    let facts = [
        ("CPU time", usage.cpu_seconds.map(format::seconds)),
        ("CPU time not assigned to a process", usage.unnamed_cpu_seconds.map(format::seconds)),
        ("CPU time by the cgroup", usage.cgroup_cpu_seconds.map(format::seconds)),
        ("CPU request", usage.cpu_request_cores.map(format::cores)),
        ("CPU limit", limit(usage.cpu_limit_cores, usage.cpu_bound_cores, format::cores)),
        ("Throttled", throttling),
        ("Memory request", usage.memory_request_bytes.map(bytes)),
        (
            "Memory limit",
            limit(usage.memory_limit_bytes, usage.memory_bound_bytes, |value| format::bytes(value as f64)),
        ),
        ("Memory peak by the cgroup", usage.memory_peak_bytes.map(bytes)),
        ("Memory without page cache", needed(usage)),
        ("Stalled for CPU", usage.cpu_stalled_seconds.map(format::seconds)),
        ("Stalled for memory", usage.memory_stalled_seconds.map(format::seconds)),
        ("Stalled for I/O", usage.io_stalled_seconds.map(format::seconds)),
        ("Read from disk", usage.disk_read_bytes.map(bytes)),
        ("Written to disk", usage.disk_written_bytes.map(bytes)),
        ("Ended by", ended(usage)),
        ("OOM kills", usage.oom_kills.map(format::count)),
        ("Restarts", usage.restarts.map(format::count)),
        ("Processes", usage.process_count.map(format::count)),
    ];
    facts.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

/// The memory that the container needed: exactly, or as bounds.
fn needed(usage: &ContainerUsage) -> Option<String> {
    let bytes = |value: u64| format::bytes(value as f64);
    let Some(least) = usage.memory_needed_at_least_bytes else {
        return usage.processes_memory_bytes.map(|seen| format!("{} seen", bytes(seen)));
    };
    let most = usage.memory_needed_at_most_bytes;
    Some(match most {
        Some(most) if usage.memory_certainty == Some(Certainty::Exact) => bytes(most),
        Some(most) => format!("{} to {}", bytes(least), bytes(most)),
        None => format!("{} or more", bytes(least)),
    })
}

/// How its first process ended.
fn ended(usage: &ContainerUsage) -> Option<String> {
    let code = usage.exit_code.map(|code| format!("exit status {code}"));
    code.or_else(|| usage.exit_signal.map(|signal| format!("signal {signal}")))
}

/// The container's own limit, and the bound above it if that is tighter.
fn limit<T: PartialOrd>(own: Option<T>, bound: Option<T>, show: fn(T) -> String) -> Option<String> {
    match (own, bound) {
        (None, Some(bound)) => Some(format::no_limit(&show(bound))),
        (Some(own), Some(bound)) if bound < own => {
            Some(format!("{}; {} {}", show(own), format::ABOVE_ALLOWS, show(bound)))
        }
        (own, _) => own.map(show),
    }
}

fn stat_row(name: &'static str, stats: &Stats, show: fn(f64) -> String) -> StatRow {
    let optional = |value: Option<f64>| value.map_or_else(unknown, show);
    let values = vec![
        ("Peak", show(stats.peak)),
        ("p99", optional(stats.p99)),
        ("p95", optional(stats.p95)),
        ("p75", optional(stats.p75)),
        ("p50", optional(stats.p50)),
        ("Mean", show(stats.avg)),
    ];
    StatRow { name, values }
}

/// Where each step of a series begins; the last point closes the last step.
pub(in crate::ui) fn places(series: &wire::Series) -> Vec<f64> {
    (0..series.cpu_cores.len().max(series.memory_bytes.len()))
        .map(|at| at as f64 * series.step_seconds)
        .collect()
}

fn course(usage: &ContainerUsage, series: &wire::Series) -> (Vec<Chart>, Vec<[String; 3]>) {
    let xs = places(series);
    let cpu: Vec<_> = (0..xs.len()).map(|at| series.cpu_cores.get(at).copied()).collect();
    let memory: Vec<_> =
        (0..xs.len()).map(|at| series.memory_bytes.get(at).map(|bytes| *bytes as f64)).collect();
    let steps = xs.iter().zip(cpu.iter().zip(&memory));
    let steps = steps.map(|(x, (cpu, memory))| {
        let shown = |value: Option<f64>, show: fn(f64) -> String| value.map_or_else(unknown, show);
        [format::seconds(*x), shown(*cpu, format::cores), shown(*memory, format::bytes)]
    });
    let steps = steps.collect();
    // A single point makes no chart.
    if xs.len() < 2 {
        return (vec![], steps);
    }
    let mut charts = vec![
        Chart::new(&format!("CPU of {}", usage.name), Unit::Cores, X::Seconds, xs.clone())
            .line("used", "used", cpu)
            .levels(usage.cpu_request_cores, usage.cpu_limit_cores),
        Chart::new(&format!("Memory of {}", usage.name), Unit::Bytes, X::Seconds, xs)
            .line("used (RSS)", "used", memory)
            .levels(
                usage.memory_request_bytes.map(|bytes| bytes as f64),
                usage.memory_limit_bytes.map(|bytes| bytes as f64),
            ),
    ];
    for chart in &mut charts {
        chart.sync = Some("run");
    }
    (charts, steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_of_its_own_is_told_apart_from_what_is_above_it() {
        let submission: wire::Submission =
            serde_json::from_str(include_str!("../../../../wire/tests/submission.json")).unwrap();
        let usage = &submission.payload.containers[0];
        let shown = |own: Option<u64>, bound: Option<u64>| {
            let gib = |value: Option<u64>| value.map(|value| value << 30);
            let usage = ContainerUsage {
                memory_limit_bytes: gib(own),
                memory_bound_bytes: gib(bound),
                working_set_bytes: Some(Stats { peak: 4e9, ..usage.memory_bytes }),
                ..usage.clone()
            };
            let of_it = container(&usage, &[]);
            let limit = of_it.facts.into_iter().find(|(name, _)| *name == "Memory limit");
            let badge = of_it.badges.into_iter().find(|badge| badge.text.contains("memory limit"));
            (limit.map(|(_, value)| value), badge.map(|badge| badge.text))
        };
        let own = |text: &str| Some(text.to_owned());
        let at_bound = Some("at its pod's or node's memory limit".to_owned());
        assert_eq!(shown(None, None), (None, None));
        assert_eq!(shown(Some(8), None), (own("8 GiB"), None));
        assert_eq!(shown(Some(8), Some(16)), (own("8 GiB"), None));
        assert_eq!(shown(Some(3), Some(3)), (own("3 GiB"), Some("at its memory limit".to_owned())));
        let above = "its pod, slice or node allows 3 GiB";
        assert_eq!(shown(Some(8), Some(3)), (own(&format!("8 GiB; {above}")), at_bound.clone()));
        assert_eq!(shown(None, Some(3)), (own(&format!("no limit of its own; {above}")), at_bound));
    }
}
