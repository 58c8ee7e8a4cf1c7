//! Lists of runs without their payloads, and single runs with theirs.

use rusqlite::{Connection, OptionalExtension, named_params};
use wire::{RunSummary, Scope};

use super::catalog::{scope, time};
use super::containers;
use super::runs::{self, RunFilter, WholeRun, with_filter};

/// The runs of a job without their payloads, newest first.
pub(super) const PAGE: &str = with_filter!(
    "SELECT id, run_id, run_attempt, is_final, complete, start_time_ms, end_time_ms, duration_seconds, cpu_seconds,
         received_at_ms, ci
     FROM runs WHERE job_id = :job AND id < :before"
);

/// One run.
pub(super) const RUN: &str = "
    SELECT organization, repository, workflow, job, run_id, received_at_ms, payload, sources
    FROM runs JOIN jobs ON jobs.id = job_id WHERE runs.id = ?1";

/// Which runs to list.
#[derive(Debug, Clone)]
pub struct SummaryQuery {
    /// The job.
    pub scope: Scope,
    /// Only those with a row id below this.
    pub before: Option<i64>,
    /// Only runs about which the CI system said this.
    pub filter: RunFilter,
    /// At most this many.
    pub limit: u32,
}

/// Returns `None` if there is no such job.
pub(super) fn page(
    connection: &Connection,
    query: &SummaryQuery,
) -> rusqlite::Result<Option<Vec<RunSummary>>> {
    let Some(job) = runs::job(connection, &query.scope)? else { return Ok(None) };
    let mut statement = connection.prepare_cached(PAGE)?;
    let before = query.before.unwrap_or(i64::MAX);
    let parameters = named_params! { ":job": job, ":before": before, ":limit": query.limit };
    let rows = statement.query_map(query.filter.with(parameters).as_slice(), |row| {
        Ok(RunSummary {
            id: row.get(0)?,
            run_id: row.get(1)?,
            run_attempt: row.get(2)?,
            is_final: row.get(3)?,
            complete: row.get(4)?,
            start_time: time(row.get(5)?),
            end_time: time(row.get(6)?),
            duration_seconds: row.get(7)?,
            cpu_seconds: row.get(8)?,
            received_at: time(row.get(9)?),
            ci: runs::ci(row.get(10)?),
            containers: vec![],
        })
    })?;
    let mut runs = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    for run in &mut runs {
        run.containers = containers::select(connection, containers::OF_RUN, run.id)?;
    }
    Ok(Some(runs))
}

/// One run by its row id.
pub(super) fn run(connection: &Connection, id: i64) -> rusqlite::Result<Option<WholeRun>> {
    let row = connection.prepare_cached(RUN)?.query_row([id], |row| {
        Ok(WholeRun {
            id,
            scope: scope(row, 0)?,
            run_id: row.get(4)?,
            received_at: time(row.get(5)?),
            payload: row.get(6)?,
            sources: runs::sources(row.get(7)?),
        })
    });
    row.optional()
}
