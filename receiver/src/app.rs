//! What the receiver answers to.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::{get, post};
use tracing::info;

use crate::auth::{ReadToken, TokenKey};
use crate::error::AppError;
use crate::store::Store;
use crate::{ingest, mint, query};

/// What handlers need.
#[derive(Debug)]
pub struct AppState {
    /// The database.
    pub store: Store,
    /// What reading needs.
    pub read_token: ReadToken,
    /// What push tokens are made from.
    pub key: TokenKey,
    /// Largest body, in bytes.
    pub max_body: usize,
}

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
        .route("/healthz", get(async || "ok\n").fallback(only("GET, HEAD")))
        .route("/readyz", get(ready).fallback(only("GET, HEAD")))
        .fallback(async || AppError::NotFound)
        .layer(from_fn(log))
        .with_state(state)
}

async fn ready(State(state): State<Arc<AppState>>) -> Result<&'static str, AppError> {
    state.store.check().await?;
    Ok("ready\n")
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

/// The bearer token of a request (RFC 6750).
pub(crate) fn bearer(headers: &HeaderMap) -> Result<&str, AppError> {
    let header = headers
        .get(AUTHORIZATION)
        .ok_or(AppError::Unauthorized("an Authorization header with a Bearer token is needed"))?;
    let token = header.to_str().ok().and_then(|text| {
        let (scheme, token) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    });
    token
        .filter(|token| !token.is_empty())
        .ok_or(AppError::Unauthorized("the Authorization header holds no Bearer token"))
}

impl AppState {
    /// Lets only who knows the read token through.
    pub(crate) fn authorize_reader(&self, headers: &HeaderMap) -> Result<(), AppError> {
        if self.read_token.verify(bearer(headers)?) {
            Ok(())
        } else {
            Err(AppError::Unauthorized("this is not the read token"))
        }
    }
}
