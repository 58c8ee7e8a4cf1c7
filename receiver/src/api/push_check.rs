//! `GET /api/v1/push-check`: whether a push would be accepted, checked before there is anything to push.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use wire::{Problem, RECEIVER_VERSION_HEADER, Scope};

use super::error::AppError;
use super::openapi::ReadProblems;
use super::query::parse;
use super::state::AppState;

/// The scope of a push. If later parts are left out, it covers everything below the given ones.
#[derive(Debug, serde::Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct PushCheckQuery {
    /// Organization.
    organization: String,
    /// Repository, with or without its organization; by default every one.
    repository: Option<String>,
    /// Workflow; by default every one.
    workflow: Option<String>,
    /// Job; by default every one.
    job: Option<String>,
}

/// Check whether a push would be accepted
///
/// For a collector that is about to measure: checks that this is a receiver, that the token is valid for the scope, and that
/// the database is writable. Nothing is stored. Names are normalised as for `POST /api/v1/token`.
#[utoipa::path(
    get, path = "/api/v1/push-check", tag = "push", security(("push_token" = [])),
    params(PushCheckQuery),
    responses(
        (status = NO_CONTENT, description = "The push would be accepted", headers(("Receiver-Version" = String, description = "Version of the receiver; other answers have it as well"))),
        (status = FORBIDDEN, description = "The token is for another scope, has expired, or is a read token: `detail` says which", body = Problem, content_type = "application/problem+json"),
        (status = INTERNAL_SERVER_ERROR, description = "Internal error", body = Problem, content_type = "application/problem+json"),
        ReadProblems,
    )
)]
pub(crate) async fn push_check(
    State(state): State<Arc<AppState>>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> ([(&'static str, &'static str); 1], Result<StatusCode, AppError>) {
    let answer = check(&state, &headers, query.as_deref()).await;
    ([(RECEIVER_VERSION_HEADER, env!("CARGO_PKG_VERSION"))], answer.map(|()| StatusCode::NO_CONTENT))
}

async fn check(state: &AppState, headers: &HeaderMap, query: Option<&str>) -> Result<(), AppError> {
    let token = state.push_token(headers)?;
    let (PushCheckQuery { organization, repository, workflow, job }, _) = parse(query)?;
    let scope = Scope::named(&organization, repository.as_deref(), workflow.as_deref(), job.as_deref())?;
    state.authorize_push(&token, &scope, Timestamp::now())?;
    Ok(state.store.check().await?)
}
