//! Runs with their payloads.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, ToSql, named_params};
use wire::{CiContext, Scope, Source, StoredRun};

/// A job by its four parts.
pub(super) const JOB: &str = "
    SELECT id FROM jobs WHERE organization = ?1 AND repository = ?2 AND workflow = ?3 AND job = ?4";

/// Completes a statement that selects runs by the condition of a [`RunFilter`].
macro_rules! with_filter {
    ($select:literal) => {
        concat!(
            $select,
            " AND (:variant IS NULL OR variant = :variant) AND (:ref IS NULL OR ref = :ref)
              AND (:event IS NULL OR event = :event) AND (:result IS NULL OR result = :result)
              ORDER BY id DESC LIMIT :limit"
        )
    };
}
pub(super) use with_filter;

/// The runs of a job, newest first.
pub(super) const RUNS: &str = with_filter!(
    "SELECT id, run_id, received_at_ms, payload, sources FROM runs
     WHERE job_id = :job AND id < :before AND received_at_ms >= :since AND received_at_ms < :until"
);

/// The runs of a job with one run id, newest first.
pub(super) const RUNS_WITH_ID: &str = with_filter!(
    "SELECT id, run_id, received_at_ms, payload, sources FROM runs
     WHERE job_id = :job AND run_id = :run_id AND id < :before AND received_at_ms >= :since AND received_at_ms < :until"
);

/// What the CI system must have said about a run; `None` does not restrict.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunFilter {
    /// The variant.
    pub variant: Option<String>,
    /// The branch or tag.
    pub git_ref: Option<String>,
    /// The event.
    pub event: Option<String>,
    /// The result, by its name.
    pub result: Option<String>,
}

impl RunFilter {
    /// The parameters of a statement with this filter, by name. `others`: those of the rest of the statement.
    pub(super) fn with<'a>(&'a self, others: &[(&'a str, &'a dyn ToSql)]) -> Vec<(&'a str, &'a dyn ToSql)> {
        let Self { variant, git_ref, event, result } = self;
        let own: [(&str, &dyn ToSql); 4] =
            [(":variant", variant), (":ref", git_ref), (":event", event), (":result", result)];
        [others, &own].concat()
    }
}

/// Which runs of a job to return; `None` does not restrict.
#[derive(Debug, Clone)]
pub struct RunQuery {
    /// The job.
    pub scope: Scope,
    /// Only those with this run id.
    pub run_id: Option<String>,
    /// Only those with a row id below this.
    pub before: Option<i64>,
    /// Only runs that arrived at this time or later.
    pub since: Option<Timestamp>,
    /// Only runs that arrived before this time.
    pub until: Option<Timestamp>,
    /// Only runs about which the CI system said this.
    pub filter: RunFilter,
    /// At most this many.
    pub limit: u32,
}

/// A run with its payload, and the names of its job.
#[derive(Debug, Clone, PartialEq)]
pub struct WholeRun {
    /// Row id.
    pub id: i64,
    /// The names of its job.
    pub scope: Scope,
    /// The CI system's identifier of the run.
    pub run_id: String,
    /// When its last summary arrived.
    pub received_at: Timestamp,
    /// The payload as received, or joined from several.
    pub payload: String,
    /// The collectors that measured it.
    pub sources: Vec<Source>,
}

impl WholeRun {
    /// The run as the API returns it, with its payload in some form.
    pub fn with_payload<P>(self, payload: P) -> StoredRun<P> {
        let [organization, _, workflow, job] = self.scope.names().map(str::to_owned);
        StoredRun {
            id: self.id,
            repository: self.scope.full_repository().unwrap_or_default(),
            organization,
            workflow,
            job,
            run_id: self.run_id,
            received_at: self.received_at,
            sources: self.sources,
            payload,
        }
    }
}

/// The row id of a job; `None` if nothing is stored for it.
pub(super) fn job(connection: &Connection, scope: &Scope) -> rusqlite::Result<Option<i64>> {
    let parts = scope.parts().map(|(_, part)| part);
    connection.prepare_cached(JOB)?.query_row(parts, |row| row.get(0)).optional()
}

/// Parses what the CI system said.
pub(super) fn ci(text: Option<String>) -> Option<CiContext> {
    serde_json::from_str(&text?).ok()
}

/// Parses the stored list of the collectors that measured a run.
pub(super) fn sources(text: Option<String>) -> Vec<Source> {
    text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

pub(super) fn runs(connection: &Connection, query: &RunQuery) -> rusqlite::Result<Vec<WholeRun>> {
    let Some(job) = job(connection, &query.scope)? else { return Ok(vec![]) };
    let before = query.before.unwrap_or(i64::MAX);
    let since = query.since.map_or(i64::MIN, Timestamp::as_millisecond);
    let until = query.until.map_or(i64::MAX, Timestamp::as_millisecond);
    let parameters = named_params! {
        ":job": job,
        ":before": before,
        ":since": since,
        ":until": until,
        ":limit": query.limit,
    };
    let mut parameters = query.filter.with(parameters);
    if let Some(run_id) = &query.run_id {
        parameters.push((":run_id", run_id));
    }
    let sql = if query.run_id.is_some() { RUNS_WITH_ID } else { RUNS };
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(parameters.as_slice(), |row| {
        Ok(WholeRun {
            id: row.get(0)?,
            scope: query.scope.clone(),
            run_id: row.get(1)?,
            received_at: Timestamp::from_millisecond(row.get(2)?).unwrap_or_default(),
            payload: row.get(3)?,
            sources: sources(row.get(4)?),
        })
    })?;
    rows.collect()
}
