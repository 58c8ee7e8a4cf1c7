//! `POST /api/v1/token`.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use jiff::Timestamp;
use wire::{Scope, Token, TokenRequest};

use super::body;
use super::error::AppError;
use super::openapi::WriteProblems;
use super::state::AppState;
use crate::auth;
use crate::validate;

/// Make a push token
///
/// For an organization, a repository, a workflow or a job, and everything below it. The receiver does not store the token.
///
/// Names are normalised as in the collector before a push: whitespace at the ends is dropped, each sequence of whitespace and
/// control characters becomes one space, and a name of more than 512 characters is cut and ends with a hash of the whole name.
#[utoipa::path(
    post, path = "/api/v1/token", tag = "push", security(("read_token" = [])),
    request_body = TokenRequest,
    responses((status = OK, description = "The token", body = Token), WriteProblems)
)]
pub(crate) async fn mint(
    State(state): State<Arc<AppState>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Token>, AppError> {
    state.authorize_reader(&headers)?;
    let (body, _held) = body::read(&state, &headers, body).await?;
    let request: TokenRequest = validate::parse(&body, "")?;
    let scope = Scope::named(
        &request.organization,
        request.repository.as_deref(),
        request.workflow.as_deref(),
        request.job.as_deref(),
    )?;
    let expires_at =
        request.expires_in_seconds.map(|seconds| auth::expiry(Timestamp::now(), seconds)).transpose();
    let expires_at = expires_at.map_err(|detail| AppError::invalid("expires_in_seconds", detail))?;
    let token = state.access.current().minting().mint(&scope, expires_at);
    Ok(Json(Token { token, expires_at }))
}
