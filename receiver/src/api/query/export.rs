//! `GET /api/v1/export`: all matching runs as lines of JSON or CSV, in constant memory.

use std::borrow::Cow;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use hyper::body::Frame;
use serde::Deserialize;
use tokio::sync::mpsc;
use tracing::error;
use utoipa::ToSchema;

use super::catalog::within;
use super::parameters::Rfc3339Time;
use super::{parse, summaries};
use wire::{CiContext, ContainerSummary, RunResult};

use crate::api::error::AppError;
use crate::api::openapi::ReadProblems;
use crate::api::state::AppState;
use crate::store::{ExportCursor, ExportPage, ExportQuery, ExportedFigures, Store, WholeRun};

/// Format of an export.
#[derive(Debug, Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum ExportFormat {
    #[default]
    Ndjson,
    Csv,
}

/// Query of `GET /api/v1/export`.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
struct ExportParameters {
    /// `ndjson` by default.
    #[param(inline)]
    format: Option<ExportFormat>,
    /// Only runs of this organization.
    organization: Option<String>,
    /// Only runs of this repository, with or without its organization.
    repository: Option<String>,
    /// Only runs of this workflow.
    workflow: Option<String>,
    /// Only runs of jobs whose `organization/repository/workflow/job` contains this, ignoring case.
    search: Option<String>,
    /// Only runs received at this time or later.
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<Rfc3339Time>,
    /// Only runs received before this time.
    #[param(value_type = Option<String>, format = DateTime)]
    until: Option<Rfc3339Time>,
}

/// All runs, streamed
///
/// Newline-delimited JSON has one line per run, with its payload. CSV (RFC 4180) has one line per container of a run, without
/// its time series; text that a spreadsheet would take for a formula begins with an apostrophe. Runs are sorted by the name of
/// their job and then by id. If the export fails midway, the connection is cut off, so that the answer does not look complete.
#[utoipa::path(
    get, path = "/api/v1/export", tag = "runs", security(("read_token" = [])),
    params(ExportParameters),
    responses(
        (status = OK, description = "The runs", content((String = "application/x-ndjson"), (String = "text/csv"))),
        ReadProblems,
    )
)]
pub(crate) async fn export(
    State(state): State<Arc<AppState>>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, AppError> {
    state.authorize_reader(&headers)?;
    let (asked, _) = parse::<ExportParameters>(query.as_deref())?;
    let format = asked.format.unwrap_or_default();
    let query = ExportQuery {
        within: within(asked.organization, asked.repository, asked.workflow)?,
        search: asked.search,
        since: asked.since.map(|Rfc3339Time(time)| time),
        until: asked.until.map(|Rfc3339Time(time)| time),
    };
    let source = ExportPages { store: state.store.clone(), query, format };
    // An error on the first page can still be answered with its own status.
    let first = source.page(ExportCursor::default(), true).await?;
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(source.send(first, sender));
    let (content_type, name) = match format {
        ExportFormat::Ndjson => ("application/x-ndjson", "attachment; filename=\"runs.ndjson\""),
        ExportFormat::Csv => ("text/csv; charset=utf-8; header=present", "attachment; filename=\"runs.csv\""),
    };
    let headers = [(CONTENT_TYPE, content_type), (CONTENT_DISPOSITION, name)];
    Ok((headers, Body::new(Chunks(receiver))).into_response())
}

/// The source of the pages.
struct ExportPages {
    store: Store,
    query: ExportQuery,
    format: ExportFormat,
}

/// The text of a page, and where the next one begins.
type Text = (Vec<u8>, Option<ExportCursor>);

impl ExportPages {
    async fn page(&self, cursor: ExportCursor, first: bool) -> Result<Text, AppError> {
        let query = self.query.clone();
        match self.format {
            ExportFormat::Ndjson => ndjson(self.store.export_payloads(query, cursor).await?),
            ExportFormat::Csv => csv(&self.store.export_figures(query, cursor).await?, first),
        }
    }

    /// Sends page after page. Reads the next page when the last one was taken, and stops when the client is gone.
    async fn send(self, first: Text, sender: mpsc::Sender<Result<Bytes, Aborted>>) {
        let (mut text, mut next) = first;
        loop {
            if !text.is_empty() && sender.send(Ok(text.into())).await.is_err() {
                return;
            }
            let Some(cursor) = next else { return };
            // A page is empty if all its runs are outside of the requested time. Then no send shows that the client is gone.
            if sender.is_closed() {
                return;
            }
            match self.page(cursor, false).await {
                Ok(page) => (text, next) = page,
                Err(failed) => {
                    error!(error = ?failed, "an export ended early");
                    let _ = sender.send(Err(Aborted)).await;
                    return;
                }
            }
        }
    }
}

/// Why an answer is cut off.
#[derive(Debug, thiserror::Error)]
#[error("the export ended early")]
struct Aborted;

/// The body: the chunks from the channel.
struct Chunks(mpsc::Receiver<Result<Bytes, Aborted>>);

impl hyper::body::Body for Chunks {
    type Data = Bytes;
    type Error = Aborted;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        self.0.poll_recv(context).map(|chunk| chunk.map(|chunk| chunk.map(Frame::data)))
    }
}

fn ndjson(page: ExportPage<WholeRun>) -> Result<Text, AppError> {
    let mut text = Vec::new();
    for run in page.runs {
        let mut run = summaries::whole(run)?;
        // A payload is stored as it was pushed, possibly on several lines.
        if run.payload.get().contains(['\n', '\r']) {
            run.payload = summaries::on_one_line(&run)?;
        }
        serde_json::to_writer(&mut text, &run).map_err(|error| AppError::Internal(error.to_string()))?;
        text.push(b'\n');
    }
    Ok((text, page.next))
}

/// Names of the columns, with their units.
const COLUMNS: [&str; 46] = [
    "run",
    "organization",
    "repository",
    "workflow",
    "job",
    "run_id",
    "run_attempt",
    "received_at",
    "start_time",
    "end_time",
    "duration_seconds",
    "final",
    "complete",
    "container",
    "cpu_seconds",
    "cpu_peak_cores",
    "cpu_p95_cores",
    "cpu_request_cores",
    "cpu_limit_cores",
    "cpu_bound_cores",
    "cpu_throttled_seconds",
    "cpu_periods",
    "cpu_throttled_periods",
    "cpu_stalled_seconds",
    "memory_peak_bytes",
    "memory_p95_bytes",
    "working_set_peak_bytes",
    "cgroup_memory_peak_bytes",
    "memory_needed_bytes",
    "processes_memory_bytes",
    "processes_memory_at_most_bytes",
    "memory_request_bytes",
    "memory_limit_bytes",
    "memory_bound_bytes",
    "oom_kills",
    "exit_status",
    "variant",
    "ref",
    "sha",
    "event",
    "fork",
    "result",
    "ci_system",
    "ci_url",
    "runner_name",
    "runner_labels",
];

fn csv(page: &ExportPage<ExportedFigures>, first: bool) -> Result<Text, AppError> {
    let failed = |error: String| AppError::Internal(error);
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    if first {
        writer.write_record(COLUMNS).map_err(|error| failed(error.to_string()))?;
    }
    for run in &page.runs {
        // A run without containers gets a line, too.
        let containers: Vec<_> = if run.run.containers.is_empty() {
            vec![None]
        } else {
            run.run.containers.iter().map(Some).collect()
        };
        for container in containers {
            writer.write_record(record(run, container)).map_err(|error| failed(error.to_string()))?;
        }
    }
    let text = writer.into_inner().map_err(|error| failed(error.to_string()))?;
    Ok((text, page.next.clone()))
}

fn record(exported: &ExportedFigures, container: Option<&ContainerSummary>) -> [String; COLUMNS.len()] {
    let run = &exported.run;
    let [organization, _, workflow, job] = exported.scope.names();
    let text = |text: &str| literal(text).into_owned();
    let said =
        |field: fn(&CiContext) -> Option<&str>| run.ci.as_ref().and_then(field).map(text).unwrap_or_default();
    let number = |figure: fn(&ContainerSummary) -> Option<f64>| shown(container.and_then(figure));
    let count = |figure: fn(&ContainerSummary) -> Option<u64>| shown(container.and_then(figure));
    [
        run.id.to_string(),
        text(organization),
        text(&exported.scope.full_repository().unwrap_or_default()),
        text(workflow),
        text(job),
        text(&run.run_id),
        shown(run.run_attempt),
        run.received_at.to_string(),
        run.start_time.to_string(),
        run.end_time.to_string(),
        run.duration_seconds.to_string(),
        run.is_final.to_string(),
        shown(run.complete),
        container.map(|container| text(&container.name)).unwrap_or_default(),
        number(|container| container.cpu_seconds),
        number(|container| Some(container.cpu_peak_cores)),
        number(|container| container.cpu_p95_cores),
        number(|container| container.cpu_request_cores),
        number(|container| container.cpu_limit_cores),
        number(|container| container.cpu_bound_cores),
        number(|container| container.cpu_throttled_seconds),
        count(|container| container.cpu_periods),
        count(|container| container.cpu_throttled_periods),
        number(|container| container.cpu_stalled_seconds),
        number(|container| Some(container.memory_peak_bytes)),
        number(|container| container.memory_p95_bytes),
        number(|container| container.working_set_peak_bytes),
        count(|container| container.cgroup_memory_peak_bytes),
        count(|container| container.memory_needed_bytes),
        count(|container| container.processes_memory_bytes),
        count(|container| container.processes_memory_at_most_bytes),
        count(|container| container.memory_request_bytes),
        count(|container| container.memory_limit_bytes),
        count(|container| container.memory_bound_bytes),
        count(|container| container.oom_kills),
        count(|container| container.exit_status.map(u64::from)),
        said(|ci| ci.variant.as_deref()),
        said(|ci| ci.git_ref.as_deref()),
        said(|ci| ci.sha.as_deref()),
        said(|ci| ci.event.as_deref()),
        shown(run.ci.as_ref().and_then(|ci| ci.fork)),
        said(|ci| ci.result.map(RunResult::name)),
        said(|ci| ci.system.as_deref()),
        said(|ci| ci.url.as_deref()),
        said(|ci| ci.runner_name.as_deref()),
        said(|ci| ci.runner_labels.as_deref()),
    ]
}

/// An unknown value is an empty cell.
fn shown(value: Option<impl ToString>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// A spreadsheet evaluates a cell that begins like a formula, and every client that pushes can choose the names.
fn literal(text: &str) -> Cow<'_, str> {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{text}").into() } else { text.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_no_formulas_and_break_no_line() {
        for (text, expected) in [
            ("=HYPERLINK(\"http://x\")", "'=HYPERLINK(\"http://x\")"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("-1+2", "'-1+2"),
            ("+1", "'+1"),
            ("build", "build"),
            ("a=b", "a=b"),
        ] {
            assert_eq!(literal(text), expected);
        }
        let container = ContainerSummary { name: "a,\"b".to_owned(), ..ContainerSummary::default() };
        let run = wire::RunSummary { containers: vec![container], ..Default::default() };
        let exported = ExportedFigures { scope: wire::Scope::of_names(["o", "r", "w", "=1"]).unwrap(), run };
        let (text, _) = csv(&ExportPage { runs: vec![exported], next: None }, true).unwrap();
        let text = String::from_utf8(text).unwrap();
        let lines: Vec<_> = text.split("\r\n").collect();
        assert_eq!(lines[0].split(',').count(), COLUMNS.len());
        assert!(lines[1].starts_with("0,o,o/r,w,'=1,"), "{text}");
        assert!(lines[1].contains(",\"a,\"\"b\","), "{text}");
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        assert_eq!(reader.records().next().unwrap().unwrap().len(), COLUMNS.len());
    }
}
