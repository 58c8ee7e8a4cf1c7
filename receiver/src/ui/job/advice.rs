//! What each container should request, why, and how to write it.

use wire::MemoryFigure;

use crate::sizing::format::{Format, Target};
use crate::sizing::parameters::SizingParameters;
use crate::sizing::recommendation::{Basis, Change, ContainerSizing, Sizing, SizingLevel, Status};
use crate::ui::components::Badge;
use crate::ui::format;

/// A container's recommendation.
pub(super) struct Advice {
    pub(super) name: String,
    pub(super) badges: Vec<Badge>,
    pub(super) basis: String,
    pub(super) rows: Vec<Resource>,
}

/// The recommendation for one resource.
pub(super) struct Resource {
    pub(super) name: &'static str,
    pub(super) used: String,
    pub(super) now: String,
    pub(super) recommended: String,
    pub(super) change: Option<Badge>,
    /// Lower and upper bound: less is too little, more is too much.
    pub(super) range: String,
    pub(super) reasons: Vec<String>,
}

/// The recommendation in one of its formats.
pub(super) struct Written {
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    pub(super) text: String,
    pub(super) href: String,
    pub(super) first: bool,
}

/// Formats to copy, the most useful first.
const FORMS: [(Format, &str); 6] = [
    (Format::Yaml, "Kubernetes resources"),
    (Format::Patch, "Patch for kustomize and kubectl"),
    (Format::Limits, "CGROUP_LIMITS of the collector"),
    (Format::Gitlab, "Variables of GitLab's Kubernetes executor"),
    (Format::Markdown, "Markdown"),
    (Format::Json, "JSON"),
];

pub(super) fn written(sizing: &Sizing, job: &str) -> Vec<Written> {
    if sizing.containers.iter().all(|container| container.status != Status::Recommended) {
        return vec![];
    }
    let target = Target::default();
    let forms = FORMS.into_iter().filter_map(|(form, title)| {
        let text = form.write(sizing, &target).ok()?;
        let text = if form == Format::Json { indented(&text).unwrap_or(text) } else { text };
        let id = form.name();
        let path = job.strip_prefix("/jobs").unwrap_or_default();
        Some(Written { id, title, text, href: format!("/ui/sizing{path}/{id}"), first: form == Format::Yaml })
    });
    forms.collect()
}

fn indented(json: &str) -> Option<String> {
    let value: serde_json::Value = serde_json::from_str(json).ok()?;
    serde_json::to_string_pretty(&value).ok()
}

/// Which runs the recommendation is based on.
pub(super) fn basis(sizing: &Sizing) -> String {
    let runs = sizing.window.runs;
    let SizingParameters { variant, git_ref, event, .. } = &sizing.parameters;
    let selected = [("variant", variant), ("ref", git_ref), ("event", event)];
    let selected = selected.into_iter().filter_map(|(name, text)| Some(format!("{name} {}", text.as_ref()?)));
    let selected = selected.collect::<Vec<_>>().join(" and ");
    let with = if selected.is_empty() { String::new() } else { format!(" with {selected}") };
    match runs {
        0 if with.is_empty() => "No complete run is stored yet.".to_owned(),
        0 => format!("No complete run{with} is stored."),
        1 => format!("From one complete run{with}."),
        _ => format!(
            "From the last {runs} complete runs{with}, {} measured in total.",
            format::seconds(sizing.window.seconds)
        ),
    }
}

pub(super) fn advice(container: &ContainerSizing) -> Advice {
    let recommended = container.status == Status::Recommended;
    let (cpu, memory) = (&container.cpu, &container.memory);
    let bytes = |value: u64| format::bytes(value as f64);
    let rows = vec![
        Resource {
            name: "CPU",
            used: or_unknown(cpu.used_cores.map(format::cores)),
            now: now(
                cpu.current_request_cores.map(format::cores),
                cpu.current_limit_cores.map(format::cores),
                cpu.current_bound_cores.map(format::cores),
            ),
            recommended: match (cpu.request_cores.map(format::cores), cpu.limit_cores.map(format::cores)) {
                (Some(request), Some(limit)) => format!("{request}, limit {limit}"),
                (Some(request), None) => format!("{request}, no limit"),
                (None, _) => "–".to_owned(),
            },
            change: recommended.then(|| badge(cpu.change)),
            range: range(cpu.lower_bound_cores.map(format::cores), cpu.upper_bound_cores.map(format::cores)),
            reasons: sentences(&cpu.reasons),
        },
        Resource {
            name: "Memory",
            used: or_unknown(memory.used_bytes.map(bytes)),
            now: now(
                memory.current_request_bytes.map(bytes),
                memory.current_limit_bytes.map(bytes),
                memory.current_bound_bytes.map(bytes),
            ),
            recommended: memory
                .request_bytes
                .map_or_else(|| "–".to_owned(), |value| format!("{}, limit the same", bytes(value))),
            change: recommended.then(|| badge(memory.change)),
            range: range(memory.lower_bound_bytes.map(bytes), memory.upper_bound_bytes.map(bytes)),
            reasons: sentences(&memory.reasons),
        },
    ];
    Advice {
        name: container.name.clone(),
        badges: badges(&container.basis),
        basis: told(&container.basis, recommended),
        rows,
    }
}

fn sentences(reasons: &[String]) -> Vec<String> {
    reasons.iter().map(|reason| format::sentence(reason)).collect()
}

fn or_unknown(text: Option<String>) -> String {
    text.unwrap_or_else(|| "not known".to_owned())
}

fn now(request: Option<String>, limit: Option<String>, bound: Option<String>) -> String {
    match (request, limit) {
        (Some(request), Some(limit)) if request == limit => format!("{request}, limit the same"),
        (Some(request), Some(limit)) => format!("{request}, limit {limit}"),
        (Some(request), None) => request,
        (None, Some(limit)) => format!("limit {limit}"),
        (None, None) => bound.map_or_else(|| "–".to_owned(), |bound| format::no_limit(&bound)),
    }
}

fn range(lower: Option<String>, upper: Option<String>) -> String {
    match (lower, upper) {
        (Some(lower), Some(upper)) => format!("between {lower} and {upper}"),
        (Some(lower), None) => format!("at least {lower}"),
        _ => String::new(),
    }
}

fn badge(change: Change) -> Badge {
    let (kind, text) = match change {
        Change::Raise => ("bad", "raise"),
        Change::Lower => ("good", "lower"),
        Change::Keep => ("", "keep"),
        Change::Unknown => ("", "set"),
    };
    Badge { kind, text: text.to_owned() }
}

fn badges(basis: &Basis) -> Vec<Badge> {
    let counted = [
        ("bad", basis.oom_killed_runs, "OOM-killed"),
        ("warn", basis.at_memory_limit_runs, "at memory limit"),
        ("warn", basis.throttled_runs, "throttled"),
        ("warn", basis.at_cpu_limit_runs, "at CPU limit"),
        ("warn", basis.at_memory_bound_runs, "at its pod's or node's memory"),
        ("warn", basis.at_cpu_bound_runs, "at its pod's or node's CPU"),
    ];
    let counted = counted.into_iter().filter(|(_, count, _)| *count > 0);
    counted
        .map(|(kind, count, what)| Badge { kind, text: format!("{count} of {} {what}", basis.runs) })
        .collect()
}

fn told(basis: &Basis, recommended: bool) -> String {
    let runs = if basis.runs == 1 { "1 run".to_owned() } else { format!("{} runs", basis.runs) };
    if !recommended {
        return format!("Too few runs for a recommendation: {runs} so far.");
    }
    let whose = match basis.level {
        SizingLevel::Variant | SizingLevel::Job => String::new(),
        SizingLevel::Workflow => " of all jobs of the workflow, as this one has too few".to_owned(),
        SizingLevel::Repository => " of all jobs of the repository, as this one has too few".to_owned(),
    };
    let memory = match basis.memory_figure {
        MemoryFigure::Needed => "memory without page cache",
        MemoryFigure::WorkingSet => "the working set",
        MemoryFigure::Processes => "that of the processes, without mapped files",
        MemoryFigure::Rss => "the sum of resident sets",
        MemoryFigure::CgroupPeak => "the cgroup's peak",
    };
    format!("From {runs}{whose}. Memory is measured as {memory}.")
}
