//! Two runs side by side.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Query, State};
use axum::response::Response;
use jiff::Timestamp;
use serde::Deserialize;
use wire::{Change, Comparison, Payload, Presence, Series};

use super::chart::{Chart, Unit, X};
use super::components::Crumbs;
use super::error::PageError;
use super::format::{self, DisplayTime};
use super::page;
use super::run::{LoadedRun, places};
use crate::api::state::AppState;
use crate::compare::compare;

#[derive(Template)]
#[template(path = "compare.html")]
struct ComparePage {
    crumbs: Crumbs,
    sides: [Side; 2],
    swapped: String,
    whole: Vec<Row>,
    containers: Vec<ContainerComparison>,
    commands: Vec<CommandComparison>,
}

/// One of the two runs.
struct Side {
    letter: &'static str,
    href: String,
    run_id: String,
    /// The run's job, shown if the two runs are of different jobs.
    job: String,
    began: DisplayTime,
}

/// One figure of both runs.
struct Row {
    name: &'static str,
    a: String,
    b: String,
    change: Delta,
}

/// How much a figure changed.
#[derive(Default)]
struct Delta {
    /// CSS class: `more`, `less`, or none.
    kind: &'static str,
    text: String,
}

struct ContainerComparison {
    name: String,
    presence: &'static str,
    charts: Vec<Chart>,
    rows: Vec<Row>,
}

struct CommandComparison {
    name: String,
    container: String,
    presence: &'static str,
    rows: Vec<Row>,
}

/// Two runs of the same work differ by this much anyway. A smaller change has no colour.
const NOISE: f64 = 0.05;

/// The ids of the two runs.
#[derive(Debug, Default, Deserialize)]
pub(super) struct RunPairQuery {
    a: Option<String>,
    b: Option<String>,
}

/// `GET /compare?a=&b=`.
pub(super) async fn two(
    State(state): State<Arc<AppState>>,
    Query(asked): Query<RunPairQuery>,
) -> Result<Response, PageError> {
    let id = |text: Option<String>| {
        let missing =
            || PageError::Invalid("Name two runs to compare by their ids: /compare?a=1&b=2.".to_owned());
        text.and_then(|text| text.parse().ok()).ok_or_else(missing)
    };
    let (a, b) = (id(asked.a)?, id(asked.b)?);
    let (a, b) = tokio::try_join!(LoadedRun::get(&state, a), LoadedRun::get(&state, b))?;
    page(&view(&a, &b, Timestamp::now()))
}

fn view(a: &LoadedRun, b: &LoadedRun, now: Timestamp) -> ComparePage {
    let crumbs = b.crumbs();
    let sides = [side("A", a, now), side("B", b, now)];
    let swapped = format!("/compare?a={}&b={}", b.run.id, a.run.id);
    let comparison = compare(&a.stored(), &b.stored());
    let total = Change::new(super::run::cpu_seconds(&a.payload), super::run::cpu_seconds(&b.payload));
    let whole = [
        row("Duration", &comparison.duration_seconds, format::seconds),
        row("CPU time", &total, format::seconds),
    ];
    ComparePage {
        crumbs,
        sides,
        swapped,
        whole: whole.into_iter().flatten().collect(),
        containers: containers(&comparison, &a.payload, &b.payload),
        commands: commands(&comparison),
    }
}

fn side(letter: &'static str, loaded: &LoadedRun, now: Timestamp) -> Side {
    let run = &loaded.run;
    Side {
        letter,
        href: format!("/runs/{}", run.id),
        run_id: run.run_id.clone(),
        job: run.scope.names().join(" · ").replacen(" · ", "/", 1),
        began: DisplayTime::new(loaded.payload.start_time, now),
    }
}

/// Returns `None` if neither run has the figure.
fn row(name: &'static str, change: &Change, show: fn(f64) -> String) -> Option<Row> {
    change.a.or(change.b)?;
    let shown = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), show);
    Some(Row { name, a: shown(change.a), b: shown(change.b), change: delta(change, show) })
}

fn delta(change: &Change, show: fn(f64) -> String) -> Delta {
    let Some(difference) = change.difference else { return Delta::default() };
    if difference == 0.0 || change.relative.is_some_and(|relative| relative.abs() < 0.005) {
        return Delta { kind: "", text: "the same".to_owned() };
    }
    let (kind, sign) = if difference > 0.0 { ("more", "+") } else { ("less", "−") };
    let kind = if change.relative.is_some_and(|relative| relative.abs() < NOISE) { "" } else { kind };
    let text = match change.relative {
        // If a figure became many times larger, a factor is easier to read than a percentage.
        Some(relative) if relative < 9.995 => {
            format!("{sign}{} ({sign}{})", show(difference.abs()), format::percent(relative.abs()))
        }
        Some(relative) => {
            format!("{sign}{} (× {})", show(difference.abs()), format::significant(relative + 1.0))
        }
        None => format!("{sign}{}", show(difference.abs())),
    };
    Delta { kind, text }
}

fn presence(presence: Presence) -> &'static str {
    match presence {
        Presence::Both => "",
        Presence::A => "only in A",
        Presence::B => "only in B",
    }
}

fn whole_number(value: f64) -> String {
    format::count(value as u64)
}

fn containers(comparison: &Comparison, a: &Payload, b: &Payload) -> Vec<ContainerComparison> {
    let series = |payload: &Payload, name: &str| {
        let found = payload.containers.iter().find(|container| container.name == name);
        found.and_then(|container| container.series.clone())
    };
    let containers = comparison.containers.iter().map(|container| {
        let rows = [
            row("CPU time", &container.cpu_seconds, format::seconds),
            row("CPU, mean", &container.cpu_avg_cores, format::cores),
            row("CPU, p95", &container.cpu_p95_cores, format::cores),
            row("CPU, peak", &container.cpu_peak_cores, format::cores),
            row("Throttled", &container.cpu_throttled_seconds, format::seconds),
            row("Memory, mean", &container.memory_avg_bytes, format::bytes),
            row("Memory, peak", &container.memory_peak_bytes, format::bytes),
            row("Working set, peak", &container.working_set_peak_bytes, format::bytes),
            row("OOM kills", &container.oom_kills, whole_number),
            row("Processes", &container.process_count, whole_number),
        ];
        let name = &container.name;
        let charts = match (series(a, name), series(b, name)) {
            (Some(a), Some(b)) => charts(name, &a, &b),
            _ => vec![],
        };
        ContainerComparison {
            name: name.clone(),
            presence: presence(container.presence),
            charts,
            rows: rows.into_iter().flatten().collect(),
        }
    });
    containers.collect()
}

/// Charts both series over the x values of both.
fn charts(name: &str, a: &Series, b: &Series) -> Vec<Chart> {
    let mut xs: Vec<f64> = places(a).into_iter().chain(places(b)).collect();
    xs.sort_by(f64::total_cmp);
    xs.dedup();
    if xs.len() < 2 {
        return vec![];
    }
    let at = |series: &Series, x: f64| {
        // A step lasts until the next one begins.
        let step = (x / series.step_seconds + 1e-9).floor() as usize;
        (x <= series.step_seconds * series.cpu_cores.len() as f64).then_some(step)
    };
    let cpu = |series: &Series| {
        xs.iter().map(|x| at(series, *x).and_then(|step| series.cpu_cores.get(step).copied())).collect()
    };
    let memory = |series: &Series| {
        let of = |x: &f64| {
            at(series, *x).and_then(|step| series.memory_bytes.get(step)).map(|bytes| *bytes as f64)
        };
        xs.iter().map(of).collect()
    };
    let new = |what: &str, unit| Chart::new(&format!("{what} of {name}"), unit, X::Seconds, xs.clone());
    let mut charts = vec![
        new("CPU", Unit::Cores).line("A", "other", cpu(a)).line("B", "used", cpu(b)),
        new("Memory", Unit::Bytes).line("A", "other", memory(a)).line("B", "used", memory(b)),
    ];
    for chart in &mut charts {
        chart.sync = Some("compare");
    }
    charts
}

fn commands(comparison: &Comparison) -> Vec<CommandComparison> {
    let commands = comparison.commands.iter().map(|command| CommandComparison {
        name: command.name.clone(),
        container: command.container.clone().unwrap_or_default(),
        presence: presence(command.presence),
        rows: [
            row("CPU time", &command.cpu_seconds, format::seconds),
            row("Processes", &command.process_count, whole_number),
            row("Highest memory of one", &command.peak_mem_bytes, format::bytes),
        ]
        .into_iter()
        .flatten()
        .collect(),
    });
    commands.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_told_in_words() {
        let told = |a, b| {
            let Delta { kind, text } = delta(&Change::new(a, b), format::seconds);
            (kind, text)
        };
        assert_eq!(told(Some(100.0), Some(150.0)), ("more", "+50 s (+50 %)".to_owned()));
        assert_eq!(told(Some(100.0), Some(25.0)), ("less", "−1 min 15 s (−75 %)".to_owned()));
        assert_eq!(told(Some(1.0), Some(41.0)), ("more", "+40 s (× 41)".to_owned()));
        assert_eq!(told(Some(0.0), Some(2.0)), ("more", "+2 s".to_owned()));
        assert_eq!(told(Some(100.0), Some(102.0)), ("", "+2 s (+2 %)".to_owned()));
        assert_eq!(told(Some(100.0), Some(100.1)), ("", "the same".to_owned()));
        assert_eq!(told(Some(0.0), Some(0.0)), ("", "the same".to_owned()));
        assert_eq!(told(None, Some(1.0)), ("", String::new()));
    }

    #[test]
    fn two_courses_share_their_places() {
        let series = |step_seconds, cpu_cores: &[f64]| Series {
            step_seconds,
            cpu_cores: cpu_cores.to_vec(),
            memory_bytes: vec![1; cpu_cores.len()],
        };
        let json = charts("x", &series(2.0, &[1.0, 2.0]), &series(3.0, &[4.0, 5.0, 6.0]))[0].json();
        assert!(json.contains("\"xs\":[0.0,2.0,3.0,6.0]"), "{json}");
        assert!(
            json.contains("\"values\":[1.0,2.0,2.0,null]") && json.contains("\"values\":[4.0,4.0,5.0,6.0]"),
            "{json}"
        );
    }
}
