//! The page of a run: its charts, its commands, and how well it was measured.

mod container;
mod quality;

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use wire::{Payload, StepUsage};

pub(super) use self::container::places;
use self::container::{ContainerSection, container};
use self::quality::quality;
use super::components::{Badge, Crumbs, Tile};
use super::error::PageError;
use super::format::{self, DisplayTime};
use super::{page, svg};
use crate::api::state::AppState;
use crate::store::WholeRun;

/// A run as pages need it.
pub(super) struct LoadedRun {
    pub(super) run: WholeRun,
    pub(super) payload: Payload,
}

impl LoadedRun {
    pub(super) async fn get(state: &AppState, id: i64) -> Result<Self, PageError> {
        let run = state.store.run(id).await?.ok_or(PageError::NotFound)?;
        let payload = serde_json::from_str(&run.payload);
        let payload =
            payload.map_err(|error| PageError::Internal(format!("the payload of run {id}: {error}")))?;
        Ok(Self { run, payload })
    }

    /// The run as the API returns it.
    pub(super) fn stored(&self) -> wire::StoredRun {
        self.run.clone().with_payload(self.payload.clone())
    }

    pub(super) fn crumbs(&self) -> Crumbs {
        Crumbs::new(self.run.scope.names())
    }
}

#[derive(Template)]
#[template(path = "run.html")]
struct RunPage {
    crumbs: Crumbs,
    id: i64,
    run_id: String,
    began: DisplayTime,
    badges: Vec<Badge>,
    tiles: Vec<Tile>,
    containers: Vec<ContainerSection>,
    steps: Vec<StepRow>,
    commands: Vec<CommandRow>,
    /// Whether the disk use of a command is known.
    has_disk: bool,
    processes: Vec<(&'static str, Vec<Process>)>,
    overhead: Option<String>,
    /// What the CI system says about the run, and its page there.
    ci: Vec<(&'static str, String)>,
    ci_url: Option<String>,
    quality: Vec<(&'static str, String)>,
}

struct StepRow {
    name: String,
    began: String,
    took: String,
    /// When, as a part of the run.
    bar: String,
    cpu: String,
    memory: String,
    processes: String,
}

struct CommandRow {
    name: String,
    container: String,
    processes: String,
    cpu: String,
    share: String,
    bar: String,
    /// The most at the same time.
    at_once: Option<String>,
    /// Read and written.
    disk: Option<String>,
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
    let loaded = LoadedRun::get(&state, id.parse().map_err(|_| PageError::NotFound)?).await?;
    page(&view(&loaded, Timestamp::now()))
}

/// `GET /ui/runs/{id}/payload.json`: the payload as received, or joined from several.
pub(super) async fn payload(
    State(state): State<Arc<AppState>>,
    Path(id): Path<String>,
) -> Result<Response, PageError> {
    let id = id.parse().map_err(|_| PageError::NotFound)?;
    let run = state.store.run(id).await?.ok_or(PageError::NotFound)?;
    let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")];
    Ok((headers, run.payload).into_response())
}

fn view(loaded: &LoadedRun, now: Timestamp) -> RunPage {
    let LoadedRun { run, payload } = loaded;
    RunPage {
        crumbs: loaded.crumbs(),
        id: run.id,
        run_id: run.run_id.clone(),
        began: DisplayTime::new(payload.start_time, now),
        badges: badges(payload),
        tiles: tiles(payload),
        containers: payload.containers.iter().map(|usage| container(usage, &payload.steps)).collect(),
        steps: payload.steps.iter().map(|step| step_row(step, payload.duration_seconds)).collect(),
        commands: commands(payload),
        has_disk: payload.top_commands.iter().any(|command| command.disk_read_bytes.is_some()),
        processes: processes(payload),
        overhead: payload.pod_overhead.as_ref().map(overhead),
        ci: payload.ci.as_ref().map(said).unwrap_or_default(),
        // What was stored before it was checked would not become a link.
        ci_url: payload
            .ci
            .as_ref()
            .and_then(|ci| ci.url.clone())
            .filter(|url| wire::url_fault(url).is_none()),
        quality: quality(payload, &run.sources),
    }
}

/// What the CI system says, for people.
fn said(ci: &wire::CiContext) -> Vec<(&'static str, String)> {
    let names = ["CI system", "Variant", "Ref", "Commit", "Event", "Runner", "Labels"];
    let texts = names.into_iter().zip(ci.texts());
    let mut said: Vec<_> = texts.filter_map(|(name, (_, text))| Some((name, text?.to_owned()))).collect();
    if let Some(fork) = ci.fork {
        said.push(("From a fork", if fork { "yes" } else { "no" }.to_owned()));
    }
    if let Some(result) = ci.result {
        said.push(("Result", result.name().to_owned()));
    }
    said
}

fn overhead(overhead: &wire::PodOverhead) -> String {
    format!(
        "{} of CPU time, memory {} at most",
        format::seconds(overhead.cpu_seconds),
        format::bytes(overhead.memory_bytes.peak)
    )
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

/// CPU time of all containers, of the pod outside them, and of what could not be attributed to any.
pub(super) fn cpu_seconds(payload: &Payload) -> Option<f64> {
    let of_containers = || {
        let times: Option<Vec<f64>> =
            payload.containers.iter().map(|container| container.cpu_seconds).collect();
        times
            .filter(|times| !times.is_empty())
            .map(|times| times.iter().sum::<f64>())
            .map(|sum| sum + payload.pod_overhead.as_ref().map_or(0.0, |overhead| overhead.cpu_seconds))
    };
    payload.attribution.as_ref().map(|attribution| attribution.cpu_seconds).or_else(of_containers)
}

fn badges(payload: &Payload) -> Vec<Badge> {
    let mut badges = vec![];
    let killed: u64 = payload.containers.iter().filter_map(|container| container.oom_kills).sum();
    if killed > 0 {
        badges.push(Badge { kind: "bad", text: format!("{killed} OOM-killed") });
    }
    badges.extend(Badge::of_result(payload.ci.as_ref()));
    match payload.complete {
        Some(false) => badges.push(Badge::partial()),
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
    if let Some(pod) = &payload.pod {
        tiles.push(Tile {
            name: "All containers at once",
            value: format::cores(pod.cpu_cores.peak),
            detail: format!("and {}, each at its peak", format::bytes(pod.memory_bytes.peak)),
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

fn step_row(step: &StepUsage, duration_seconds: f64) -> StepRow {
    let share = |at: f64| if duration_seconds > 0.0 { at / duration_seconds } else { 0.0 };
    StepRow {
        name: step.name.clone(),
        began: format::seconds(step.begin_seconds),
        took: format::seconds((step.end_seconds - step.begin_seconds).max(0.0)),
        bar: svg::span(share(step.begin_seconds), share(step.end_seconds)),
        cpu: format::seconds(step.cpu_seconds),
        memory: format::bytes(step.peak_mem_bytes as f64),
        processes: format::count(step.process_count),
    }
}

fn commands(payload: &Payload) -> Vec<CommandRow> {
    // This includes children whose names were never seen: their time is part of the total.
    let total: f64 = cpu_seconds(payload).unwrap_or(0.0);
    let commands = payload.top_commands.iter().map(|command| {
        let share = if total > 0.0 { command.cpu_seconds / total } else { 0.0 };
        CommandRow {
            name: command.name.clone(),
            container: command.container.clone().unwrap_or_default(),
            processes: format::count(command.process_count),
            cpu: format::seconds(command.cpu_seconds),
            share: format::percent(share),
            bar: svg::share(share),
            at_once: command.peak_process_count.map(format::count),
            disk: command.disk_read_bytes.zip(command.disk_written_bytes).map(|(read, written)| {
                format!("{} / {}", format::bytes(read as f64), format::bytes(written as f64))
            }),
            memory: format::bytes(command.peak_mem_bytes as f64),
        }
    });
    commands.collect()
}
