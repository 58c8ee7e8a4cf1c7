//! Named queries.

use jiff::Timestamp;
use rusqlite::{Connection, ToSql, named_params};
use wire::Scope;

/// The runs of a job, newest first; what is `None` does not restrict.
pub(super) const RUNS: &str = "
    SELECT id, organization, repository, workflow, job, run_id, received_at_ms, payload FROM runs
    WHERE organization = :organization AND repository = :repository AND workflow = :workflow AND job = :job
      AND id < :before AND received_at_ms >= :since AND received_at_ms < :until
    ORDER BY id DESC LIMIT :limit";

/// Those with one run id.
pub(super) const RUNS_WITH_ID: &str = "
    SELECT id, organization, repository, workflow, job, run_id, received_at_ms, payload FROM runs
    WHERE organization = :organization AND repository = :repository AND workflow = :workflow AND job = :job
      AND run_id = :run_id AND id < :before AND received_at_ms >= :since AND received_at_ms < :until
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
    /// Organization.
    pub organization: String,
    /// Repository without its organization.
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

pub(super) fn runs(connection: &Connection, query: &RunQuery) -> rusqlite::Result<Vec<RunRow>> {
    let [organization, repository, workflow, job] = query.scope.parts().map(|(_, part)| part);
    let before = query.before.unwrap_or(i64::MAX);
    let since = query.since.map_or(i64::MIN, Timestamp::as_millisecond);
    let until = query.until.map_or(i64::MAX, Timestamp::as_millisecond);
    let parameters = named_params! {
        ":organization": organization,
        ":repository": repository,
        ":workflow": workflow,
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
            organization: row.get(1)?,
            repository: row.get(2)?,
            workflow: row.get(3)?,
            job: row.get(4)?,
            run_id: row.get(5)?,
            received_at: Timestamp::from_millisecond(row.get(6)?).unwrap_or_default(),
            payload: row.get(7)?,
        })
    })?;
    rows.collect()
}
