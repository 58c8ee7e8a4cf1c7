//! `GET /api/v1/metrics/repo/{organization}/{repository}/{workflow}/{job}`.

use std::sync::Arc;

use axum::extract::{OriginalUri, Path, RawQuery, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use wire::{Scope, StoredRun};

use super::summaries::whole;
use super::{Page, Parameters};
use crate::api::error::AppError;
use crate::api::openapi::ReadProblems;
use crate::api::state::AppState;
use crate::store::RunQuery;

/// Runs of a job, newest first, with their payloads
#[utoipa::path(
    get, path = "/api/v1/metrics/repo/{organization}/{repository}/{workflow}/{job}", tag = "runs",
    security(("read_token" = [])),
    params(
        ("organization" = String, Path, description = "Organization"),
        ("repository" = String, Path, description = "Repository, with or without its organization"),
        ("workflow" = String, Path, description = "Workflow"),
        ("job" = String, Path, description = "Job"),
        ("run_id" = Option<String>, Query, description = "Only runs with this identifier of the CI system"),
        ("before" = Option<i64>, Query, description = "Only runs with an id below this"),
        ("since" = Option<String>, Query, description = "Only runs that came then or later", format = DateTime),
        ("until" = Option<String>, Query, description = "Only runs that came before", format = DateTime),
        ("limit" = Option<u32>, Query, description = "At most so many; 100 if it is left out"),
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
    let parameters = Parameters::parse(query.as_deref(), &["limit", "before", "since", "until", "run_id"])?;
    let limit = parameters.limit()?;
    let query = RunQuery {
        scope,
        run_id: parameters.name("run_id")?,
        before: parameters.run("before")?,
        since: parameters.time("since")?,
        until: parameters.time("until")?,
        limit: limit + 1,
    };
    let rows = state.store.runs(query).await?;
    let runs = rows.into_iter().map(whole).collect::<Result<Vec<_>, _>>()?;
    Ok(Page::new(runs, limit, |last| parameters.next(uri.path(), "before", &last.id.to_string()))
        .into_response())
}
