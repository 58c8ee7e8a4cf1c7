//! The runs that recommendations are made from, and the figures of jobs that are computed from them.

use jiff::Timestamp;
use rusqlite::{Connection, Row, named_params, params};
use wire::{ContainerSummary, RunResult, Scope};

use super::containers;
use super::runs::{RunFilter, with_filter};

/// The jobs of a repository that ran last.
pub(super) const JOBS: &str = "
    SELECT id, workflow, job FROM jobs WHERE organization = :organization AND repository = :repository
    ORDER BY last_run DESC LIMIT :limit";

/// The jobs of a workflow that ran last.
pub(super) const JOBS_OF_WORKFLOW: &str = "
    SELECT id, workflow, job FROM jobs
    WHERE organization = :organization AND repository = :repository AND workflow = :workflow
    ORDER BY last_run DESC LIMIT :limit";

/// One job.
pub(super) const JOB: &str = "
    SELECT id, workflow, job FROM jobs
    WHERE organization = :organization AND repository = :repository AND workflow = :workflow AND job = :job
    LIMIT :limit";

/// Counts the jobs of a repository or workflow, or one job.
const COUNT: &str = "
    SELECT count(*) FROM jobs WHERE organization = ?1 AND repository = ?2
    AND (?3 IS NULL OR workflow = ?3) AND (?4 IS NULL OR job = ?4)";

/// The last complete runs of a job, newest first.
pub(super) const RUNS: &str = with_filter!(
    "SELECT id, run_id, duration_seconds, cpu_seconds, received_at_ms, result FROM runs
     WHERE job_id = :job AND is_final = 1 AND complete IS NOT 0 AND received_at_ms >= :since"
);

/// Results of runs that may not have done all of their work.
const FAILED: [&str; 2] = [RunResult::Failure.name(), RunResult::Cancelled.name()];

/// Jobs whose figures must be recomputed.
pub(super) const STALE: &str = "
    SELECT id, stale, run_count, last_run FROM jobs WHERE stale > 0 AND id > ?1 ORDER BY id LIMIT ?2";

/// A run that was measured as a whole, by its last summary.
#[derive(Debug, Clone, PartialEq)]
pub struct CompleteRun {
    /// Row id.
    pub id: i64,
    /// Row id of its job.
    pub job_id: i64,
    /// The CI system's identifier of the run.
    pub run_id: String,
    /// How long it was measured.
    pub duration_seconds: f64,
    /// Total CPU time.
    pub cpu_seconds: Option<f64>,
    /// When its last summary arrived.
    pub received_at: Timestamp,
    /// Whether the job did not end well, so that it may not have done all of its work.
    pub failed: bool,
    /// Its containers.
    pub containers: Vec<ContainerSummary>,
}

/// Which jobs, and how many runs of each.
#[derive(Debug, Clone)]
pub struct HistoryQuery {
    /// A job, workflow or repository.
    pub scope: Scope,
    /// At most this many jobs, those that ran last.
    pub jobs: u32,
    /// At most this many complete runs of each job, the last ones.
    pub runs: u32,
    /// Only runs that arrived at this time or later.
    pub since: Option<Timestamp>,
    /// Only runs about which the CI system said this.
    pub filter: RunFilter,
}

/// The last complete runs of a job.
#[derive(Debug, Clone, PartialEq)]
pub struct JobHistory {
    /// Row id.
    pub id: i64,
    /// Workflow.
    pub workflow: String,
    /// Job.
    pub job: String,
    /// Its runs, newest first.
    pub runs: Vec<CompleteRun>,
}

/// A job as it was when its runs were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobState {
    /// Row id.
    pub id: i64,
    /// Changes since its figures were computed.
    pub stale: i64,
    /// Number of stored runs.
    pub run_count: i64,
    /// Row id of its newest run.
    pub last_run: i64,
}

/// A job whose figures must be recomputed.
#[derive(Debug, Clone, PartialEq)]
pub struct StaleJob {
    /// The state before its runs were read: a summary that is stored during the read keeps the job stale.
    pub state: JobState,
    /// Its last complete runs, newest first.
    pub runs: Vec<CompleteRun>,
}

/// The figures computed from a job's last runs.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredFigures {
    /// The job as it was when its runs were read.
    pub state: JobState,
    /// All figures, as JSON.
    pub figures: String,
    /// Sort key of lists of jobs: how much is over-requested.
    pub waste: f64,
    /// Sort key of lists of jobs: how close the job is to its limits.
    pub risk: f64,
}

pub(super) fn of_scope(connection: &Connection, query: &HistoryQuery) -> rusqlite::Result<Vec<JobHistory>> {
    let scope = &query.scope;
    let sql = match (scope.workflow(), scope.job()) {
        (_, Some(_)) => JOB,
        (Some(_), None) => JOBS_OF_WORKFLOW,
        (None, None) => JOBS,
    };
    let mut statement = connection.prepare_cached(sql)?;
    for (name, value) in [
        (":organization", Some(scope.organization())),
        (":repository", scope.repository()),
        (":workflow", scope.workflow()),
        (":job", scope.job()),
    ] {
        if let Some(index) = statement.parameter_index(name)? {
            statement.raw_bind_parameter(index, value)?;
        }
    }
    if let Some(index) = statement.parameter_index(":limit")? {
        statement.raw_bind_parameter(index, query.jobs)?;
    }
    let job = |row: &Row<'_>| {
        Ok(JobHistory { id: row.get(0)?, workflow: row.get(1)?, job: row.get(2)?, runs: Vec::new() })
    };
    let mut jobs: Vec<JobHistory> = statement.raw_query().mapped(job).collect::<rusqlite::Result<_>>()?;
    for job in &mut jobs {
        job.runs = runs(connection, job.id, query.since, &query.filter, query.runs)?;
    }
    Ok(jobs)
}

pub(super) fn count_jobs(connection: &Connection, scope: &Scope) -> rusqlite::Result<usize> {
    let parts = scope.parts().map(|(_, part)| part);
    connection.prepare_cached(COUNT)?.query_row(parts, |row| row.get::<_, u32>(0)).map(|count| count as usize)
}

/// Stale jobs, in the order of their row ids after `after`.
pub(super) fn stale(
    connection: &Connection,
    after: i64,
    jobs: u32,
    runs_of_each: u32,
) -> rusqlite::Result<Vec<StaleJob>> {
    let mut statement = connection.prepare_cached(STALE)?;
    let state = |row: &Row<'_>| {
        Ok(JobState { id: row.get(0)?, stale: row.get(1)?, run_count: row.get(2)?, last_run: row.get(3)? })
    };
    let states: Vec<JobState> =
        statement.query_map(params![after, jobs], state)?.collect::<rusqlite::Result<_>>()?;
    let all = RunFilter::default();
    let job =
        |state: JobState| Ok(StaleJob { state, runs: runs(connection, state.id, None, &all, runs_of_each)? });
    states.into_iter().map(job).collect()
}

/// The last complete runs of a job, newest first.
fn runs(
    connection: &Connection,
    job: i64,
    since: Option<Timestamp>,
    filter: &RunFilter,
    limit: u32,
) -> rusqlite::Result<Vec<CompleteRun>> {
    let since = since.map_or(i64::MIN, Timestamp::as_millisecond);
    let mut statement = connection.prepare_cached(RUNS)?;
    let parameters = named_params! { ":job": job, ":since": since, ":limit": limit };
    let rows = statement.query_map(filter.with(parameters).as_slice(), |row| {
        Ok(CompleteRun {
            id: row.get(0)?,
            job_id: job,
            run_id: row.get(1)?,
            duration_seconds: row.get(2)?,
            cpu_seconds: row.get(3)?,
            received_at: Timestamp::from_millisecond(row.get(4)?).unwrap_or_default(),
            failed: row.get::<_, Option<String>>(5)?.is_some_and(|result| FAILED.contains(&result.as_str())),
            containers: Vec::new(),
        })
    })?;
    let mut runs: Vec<CompleteRun> = rows.collect::<rusqlite::Result<_>>()?;
    for run in &mut runs {
        run.containers = containers::select(connection, containers::WITH_HISTOGRAMS, run.id)?;
    }
    Ok(runs)
}

/// Stores figures. A job that changed since its state was read remains stale.
pub(super) fn store_figures(connection: &Connection, figures: &[StoredFigures]) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "UPDATE jobs SET figures = :figures, waste = :waste, risk = :risk,
             stale = CASE WHEN stale = :stale AND run_count = :run_count AND last_run = :last_run THEN 0 ELSE stale END
         WHERE id = :id",
    )?;
    for StoredFigures { state, figures, waste, risk } in figures {
        statement.execute(named_params! {
            ":id": state.id,
            ":figures": figures,
            ":waste": waste,
            ":risk": risk,
            ":stale": state.stale,
            ":run_count": state.run_count,
            ":last_run": state.last_run,
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
