//! The runs of a job, and one run.

use std::sync::Arc;

use axum::Json;
use axum::extract::{OriginalUri, Path, RawQuery, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::value::RawValue;
use wire::{Problem, RunSummary, Scope, StoredRun};

use super::parameters::{FilterQuery, PageLimit, RunId};
use super::{NoParameters, Page, parse, parse_two};
use crate::api::error::AppError;
use crate::api::openapi::ReadProblems;
use crate::api::state::AppState;
use crate::store::{SummaryQuery, WholeRun};

/// Query of the runs of a job.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct SummariesQuery {
    /// Only runs with an id below this.
    #[param(value_type = Option<i64>)]
    before: Option<RunId>,
    /// At most this many; 100 by default.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: PageLimit,
}

/// Runs of a job, newest first, without their payloads
///
/// Each with the use, limits and requests of its containers; `/api/v1/runs/{id}` has the rest.
#[utoipa::path(
    get, path = "/api/v1/jobs/{organization}/{repository}/{workflow}/{job}/runs", tag = "runs",
    security(("read_token" = [])),
    params(
        ("organization" = String, Path, description = "Organization"),
        ("repository" = String, Path, description = "Repository, with or without its organization"),
        ("workflow" = String, Path, description = "Workflow"),
        ("job" = String, Path, description = "Job"),
        SummariesQuery,
        FilterQuery,
    ),
    responses(
        (status = OK, description = "A page", body = [RunSummary], headers(("Link" = String, description = "The next page, if there is one (RFC 8288)"))),
        (status = NOT_FOUND, description = "No run of such a job is stored", body = Problem, content_type = "application/problem+json"),
        ReadProblems,
    )
)]
pub(crate) async fn summaries(
    State(state): State<Arc<AppState>>,
    headers: HeaderMap,
    OriginalUri(uri): OriginalUri,
    Path((organization, repository, workflow, job)): Path<(String, String, String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Response, AppError> {
    state.authorize_reader(&headers)?;
    let scope = Scope::new(&organization, Some(&repository), Some(&workflow), Some(&job))?;
    let (query, filter, parameters): (_, FilterQuery, _) = parse_two(query.as_deref())?;
    let SummariesQuery { before, limit: PageLimit(limit) } = query;
    let query =
        SummaryQuery { scope, before: before.map(|RunId(id)| id), filter: filter.into(), limit: limit + 1 };
    let rows = state.store.summaries(query).await?;
    let rows = rows.ok_or(AppError::Missing("no run of this job is stored".to_owned()))?;
    let page = Page::new(rows, limit, |last| parameters.next(uri.path(), "before", &last.id.to_string()));
    Ok(page.into_response())
}

/// One run with its payload
#[utoipa::path(
    get, path = "/api/v1/runs/{id}", tag = "runs", security(("read_token" = [])),
    params(("id" = i64, Path, description = "Id of the run, as in every list of runs")),
    responses(
        (status = OK, description = "The run, the payload as it was pushed, or the better figures of several", body = StoredRun),
        (status = NOT_FOUND, description = "No such run is stored", body = Problem, content_type = "application/problem+json"),
        ReadProblems,
    )
)]
pub(crate) async fn run(
    State(state): State<Arc<AppState>>,
    headers: HeaderMap,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<StoredRun<Box<RawValue>>>, AppError> {
    state.authorize_reader(&headers)?;
    parse::<NoParameters>(query.as_deref())?;
    let number = id.parse().ok().filter(|id: &i64| *id > 0);
    let number =
        number.ok_or_else(|| AppError::invalid("id", format!("is {id:?}; the id of a run is accepted")))?;
    let run = state.store.run(number).await?;
    run.map_or_else(
        || Err(AppError::Missing(format!("no run {number} is stored"))),
        |run| whole(run).map(Json),
    )
}

/// The run for an answer, with its payload as it was pushed.
pub(super) fn whole(mut run: WholeRun) -> Result<StoredRun<Box<RawValue>>, AppError> {
    let payload = RawValue::from_string(std::mem::take(&mut run.payload));
    let payload = payload.map_err(|error| unreadable(run.id, &error))?;
    Ok(run.with_payload(payload))
}

/// The payload of a run without the line breaks between its values.
pub(super) fn on_one_line(run: &StoredRun<Box<RawValue>>) -> Result<Box<RawValue>, AppError> {
    // Inside a JSON string, a line break is always escaped.
    let text = run.payload.get().replace(['\n', '\r'], " ");
    RawValue::from_string(text).map_err(|error| unreadable(run.id, &error))
}

/// A run with its payload parsed.
pub(super) fn parsed(run: WholeRun) -> Result<StoredRun, AppError> {
    let payload = serde_json::from_str(&run.payload).map_err(|error| unreadable(run.id, &error))?;
    Ok(run.with_payload(payload))
}

fn unreadable(run: i64, error: &serde_json::Error) -> AppError {
    AppError::Internal(format!("the payload of run {run}: {error}"))
}
