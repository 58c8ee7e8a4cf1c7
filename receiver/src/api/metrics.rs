//! `GET /metrics`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderName;
use axum::http::header::CONTENT_TYPE;

use super::error::AppError;
use super::state::AppState;

/// Metrics of the receiver
///
/// In Prometheus' text format. No token is needed, because no metric names a job.
#[utoipa::path(
    get, path = "/metrics", tag = "operation", security(()),
    responses(
        (status = OK, description = "Metrics", body = String, content_type = "text/plain"),
        (status = INTERNAL_SERVER_ERROR, description = "The metrics cannot be encoded", body = wire::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn metrics(
    State(state): State<Arc<AppState>>,
) -> Result<([(HeaderName, &'static str); 1], String), AppError> {
    let text = state.metrics.text(&state.store).await;
    let text = text.map_err(|error| AppError::Internal(format!("metrics: {error}")))?;
    Ok(([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text))
}
