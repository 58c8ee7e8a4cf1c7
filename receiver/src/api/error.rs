//! Errors, with one text for clients (RFC 9457) and one for the log.

use axum::Json;
use axum::http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use tracing::error;
use wire::{Problem, ScopeError};

use crate::sizing::parameters::InvalidParameter;
use crate::store::{Cause, StoreError};
use crate::validate::BodyError;

/// `Retry-After` of a 503 answer.
const RETRY_SECONDS: &str = "1";

/// Why a request failed.
#[derive(Debug)]
pub enum AppError {
    /// The token is missing or malformed.
    Unauthorized(&'static str),
    /// This receiver did not issue the token.
    WrongToken(&'static str),
    /// The token does not permit this request.
    Forbidden(String),
    /// No such path.
    NotFound,
    /// The requested item is not stored.
    Missing(String),
    /// The method is not allowed. Holds the allowed ones.
    MethodNotAllowed(&'static str),
    /// The client accepts none of the formats. Holds the available ones.
    NotAcceptable(&'static str),
    /// The body did not arrive in time.
    Timeout,
    /// The body is larger than this many bytes.
    TooLarge(usize),
    /// The body's content type or encoding is not supported.
    UnsupportedMediaType(&'static str),
    /// The request cannot be parsed.
    Malformed(String),
    /// A field has an invalid value.
    Invalid {
        /// Path of the field.
        field: String,
        /// What is wrong and what would be accepted.
        detail: String,
    },
    /// The same summary is already stored with different content.
    Conflict(String),
    /// Temporarily unavailable.
    Unavailable(&'static str),
    /// Unavailable until the database or its disk is repaired.
    Unusable(Cause),
    /// An internal error. The text is only for the log.
    Internal(String),
}

/// Marks the answer to a request whose token is missing, wrong or not for that request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AuthFailed;

/// Marks the answer to a wrong token, which may be a guess.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TokenGuess;

impl From<StoreError> for AppError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Busy => Self::Unavailable("the receiver is overloaded; nothing was stored"),
            StoreError::Unusable { cause, .. } => Self::Unusable(cause),
            StoreError::TooSlow => Self::Unavailable("the query took too long; request less, or retry later"),
            StoreError::Failed(text) => Self::Internal(text),
        }
    }
}

impl From<ScopeError> for AppError {
    fn from(error: ScopeError) -> Self {
        Self::invalid(error.field, error.to_string())
    }
}

impl From<BodyError> for AppError {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::Malformed(detail) => Self::Malformed(detail),
            BodyError::Invalid { field, detail } => Self::Invalid { field, detail },
        }
    }
}

impl From<InvalidParameter> for AppError {
    fn from(InvalidParameter { name, detail }: InvalidParameter) -> Self {
        Self::Invalid { field: name, detail }
    }
}

impl AppError {
    /// The error for an invalid field of the request.
    pub fn invalid(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), detail: detail.into() }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Unauthorized(_) | Self::WrongToken(_) => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::NotFound | Self::Missing(_) => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotAcceptable(_) => StatusCode::NOT_ACCEPTABLE,
            Self::Timeout => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::Invalid { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::Unavailable(_) | Self::Unusable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The reason as metrics name it.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Unauthorized(_) | Self::WrongToken(_) => "unauthorized",
            Self::Forbidden(_) => "forbidden",
            Self::NotFound | Self::Missing(_) | Self::MethodNotAllowed(_) => "not_found",
            Self::Timeout => "timeout",
            Self::TooLarge(_) => "too_large",
            Self::NotAcceptable(_) => "not_acceptable",
            Self::UnsupportedMediaType(_) => "unsupported_media_type",
            Self::Malformed(_) => "malformed",
            Self::Invalid { .. } => "invalid",
            Self::Conflict(_) => "conflict",
            Self::Unavailable(_) | Self::Unusable(_) => "unavailable",
            Self::Internal(_) => "internal",
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::Unauthorized(detail)
            | Self::WrongToken(detail)
            | Self::NotAcceptable(detail)
            | Self::UnsupportedMediaType(detail)
            | Self::Unavailable(detail) => (*detail).to_owned(),
            Self::NotFound => "this path does not exist; GET /openapi.json lists all paths, mainly POST /api/v1/metrics, POST /api/v1/token and GET /api/v1/metrics/repo/{org}/{repo}/{workflow}/{job}".to_owned(),
            Self::MethodNotAllowed(allowed) => format!("this path accepts {allowed}"),
            Self::Timeout => "the body did not arrive in time".to_owned(),
            Self::TooLarge(limit) => format!("the body is larger than {limit} bytes"),
            Self::Forbidden(detail)
            | Self::Malformed(detail)
            | Self::Missing(detail)
            | Self::Conflict(detail)
            | Self::Invalid { detail, .. } => detail.clone(),
            Self::Unusable(cause) => format!("the database cannot be used: {cause}; nothing was stored"),
            Self::Internal(_) => "internal error; the receiver's log has the details".to_owned(),
        }
    }
}

impl IntoResponse for AppError {
    fn into_response(self) -> Response {
        if let Self::Internal(text) = &self {
            error!(error = text, "a request failed");
        }
        let status = self.status();
        let field = match &self {
            Self::Invalid { field, .. } => Some(field.clone()),
            _ => None,
        };
        let problem = Problem {
            kind: "about:blank".to_owned(),
            title: status.canonical_reason().unwrap_or_default().to_owned(),
            status: status.as_u16(),
            detail: self.detail(),
            field,
        };
        let mut response = (status, Json(problem)).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        match &self {
            Self::Unauthorized(_) | Self::WrongToken(_) => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"receiver\""));
            }
            Self::MethodNotAllowed(allowed) => {
                headers.insert(ALLOW, HeaderValue::from_static(allowed));
            }
            Self::Unavailable(_) | Self::Unusable(_) => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static(RETRY_SECONDS));
            }
            _ => {}
        }
        if matches!(self, Self::Unauthorized(_) | Self::WrongToken(_) | Self::Forbidden(_)) {
            response.extensions_mut().insert(AuthFailed);
        }
        if matches!(self, Self::WrongToken(_) | Self::Forbidden(_)) {
            response.extensions_mut().insert(TokenGuess);
        }
        response
    }
}
