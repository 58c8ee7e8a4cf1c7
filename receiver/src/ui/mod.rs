//! The page: HTML for browsers. It is complete without a script; charts are drawn from figures that are also in tables.

mod assets;
mod chart;
mod compare;
mod components;
mod error;
mod format;
mod job;
mod overview;
mod run;
mod security_headers;
mod session;
mod sign_in;
mod svg;
mod urls;

use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::http::header::CACHE_CONTROL;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};

use self::error::PageError;
pub(crate) use self::error::not_found;
use crate::api::state::AppState;

/// Everything that is not the API.
pub(crate) fn routes(state: &Arc<AppState>) -> Router<Arc<AppState>> {
    let pages = Router::new()
        .route("/", get(overview::overview))
        .route("/jobs/{organization}/{repository}/{workflow}/{job}", get(job::job))
        .route("/ui/sizing/{organization}/{repository}/{workflow}/{job}/{format}", get(job::recommendation))
        .route("/runs/{id}", get(run::run))
        .route("/compare", get(compare::two))
        .route("/ui/runs/{id}/payload.json", get(run::payload))
        .route_layer(from_fn_with_state(Arc::clone(state), session::required));
    let open = Router::new()
        .route("/sign-in", get(sign_in::form).post(sign_in::sign_in))
        .route("/sign-out", post(sign_in::sign_out))
        .route("/assets/{digest}/{name}", get(assets::by_digest))
        .route("/assets/{name}", get(assets::by_name))
        .route("/favicon.ico", get(assets::by_name));
    pages.merge(open).layer(from_fn(security_headers::protect))
}

/// Renders a page. Only readers may see what it holds, so no cache may keep a copy.
fn page(template: &impl Template) -> Result<Response, PageError> {
    let html = template.render().map_err(|error| PageError::Internal(error.to_string()))?;
    Ok(([(CACHE_CONTROL, "no-store")], Html(html)).into_response())
}
