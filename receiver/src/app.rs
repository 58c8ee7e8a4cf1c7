//! The whole service: the API, the page, and the layers around them.

use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use tower_http::catch_panic::CatchPanicLayer;
use tracing::info;

use crate::api::error::{AppError, AuthFailed, TokenGuess};
use crate::api::state::AppState;
use crate::serve::Peer;
use crate::{api, ui};

/// The whole service.
pub fn app(state: Arc<AppState>) -> Router {
    api::routes()
        .merge(ui::routes(&state))
        .fallback(ui::not_found)
        .layer(CatchPanicLayer::custom(broke))
        .layer(from_fn_with_state(Arc::clone(&state), slow_down))
        .layer(from_fn_with_state(Arc::clone(&state), log))
        .with_state(state)
}

/// The answer to a request whose handler panicked. The panic hook has already logged the panic.
fn broke(_: Box<dyn Any + Send>) -> Response {
    AppError::Internal("a panic".to_owned()).into_response()
}

/// Delays the answer to a wrong token, longer each time.
async fn slow_down(State(state): State<Arc<AppState>>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>().copied();
    let response = next.run(request).await;
    if let (Some(Peer(address)), Some(TokenGuess)) = (peer, response.extensions().get()) {
        tokio::time::sleep(state.guesses.failed(address, Instant::now())).await;
    }
    response
}

/// The route's name in metrics and in the log: without a trailing slash.
fn without_slash(path: &str) -> &str {
    path.strip_suffix('/').filter(|path| !path.is_empty()).unwrap_or(path)
}

/// Logs one line per request and records its metrics. Omits the query and the headers: they may hold secrets.
async fn log(State(state): State<Arc<AppState>>, request: Request, next: Next) -> Response {
    let begin = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let response = next.run(request).await;
    let status = response.status();
    let elapsed = begin.elapsed();
    let route = route.as_deref().map_or("(none)", without_slash);
    state.metrics.answered(route, &method, status, elapsed);
    if response.extensions().get::<AuthFailed>().is_some() {
        state.metrics.denied();
    }
    let probe = matches!(route, "/healthz" | "/readyz" | "/metrics") && status == StatusCode::OK;
    if !probe {
        let micros = elapsed.as_micros() as u64;
        info!(%method, route, status = status.as_u16(), micros, "request");
    }
    response
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::header::CONTENT_TYPE;
    use axum::routing::get;
    use http_body_util::BodyExt;
    use tower::ServiceExt;
    use wire::Problem;

    use super::*;

    async fn mistaken() -> &'static str {
        panic!("a mistake")
    }

    #[tokio::test]
    async fn a_panic_is_an_answer_too() {
        let app = Router::new().route("/", get(mistaken)).layer(CatchPanicLayer::custom(broke));
        let response = app.oneshot(Request::new(Body::empty())).await.unwrap();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let problem: Problem = serde_json::from_slice(&body).unwrap();
        assert_eq!(problem.detail, "internal error; the receiver's log has the details");
    }

    #[test]
    fn a_slash_at_the_end_is_no_route_of_its_own() {
        for (path, route) in [("/", "/"), ("/api/v1/metrics/", "/api/v1/metrics"), ("/readyz", "/readyz")] {
            assert_eq!(without_slash(path), route);
        }
    }
}
