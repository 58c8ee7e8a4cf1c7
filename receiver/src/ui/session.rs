//! Sessions of signed-in users, in a cookie that scripts cannot read and other sites cannot make browsers send.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, COOKIE};
use axum::http::{HeaderMap, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use jiff::Timestamp;

use super::urls;
use crate::api::state::AppState;

/// A cookie outlives its session by this time, so that a returning user is told why to sign in again.
const REMEMBER_SECONDS: u64 = 7 * 86_400;

/// Whether somebody is signed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Session {
    Open,
    Ended,
    Never,
}

/// Whether the browser uses TLS, to the receiver or to the proxy in front of it.
fn is_secure(state: &AppState, headers: &HeaderMap) -> bool {
    let forwarded = || headers.get("x-forwarded-proto").is_some_and(|value| value == "https");
    state.page.tls || (state.page.behind_proxy && forwarded())
}

/// The scheme of the addresses that the browser uses.
pub(super) fn scheme(state: &AppState, headers: &HeaderMap) -> &'static str {
    if is_secure(state, headers) { "https" } else { "http" }
}

/// With the prefix, a browser accepts the cookie from no other host and only over TLS.
fn cookie_name(secure: bool) -> &'static str {
    if secure { "__Host-session" } else { "session" }
}

pub(super) fn find(state: &AppState, headers: &HeaderMap) -> Session {
    let name = cookie_name(is_secure(state, headers));
    let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut cookies =
        cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let Some((_, session)) = cookies.find(|(cookie, _)| *cookie == name) else { return Session::Never };
    if state.access.current().in_session(session, Timestamp::now()) { Session::Open } else { Session::Ended }
}

/// The cookie that begins a session; `None` if `token` is not a read token.
pub(super) fn begin(state: &AppState, headers: &HeaderMap, token: &str) -> Option<HeaderValue> {
    let expires_at = Timestamp::now().saturating_add(state.page.session_time).ok()?;
    let session = state.access.current().begin_session(token, expires_at)?;
    cookie(state, headers, &session, state.page.session_time.as_secs() + REMEMBER_SECONDS)
}

/// The cookie that ends a session.
pub(super) fn end(state: &AppState, headers: &HeaderMap) -> Option<HeaderValue> {
    cookie(state, headers, "", 0)
}

fn cookie(state: &AppState, headers: &HeaderMap, value: &str, seconds: u64) -> Option<HeaderValue> {
    let secure = is_secure(state, headers);
    let (name, flag) = (cookie_name(secure), if secure { "; Secure" } else { "" });
    let cookie = format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{flag}");
    HeaderValue::from_str(&cookie).ok()
}

/// Lets only signed-in users through. Sends others to the form, which leads them back.
pub(super) async fn required(State(state): State<Arc<AppState>>, request: Request, next: Next) -> Response {
    let session = find(&state, request.headers());
    if session == Session::Open {
        return next.run(request).await;
    }
    let to = request.uri().path_and_query().map_or("/", |to| to.as_str());
    let mut form = "/sign-in".to_owned();
    if to != "/" {
        form.push_str("?next=");
        form.push_str(&urls::value(to));
    }
    if session == Session::Ended {
        form.push(if form.contains('?') { '&' } else { '?' });
        form.push_str("ended=1");
    }
    ([(CACHE_CONTROL, "no-store")], Redirect::to(&form)).into_response()
}
