//! `POST /api/v1/metrics`.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use wire::{Payload, Problem, Scope, Stored, Submission};

use super::body;
use super::error::AppError;
use super::openapi::WriteProblems;
use super::state::AppState;
use crate::store::{NewRun, Outcome, Received, SummaryKey};
use crate::validate::{self, Valid};

/// Store a summary
///
/// A run is one row. Summaries with the same `summary_id` replace each other: the one with the highest `seq` is kept, and an
/// interim summary never replaces a final one. Without a `summary_id`, every push makes a new row. When the receiver answers
/// 200 or 201, the summary is on disk. If a sidecar and the node's collector report the same pod, one row holds the better
/// figures of both (`joined`), in either order. After 429, 5xx or no answer, the client may send the same push again.
#[utoipa::path(
    post, path = "/api/v1/metrics", tag = "push", security(("push_token" = [])),
    request_body = Submission<Payload>,
    responses(
        (status = CREATED, description = "A new run", body = Stored),
        (status = OK, description = "An existing run: this summary is now stored, was stored before, or is older than the stored one; or another collector reported the run", body = Stored),
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
    match &outcome {
        Ok(outcome) => state.metrics.accepted(*outcome),
        Err(error) => state.metrics.rejected(error.reason()),
    }
    let there = |id, superseded, joined| Ok((StatusCode::OK, Json(Stored { id, superseded, joined })));
    match outcome? {
        Outcome::Created(id) => {
            Ok((StatusCode::CREATED, Json(Stored { id, superseded: false, joined: false })))
        }
        Outcome::Replaced(id) | Outcome::Repeated(id) => there(id, false, false),
        Outcome::Joined(id) => there(id, false, true),
        Outcome::Superseded(id) => there(id, true, false),
        Outcome::Conflict => Err(AppError::Conflict(
            "another summary with this summary_id and seq is already stored".to_owned(),
        )),
    }
}

async fn store(state: &AppState, headers: &HeaderMap, body: Body) -> Result<Outcome, AppError> {
    // A client without a token cannot make the receiver read a body.
    let token = state.push_token(headers)?;
    let (body, held) = body::read(state, headers, body).await?;
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
