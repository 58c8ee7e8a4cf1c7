//! What handlers share, and how they let a request in.

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;

use crate::auth::{ReadToken, TokenKey};
use crate::error::AppError;
use crate::store::Store;

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
