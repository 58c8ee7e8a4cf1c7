//! `GET /api/v1/metrics/repo/{organization}/{repository}/{workflow}/{job}`.

use std::sync::Arc;

use axum::extract::{OriginalUri, Path, RawQuery, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use wire::{Scope, StoredRun};

use super::parameters::{FilterQuery, PageLimit, Rfc3339Time, RunId, check_name};
use super::summaries::whole;
use super::{Page, parse_two};
use crate::api::error::AppError;
use crate::api::openapi::ReadProblems;
use crate::api::state::AppState;
use crate::store::RunQuery;

/// Query of the runs of a job.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct RunsQuery {
    /// Only runs with this `run_id` of the CI system.
    run_id: Option<String>,
    /// Only runs with an id below this.
    #[param(value_type = Option<i64>)]
    before: Option<RunId>,
    /// Only runs received at this time or later.
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<Rfc3339Time>,
    /// Only runs received before this time.
    #[param(value_type = Option<String>, format = DateTime)]
    until: Option<Rfc3339Time>,
    /// At most this many; 100 by default.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: PageLimit,
}

/// Runs of a job, newest first, with their payloads
#[utoipa::path(
    get, path = "/api/v1/metrics/repo/{organization}/{repository}/{workflow}/{job}", tag = "runs",
    security(("read_token" = [])),
    params(
        ("organization" = String, Path, description = "Organization"),
        ("repository" = String, Path, description = "Repository, with or without its organization"),
        ("workflow" = String, Path, description = "Workflow"),
        ("job" = String, Path, description = "Job"),
        RunsQuery,
        FilterQuery,
    ),
    responses(
        (status = OK, description = "A page; empty if there is no such job", body = [StoredRun], headers(("Link" = String, description = "The next page, if there is one (RFC 8288)"))),
        ReadProblems,
    )
)]
pub(crate) async fn runs(
    State(state): State<Arc<AppState>>,
    headers: HeaderMap,
    OriginalUri(uri): OriginalUri,
    Path((organization, repository, workflow, job)): Path<(String, String, String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Response, AppError> {
    state.authorize_reader(&headers)?;
    let scope = Scope::new(&organization, Some(&repository), Some(&workflow), Some(&job))?;
    let (query, filter, parameters): (_, FilterQuery, _) = parse_two(query.as_deref())?;
    let RunsQuery { run_id, before, since, until, limit: PageLimit(limit) } = query;
    check_name("run_id", run_id.as_ref())?;
    let query = RunQuery {
        scope,
        run_id,
        before: before.map(|RunId(id)| id),
        since: since.map(|Rfc3339Time(time)| time),
        until: until.map(|Rfc3339Time(time)| time),
        filter: filter.into(),
        limit: limit + 1,
    };
    let rows = state.store.runs(query).await?;
    let runs = rows.into_iter().map(whole).collect::<Result<Vec<_>, _>>()?;
    Ok(Page::new(runs, limit, |last| parameters.next(uri.path(), "before", &last.id.to_string()))
        .into_response())
}
