//! `GET /healthz` and `GET /readyz`.

use std::sync::Arc;

use axum::extract::State;
use wire::Problem;

use super::error::AppError;
use super::state::AppState;

/// Check that the receiver runs
#[utoipa::path(
    get, path = "/healthz", tag = "operation", security(()),
    responses((status = OK, description = "The receiver runs", body = String, content_type = "text/plain"))
)]
pub(super) async fn healthy() -> &'static str {
    "ok\n"
}

/// Check that the receiver can store and answer
#[utoipa::path(
    get, path = "/readyz", tag = "operation", security(()),
    responses(
        (status = OK, description = "The receiver is ready", body = String, content_type = "text/plain"),
        (status = INTERNAL_SERVER_ERROR, description = "Internal error", body = Problem, content_type = "application/problem+json"),
        (status = SERVICE_UNAVAILABLE, description = "Not ready now, or until the database is writable: `detail` says why", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(super) async fn ready(State(state): State<Arc<AppState>>) -> Result<&'static str, AppError> {
    state.store.check().await?;
    Ok("ready\n")
}
