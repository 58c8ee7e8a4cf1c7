//! Error pages.

use askama::Template;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::{ACCEPT, RETRY_AFTER};
use axum::response::{Html, IntoResponse, Response};
use tracing::error;

use super::security_headers;
use crate::api::error::AppError;
use crate::store::StoreError;

/// Why a page cannot be shown.
#[derive(Debug)]
pub(crate) enum PageError {
    /// There is no such page, or no such job or run.
    NotFound,
    /// The address makes no sense.
    Invalid(String),
    /// A form that another site sent.
    Forbidden,
    /// The receiver is overloaded, or the database cannot be used.
    Unavailable,
    /// Something broke in the receiver. The text is only for the log.
    Internal(String),
}

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage<'a> {
    title: &'a str,
    detail: &'a str,
}

impl From<StoreError> for PageError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Busy | StoreError::Unusable { .. } | StoreError::TooSlow => Self::Unavailable,
            StoreError::Failed(text) => Self::Internal(text),
        }
    }
}

impl From<AppError> for PageError {
    fn from(error: AppError) -> Self {
        match error {
            AppError::Invalid { field, detail } => Self::Invalid(format!("{field} {detail}")),
            AppError::Malformed(detail) => Self::Invalid(detail),
            AppError::Unavailable(_) | AppError::Unusable(_) => Self::Unavailable,
            AppError::NotFound => Self::NotFound,
            error => Self::Internal(format!("{error:?}")),
        }
    }
}

impl From<wire::ScopeError> for PageError {
    fn from(_: wire::ScopeError) -> Self {
        // No job can have such a name.
        Self::NotFound
    }
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        let (status, title, detail) = match &self {
            Self::NotFound => (
                StatusCode::NOT_FOUND,
                "Not found",
                "This address does not exist. The job or run may have been removed, or its name was mistyped.",
            ),
            Self::Invalid(detail) => (StatusCode::BAD_REQUEST, "Invalid address", detail.as_str()),
            Self::Forbidden => (
                StatusCode::FORBIDDEN,
                "Form refused",
                "This form was sent by another site. Nothing was changed.",
            ),
            Self::Unavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "Overloaded",
                "The receiver could not answer in time. Try again in a moment.",
            ),
            Self::Internal(text) => {
                error!(error = text, "a page failed");
                (
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "Internal error",
                    "The receiver failed to answer; its log has the details.",
                )
            }
        };
        let html = ErrorPage { title, detail }.render().unwrap_or_else(|_| title.to_owned());
        let mut response = (status, Html(html)).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, axum::http::HeaderValue::from_static("1"));
        }
        response
    }
}

/// Answers a path that does not exist: with a page for browsers, and as the API does for other clients.
pub(crate) async fn not_found(request: Request) -> Response {
    let accept = request.headers().get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accept.contains("text/html") && !request.uri().path().starts_with("/api/") {
        security_headers::protected(PageError::NotFound.into_response())
    } else {
        AppError::NotFound.into_response()
    }
}
