//! `GET /api/v1/compare`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use serde::Deserialize;
use wire::{Comparison, Problem, StoredRun};

use super::parameters::RunId;
use super::{parse, summaries};
use crate::api::error::AppError;
use crate::api::openapi::ReadProblems;
use crate::api::state::AppState;
use crate::compare::compare;

/// Query of `GET /api/v1/compare`.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct CompareQuery {
    /// Id of the first run.
    #[param(value_type = i64)]
    a: Option<RunId>,
    /// Id of the second run; differences are positive if it used more.
    #[param(value_type = i64)]
    b: Option<RunId>,
}

/// Two runs side by side
///
/// For each container and each command: its use in both runs, the difference, and the relative difference.
#[utoipa::path(
    get, path = "/api/v1/compare", tag = "runs", security(("read_token" = [])),
    params(CompareQuery),
    responses(
        (status = OK, description = "Changes from the first run to the second", body = Comparison),
        (status = NOT_FOUND, description = "One of the runs is not stored", body = Problem, content_type = "application/problem+json"),
        ReadProblems,
    )
)]
pub(crate) async fn two(
    State(state): State<Arc<AppState>>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Json<Comparison>, AppError> {
    state.authorize_reader(&headers)?;
    let (CompareQuery { a, b }, _) = parse(query.as_deref())?;
    let missing = |name: &str| AppError::invalid(name, "is missing; the id of a run is accepted");
    let RunId(a) = a.ok_or_else(|| missing("a"))?;
    let RunId(b) = b.ok_or_else(|| missing("b"))?;
    Ok(Json(compare(&read(&state, "a", a).await?, &read(&state, "b", b).await?)))
}

async fn read(state: &AppState, name: &str, id: i64) -> Result<StoredRun, AppError> {
    let run = state.store.run(id).await?;
    let run = run.ok_or_else(|| AppError::Missing(format!("{name} is {id}; no such run is stored")))?;
    summaries::parsed(run)
}
