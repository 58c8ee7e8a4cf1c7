//! The HTTP API for programs: pushes, queries, and `/openapi.json`, which describes them.

mod body;
mod docs;
mod ingest;
mod metrics;
mod openapi;
mod probes;
mod push_check;
mod query;
mod sizing;
mod token;

pub mod error;
pub mod state;

use std::future::Ready;
use std::sync::Arc;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::{get, post};
use utoipa::OpenApi;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};
use utoipa_axum::routes;

use self::error::AppError;
use self::state::AppState;

/// The routes of the API and of its description.
pub(crate) fn routes() -> Router<Arc<AppState>> {
    let (router, described) = described().split_for_parts();
    let document: Arc<str> = openapi::render(&described).unwrap_or_default().into();
    let document = get(async move || ([(CONTENT_TYPE, "application/json")], document.to_string()));
    router
        // Users often add a slash at the end of the address, and would learn of the mistake only after the build.
        .route("/api/v1/metrics/", post(ingest::push).fallback(only("POST")))
        .route("/api/v1/token/", post(token::mint).fallback(only("POST")))
        .route("/openapi.json", document.fallback(only("GET, HEAD")))
        .route("/docs", get(docs::index).fallback(only("GET, HEAD")))
        .route("/docs/", get(docs::page).fallback(only("GET, HEAD")))
        .route("/docs/{*file}", get(docs::file).fallback(only("GET, HEAD")))
}

/// The routes that `/openapi.json` describes.
fn described() -> OpenApiRouter<Arc<AppState>> {
    OpenApiRouter::with_openapi(openapi::Described::openapi())
        .routes(taking("POST", routes!(ingest::push)))
        .routes(taking("POST", routes!(token::mint)))
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
        .routes(reading(routes!(sizing::of_repository)))
        .routes(reading(routes!(sizing::of_workflow)))
        .routes(reading(routes!(sizing::of_job)))
        .routes(reading(routes!(probes::healthy)))
        .routes(reading(routes!(probes::ready)))
        .routes(reading(routes!(metrics::metrics)))
}

/// The description of the API: OpenAPI 3.1 in JSON.
pub fn description() -> serde_json::Result<String> {
    openapi::render(&described().split_for_parts().1)
}

fn reading(routes: UtoipaMethodRouter<Arc<AppState>>) -> UtoipaMethodRouter<Arc<AppState>> {
    taking("GET, HEAD", routes)
}

/// Answers other methods with an error that names the allowed ones.
fn taking(
    allowed: &'static str,
    (schemas, paths, router): UtoipaMethodRouter<Arc<AppState>>,
) -> UtoipaMethodRouter<Arc<AppState>> {
    (schemas, paths, router.fallback(only(allowed)))
}

fn only(allowed: &'static str) -> impl Fn() -> Ready<AppError> + Clone + Send + Sync + 'static {
    move || std::future::ready(AppError::MethodNotAllowed(allowed))
}
