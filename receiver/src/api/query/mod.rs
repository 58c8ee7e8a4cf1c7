//! What is asked about what is stored: `GET` with the read token.

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

pub(crate) use self::parameters::{NoParameters, QueryParameters, fields, parse};

/// A job, and what is known of it without looking at its runs.
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
    /// Runs stored of it.
    run_count: u64,
    /// Id of the last one.
    last_run: i64,
    /// When that came.
    #[schema(value_type = String, format = DateTime)]
    last_received_at: Timestamp,
    /// Core-hours requested in vain over the last runs, and GiB-hours at an eighth of one; absent until it is computed.
    #[serde(skip_serializing_if = "Option::is_none")]
    waste: Option<f64>,
    /// Share of the last runs that went wrong: killed for want of memory in full, near to it half, throttled a tenth;
    /// absent until it is computed.
    #[serde(skip_serializing_if = "Option::is_none")]
    risk: Option<f64>,
    /// Whether no run came since `waste`, `risk` and `figures` were computed.
    up_to_date: bool,
    /// What the last runs come to; absent until it is computed.
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
            // What another version wrote is computed anew with the next run.
            figures: row.figures.and_then(|figures| serde_json::from_str(&figures).ok()),
        }
    }
}

/// A page of a list, and where the next one is (RFC 8288).
struct Page<T> {
    elements: Vec<T>,
    next: Option<String>,
}

impl<T> Page<T> {
    /// Of what was found for one element more than fits, which tells whether there is another page.
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
