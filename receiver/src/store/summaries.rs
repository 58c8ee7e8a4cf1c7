//! Runs without their payloads, and one run with it.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, named_params};
use wire::Scope;

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
        cgroup_memory_peak_bytes, memory_request_bytes, memory_limit_bytes, oom_kills
    FROM containers WHERE run = ?1 ORDER BY position";

/// One run.
pub(super) const RUN: &str = "
    SELECT organization, repository, workflow, job, run_id, received_at_ms, payload
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

/// A run without its payload.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RunFigures {
    /// Row.
    pub id: i64,
    /// The CI system's identifier of the run.
    pub run_id: String,
    /// Which attempt at it.
    pub run_attempt: Option<u32>,
    /// Whether its last summary has come.
    pub is_final: bool,
    /// Whether it is the whole run.
    pub complete: Option<bool>,
    /// When measuring began.
    pub start_time: Timestamp,
    /// When it ended.
    pub end_time: Timestamp,
    /// For how long.
    pub duration_seconds: f64,
    /// CPU time in all.
    pub cpu_seconds: Option<f64>,
    /// When it came.
    pub received_at: Timestamp,
    /// Its containers, in the order of the payload.
    pub containers: Vec<ContainerFigures>,
}

/// What a container of a run used.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ContainerFigures {
    /// Its name.
    pub name: String,
    /// CPU time charged to it.
    pub cpu_seconds: Option<f64>,
    /// Highest CPU use.
    pub cpu_peak_cores: f64,
    /// 95th percentile of CPU use.
    pub cpu_p95_cores: Option<f64>,
    /// CPU request.
    pub cpu_request_cores: Option<f64>,
    /// CPU limit.
    pub cpu_limit_cores: Option<f64>,
    /// Time for which it was throttled.
    pub cpu_throttled_seconds: Option<f64>,
    /// Enforcement periods.
    pub cpu_periods: Option<u64>,
    /// Those of them in which it was throttled.
    pub cpu_throttled_periods: Option<u64>,
    /// Highest sum of RSS.
    pub memory_peak_bytes: f64,
    /// 95th percentile of the sum of RSS.
    pub memory_p95_bytes: Option<f64>,
    /// Highest working set.
    pub working_set_peak_bytes: Option<f64>,
    /// The cgroup's own peak, page cache included.
    pub cgroup_memory_peak_bytes: Option<u64>,
    /// Memory request.
    pub memory_request_bytes: Option<u64>,
    /// Memory limit.
    pub memory_limit_bytes: Option<u64>,
    /// Processes killed for want of memory.
    pub oom_kills: Option<u64>,
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
    /// The payload as it came.
    pub payload: String,
}

/// `None` if there is no such job.
pub(super) fn page(
    connection: &Connection,
    query: &SummaryQuery,
) -> rusqlite::Result<Option<Vec<RunFigures>>> {
    let Some(job) = read::job(connection, &query.scope)? else { return Ok(None) };
    let mut statement = connection.prepare_cached(PAGE)?;
    let parameters = named_params! {
        ":job": job,
        ":before": query.before.unwrap_or(i64::MAX),
        ":limit": query.limit,
    };
    let rows = statement.query_map(parameters, |row| {
        Ok(RunFigures {
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
pub(super) fn containers(connection: &Connection, run: i64) -> rusqlite::Result<Vec<ContainerFigures>> {
    let mut statement = connection.prepare_cached(CONTAINERS)?;
    let count = |value: Option<i64>| value.map(i64::cast_unsigned);
    let rows = statement.query_map([run], |row| {
        Ok(ContainerFigures {
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
        })
    });
    row.optional()
}
