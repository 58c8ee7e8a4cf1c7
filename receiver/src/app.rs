//! What the receiver answers to.

use std::any::Any;
use std::future::Ready;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tower_http::catch_panic::CatchPanicLayer;
use tracing::info;
use utoipa::OpenApi;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};
use utoipa_axum::routes;
use wire::Problem;

use crate::error::{AppError, Denied, Wrong};
use crate::serve::Peer;
use crate::state::AppState;
use crate::{ingest, metrics, mint, openapi, push_check, query, sizing, ui};

/// The whole service.
pub fn app(state: Arc<AppState>) -> Router {
    let (router, described) = described().split_for_parts();
    let document: Arc<str> = openapi::render(&described).unwrap_or_default().into();
    let html = openapi::page::render(&document).unwrap_or_default();
    let docs = get(async move || openapi::page::page(html));
    let document = get(async move || ([(CONTENT_TYPE, "application/json")], document.to_string()));
    router
        // Whoever completes an address by hand ends it as often with a slash, and after a build it is too late to say so.
        .route("/api/v1/metrics/", post(ingest::push).fallback(only("POST")))
        .route("/api/v1/token/", post(mint::mint).fallback(only("POST")))
        .route("/openapi.json", document.fallback(only("GET, HEAD")))
        .route("/docs", docs.fallback(only("GET, HEAD")))
        .route("/docs/style.css", get(openapi::page::style).fallback(only("GET, HEAD")))
        .merge(ui::routes(&state))
        .fallback(ui::not_found)
        .layer(CatchPanicLayer::custom(broke))
        .layer(from_fn_with_state(Arc::clone(&state), slow_down))
        .layer(from_fn_with_state(Arc::clone(&state), log))
        .with_state(state)
}

/// The routes that `/openapi.json` describes.
fn described() -> OpenApiRouter<Arc<AppState>> {
    OpenApiRouter::with_openapi(openapi::Described::openapi())
        .routes(taking("POST", routes!(ingest::push)))
        .routes(taking("POST", routes!(mint::mint)))
        .routes(reading(routes!(push_check::push_check)))
        .routes(reading(routes!(query::runs::runs)))
        .routes(reading(routes!(query::catalog::organizations)))
        .routes(reading(routes!(query::catalog::repositories)))
        .routes(reading(routes!(query::catalog::workflows)))
        .routes(reading(routes!(query::catalog::jobs)))
        .routes(reading(routes!(query::catalog::job)))
        .routes(reading(routes!(query::summaries::summaries)))
        .routes(reading(routes!(query::summaries::run)))
        .routes(reading(routes!(query::compare::two)))
        .routes(reading(routes!(query::export::export)))
        .routes(reading(routes!(sizing::query::of_repository)))
        .routes(reading(routes!(sizing::query::of_workflow)))
        .routes(reading(routes!(sizing::query::of_job)))
        .routes(reading(routes!(healthy)))
        .routes(reading(routes!(ready)))
        .routes(reading(routes!(metrics::metrics)))
}

/// The description of what the receiver answers to, OpenAPI 3.1 in JSON.
pub fn description() -> serde_json::Result<String> {
    openapi::render(&described().split_for_parts().1)
}

fn reading(routes: UtoipaMethodRouter<Arc<AppState>>) -> UtoipaMethodRouter<Arc<AppState>> {
    taking("GET, HEAD", routes)
}

/// Other methods are told those that are allowed.
fn taking(
    allowed: &'static str,
    (schemas, paths, router): UtoipaMethodRouter<Arc<AppState>>,
) -> UtoipaMethodRouter<Arc<AppState>> {
    (schemas, paths, router.fallback(only(allowed)))
}

fn only(allowed: &'static str) -> impl Fn() -> Ready<AppError> + Clone + Send + Sync + 'static {
    move || std::future::ready(AppError::MethodNotAllowed(allowed))
}

/// What is answered where answering ended in a panic; the log has it already.
fn broke(_: Box<dyn Any + Send>) -> Response {
    AppError::Internal("a panic".to_owned()).into_response()
}

/// Whether it runs
#[utoipa::path(
    get, path = "/healthz", tag = "operation", security(()),
    responses((status = OK, description = "It does", body = String, content_type = "text/plain"))
)]
async fn healthy() -> &'static str {
    "ok\n"
}

/// Whether it can store and answer
#[utoipa::path(
    get, path = "/readyz", tag = "operation", security(()),
    responses(
        (status = OK, description = "It can", body = String, content_type = "text/plain"),
        (status = INTERNAL_SERVER_ERROR, description = "Something broke", body = Problem, content_type = "application/problem+json"),
        (status = SERVICE_UNAVAILABLE, description = "Not now, or not until the database can be written: `detail` says why", body = Problem, content_type = "application/problem+json"),
    )
)]
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

/// What metrics and the log call a route, whichever of its two forms was asked for.
fn without_slash(path: &str) -> &str {
    path.strip_suffix('/').filter(|path| !path.is_empty()).unwrap_or(path)
}

/// One line a request, and its metrics; neither query nor headers, which may hold secrets.
async fn log(State(state): State<Arc<AppState>>, request: Request, next: Next) -> Response {
    let begin = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let response = next.run(request).await;
    let status = response.status();
    let elapsed = begin.elapsed();
    let route = route.as_deref().map_or("(none)", without_slash);
    state.metrics.answered(route, &method, status, elapsed);
    if response.extensions().get::<Denied>().is_some() {
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
    use http_body_util::BodyExt;
    use tower::ServiceExt;

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
        assert_eq!(problem.detail, "something broke in the receiver; its log tells what");
    }

    #[test]
    fn a_slash_at_the_end_is_no_route_of_its_own() {
        for (path, route) in [("/", "/"), ("/api/v1/metrics/", "/api/v1/metrics"), ("/readyz", "/readyz")] {
            assert_eq!(without_slash(path), route);
        }
    }
}
