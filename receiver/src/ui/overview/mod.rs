//! The overview of all jobs, the most wasteful or the most at risk first.

mod query;

use std::sync::Arc;

use askama::Template;
use axum::extract::{OriginalUri, RawQuery, State};
use axum::http::HeaderMap;
use axum::http::header::HOST;
use axum::http::uri::Authority;
use axum::response::Response;
use jiff::{SignedDuration, Timestamp};

use self::query::OverviewQuery;
use super::components::{Badge, Tile};
use super::error::PageError;
use super::format::{self, DisplayTime};
use super::svg::{self, Bullet};
use super::{page, session, urls};
use crate::api::state::AppState;
use crate::sizing::job_figures::{JobFigures, ResourceFigures};
use crate::store::{JobQuery, JobRow, Sums};

/// Jobs on a page.
const PAGE: u32 = 50;

#[derive(Template)]
#[template(path = "overview.html")]
struct OverviewPage {
    /// Names above the one that is shown, each with its address.
    above: Vec<(String, String)>,
    title: String,
    asked: OverviewQuery,
    tiles: Vec<Tile>,
    jobs: Vec<Job>,
    /// Whether the list is filtered.
    narrowed: bool,
    first: Option<String>,
    next: Option<String>,
}

#[derive(Template)]
#[template(path = "first_steps.html")]
struct FirstStepsPage {
    base: String,
}

struct Job {
    href: String,
    name: String,
    repository: String,
    repository_href: String,
    workflow: String,
    workflow_href: String,
    spark: String,
    cpu: Usage,
    memory: Usage,
    waste: Option<[String; 2]>,
    badges: Vec<Badge>,
    runs: String,
    last: DisplayTime,
    /// Whether its figures are still to be computed.
    pending: bool,
}

#[derive(Default)]
struct Usage {
    text: String,
    recommended: Option<String>,
    bullet: String,
}

/// `GET /`.
pub(super) async fn overview(
    State(state): State<Arc<AppState>>,
    headers: HeaderMap,
    OriginalUri(uri): OriginalUri,
    RawQuery(query): RawQuery,
) -> Result<Response, PageError> {
    let asked = OverviewQuery::parse(query.as_deref().unwrap_or_default());
    let now = Timestamp::now();
    let within = asked.within();
    let search = Some(asked.search.clone()).filter(|search| !search.is_empty());
    let days = asked.days.map(|days| SignedDuration::from_hours(24 * i64::from(days)));
    let narrowed = search.is_some() || days.is_some() || within.organization.is_some();
    let since = days.and_then(|days| now.checked_sub(days).ok());
    let after = asked.after.clone();
    let limit = PAGE + 1;
    let query = JobQuery { within: within.clone(), search, since, sort: asked.sort, after, limit };
    let (rows, sums) = tokio::try_join!(state.store.jobs(query), state.store.sums(within))?;
    if rows.is_empty() && !narrowed && asked.after.is_none() {
        // HTTP/2 has the host in the address instead of a header.
        let host = headers.get(HOST).and_then(|host| host.to_str().ok());
        let host = host.or(uri.authority().map(Authority::as_str)).unwrap_or("receiver:8080");
        return page(&FirstStepsPage { base: format!("{}://{host}", session::scheme(&state, &headers)) });
    }
    page(&view(asked, rows, &sums, narrowed, now))
}

fn view(
    asked: OverviewQuery,
    mut rows: Vec<JobRow>,
    sums: &Sums,
    narrowed: bool,
    now: Timestamp,
) -> OverviewPage {
    let more = rows.len() > PAGE as usize;
    rows.truncate(PAGE as usize);
    let next = rows.last().filter(|_| more).map(|last| asked.behind(&asked.sort.cursor(last)));
    let first = asked.after.is_some().then(|| asked.first());
    let mut above = asked.above();
    let title = above.pop().map_or_else(|| "Jobs".to_owned(), |(name, _)| name);
    OverviewPage {
        above,
        title,
        tiles: tiles(sums),
        jobs: rows.iter().map(|row| job(row, now)).collect(),
        narrowed,
        first,
        next,
        asked,
    }
}

fn tiles(sums: &Sums) -> Vec<Tile> {
    vec![
        Tile {
            name: "Jobs",
            value: format::count(sums.jobs),
            detail: format!("{} runs stored", format::count(sums.runs)),
        },
        Tile {
            name: "Over-requested",
            value: format!("{} core-h", format::significant(sums.waste)),
            detail: "over the last 20 runs of each; 8 GiB-h count as one".to_owned(),
        },
        Tile {
            name: "Could request less",
            value: format::count(sums.wasteful_jobs),
            detail: "jobs".to_owned(),
        },
        Tile {
            name: "At risk",
            value: format::count(sums.jobs_at_risk),
            detail: "jobs that were killed, throttled or near a limit".to_owned(),
        },
    ]
}

fn job(row: &JobRow, now: Timestamp) -> Job {
    let figures: Option<JobFigures> = row.figures.as_deref().and_then(|json| serde_json::from_str(json).ok());
    let names = row.scope.names();
    let [_, _, workflow, job] = names;
    let within = |parts: usize| {
        let above = ["organization", "repository", "workflow"].iter().zip(names).take(parts);
        let pairs = above.map(|(name, value)| format!("{name}={}", urls::value(value)));
        format!("/?{}", pairs.collect::<Vec<_>>().join("&"))
    };
    let (cpu, memory, waste, badges, spark) = figures.as_ref().map(told).unwrap_or_default();
    Job {
        href: urls::job(names),
        name: job.to_owned(),
        repository: row.scope.full_repository().unwrap_or_default(),
        repository_href: within(2),
        workflow: workflow.to_owned(),
        workflow_href: within(3),
        spark,
        cpu,
        memory,
        waste,
        badges,
        runs: format::count(row.run_count),
        last: DisplayTime::new(row.last_received_at, now),
        pending: figures.is_none(),
    }
}

fn told(figures: &JobFigures) -> (Usage, Usage, Option<[String; 2]>, Vec<Badge>, String) {
    let containers = &figures.containers;
    let cpu =
        usage(&containers.iter().map(|container| container.cpu_cores), format::cores, format::significant);
    let memory =
        usage(&containers.iter().map(|container| container.memory_bytes), format::bytes, format::bytes);
    let waste = [(figures.cpu_waste_core_hours, "core-h"), (figures.memory_waste_gib_hours, "GiB-h")];
    // Less than three minutes of a core is not worth showing.
    let waste = (figures.waste() >= 0.05)
        .then(|| waste.map(|(value, unit)| format!("{} {unit}", format::significant(value))));
    let times: Vec<_> = figures.sparkline.iter().map(|point| point.cpu_seconds).collect();
    let label = format!("CPU time of the last {} runs", times.len());
    (cpu, memory, waste, risks(figures), svg::spark(&times, &label))
}

/// Sums over the containers of a job. A figure that is unknown for one of them is unknown for all.
fn usage(
    containers: &(impl Iterator<Item = ResourceFigures> + Clone),
    show: fn(f64) -> String,
    short: fn(f64) -> String,
) -> Usage {
    let sum = |of: fn(ResourceFigures) -> Option<f64>| {
        let values: Option<Vec<f64>> = containers.clone().map(of).collect();
        values.filter(|values| !values.is_empty()).map(|values| values.iter().sum::<f64>())
    };
    let bullet = Bullet {
        used: sum(|figures| figures.used),
        request: sum(|figures| figures.request),
        limit: sum(|figures| figures.limit),
        recommended: sum(|figures| figures.recommended),
    };
    let Some(used) = bullet.used else { return Usage::default() };
    let text = match (bullet.request, bullet.limit) {
        (Some(request), _) => format!("{} of {}", short(used), show(request)),
        (None, Some(limit)) => format!("{} of at most {}", short(used), show(limit)),
        (None, None) => show(used),
    };
    Usage { text, recommended: bullet.recommended.map(show), bullet: bullet.draw() }
}

/// What went wrong in the last runs.
pub(super) fn risks(figures: &JobFigures) -> Vec<Badge> {
    let runs = figures.runs;
    let counted = [
        ("bad", figures.oom_killed_runs, "OOM-killed"),
        ("warn", figures.at_memory_limit_runs, "at memory limit"),
        ("warn", figures.throttled_runs, "throttled"),
    ];
    let counted = counted.into_iter().filter(|(_, count, _)| *count > 0);
    counted.map(|(kind, count, what)| Badge { kind, text: format!("{count} of {runs} {what}") }).collect()
}
