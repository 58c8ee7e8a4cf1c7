//! Named queries.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, ToSql, named_params};
use wire::{Scope, Source};

/// A job by its four parts.
pub(super) const JOB: &str = "
    SELECT id FROM jobs WHERE organization = ?1 AND repository = ?2 AND workflow = ?3 AND job = ?4";

/// The runs of a job, newest first; what is `None` does not restrict.
pub(super) const RUNS: &str = "
    SELECT id, run_id, received_at_ms, payload, sources FROM runs
    WHERE job_id = :job AND id < :before AND received_at_ms >= :since AND received_at_ms < :until
    ORDER BY id DESC LIMIT :limit";

/// Those with one run id.
pub(super) const RUNS_WITH_ID: &str = "
    SELECT id, run_id, received_at_ms, payload, sources FROM runs
    WHERE job_id = :job AND run_id = :run_id AND id < :before AND received_at_ms >= :since AND received_at_ms < :until
    ORDER BY id DESC LIMIT :limit";

/// Which runs of a job.
#[derive(Debug, Clone)]
pub struct RunQuery {
    /// The job.
    pub scope: Scope,
    /// Only those with this run id.
    pub run_id: Option<String>,
    /// Only those with an id below this.
    pub before: Option<i64>,
    /// Only those that came then or later.
    pub since: Option<Timestamp>,
    /// Only those that came before.
    pub until: Option<Timestamp>,
    /// At most so many.
    pub limit: u32,
}

/// One run as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct RunRow {
    /// Row.
    pub id: i64,
    /// The CI system's identifier of the run.
    pub run_id: String,
    /// When it came.
    pub received_at: Timestamp,
    /// The payload as it came, or what came of several.
    pub payload: String,
    /// Who measured it.
    pub sources: Vec<Source>,
}

/// The row of a job; `None` if nothing of it is stored.
pub(super) fn job(connection: &Connection, scope: &Scope) -> rusqlite::Result<Option<i64>> {
    let parts = scope.parts().map(|(_, part)| part);
    connection.prepare_cached(JOB)?.query_row(parts, |row| row.get(0)).optional()
}

/// Who measured a run, as it is stored; nobody is known of what came before that was kept.
pub(super) fn sources(text: Option<String>) -> Vec<Source> {
    text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

pub(super) fn runs(connection: &Connection, query: &RunQuery) -> rusqlite::Result<Vec<RunRow>> {
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
    let mut parameters: Vec<(&str, &dyn ToSql)> = parameters.to_vec();
    if let Some(run_id) = &query.run_id {
        parameters.push((":run_id", run_id));
    }
    let sql = if query.run_id.is_some() { RUNS_WITH_ID } else { RUNS };
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(parameters.as_slice(), |row| {
        Ok(RunRow {
            id: row.get(0)?,
            run_id: row.get(1)?,
            received_at: Timestamp::from_millisecond(row.get(2)?).unwrap_or_default(),
            payload: row.get(3)?,
            sources: sources(row.get(4)?),
        })
    })?;
    rows.collect()
}
