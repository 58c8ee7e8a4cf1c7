//! The state that handlers share, and the checks of tokens.

use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use jiff::Timestamp;
use tokio::sync::Semaphore;
use wire::Scope;

use super::error::AppError;
use crate::auth::{Access, Denied, Guesses, PushToken, Secrets};
use crate::config::PageOptions;
use crate::metrics::Metrics;
use crate::store::Store;

/// Maximum bytes of bodies in memory, over all requests. Beyond that, clients must retry.
pub const BODIES_BYTES: usize = 16 * 1024 * 1024;

/// State that all handlers share.
#[derive(Debug)]
pub struct AppState {
    /// The database.
    pub store: Store,
    /// The current secrets.
    pub access: Access,
    /// Clients that recently sent wrong tokens.
    pub guesses: Guesses,
    /// Counters for `/metrics`.
    pub metrics: Arc<Metrics>,
    /// Largest body, in bytes.
    pub max_body: usize,
    /// Time limit for a body.
    pub body_timeout: Duration,
    /// One permit for each byte of a body that may still be read into memory.
    pub bodies: Arc<Semaphore>,
    /// How the page is served.
    pub page: PageOptions,
}

impl AppState {
    /// State without any request in flight.
    pub fn new(store: Store, secrets: Secrets, max_body: usize, body_timeout: Duration) -> Self {
        Self {
            store,
            access: Access::new(secrets),
            guesses: Guesses::default(),
            metrics: Arc::default(),
            max_body,
            body_timeout,
            // One body of the largest size always fits.
            bodies: Arc::new(Semaphore::new(BODIES_BYTES.max(max_body).min(Semaphore::MAX_PERMITS))),
            page: PageOptions::default(),
        }
    }

    /// Accepts only requests with a read token.
    pub(crate) fn authorize_reader(&self, headers: &HeaderMap) -> Result<(), AppError> {
        if self.access.current().may_read(bearer(headers)?) {
            Ok(())
        } else {
            Err(AppError::WrongToken("this is not the read token"))
        }
    }

    /// The push token of a request, if it is well formed. [`Self::authorize_push`] checks what it is valid for.
    pub(crate) fn push_token(&self, headers: &HeaderMap) -> Result<PushToken, AppError> {
        let token = bearer(headers)?;
        // A read token may have the form of a push token.
        if self.access.current().may_read(token) {
            let detail = "this is a read token, not a push token; POST /api/v1/token makes one";
            return Err(AppError::Forbidden(detail.to_owned()));
        }
        let token = PushToken::parse(token);
        token.ok_or(AppError::WrongToken("this is not a push token; POST /api/v1/token makes one"))
    }

    /// Accepts a push token for this scope, whose names must be [normalised](Scope::named) like those in tokens.
    pub(crate) fn authorize_push(
        &self,
        token: &PushToken,
        scope: &Scope,
        now: Timestamp,
    ) -> Result<(), AppError> {
        self.access.current().verify(token, scope, now).map_err(|denied| {
            AppError::Forbidden(match denied {
                Denied::OtherScope => {
                    let parts = scope.parts().into_iter().filter_map(|(part, name)| name.map(|_| part));
                    let parts: Vec<_> = parts.collect();
                    let parts = match parts.as_slice() {
                        [first @ .., last] if !first.is_empty() => format!("{} and {last}", first.join(", ")),
                        parts => parts.concat(),
                    };
                    format!("this push token was not made for this {parts}")
                }
                Denied::Expired(at) => format!("this push token has expired; it was valid until {at}"),
            })
        })
    }
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
        .ok_or(AppError::Unauthorized("the Authorization header has no Bearer token"))
}
