//! `GET /api/v1/compare`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use wire::{Comparison, Problem, StoredRun};

use super::{Parameters, summaries};
use crate::api::error::AppError;
use crate::api::openapi::ReadProblems;
use crate::api::state::AppState;
use crate::compare::compare;

/// Two runs side by side
///
/// For each container and each command what it used in both runs, what that differs by and by what share.
#[utoipa::path(
    get, path = "/api/v1/compare", tag = "runs", security(("read_token" = [])),
    params(
        ("a" = i64, Query, description = "Id of the first run"),
        ("b" = i64, Query, description = "Id of the second run; what it used more counts as growth"),
    ),
    responses(
        (status = OK, description = "What changed from the first to the second", body = Comparison),
        (status = NOT_FOUND, description = "One of them is not stored", body = Problem, content_type = "application/problem+json"),
        ReadProblems,
    )
)]
pub(crate) async fn two(
    State(state): State<Arc<AppState>>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Json<Comparison>, AppError> {
    state.authorize_reader(&headers)?;
    let parameters = Parameters::parse(query.as_deref(), &["a", "b"])?;
    let id = |name| {
        let missing = || AppError::invalid(name, "is missing; the id of a run is accepted");
        parameters.run(name)?.ok_or_else(missing)
    };
    let (a, b) = (id("a")?, id("b")?);
    Ok(Json(compare(&read(&state, "a", a).await?, &read(&state, "b", b).await?)))
}

async fn read(state: &AppState, name: &str, id: i64) -> Result<StoredRun, AppError> {
    let run = state.store.run(id).await?;
    let run = run.ok_or_else(|| AppError::Missing(format!("{name} is {id}; no such run is stored")))?;
    summaries::parsed(run)
}
