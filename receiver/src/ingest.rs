//! `POST /api/v1/metrics` and how bodies are read.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tokio::sync::OwnedSemaphorePermit;
use wire::{Payload, Problem, Scope, Stored, Submission};

use crate::error::AppError;
use crate::openapi::WriteProblems;
use crate::state::AppState;
use crate::store::{NewRun, Outcome, Received, SummaryKey};
use crate::validate::{self, Valid};

/// Store a summary
///
/// A run is one row: the summaries that share a `summary_id` replace each other, the one with the highest `seq` is kept,
/// and a final one is never replaced by an interim one. Without `summary_id` every push is a row of its own. What is
/// answered with 200 or 201 is on disk. What a sidecar and the collector of the node tell of the same pod is one row, too:
/// it holds the better figures of both (`joined`), whatever came first. After 429, 5xx or no answer the same push may be sent again.
#[utoipa::path(
    post, path = "/api/v1/metrics", tag = "push", security(("push_token" = [])),
    request_body = Submission<Payload>,
    responses(
        (status = CREATED, description = "A new run", body = Stored),
        (status = OK, description = "A run that was there already: it holds this summary now, or held it, or holds a later one; or one that another collector told of already", body = Stored),
        (status = FORBIDDEN, description = "The token is for another scope, has expired, or is a read token: `detail` says which", body = Problem, content_type = "application/problem+json"),
        (status = CONFLICT, description = "Another summary with this `summary_id` and `seq` is stored", body = Problem, content_type = "application/problem+json"),
        WriteProblems,
    )
)]
pub(crate) async fn push(
    State(state): State<Arc<AppState>>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Stored>), AppError> {
    let outcome = store(&state, &headers, body).await;
    state.metrics.pushed(outcome.as_ref().copied());
    let there = |id, superseded, joined| Ok((StatusCode::OK, Json(Stored { id, superseded, joined })));
    match outcome? {
        Outcome::Created(id) => {
            Ok((StatusCode::CREATED, Json(Stored { id, superseded: false, joined: false })))
        }
        Outcome::Replaced(id) | Outcome::Repeated(id) => there(id, false, false),
        Outcome::Joined(id) => there(id, false, true),
        Outcome::Superseded(id) => there(id, true, false),
        Outcome::Conflict => Err(AppError::Conflict(
            "another summary with this summary_id and seq was stored already".to_owned(),
        )),
    }
}

async fn store(state: &AppState, headers: &HeaderMap, body: Body) -> Result<Outcome, AppError> {
    // Who has no token does not get us to read a body.
    let token = state.push_token(headers)?;
    let (body, held) = read(state, headers, body).await?;
    let valid = validate::submission(&body)?;
    let now = Timestamp::now();
    let Submission { organization, repository, workflow, job, .. } = &valid.submission;
    let scope = Scope::named(organization, Some(repository), Some(workflow), Some(job))?;
    state.authorize_push(&token, &scope, now)?;
    let run = new_run(valid, &body, now);
    drop(body);
    let outcome = state.store.insert(run).await;
    drop(held);
    Ok(outcome?)
}

/// A whole body, if it says that it is JSON, comes in time and is not larger than is accepted; and its share of what
/// may be held at a time, to be kept as long as what was read is.
///
/// The share grows with what has come, not with what was announced: who sends nothing takes nothing.
pub(crate) async fn read(
    state: &AppState,
    headers: &HeaderMap,
    body: Body,
) -> Result<(Bytes, Option<OwnedSemaphorePermit>), AppError> {
    if !is_json(headers) {
        return Err(AppError::UnsupportedMediaType("the body must be application/json"));
    }
    if headers.get(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        return Err(AppError::UnsupportedMediaType("the body must not be compressed (Content-Encoding)"));
    }
    let limit = state.max_body;
    let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(AppError::TooLarge(limit));
    }
    tokio::time::timeout(state.body_timeout, collect(state, body)).await.map_err(|_| AppError::Timeout)?
}

async fn collect(
    state: &AppState,
    mut body: Body,
) -> Result<(Bytes, Option<OwnedSemaphorePermit>), AppError> {
    let mut collected = BytesMut::new();
    let mut held: Option<OwnedSemaphorePermit> = None;
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|error| AppError::Malformed(format!("the body could not be read: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        if collected.len() + data.len() > state.max_body {
            return Err(AppError::TooLarge(state.max_body));
        }
        // A frame is smaller than 4 GiB.
        let share = Arc::clone(&state.bodies).try_acquire_many_owned(data.len() as u32);
        let share = share
            .map_err(|_| AppError::Unavailable("the receiver has too much to do; nothing was stored"))?;
        match &mut held {
            None => held = Some(share),
            Some(held) => held.merge(share),
        }
        collected.extend_from_slice(&data);
    }
    Ok((collected.freeze(), held))
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

fn new_run(valid: Valid, body: &[u8], received_at: Timestamp) -> NewRun {
    let Valid { submission, payload, scope } = valid;
    let summary = submission.summary_id.zip(submission.seq);
    let received = Received {
        run_id: submission.run_id,
        run_attempt: submission.run_attempt,
        summary: summary.map(|(summary_id, seq)| SummaryKey { summary_id, seq }),
        is_final: submission.is_final.unwrap_or(true),
        received_at,
        digest: Sha256::digest(body).into(),
        payload: submission.payload.get().to_owned(),
    };
    NewRun::new(scope, received, &payload)
}
