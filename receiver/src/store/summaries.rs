//! Runs without their payloads, and one run with it.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, named_params};
use wire::{ContainerSummary, RunSummary, Scope, Source};

use super::catalog::time;
use super::read;

/// The runs of a job without their payloads, newest first.
pub(super) const PAGE: &str = "
    SELECT id, run_id, run_attempt, is_final, complete, start_time_ms, end_time_ms, duration_seconds, cpu_seconds,
        received_at_ms
    FROM runs WHERE job_id = :job AND id < :before ORDER BY id DESC LIMIT :limit";

/// The containers of a run without their histograms, in their order.
pub(super) const CONTAINERS: &str = "
    SELECT name, cpu_seconds, cpu_peak_cores, cpu_p95_cores, cpu_request_cores, cpu_limit_cores, cpu_throttled_seconds,
        cpu_periods, cpu_throttled_periods, memory_peak_bytes, memory_p95_bytes, working_set_peak_bytes,
        cgroup_memory_peak_bytes, memory_request_bytes, memory_limit_bytes, oom_kills, cpu_bound_cores,
        memory_bound_bytes
    FROM containers WHERE run = ?1 ORDER BY position";

/// One run.
pub(super) const RUN: &str = "
    SELECT organization, repository, workflow, job, run_id, received_at_ms, payload, sources
    FROM runs JOIN jobs ON jobs.id = job_id WHERE runs.id = ?1";

/// Which runs.
#[derive(Debug, Clone)]
pub struct SummaryQuery {
    /// The job.
    pub scope: Scope,
    /// Only those with an id below this.
    pub before: Option<i64>,
    /// At most so many.
    pub limit: u32,
}

/// A run with its payload, and whose it is.
#[derive(Debug, Clone, PartialEq)]
pub struct WholeRun {
    /// Row.
    pub id: i64,
    /// Organization.
    pub organization: String,
    /// Repository, without its organization.
    pub repository: String,
    /// Workflow.
    pub workflow: String,
    /// Job.
    pub job: String,
    /// The CI system's identifier of the run.
    pub run_id: String,
    /// When it came.
    pub received_at: Timestamp,
    /// The payload as it came, or what came of several.
    pub payload: String,
    /// Who measured it.
    pub sources: Vec<Source>,
}

/// `None` if there is no such job.
pub(super) fn page(
    connection: &Connection,
    query: &SummaryQuery,
) -> rusqlite::Result<Option<Vec<RunSummary>>> {
    let Some(job) = read::job(connection, &query.scope)? else { return Ok(None) };
    let mut statement = connection.prepare_cached(PAGE)?;
    let parameters = named_params! {
        ":job": job,
        ":before": query.before.unwrap_or(i64::MAX),
        ":limit": query.limit,
    };
    let rows = statement.query_map(parameters, |row| {
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
            containers: vec![],
        })
    })?;
    let mut runs = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    for run in &mut runs {
        run.containers = containers(connection, run.id)?;
    }
    Ok(Some(runs))
}

/// Those of one run, by the primary key.
pub(super) fn containers(connection: &Connection, run: i64) -> rusqlite::Result<Vec<ContainerSummary>> {
    let mut statement = connection.prepare_cached(CONTAINERS)?;
    let count = |value: Option<i64>| value.map(i64::cast_unsigned);
    let rows = statement.query_map([run], |row| {
        Ok(ContainerSummary {
            name: row.get(0)?,
            cpu_seconds: row.get(1)?,
            cpu_peak_cores: row.get(2)?,
            cpu_p95_cores: row.get(3)?,
            cpu_request_cores: row.get(4)?,
            cpu_limit_cores: row.get(5)?,
            cpu_throttled_seconds: row.get(6)?,
            cpu_periods: count(row.get(7)?),
            cpu_throttled_periods: count(row.get(8)?),
            memory_peak_bytes: row.get(9)?,
            memory_p95_bytes: row.get(10)?,
            working_set_peak_bytes: row.get(11)?,
            cgroup_memory_peak_bytes: count(row.get(12)?),
            memory_request_bytes: count(row.get(13)?),
            memory_limit_bytes: count(row.get(14)?),
            oom_kills: count(row.get(15)?),
            cpu_bound_cores: row.get(16)?,
            memory_bound_bytes: count(row.get(17)?),
        })
    })?;
    rows.collect()
}

/// One run by its row.
pub(super) fn run(connection: &Connection, id: i64) -> rusqlite::Result<Option<WholeRun>> {
    let row = connection.prepare_cached(RUN)?.query_row([id], |row| {
        Ok(WholeRun {
            id,
            organization: row.get(0)?,
            repository: row.get(1)?,
            workflow: row.get(2)?,
            job: row.get(3)?,
            run_id: row.get(4)?,
            received_at: time(row.get(5)?),
            payload: row.get(6)?,
            sources: read::sources(row.get(7)?),
        })
    });
    row.optional()
}
