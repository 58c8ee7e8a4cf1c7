//! Queries of stored runs: `GET` with the read token.

pub(crate) mod catalog;
pub(crate) mod compare;
pub(crate) mod export;
mod parameters;
pub(crate) mod runs;
pub(crate) mod summaries;

use axum::Json;
use axum::http::HeaderValue;
use axum::http::header::LINK;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde::Serialize;

use crate::sizing::job_figures::JobFigures;
use crate::store::JobRow;

pub(crate) use self::parameters::{NoParameters, QueryParameters, fields, parse, parse_two};

/// A job with its stored figures.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Job)]
pub(crate) struct JobAnswer {
    /// Organization.
    organization: String,
    /// Repository, as `organization/repository`.
    repository: String,
    /// Workflow.
    workflow: String,
    /// Job.
    job: String,
    /// Number of its stored runs.
    run_count: u64,
    /// Id of its last run.
    last_run: i64,
    /// When its last run was received.
    #[schema(value_type = String, format = DateTime)]
    last_received_at: Timestamp,
    /// Core-hours requested beyond the target over the last runs, plus GiB-hours at an eighth; absent until computed.
    #[serde(skip_serializing_if = "Option::is_none")]
    waste: Option<f64>,
    /// Share of the last runs that went wrong. An OOM-killed run counts fully, a run near its memory limit half, a throttled
    /// run a tenth. Absent until computed.
    #[serde(skip_serializing_if = "Option::is_none")]
    risk: Option<f64>,
    /// Whether `waste`, `risk` and `figures` include the last run.
    up_to_date: bool,
    /// Figures of the last runs; absent until computed.
    #[serde(skip_serializing_if = "Option::is_none")]
    figures: Option<JobFigures>,
}

impl From<JobRow> for JobAnswer {
    fn from(row: JobRow) -> Self {
        let [organization, _, workflow, job] = row.scope.names().map(str::to_owned);
        Self {
            repository: row.scope.full_repository().unwrap_or_default(),
            organization,
            workflow,
            job,
            run_count: row.run_count,
            last_run: row.last_run,
            last_received_at: row.last_received_at,
            waste: row.waste,
            risk: row.risk,
            up_to_date: !row.stale,
            // Figures that another version wrote may not parse; the next run recomputes them.
            figures: row.figures.and_then(|figures| serde_json::from_str(&figures).ok()),
        }
    }
}

/// A page of a list, and the link to the next one (RFC 8288).
struct Page<T> {
    elements: Vec<T>,
    next: Option<String>,
}

impl<T> Page<T> {
    /// Takes up to one element more than fits, which shows that there is another page.
    fn new(mut elements: Vec<T>, limit: u32, next: impl FnOnce(&T) -> String) -> Self {
        let more = elements.len() > limit as usize;
        elements.truncate(limit as usize);
        let next = elements.last().filter(|_| more).map(next);
        Self { elements, next }
    }

    fn map<U>(self, element: impl FnMut(T) -> U) -> Page<U> {
        Page { elements: self.elements.into_iter().map(element).collect(), next: self.next }
    }
}

impl<T: Serialize> IntoResponse for Page<T> {
    fn into_response(self) -> Response {
        let mut response = Json(self.elements).into_response();
        let next = self.next.map(|next| format!("<{next}>; rel=\"next\""));
        if let Some(link) = next.and_then(|link| HeaderValue::from_str(&link).ok()) {
            response.headers_mut().insert(LINK, link);
        }
        response
    }
}
