//! `POST /api/v1/token`.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use jiff::{SignedDuration, Timestamp};
use wire::{Scope, Token, TokenRequest};

use crate::auth::TokenKey;
use crate::error::AppError;
use crate::openapi::WriteProblems;
use crate::state::AppState;
use crate::{ingest, validate};

/// Make a push token
///
/// For an organization, a repository, a workflow or a job: it is valid for all below what is given. It is stored nowhere.
///
/// Names are taken as a CI system or a person writes them and made normal, as the collector does before it pushes: blanks at
/// the ends are dropped, each run of blanks, line breaks and control characters becomes one blank, and what is longer than 512
/// characters is cut and ends with a hash of the whole name.
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
    let (body, _held) = ingest::read(&state, &headers, body).await?;
    let request: TokenRequest = validate::parse(&body, "")?;
    let scope = Scope::named(
        &request.organization,
        request.repository.as_deref(),
        request.workflow.as_deref(),
        request.job.as_deref(),
    )?;
    let expires_at = request.expires_in_seconds.map(|seconds| expiry(Timestamp::now(), seconds)).transpose();
    let expires_at = expires_at.map_err(|detail| AppError::invalid("expires_in_seconds", detail))?;
    Ok(Json(token(state.access.current().minting(), &scope, expires_at)))
}

/// The token and when it expires.
pub fn token(key: &TokenKey, scope: &Scope, expires_at: Option<Timestamp>) -> Token {
    Token { token: key.mint(scope, expires_at), expires_at }
}

/// A token that expires does so within a thousand years, in seconds.
pub(crate) const LONGEST: u64 = 1000 * 365 * 24 * 60 * 60;

/// Whole seconds, as the token carries them.
pub fn expiry(now: Timestamp, seconds: u64) -> Result<Timestamp, String> {
    let expires_at = i64::try_from(seconds)
        .ok()
        .filter(|_| (1..=LONGEST).contains(&seconds))
        .and_then(|seconds| now.checked_add(SignedDuration::from_secs(seconds)).ok())
        .and_then(|time| Timestamp::from_second(time.as_second()).ok());
    expires_at
        .ok_or_else(|| format!("is {seconds}; 1 to {LONGEST} seconds from now, 1000 years, are accepted"))
}
