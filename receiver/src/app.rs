//! What the receiver answers to.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use axum::routing::{get, post};
use tracing::info;

use crate::error::{AppError, Wrong};
use crate::serve::Peer;
use crate::state::AppState;
use crate::{ingest, mint, query, sizing, ui};

/// The whole service.
pub fn app(state: Arc<AppState>) -> Router {
    let only = |allowed| move || async move { AppError::MethodNotAllowed(allowed) };
    Router::new()
        .route("/api/v1/metrics", post(ingest::push).fallback(only("POST")))
        .route("/api/v1/token", post(mint::mint).fallback(only("POST")))
        .route(
            "/api/v1/metrics/repo/{organization}/{repository}/{workflow}/{job}",
            get(query::runs).fallback(only("GET, HEAD")),
        )
        .route(
            "/api/v1/sizing/repo/{organization}/{repository}",
            get(sizing::query::of_repository).fallback(only("GET, HEAD")),
        )
        .route(
            "/api/v1/sizing/repo/{organization}/{repository}/{workflow}",
            get(sizing::query::of_workflow).fallback(only("GET, HEAD")),
        )
        .route(
            "/api/v1/sizing/repo/{organization}/{repository}/{workflow}/{job}",
            get(sizing::query::of_job).fallback(only("GET, HEAD")),
        )
        .route("/healthz", get(async || "ok\n").fallback(only("GET, HEAD")))
        .route("/readyz", get(ready).fallback(only("GET, HEAD")))
        .merge(ui::routes(&state))
        .fallback(ui::not_found)
        .layer(from_fn_with_state(Arc::clone(&state), slow_down))
        .layer(from_fn(log))
        .with_state(state)
}

async fn ready(State(state): State<Arc<AppState>>) -> Result<&'static str, AppError> {
    state.store.check().await?;
    Ok("ready\n")
}

/// Holds the answer to a wrong token, longer each time.
async fn slow_down(State(state): State<Arc<AppState>>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>().copied();
    let response = next.run(request).await;
    if let (Some(Peer(address)), Some(Wrong)) = (peer, response.extensions().get()) {
        tokio::time::sleep(state.guesses.failed(address, Instant::now())).await;
    }
    response
}

/// One line a request; neither query nor headers, which may hold secrets.
async fn log(request: Request, next: Next) -> Response {
    let begin = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let response = next.run(request).await;
    let status = response.status();
    let probe = matches!(route.as_deref(), Some("/healthz" | "/readyz")) && status == StatusCode::OK;
    if !probe {
        let micros = begin.elapsed().as_micros() as u64;
        info!(%method, route = route.as_deref().unwrap_or("(none)"), status = status.as_u16(), micros, "request");
    }
    response
}
