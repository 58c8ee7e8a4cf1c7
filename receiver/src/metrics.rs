//! The receiver's own metrics, in the text format of Prometheus.
//!
//! No label names a job. Routes come from the code, and there are few methods and statuses. This bounds the number of
//! series, and lets `/metrics` be open like the probes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::http::{Method, StatusCode};
use prometheus_client::encoding::{EncodeLabelSet, prometheus_text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::store::{Outcome, Store, StoreError};

/// Histogram buckets in seconds, from the time of a probe to the time that a client waits.
const LATENCIES: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// Counters, and gauges that are set when the metrics are read.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    durations: Family<RouteLabel, Histogram>,
    summaries: Family<OutcomeLabel, Counter>,
    rejected: Family<ReasonLabel, Counter>,
    failed_authentications: Counter,
    deleted_runs: Counter,
    lost_log_lines: Counter,
    queue: Gauge,
    sizes: Family<FileLabel, Gauge<u64, AtomicU64>>,
    runs: Gauge,
    jobs: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: String,
    method: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabel {
    route: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FileLabel {
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
        registry.register("http_requests", "Requests answered", self.requests.clone());
        registry.register_with_unit(
            "http_request_duration",
            "Time from a request's headers to its answer's headers",
            Unit::Seconds,
            self.durations.clone(),
        );
        registry.register("summaries", "Summaries accepted, by outcome", self.summaries.clone());
        registry.register("summaries_rejected", "Summaries rejected, by reason", self.rejected.clone());
        registry.register(
            "failed_authentications",
            "Requests with a missing, wrong or out-of-scope token",
            self.failed_authentications.clone(),
        );
        registry.register(
            "runs_deleted",
            "Runs deleted because of their age or number",
            self.deleted_runs.clone(),
        );
        registry.register(
            "log_lines_lost",
            "Log lines that could not be written to standard error",
            self.lost_log_lines.clone(),
        );
        registry.register("write_queue_length", "Writes waiting in the queue", self.queue.clone());
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
        // Exported as 0 from the start, so that the first one is seen as an increase.
        for outcome in ["created", "replaced", "joined", "repeated", "superseded"] {
            drop(self.summaries.get_or_create(&OutcomeLabel { outcome }));
        }
    }

    /// Records an answered request.
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
        self.durations.get_or_create(&RouteLabel { route: route.clone() }).observe(took.as_secs_f64());
        self.requests.get_or_create(&RequestLabels { route, method, status: status.as_u16() }).inc();
    }

    /// Counts a request whose token was missing, wrong, or made for something else.
    pub(crate) fn denied(&self) {
        self.failed_authentications.inc();
    }

    /// Counts a summary by its outcome. A conflict counts as rejected.
    pub(crate) fn accepted(&self, outcome: Outcome) {
        let outcome = match outcome {
            Outcome::Created(_) => "created",
            Outcome::Replaced(_) => "replaced",
            Outcome::Joined(_) => "joined",
            Outcome::Repeated(_) => "repeated",
            Outcome::Superseded(_) => "superseded",
            Outcome::Conflict => return self.rejected("conflict"),
        };
        self.summaries.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// Counts a rejected summary.
    pub(crate) fn rejected(&self, reason: &'static str) {
        self.rejected.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// Counts runs that were deleted because of their age or number.
    pub(crate) fn deleted(&self, runs: u64) {
        self.deleted_runs.inc_by(runs);
    }

    /// Encodes all metrics. Reads the gauges of the database first.
    pub(crate) async fn text(&self, store: &Store) -> Result<String, std::fmt::Error> {
        self.lost_log_lines.inner().store(program::log::lost(), Ordering::Relaxed);
        self.queue.set(store.queue_length() as i64);
        let sizes = store.sizes();
        for (file, size) in [("database", sizes.database), ("write_ahead_log", sizes.log)] {
            self.sizes.get_or_create(&FileLabel { file }).set(size);
        }
        match store.totals().await {
            Ok(totals) => {
                self.runs.set(totals.runs);
                self.jobs.set(totals.jobs);
            }
            // Export the other metrics nevertheless. Probes and response statuses report the database's state.
            Err(StoreError::Busy | StoreError::TooSlow | StoreError::Unusable { .. }) => {}
            Err(failed) => tracing::warn!(error = %failed, "cannot count the stored runs"),
        }
        let mut text = String::new();
        prometheus_text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
