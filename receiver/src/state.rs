//! What handlers share, and how they let a request in.

use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use jiff::Timestamp;
use tokio::sync::Semaphore;
use wire::Scope;

use crate::auth::{Access, Denied, Guesses, PushToken, Secrets};
use crate::error::AppError;
use crate::metrics::Metrics;
use crate::store::Store;
use crate::ui;

/// So many bytes of bodies are held at a time, by all requests together; who comes with more is told to come back.
pub const BODIES_BYTES: usize = 16 * 1024 * 1024;

/// What handlers need.
#[derive(Debug)]
pub struct AppState {
    /// The database.
    pub store: Store,
    /// The secrets in force.
    pub access: Access,
    /// Who sent wrong tokens lately.
    pub guesses: Guesses,
    /// What is counted.
    pub metrics: Metrics,
    /// Largest body, in bytes.
    pub max_body: usize,
    /// Time for a body.
    pub body_timeout: Duration,
    /// Bytes of bodies that may still be taken in.
    pub bodies: Arc<Semaphore>,
    /// How the page is served.
    pub page: ui::Options,
}

impl AppState {
    /// With nothing in flight.
    pub fn new(store: Store, secrets: Secrets, max_body: usize, body_timeout: Duration) -> Self {
        Self {
            store,
            access: Access::new(secrets),
            guesses: Guesses::default(),
            metrics: Metrics::default(),
            max_body,
            body_timeout,
            // One body of the largest size always fits.
            bodies: Arc::new(Semaphore::new(BODIES_BYTES.max(max_body).min(Semaphore::MAX_PERMITS))),
            page: ui::Options::default(),
        }
    }

    /// Lets only who knows a read token through.
    pub(crate) fn authorize_reader(&self, headers: &HeaderMap) -> Result<(), AppError> {
        if self.access.current().may_read(bearer(headers)?) {
            Ok(())
        } else {
            Err(AppError::WrongToken("this is not the read token"))
        }
    }

    /// The push token of a request, if it has the form of one; what it is good for is not known by that.
    pub(crate) fn push_token(&self, headers: &HeaderMap) -> Result<PushToken, AppError> {
        let token = bearer(headers)?;
        // A read token may have the form of a push token.
        if self.access.current().may_read(token) {
            let detail = "this is a read token, not a push token; POST /api/v1/token makes one";
            return Err(AppError::Forbidden(detail.to_owned()));
        }
        let token = PushToken::parse(token);
        token.ok_or(AppError::WrongToken("this is no push token; POST /api/v1/token makes one"))
    }

    /// Lets a push for this scope in, whose names are [normal](Scope::named) as those in tokens are.
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
        .ok_or(AppError::Unauthorized("the Authorization header holds no Bearer token"))
}
