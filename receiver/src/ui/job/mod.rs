//! The page of a job: what it should request and why, charts over its runs, and a list of them.

mod advice;
mod history;

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, Query, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Deserialize;
use wire::Scope;

use self::advice::{Advice, Written};
use self::history::{ContainerCourse, RunRow};
use super::components::{Badge, Crumbs, Tile};
use super::error::PageError;
use super::format::{self, DisplayTime};
use super::overview::risks;
use super::{page, urls};
use crate::api::state::AppState;
use crate::sizing::format::{Format, Target};
use crate::sizing::job_figures::JobFigures;
use crate::sizing::parameters::SizingParameters;
use crate::sizing::sizing;
use crate::store::{JobRow, RunFilter, SummaryQuery};

/// Number of runs on a page, and in a chart.
const PAGE: u32 = 50;

#[derive(Template)]
#[template(path = "job.html")]
struct JobPage {
    crumbs: Crumbs,
    badges: Vec<Badge>,
    tiles: Vec<Tile>,
    advice: Vec<Advice>,
    written: Vec<Written>,
    /// Which runs the recommendation is based on.
    basis: String,
    courses: Vec<ContainerCourse>,
    runs: Vec<RunRow>,
    selected: Vec<Selected>,
    first: Option<String>,
    next: Option<String>,
}

/// Which page of a job's runs to show.
#[derive(Debug, Default, Deserialize)]
pub(super) struct RunsPageQuery {
    before: Option<String>,
    variant: Option<String>,
    #[serde(rename = "ref")]
    git_ref: Option<String>,
    event: Option<String>,
    result: Option<String>,
}

impl RunsPageQuery {
    /// The filter; an empty value, as from an empty field, does not restrict.
    fn filter(&self) -> RunFilter {
        let given = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
        RunFilter {
            variant: given(&self.variant),
            git_ref: given(&self.git_ref),
            event: given(&self.event),
            result: given(&self.result),
        }
    }
}

/// A selected value of a field by which runs are filtered.
struct Selected {
    name: &'static str,
    value: String,
    /// The page without this filter.
    without: String,
}

type Names = (String, String, String, String);

fn scope(names: &Names) -> Result<Scope, PageError> {
    let [organization, repository, workflow, job] =
        [&names.0, &names.1, &names.2, &names.3].map(|part| urls::name(part));
    Ok(Scope::new(organization, Some(repository), Some(workflow), Some(job))?)
}

/// `GET /jobs/{organization}/{repository}/{workflow}/{job}`.
pub(super) async fn job(
    State(state): State<Arc<AppState>>,
    Path(names): Path<Names>,
    Query(asked): Query<RunsPageQuery>,
) -> Result<Response, PageError> {
    let scope = scope(&names)?;
    let filter = asked.filter();
    let before = asked.before.map(|before| before.parse());
    let before =
        before.transpose().map_err(|_| PageError::Invalid("before is not the id of a run".to_owned()))?;
    let query = SummaryQuery { scope: scope.clone(), before, filter: filter.clone(), limit: PAGE + 1 };
    let (row, runs) = tokio::try_join!(state.store.job(scope.clone()), state.store.summaries(query))?;
    let (Some(row), Some(runs)) = (row, runs) else { return Err(PageError::NotFound) };
    let RunFilter { variant, git_ref, event, .. } = filter.clone();
    let parameters = SizingParameters { variant, git_ref, event, ..SizingParameters::default() };
    let sizing = sizing(&state.store, scope, parameters).await?;
    page(&view(&row, runs, &sizing, &filter, before.is_some(), Timestamp::now()))
}

/// `GET /ui/sizing/{organization}/{repository}/{workflow}/{job}/{format}`: the recommendation as a file.
pub(super) async fn recommendation(
    State(state): State<Arc<AppState>>,
    Path((organization, repository, workflow, job, format)): Path<(String, String, String, String, String)>,
) -> Result<Response, PageError> {
    let scope = scope(&(organization, repository, workflow, job))?;
    let format = Format::named(&format).ok_or(PageError::NotFound)?;
    if state.store.job(scope.clone()).await?.is_none() {
        return Err(PageError::NotFound);
    }
    let text =
        format.write(&sizing(&state.store, scope, SizingParameters::default()).await?, &Target::default());
    let text = text.map_err(|error| PageError::Internal(error.to_string()))?;
    Ok(([(CONTENT_TYPE, format.content_type()), (CACHE_CONTROL, "no-store")], text).into_response())
}

fn view(
    row: &JobRow,
    mut runs: Vec<wire::RunSummary>,
    sizing: &crate::sizing::recommendation::Sizing,
    filter: &RunFilter,
    later_page: bool,
    now: Timestamp,
) -> JobPage {
    let names = row.scope.names();
    let href = urls::job(names);
    let more = runs.len() > PAGE as usize;
    runs.truncate(PAGE as usize);
    let next = runs.last().filter(|_| more);
    let next = next.map(|last| format!("{}#runs", urls::filtered(&href, filter, Some(last.id))));
    let figures: Option<JobFigures> = row.figures.as_deref().and_then(|json| serde_json::from_str(json).ok());
    JobPage {
        crumbs: Crumbs::new(names),
        badges: figures.as_ref().map(risks).unwrap_or_default(),
        tiles: tiles(row, figures.as_ref(), sizing, now),
        advice: sizing.containers.iter().map(advice::advice).collect(),
        written: advice::written(sizing, &href),
        basis: advice::basis(sizing),
        courses: history::courses(&runs, sizing),
        runs: history::rows(&runs, &href, now),
        selected: selected(&href, filter),
        first: later_page.then(|| format!("{}#runs", urls::filtered(&href, filter, None))),
        next,
    }
}

fn selected(href: &str, filter: &RunFilter) -> Vec<Selected> {
    let RunFilter { variant, git_ref, event, result } = filter.clone();
    let without = |filter: RunFilter| urls::filtered(href, &filter, None);
    let fields = [
        ("variant", variant, without(RunFilter { variant: None, ..filter.clone() })),
        ("ref", git_ref, without(RunFilter { git_ref: None, ..filter.clone() })),
        ("event", event, without(RunFilter { event: None, ..filter.clone() })),
        ("result", result, without(RunFilter { result: None, ..filter.clone() })),
    ];
    let some =
        |(name, value, without): (_, Option<String>, _)| Some(Selected { name, value: value?, without });
    fields.into_iter().filter_map(some).collect()
}

fn tiles(
    row: &JobRow,
    figures: Option<&JobFigures>,
    sizing: &crate::sizing::recommendation::Sizing,
    now: Timestamp,
) -> Vec<Tile> {
    let last = DisplayTime::new(row.last_received_at, now);
    let mut tiles = vec![Tile {
        name: "Runs",
        value: format::count(row.run_count),
        detail: format!("the last one {}", last.ago),
    }];
    if let Some(figures) = figures.filter(|figures| figures.runs > 0) {
        tiles.push(Tile {
            name: "Duration",
            value: format::seconds(figures.mean_duration_seconds),
            detail: format!("on average of {}", figures.runs),
        });
    }
    if sizing.savings.known {
        let savings = sizing.savings;
        let tile = |name, hours: f64, unit: &str| Tile {
            name,
            value: format!("{} {unit}", format::significant(hours.abs())),
            detail: if hours < 0.0 { "more needed in these runs" } else { "over-requested in these runs" }
                .to_owned(),
        };
        tiles.push(tile("CPU", savings.core_hours, "core-h"));
        tiles.push(tile("Memory", savings.gib_hours, "GiB-h"));
    }
    tiles
}
