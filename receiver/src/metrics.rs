//! `GET /metrics`: what the receiver tells of itself, in the text format of Prometheus.
//!
//! Nothing in it names a job: routes are told as they are written in the code, methods and statuses are few. So it is
//! open to whoever reaches the receiver, like the probes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, Method, StatusCode};
use prometheus_client::encoding::{EncodeLabelSet, prometheus_text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::error::AppError;
use crate::state::AppState;
use crate::store::{Outcome, StoreError};

/// From what a probe takes to what a client waits for, in seconds.
const LATENCIES: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// What is counted as it happens, and what is looked up when it is asked for.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<Request, Counter>,
    durations: Family<Route, Histogram>,
    summaries: Family<Stored, Counter>,
    rejected: Family<Rejected, Counter>,
    failed_authentications: Counter,
    deleted_runs: Counter,
    lost_log_lines: Counter,
    queue: Gauge,
    sizes: Family<File, Gauge<u64, AtomicU64>>,
    runs: Gauge,
    jobs: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    route: String,
    method: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    route: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Stored {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Rejected {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct File {
    file: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("receiver"),
            requests: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(LATENCIES)),
            summaries: Family::default(),
            rejected: Family::default(),
            failed_authentications: Counter::default(),
            deleted_runs: Counter::default(),
            lost_log_lines: Counter::default(),
            queue: Gauge::default(),
            sizes: Family::default(),
            runs: Gauge::default(),
            jobs: Gauge::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("http_requests", "Requests that were answered", self.requests.clone());
        registry.register_with_unit(
            "http_request_duration",
            "Time from the headers of a request to those of its answer",
            Unit::Seconds,
            self.durations.clone(),
        );
        registry.register(
            "summaries",
            "Summaries that were accepted, by what became of them",
            self.summaries.clone(),
        );
        registry.register(
            "summaries_rejected",
            "Summaries that were not accepted, by reason",
            self.rejected.clone(),
        );
        registry.register(
            "failed_authentications",
            "Requests with no token, a wrong one or one for something else",
            self.failed_authentications.clone(),
        );
        registry.register(
            "runs_deleted",
            "Runs that were deleted because of their age or number",
            self.deleted_runs.clone(),
        );
        registry.register(
            "log_lines_lost",
            "Lines of the log that could not be written to standard error",
            self.lost_log_lines.clone(),
        );
        registry.register("write_queue_length", "Writes that wait for their turn", self.queue.clone());
        registry.register_with_unit(
            "database_size",
            "Size of the database's files",
            Unit::Bytes,
            self.sizes.clone(),
        );
        registry.register("stored_runs", "Runs in the database", self.runs.clone());
        registry.register("stored_jobs", "Jobs in the database", self.jobs.clone());
        registry.register(
            "build",
            "Version of the receiver",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        // What has not happened yet is told as 0, so that the first time is seen as an increase.
        for outcome in ["created", "replaced", "joined", "repeated", "superseded"] {
            drop(self.summaries.get_or_create(&Stored { outcome }));
        }
    }

    /// A request was answered.
    pub(crate) fn answered(&self, route: &str, method: &Method, status: StatusCode, took: Duration) {
        let method = match *method {
            Method::GET => "GET",
            Method::HEAD => "HEAD",
            Method::POST => "POST",
            Method::PUT => "PUT",
            Method::DELETE => "DELETE",
            Method::OPTIONS => "OPTIONS",
            Method::PATCH => "PATCH",
            _ => "other",
        };
        let route = route.to_owned();
        self.durations.get_or_create(&Route { route: route.clone() }).observe(took.as_secs_f64());
        self.requests.get_or_create(&Request { route, method, status: status.as_u16() }).inc();
    }

    /// A token was missing, wrong or not for what was asked.
    pub(crate) fn denied(&self) {
        self.failed_authentications.inc();
    }

    /// A push was answered.
    pub(crate) fn pushed(&self, result: Result<Outcome, &AppError>) {
        let outcome = match result {
            Ok(Outcome::Created(_)) => "created",
            Ok(Outcome::Replaced(_)) => "replaced",
            Ok(Outcome::Joined(_)) => "joined",
            Ok(Outcome::Repeated(_)) => "repeated",
            Ok(Outcome::Superseded(_)) => "superseded",
            Ok(Outcome::Conflict) => return self.rejected("conflict"),
            Err(error) => return self.rejected(error.reason()),
        };
        self.summaries.get_or_create(&Stored { outcome }).inc();
    }

    fn rejected(&self, reason: &'static str) {
        self.rejected.get_or_create(&Rejected { reason }).inc();
    }

    /// Runs were deleted because of their age or number.
    pub(crate) fn deleted(&self, runs: u64) {
        self.deleted_runs.inc_by(runs);
    }

    /// All of it as text, with what the database is like now.
    async fn text(&self, state: &AppState) -> Result<String, AppError> {
        self.lost_log_lines.inner().store(program::log::lost(), Ordering::Relaxed);
        self.queue.set(state.store.queue_length() as i64);
        let sizes = state.store.sizes();
        for (file, size) in [("database", sizes.database), ("write_ahead_log", sizes.log)] {
            self.sizes.get_or_create(&File { file }).set(size);
        }
        match state.store.totals().await {
            Ok(totals) => {
                self.runs.set(totals.runs);
                self.jobs.set(totals.jobs);
            }
            // What is known is told all the same; that the database fails is told by the probe and by statuses.
            Err(StoreError::Busy | StoreError::TooSlow | StoreError::Unusable { .. }) => {}
            Err(failed) => tracing::warn!(error = %failed, "the number of runs is not known"),
        }
        let mut text = String::new();
        prometheus_text::encode(&mut text, &self.registry)
            .map_err(|error| AppError::Internal(format!("metrics: {error}")))?;
        Ok(text)
    }
}

/// Metrics of the receiver
///
/// In the text format of Prometheus; without a token, as nothing in it names a job.
#[utoipa::path(
    get, path = "/metrics", tag = "operation", security(()),
    responses(
        (status = OK, description = "Metrics", body = String, content_type = "text/plain"),
        (status = INTERNAL_SERVER_ERROR, description = "They could not be told", body = wire::Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn metrics(
    State(state): State<Arc<AppState>>,
) -> Result<([(HeaderName, &'static str); 1], String), AppError> {
    let text = state.metrics.text(&state).await?;
    Ok(([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text))
}
