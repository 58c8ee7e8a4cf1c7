//! One run: its course, its commands, and how well it was measured.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use wire::{ContainerUsage, Payload, Stats};

use super::chart::{Chart, Unit, X};
use super::error::PageError;
use super::format::{self, Time};
use super::{page, paths, svg};
use crate::state::AppState;
use crate::store::WholeRun;

/// A run as pages need it.
pub(super) struct Loaded {
    pub(super) run: WholeRun,
    pub(super) payload: Payload,
}

impl Loaded {
    pub(super) async fn get(state: &AppState, id: i64) -> Result<Self, PageError> {
        let run = state.store.run(id).await?.ok_or(PageError::NotFound)?;
        let payload = serde_json::from_str(&run.payload);
        let payload =
            payload.map_err(|error| PageError::Internal(format!("the payload of run {id}: {error}")))?;
        Ok(Self { run, payload })
    }

    /// As the API tells of it.
    pub(super) fn stored(&self) -> wire::StoredRun {
        let WholeRun { id, organization, repository, workflow, job, run_id, received_at, .. } =
            self.run.clone();
        let repository = format!("{organization}/{repository}");
        let payload = self.payload.clone();
        wire::StoredRun { id, organization, repository, workflow, job, run_id, received_at, payload }
    }

    pub(super) fn crumbs(&self) -> Crumbs {
        let WholeRun { organization, repository, workflow, job, .. } = &self.run;
        Crumbs::new([organization, repository, workflow, job])
    }
}

/// Where a page is.
#[derive(Debug, Clone)]
pub(super) struct Crumbs {
    /// Repository with its organization, workflow: each with the overview of what is in it.
    pub(super) above: Vec<(String, String)>,
    pub(super) job: String,
    pub(super) job_href: String,
}

impl Crumbs {
    pub(super) fn new(names: [&str; 4]) -> Self {
        let [organization, repository, workflow, job] = names;
        let within = [("organization", organization), ("repository", repository), ("workflow", workflow)];
        let query = |parts: usize| {
            let pairs = within[..parts].iter().map(|(name, value)| format!("{name}={}", paths::value(value)));
            format!("/?{}", pairs.collect::<Vec<_>>().join("&"))
        };
        Self {
            above: vec![
                (organization.to_owned(), query(1)),
                (repository.to_owned(), query(2)),
                (workflow.to_owned(), query(3)),
            ],
            job: job.to_owned(),
            job_href: paths::job(names),
        }
    }
}

#[derive(Template)]
#[template(path = "run.html")]
struct RunPage {
    crumbs: Crumbs,
    id: i64,
    run_id: String,
    began: Time,
    badges: Vec<Badge>,
    tiles: Vec<Tile>,
    containers: Vec<Container>,
    commands: Vec<Command>,
    processes: Vec<(&'static str, Vec<Process>)>,
    quality: Vec<(&'static str, String)>,
}

/// A word on what is remarkable.
#[derive(Debug, Clone)]
pub(super) struct Badge {
    pub(super) kind: &'static str,
    pub(super) text: String,
}

/// A figure that is looked for first.
#[derive(Debug, Clone)]
pub(super) struct Tile {
    pub(super) name: &'static str,
    pub(super) value: String,
    pub(super) detail: String,
}

struct Container {
    name: String,
    detail: String,
    badges: Vec<Badge>,
    charts: Vec<Chart>,
    stats: Vec<StatRow>,
    facts: Vec<(&'static str, String)>,
    steps: Vec<[String; 3]>,
    nested: Vec<[String; 4]>,
}

/// Name, peak, p99, p95, p75, p50, mean.
struct StatRow {
    name: &'static str,
    values: Vec<(&'static str, String)>,
}

struct Command {
    name: String,
    container: String,
    processes: String,
    cpu: String,
    share: String,
    bar: String,
    memory: String,
}

struct Process {
    name: String,
    pid: u32,
    container: String,
    values: Vec<(&'static str, String)>,
}

/// `GET /runs/{id}`.
pub(super) async fn run(
    State(state): State<Arc<AppState>>,
    Path(id): Path<String>,
) -> Result<Response, PageError> {
    let loaded = Loaded::get(&state, id.parse().map_err(|_| PageError::NotFound)?).await?;
    page(&view(&loaded, Timestamp::now()))
}

/// `GET /ui/runs/{id}/payload.json`: what was sent, as it was.
pub(super) async fn payload(
    State(state): State<Arc<AppState>>,
    Path(id): Path<String>,
) -> Result<Response, PageError> {
    let id = id.parse().map_err(|_| PageError::NotFound)?;
    let run = state.store.run(id).await?.ok_or(PageError::NotFound)?;
    let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")];
    Ok((headers, run.payload).into_response())
}

fn view(loaded: &Loaded, now: Timestamp) -> RunPage {
    let Loaded { run, payload } = loaded;
    RunPage {
        crumbs: loaded.crumbs(),
        id: run.id,
        run_id: run.run_id.clone(),
        began: Time::new(payload.start_time, now),
        badges: badges(payload),
        tiles: tiles(payload),
        containers: payload.containers.iter().map(container).collect(),
        commands: commands(payload),
        processes: processes(payload),
        quality: quality(payload),
    }
}

fn processes(payload: &Payload) -> Vec<(&'static str, Vec<Process>)> {
    let cpu_processes = payload.top_cpu_processes.iter().map(|process| Process {
        name: process.name.clone(),
        pid: process.pid,
        container: process.container.clone().unwrap_or_default(),
        values: vec![
            ("CPU time", process.cpu_seconds.map_or_else(unknown, format::seconds)),
            ("Mean", process.avg_cpu_percent.map_or_else(unknown, |percent| format::cores(percent / 100.0))),
            ("Peak", format::cores(process.peak_cpu_percent / 100.0)),
        ],
    });
    let memory_processes = payload.top_mem_processes.iter().map(|process| Process {
        name: process.name.clone(),
        pid: process.pid,
        container: process.container.clone().unwrap_or_default(),
        values: vec![("Peak memory", format::bytes(process.peak_mem_bytes as f64))],
    });
    let lists = [("By CPU", cpu_processes.collect()), ("By memory", memory_processes.collect::<Vec<_>>())];
    lists.into_iter().filter(|(_, list)| !list.is_empty()).collect()
}

fn unknown() -> String {
    "–".to_owned()
}

/// CPU time of all containers, and what could be placed in none.
pub(super) fn cpu_seconds(payload: &Payload) -> Option<f64> {
    let of_containers = || {
        let times: Option<Vec<f64>> =
            payload.containers.iter().map(|container| container.cpu_seconds).collect();
        times.filter(|times| !times.is_empty()).map(|times| times.iter().sum())
    };
    payload.attribution.as_ref().map(|attribution| attribution.cpu_seconds).or_else(of_containers)
}

fn badges(payload: &Payload) -> Vec<Badge> {
    let mut badges = vec![];
    let killed: u64 = payload.containers.iter().filter_map(|container| container.oom_kills).sum();
    if killed > 0 {
        badges.push(Badge { kind: "bad", text: format!("{killed} OOM-killed") });
    }
    match payload.complete {
        Some(false) => badges.push(Badge { kind: "warn", text: "not the whole run".to_owned() }),
        Some(true) => badges.push(Badge { kind: "good", text: "complete".to_owned() }),
        None => {}
    }
    badges
}

fn tiles(payload: &Payload) -> Vec<Tile> {
    let mut tiles = vec![Tile {
        name: "Duration",
        value: format::seconds(payload.duration_seconds),
        detail: format!("{} samples", format::count(payload.sample_count)),
    }];
    if let Some(seconds) = cpu_seconds(payload) {
        let mean = seconds / payload.duration_seconds.max(1e-9);
        tiles.push(Tile {
            name: "CPU time",
            value: format::seconds(seconds),
            detail: format!("{} on average", format::cores(mean)),
        });
    }
    if let Some(most) =
        payload.containers.iter().max_by(|a, b| a.memory_bytes.peak.total_cmp(&b.memory_bytes.peak))
    {
        tiles.push(Tile {
            name: "Highest memory",
            value: format::bytes(most.memory_bytes.peak),
            detail: format!("of {}", most.name),
        });
    }
    if let Some(attribution) = &payload.attribution {
        let exited = attribution.exited_cpu_seconds / attribution.cpu_seconds.max(1e-9);
        tiles.push(Tile {
            name: "Processes",
            value: format::count(attribution.process_count),
            detail: format!("{} of the CPU time by short-lived ones", format::percent(exited.min(1.0))),
        });
    }
    tiles
}

fn container(usage: &ContainerUsage) -> Container {
    let (charts, steps) = usage.series.as_ref().map(|series| course(usage, series)).unwrap_or_default();
    let detail = [usage.runtime.clone(), usage.id.as_ref().map(|id| id.chars().take(12).collect())];
    let mut badges = vec![];
    if let Some(kills) = usage.oom_kills.filter(|kills| *kills > 0) {
        badges.push(Badge { kind: "bad", text: format!("{kills} OOM-killed") });
    }
    if let Some(share) = throttled(usage).filter(|share| *share > 0.05) {
        badges.push(Badge {
            kind: "warn",
            text: format!("throttled in {} of periods", format::percent(share)),
        });
    }
    if let Some(limit) = usage.memory_limit_bytes
        && usage.memory_bytes.peak >= 0.95 * limit as f64
        && usage.oom_kills.unwrap_or(0) == 0
    {
        badges.push(Badge { kind: "warn", text: "at its memory limit".to_owned() });
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
    Container {
        name: usage.name.clone(),
        detail: detail.into_iter().flatten().collect::<Vec<_>>().join(" "),
        badges,
        charts,
        stats,
        facts: facts(usage),
        steps,
        nested: nested.collect(),
    }
}

pub(super) fn throttled(usage: &ContainerUsage) -> Option<f64> {
    let periods = usage.cpu_periods.filter(|periods| *periods > 0)?;
    Some(usage.cpu_throttled_periods? as f64 / periods as f64)
}

/// What the container's own cgroup and its settings say; what is not known is left out.
fn facts(usage: &ContainerUsage) -> Vec<(&'static str, String)> {
    let bytes = |value: u64| format::bytes(value as f64);
    let throttling = usage.cpu_throttled_seconds.map(|seconds| {
        let share = throttled(usage).map(|share| format!(", in {} of its periods", format::percent(share)));
        format!("{}{}", format::seconds(seconds), share.unwrap_or_default())
    });
    let facts = [
        ("CPU time", usage.cpu_seconds.map(format::seconds)),
        ("CPU time by the cgroup", usage.cgroup_cpu_seconds.map(format::seconds)),
        ("CPU request", usage.cpu_request_cores.map(format::cores)),
        ("CPU limit", usage.cpu_limit_cores.map(format::cores)),
        ("Throttled", throttling),
        ("Memory request", usage.memory_request_bytes.map(bytes)),
        ("Memory limit", usage.memory_limit_bytes.map(bytes)),
        ("Memory peak by the cgroup", usage.memory_peak_bytes.map(bytes)),
        ("OOM kills", usage.oom_kills.map(format::count)),
        ("Processes", usage.process_count.map(format::count)),
    ];
    facts.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
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
pub(super) fn places(series: &wire::Series) -> Vec<f64> {
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
    // One point is no course.
    if xs.len() < 2 {
        return (vec![], steps);
    }
    let mut charts = vec![
        Chart::new(format!("CPU of {}", usage.name), Unit::Cores, X::Seconds, xs.clone())
            .line("used", "used", cpu)
            .levels(usage.cpu_request_cores, usage.cpu_limit_cores),
        Chart::new(format!("Memory of {}", usage.name), Unit::Bytes, X::Seconds, xs)
            .line("used (RSS)", "used", memory)
            .levels(
                usage.memory_request_bytes.map(|bytes| bytes as f64),
                usage.memory_limit_bytes.map(|bytes| bytes as f64),
            ),
    ];
    charts.iter_mut().for_each(|chart| chart.sync = Some("run"));
    (charts, steps)
}

fn commands(payload: &Payload) -> Vec<Command> {
    // With the children whose names nobody saw: their time is part of the whole.
    let total: f64 = cpu_seconds(payload).unwrap_or(0.0);
    let commands = payload.top_commands.iter().map(|command| {
        let share = if total > 0.0 { command.cpu_seconds / total } else { 0.0 };
        Command {
            name: command.name.clone(),
            container: command.container.clone().unwrap_or_default(),
            processes: format::count(command.process_count),
            cpu: format::seconds(command.cpu_seconds),
            share: format::percent(share),
            bar: svg::share(share),
            memory: format::bytes(command.peak_mem_bytes as f64),
        }
    });
    commands.collect()
}

fn quality(payload: &Payload) -> Vec<(&'static str, String)> {
    let mut quality = vec![];
    let complete = match payload.complete {
        Some(true) => "yes: from the collector's start to its end",
        Some(false) => "no: an interim summary, or one recovered after the collector was killed",
        None => "not known",
    };
    quality.push(("The whole run", complete.to_owned()));
    if let Some(collector) = &payload.collector {
        let reason = collector.source_reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        let source = match collector.source.as_str() {
            "ebpf" => format!("eBPF: every process is told of when it ends{reason}"),
            "proc" => format!("/proc{reason}"),
            other => format!("{other}{reason}"),
        };
        quality.push(("Short-lived processes by", source));
        quality.push((
            "Hidden from the collector",
            collector.hidden.clone().unwrap_or_else(|| "nothing it knows of".to_owned()),
        ));
    }
    if let Some(attribution) = &payload.attribution {
        let placed = 1.0 - attribution.unattributed_cpu_seconds / attribution.cpu_seconds.max(1e-9);
        quality.push((
            "CPU time that found its container",
            format!(
                "{} of {}",
                format::percent(placed.clamp(0.0, 1.0)),
                format::seconds(attribution.cpu_seconds)
            ),
        ));
        quality.push(("Lost records", format::count(attribution.lost_records)));
        quality.push((
            "Missed samples",
            format!(
                "{} of {}",
                format::count(attribution.missed_samples),
                format::count(payload.sample_count + attribution.missed_samples)
            ),
        ));
        quality.push(("The collector itself used", format::seconds(attribution.collector_cpu_seconds)));
    }
    if let Some(method) = payload.quantile_method {
        let method = match method {
            wire::QuantileMethod::Exact => "of all samples, exact",
            wire::QuantileMethod::Hdr3 => "of a histogram with three significant digits",
            wire::QuantileMethod::Unknown => "by a method of a newer collector",
        };
        quality.push(("Percentiles", method.to_owned()));
    }
    if let Some(collector) = &payload.collector {
        let memory = collector.memory_total_bytes.map(|bytes| format!(", {}", format::bytes(bytes as f64)));
        let kernel = collector.kernel.as_ref().map(|kernel| format!(", Linux {kernel}"));
        quality.push((
            "Host",
            format!(
                "{} CPUs{}{}",
                collector.cpu_count,
                memory.unwrap_or_default(),
                kernel.unwrap_or_default()
            ),
        ));
        quality.push((
            "Collector",
            format!(
                "{}, {} mode, every {}",
                collector.version,
                collector.mode,
                format::seconds(collector.interval_seconds)
            ),
        ));
    }
    quality
}
