//! `GET /api/v1/metrics/repo/{organization}/{repository}/{workflow}/{job}`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{OriginalUri, Path, RawQuery, State};
use axum::http::header::LINK;
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::value::RawValue;
use wire::{Scope, StoredRun};

use crate::error::AppError;
use crate::state::AppState;
use crate::store::{RunQuery, RunRow};

const DEFAULT_LIMIT: u32 = 100;
const MAX_LIMIT: u32 = 1000;

/// The runs of a job, newest first.
pub(crate) async fn runs(
    State(state): State<Arc<AppState>>,
    headers: HeaderMap,
    OriginalUri(uri): OriginalUri,
    Path((organization, repository, workflow, job)): Path<(String, String, String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Response, AppError> {
    state.authorize_reader(&headers)?;
    let scope = Scope::new(&organization, Some(&repository), Some(&workflow), Some(&job))?;
    let parameters = parameters(query.as_deref().unwrap_or_default())?;
    let query = run_query(scope, &parameters)?;
    let limit = query.limit as usize;
    // One more than is asked for tells whether there is a next page.
    let scope = query.scope.clone();
    let mut rows = state.store.runs(RunQuery { limit: query.limit + 1, ..query }).await?;
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next = rows.last().filter(|_| more).map(|last| next_page(uri.path(), &parameters, last.id));
    let runs: Vec<_> = rows.into_iter().map(|row| stored_run(&scope, row)).collect::<Result<_, _>>()?;
    let mut response = Json(runs).into_response();
    if let Some(link) = next.and_then(|link| HeaderValue::from_str(&link).ok()) {
        response.headers_mut().insert(LINK, link);
    }
    Ok(response)
}

/// The parameters by name, in their order.
pub(crate) fn parameters(query: &str) -> Result<Vec<(String, String)>, AppError> {
    let decode = |text: &str| {
        let text = text.replace('+', " ");
        let decoded = percent_decode_str(&text).decode_utf8();
        decoded
            .map(std::borrow::Cow::into_owned)
            .map_err(|_| AppError::Malformed("the query is not UTF-8".to_owned()))
    };
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((decode(name)?, decode(value)?))
        })
        .collect()
}

fn run_query(scope: Scope, parameters: &[(String, String)]) -> Result<RunQuery, AppError> {
    let mut query =
        RunQuery { scope, run_id: None, before: None, since: None, until: None, limit: DEFAULT_LIMIT };
    for (at, (name, value)) in parameters.iter().enumerate() {
        let wrong = |accepted: &str| AppError::invalid(name, format!("is {value:?}; {accepted} is accepted"));
        if parameters[..at].iter().any(|(other, _)| other == name) {
            return Err(AppError::invalid(name, "is given twice"));
        }
        let time = || value.parse::<Timestamp>().map_err(|_| wrong("a time such as 2026-02-06T14:30:00Z"));
        match name.as_str() {
            "limit" => {
                let limit = value.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
                query.limit = limit.ok_or_else(|| wrong("a number from 1 to 1000"))?;
            }
            "before" => query.before = Some(value.parse().map_err(|_| wrong("the id of a run"))?),
            "since" => query.since = Some(time()?),
            "until" => query.until = Some(time()?),
            "run_id" => query.run_id = Some(value.clone()),
            _ => {
                return Err(AppError::invalid(
                    name,
                    "is unknown; limit, before, since, until and run_id are accepted",
                ));
            }
        }
    }
    Ok(query)
}

/// A `Link` to the next page (RFC 8288).
fn next_page(path: &str, parameters: &[(String, String)], last: i64) -> String {
    let kept = parameters.iter().filter(|(name, _)| name != "before");
    let kept = kept.map(|(name, value)| format!("{name}={}&", utf8_percent_encode(value, NON_ALPHANUMERIC)));
    format!("<{path}?{}before={last}>; rel=\"next\"", kept.collect::<String>())
}

fn stored_run(scope: &Scope, row: RunRow) -> Result<StoredRun<Box<RawValue>>, AppError> {
    let payload = RawValue::from_string(row.payload);
    let payload =
        payload.map_err(|error| AppError::Internal(format!("the payload of run {}: {error}", row.id)))?;
    let [organization, repository, workflow, job] = scope.parts().map(|(_, part)| part.unwrap_or_default());
    Ok(StoredRun {
        id: row.id,
        organization: organization.to_owned(),
        repository: format!("{organization}/{repository}"),
        workflow: workflow.to_owned(),
        job: job.to_owned(),
        run_id: row.run_id,
        received_at: row.received_at,
        payload,
    })
}
