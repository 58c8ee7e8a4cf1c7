//! Pushes one summary, with retries.

mod check;
mod client;
mod trouble;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode};
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{debug, warn};
use wire::{Problem, Stored};

use super::holds::{HoldKey, Holds};
use super::jitter::jittered;
use super::tokens::{Tokens, Whose};
use crate::config::{PushTarget, Secret};

/// Timeout of one attempt: a receiver answers in milliseconds, and a dead one must not use up the whole budget.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);
/// The first pause between attempts; it doubles up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// At most this much of an answer is read.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// The subject of the message, once an hour, that the receiver cannot be reached.
const RECEIVER: &str = "the receiver";

/// Why a summary was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// The receiver will not accept it, even if it is sent again.
    #[error("the receiver refused it: {reason}")]
    Refused {
        /// Its status.
        status: StatusCode,
        /// Its reason.
        reason: String,
    },
    /// There is no token to send it with.
    #[error("there is no push token for the organization {organization:?}")]
    NoToken {
        /// The run's organization.
        organization: String,
    },
    /// It was not sent, because the same was refused recently.
    #[error("not sent, because the same was refused recently: {reason}")]
    Held {
        /// Why it was refused.
        reason: String,
    },
    /// There was no time left for another attempt.
    #[error("none of {attempts} attempts succeeded in time; the last one: {last}")]
    OutOfTime {
        /// How many were made.
        attempts: u32,
        /// How the last one failed.
        last: String,
        /// The answer to it, if there was one.
        status: Option<StatusCode>,
    },
}

impl PushError {
    /// Whether the summary itself is refused for good, rather than this token, this address or at this moment.
    pub fn is_final(&self) -> bool {
        let Self::Refused { status, .. } = self else { return false };
        let for_another_reason = [
            StatusCode::UNAUTHORIZED,
            StatusCode::FORBIDDEN,
            StatusCode::NOT_FOUND,
            StatusCode::METHOD_NOT_ALLOWED,
            StatusCode::PROXY_AUTHENTICATION_REQUIRED,
            StatusCode::TOO_MANY_REQUESTS,
        ];
        status.is_client_error() && !for_another_reason.contains(status)
    }

    /// Whether the cause is the token or its absence, and not the summary or the receiver.
    pub fn is_of_token(&self) -> bool {
        match self {
            Self::NoToken { .. } | Self::Held { .. } => true,
            Self::Refused { status, .. } => {
                matches!(*status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
            }
            Self::OutOfTime { .. } => false,
        }
    }

    /// Whether the receiver has another summary of the run with the same number.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if *status == StatusCode::CONFLICT)
    }
}

/// Result of one attempt.
enum Attempt {
    Stored(Stored),
    Refused(StatusCode, String),
    /// May be repeated, not before this time has passed.
    Failed(String, Option<Duration>, Option<StatusCode>),
}

/// Pushes to one receiver; clones share their connections.
#[derive(Debug, Clone)]
pub struct Pusher {
    client: Arc<OnceLock<Client>>,
    target: PushTarget,
    tokens: Arc<Tokens>,
    holds: Arc<Mutex<Holds>>,
    counts: Arc<[AtomicU64; 2]>,
    /// Why the receiver could not be reached before the command began, which was logged then.
    told: Arc<Mutex<String>>,
}

/// Results of the pushed summaries, after all attempts.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct PushCounts {
    /// The receiver has them.
    pub stored: u64,
    /// They were refused, or there was no time left.
    pub failed: u64,
}

impl Pusher {
    /// Reads the trusted certificates now, because time may be short later. A failure is logged and retried with each push:
    /// neither a measurement nor a command has to wait for it.
    pub fn new(target: &PushTarget) -> Self {
        let pusher = Self {
            client: Arc::default(),
            tokens: Arc::new(Tokens::new(target)),
            holds: Arc::default(),
            counts: Arc::default(),
            told: Arc::default(),
            target: target.clone(),
        };
        if let Err(error) = pusher.client() {
            warn!(error, "nothing can be pushed yet; it is tried again with each summary");
        }
        pusher
    }

    fn client(&self) -> Result<&Client, String> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = client::client(&self.target).map_err(|error| format!("{error:#}"))?;
        Ok(self.client.get_or_init(|| client))
    }

    /// The receiver's endpoint.
    pub fn endpoint(&self) -> &url::Url {
        &self.target.endpoint
    }

    /// Pushes until the receiver has stored the summary, refuses it for good, or `deadline` is reached.
    ///
    /// 408, 429, 5xx, timeouts and failed connections are retried with growing, jittered pauses, not sooner than
    /// `Retry-After` says. Redirects are not followed: the token is for this receiver only.
    pub async fn push(&self, body: Bytes, deadline: Instant) -> Result<Stored, PushError> {
        let result = self.try_to_push(&Whose::of(&body), body, deadline).await;
        self.counts[usize::from(result.is_err())].fetch_add(1, Ordering::Relaxed);
        result
    }

    /// The same for a summary that can wait: one that was refused recently is not sent again.
    pub async fn push_unless_held(&self, body: Bytes, deadline: Instant) -> Result<Stored, PushError> {
        match self.held(&Whose::of(&body)) {
            Some(error) => Err(error),
            None => self.push(body, deadline).await,
        }
    }

    /// Why this run's summaries are held back now, if they are.
    pub(super) fn held(&self, whose: &Whose) -> Option<PushError> {
        let Some(token) = self.tokens.of(whose) else {
            return Some(PushError::NoToken { organization: whose.organization.clone() });
        };
        let holds = self.holds();
        let hold = holds.of(whose, &token, Instant::now())?;
        Some(PushError::Held { reason: hold.reason.clone() })
    }

    /// Counts the changes of a token file's content.
    pub(super) fn generation(&self) -> u64 {
        self.tokens.generation()
    }

    /// Holds back summaries after a refusal because of the token: those with this token if it is unknown, otherwise those
    /// of this scope.
    fn hold(&self, status: StatusCode, whose: &Whose, token: Secret, reason: String) {
        let key = match status {
            StatusCode::UNAUTHORIZED => HoldKey::Token(token),
            _ => HoldKey::Scope(whose.clone()),
        };
        self.holds().refuse(key, reason, Instant::now());
    }

    /// Whether to log this message now; not again for an hour, unless other tokens are in force.
    pub fn tells(&self, what: &str) -> bool {
        self.holds().tells(what, Instant::now())
    }

    /// Forgets a message whose cause is over; returns whether it was logged.
    pub fn is_over(&self, what: &str) -> bool {
        self.holds().is_over(what)
    }

    fn holds(&self) -> MutexGuard<'_, Holds> {
        let generation = self.tokens.generation();
        let mut holds = self.holds.lock().unwrap_or_else(PoisonError::into_inner);
        holds.with_tokens(generation);
        holds
    }

    /// The results of all pushes.
    pub fn counts(&self) -> PushCounts {
        let [stored, failed] = &*self.counts;
        PushCounts { stored: stored.load(Ordering::Relaxed), failed: failed.load(Ordering::Relaxed) }
    }

    async fn try_to_push(&self, whose: &Whose, body: Bytes, deadline: Instant) -> Result<Stored, PushError> {
        let mut pause = FIRST_PAUSE;
        let mut attempts = 0;
        loop {
            // The token file may have changed since the last attempt.
            let token = self.tokens.of(whose);
            let token =
                token.ok_or_else(|| PushError::NoToken { organization: whose.organization.clone() })?;
            attempts += 1;
            let end = deadline.min(Instant::now() + ATTEMPT_TIMEOUT);
            let attempt = match self.client() {
                Ok(client) => timeout_at(end, attempt(client, &self.target, &token, body.clone())).await,
                Err(error) => Ok(Attempt::Failed(error, None, None)),
            };
            let (failure, not_before, status) = match attempt {
                Ok(Attempt::Stored(stored)) => {
                    let mut holds = self.holds();
                    holds.accept(whose, &token);
                    holds.is_over(RECEIVER);
                    return Ok(stored);
                }
                Ok(Attempt::Refused(status, reason)) => {
                    let error = PushError::Refused { status, reason: reason.clone() };
                    if error.is_of_token() {
                        if self.tokens.of(whose).is_some_and(|now| now != token) && Instant::now() < deadline
                        {
                            continue;
                        }
                        self.hold(status, whose, token, reason);
                    }
                    return Err(error);
                }
                Ok(Attempt::Failed(failure, not_before, status)) => (failure, not_before, status),
                Err(_) => ("no answer in time".to_owned(), None, None),
            };
            let wait = jittered(pause).max(not_before.unwrap_or_default());
            if Instant::now() + wait >= deadline {
                let told = *self.told.lock().unwrap_or_else(PoisonError::into_inner) == failure;
                let last = if told { "as logged before the command began".to_owned() } else { failure };
                return Err(PushError::OutOfTime { attempts, last, status });
            }
            if attempts == 1 && self.tells(RECEIVER) {
                warn!(endpoint = %shown(self.endpoint()), failure, "the summary could not be pushed yet; trying again");
            } else {
                debug!(attempts, failure, wait = ?wait, "the summary could not be pushed yet");
            }
            sleep(wait).await;
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }
}

/// An endpoint for the log, without user name and password.
pub fn shown(endpoint: &url::Url) -> String {
    let mut shown = endpoint.clone();
    if !shown.username().is_empty() || shown.password().is_some() {
        // This fails only for a URL without a host, and this one was checked.
        let _ = shown.set_username("");
        let _ = shown.set_password(None);
    }
    shown.to_string()
}

async fn attempt(client: &Client, target: &PushTarget, token: &Secret, body: Bytes) -> Attempt {
    let request = client
        .post(target.endpoint.clone())
        .header(AUTHORIZATION, format!("Bearer {}", token.reveal()))
        .header(CONTENT_TYPE, "application/json")
        .body(body);
    let mut response = match request.send().await {
        Ok(response) => response,
        Err(error) => return Attempt::Failed(trouble::sentence(&error, &target.endpoint), None, None),
    };
    let status = response.status();
    let not_before = retry_after(&response);
    let answer = match read_limited(&mut response).await {
        Ok(answer) => answer,
        Err(error) => {
            return Attempt::Failed(trouble::sentence(&error, &target.endpoint), None, Some(status));
        }
    };
    if status.is_success() {
        return match serde_json::from_slice(&answer) {
            Ok(stored) => Attempt::Stored(stored),
            Err(_) => Attempt::Refused(
                status,
                format!("{status}, but the answer is not from a receiver: {}", excerpt(&answer)),
            ),
        };
    }
    let reason = reason(status, redirect(&response).as_deref(), &answer);
    if status.is_server_error()
        || status == StatusCode::TOO_MANY_REQUESTS
        || status == StatusCode::REQUEST_TIMEOUT
    {
        Attempt::Failed(reason, not_before, Some(status))
    } else {
        Attempt::Refused(status, reason)
    }
}

async fn read_limited(response: &mut Response) -> reqwest::Result<Vec<u8>> {
    let mut answer = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        answer.extend_from_slice(&chunk[..chunk.len().min(MAX_ANSWER_BYTES - answer.len())]);
        if answer.len() >= MAX_ANSWER_BYTES {
            break;
        }
    }
    Ok(answer)
}

/// `Retry-After` as in RFC 9110: seconds, or a date.
fn retry_after(response: &Response) -> Option<Duration> {
    let value = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(value).ok()?;
    Duration::try_from(date.duration_since(jiff::Timestamp::now())).ok()
}

fn excerpt(answer: &[u8]) -> String {
    let text = String::from_utf8_lossy(&answer[..answer.len().min(200)]);
    format!("{:?}", text.trim())
}

/// The target of a redirect.
fn redirect(response: &Response) -> Option<String> {
    let target = response.headers().get(LOCATION).filter(|_| response.status().is_redirection())?;
    Some(String::from_utf8_lossy(target.as_bytes()).chars().take(200).collect())
}

/// The reason in an answer that does not accept the summary.
fn reason(status: StatusCode, redirect: Option<&str>, answer: &[u8]) -> String {
    if let Some(target) = redirect {
        return format!(
            "{status}: it redirects to {target:?}, which is not followed, because the token is for this address only: is that the receiver's?"
        );
    }
    match serde_json::from_slice::<Problem>(answer) {
        Ok(problem) => format!("{status}: {}", problem.detail),
        Err(_) if answer.is_empty() => status.to_string(),
        Err(_) => format!("{status}: {}", excerpt(answer)),
    }
}

#[cfg(test)]
mod tests;
