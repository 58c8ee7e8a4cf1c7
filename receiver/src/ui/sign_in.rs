//! Signing in with a read token, and signing out.

use std::sync::Arc;

use askama::Template;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Form, FromRequest, OriginalUri, Query, Request, State};
use axum::http::header::{CONTENT_LENGTH, SET_COOKIE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;

use super::error::PageError;
use super::session::Session;
use super::{page, security_headers, session, urls};
use crate::api::error::TokenGuess;
use crate::api::state::AppState;

/// Maximum size of a form in bytes: it holds only a token and an address.
const MAX_FORM: usize = 16 * 1024;

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignInPage {
    next: String,
    /// A notice above the form.
    told: Option<&'static str>,
    /// What was wrong with the token.
    wrong: Option<&'static str>,
}

/// Where to go after signing in, and why the user is here.
#[derive(Debug, Default, Deserialize)]
pub(super) struct SignInQuery {
    #[serde(default)]
    next: String,
    ended: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Typed {
    #[serde(default)]
    token: String,
    #[serde(default)]
    next: String,
}

/// `GET /sign-in`.
pub(super) async fn form(
    State(state): State<Arc<AppState>>,
    headers: HeaderMap,
    asked: Result<Query<SignInQuery>, QueryRejection>,
) -> Result<Response, PageError> {
    let asked = asked.map(|Query(asked)| asked).unwrap_or_default();
    let next = urls::next(&asked.next).unwrap_or_else(|| "/".to_owned());
    if session::find(&state, &headers) == Session::Open {
        return Ok(Redirect::to(&next).into_response());
    }
    let told = asked.ended.map(|_| "Your session has ended. Sign in to continue where you were.");
    page(&SignInPage { next, told, wrong: None })
}

/// `POST /sign-in`.
pub(super) async fn sign_in(
    State(state): State<Arc<AppState>>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, PageError> {
    if !security_headers::is_ours(&headers, &uri) {
        return Err(PageError::Forbidden);
    }
    let Typed { token, next } = typed(&state, request).await?;
    let next = urls::next(&next).unwrap_or_else(|| "/".to_owned());
    // Copied tokens often come with spaces or line breaks.
    if let Some(cookie) = session::begin(&state, &headers, token.trim()) {
        return Ok(([(SET_COOKIE, cookie)], Redirect::to(&next)).into_response());
    }
    let wrong = Some("This is not the read token. Enter the value of the receiver's --read-token.");
    let form = page(&SignInPage { next, told: None, wrong })?;
    let mut response = (StatusCode::FORBIDDEN, form).into_response();
    response.extensions_mut().insert(TokenGuess);
    Ok(response)
}

/// Reads the form, if it is valid and arrives in time. Anybody may send one, so its size is limited.
async fn typed(state: &AppState, request: Request) -> Result<Typed, PageError> {
    let length = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let length: usize = length.filter(|length| *length <= MAX_FORM).ok_or_else(unreadable)?;
    // The memory for all bodies together is bounded.
    let permits = state.bodies.try_acquire_many(length as u32);
    let _permits = permits.map_err(|_| PageError::Unavailable)?;
    let form = Form::<Typed>::from_request(request, &());
    let form = tokio::time::timeout(state.body_timeout, form).await.map_err(|_| unreadable())?;
    form.map(|Form(typed)| typed).map_err(|_| unreadable())
}

fn unreadable() -> PageError {
    PageError::Invalid("The form is malformed. Go back and send it again.".to_owned())
}

/// `POST /sign-out`.
pub(super) async fn sign_out(
    State(state): State<Arc<AppState>>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
) -> Result<Response, PageError> {
    if !security_headers::is_ours(&headers, &uri) {
        return Err(PageError::Forbidden);
    }
    let mut response = Redirect::to("/sign-in").into_response();
    if let Some(cookie) = session::end(&state, &headers) {
        response.headers_mut().insert(SET_COOKIE, cookie);
    }
    Ok(response)
}
