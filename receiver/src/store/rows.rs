//! Reads and writes rows of jobs and runs for the writer.

use rusqlite::{Connection, OptionalExtension, named_params, params};

use super::{NewRun, SummaryKey, containers};

/// A stored summary that a new one may replace.
pub(super) struct StoredSummary {
    /// Row id of its run.
    pub(super) id: i64,
    pub(super) seq: u64,
    pub(super) is_final: bool,
    pub(super) digest: [u8; 32],
    /// Start and end of its run, which may be joined from several summaries.
    pub(super) start_time_ms: i64,
    pub(super) end_time_ms: i64,
    /// Whether its run is joined from several summaries.
    pub(super) is_part: bool,
}

/// A summary by its `summary_id`: a run's own, or a part's.
pub(super) const STORED: &str = "
    SELECT id, seq, is_final, digest, start_time_ms, end_time_ms, 0 FROM runs WHERE job_id = ?1 AND summary_id = ?2
    UNION ALL
    SELECT runs.id, parts.seq, parts.is_final, parts.digest, start_time_ms, end_time_ms, 1
    FROM parts JOIN runs ON runs.id = parts.run WHERE parts.job_id = ?1 AND parts.summary_id = ?2";

pub(super) fn stored(
    connection: &Connection,
    job: i64,
    key: &SummaryKey,
) -> rusqlite::Result<Option<StoredSummary>> {
    let mut statement = connection.prepare_cached(STORED)?;
    let row = statement.query_row(params![job, key.summary_id], |row| {
        let seq: i64 = row.get(1)?;
        Ok(StoredSummary {
            id: row.get(0)?,
            seq: seq.cast_unsigned(),
            is_final: row.get(2)?,
            digest: row.get(3)?,
            start_time_ms: row.get(4)?,
            end_time_ms: row.get(5)?,
            is_part: row.get(6)?,
        })
    });
    row.optional()
}

/// Inserts the row of a new job.
pub(super) fn insert_job(connection: &Connection, run: &NewRun) -> rusqlite::Result<i64> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO jobs (organization, repository, workflow, job, run_count, last_run, last_received_at_ms)
         VALUES (?1, ?2, ?3, ?4, 0, 0, 0)",
    )?;
    statement.insert(run.scope.parts().map(|(_, part)| part))
}

/// Updates the counts and times in the row of a job, and marks its figures as stale.
pub(super) fn count(
    connection: &Connection,
    job: i64,
    more: i64,
    id: i64,
    run: &NewRun,
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "UPDATE jobs SET run_count = run_count + ?2, last_run = max(last_run, ?3),
             last_received_at_ms = max(last_received_at_ms, ?4), stale = stale + 1
         WHERE id = ?1",
    )?;
    statement.execute(params![job, more, id, run.received_at.as_millisecond()])?;
    Ok(())
}

/// Inserts a run. SQLite chooses the row id if none is given.
pub(super) fn insert_row(
    connection: &Connection,
    id: Option<i64>,
    job: i64,
    run: &NewRun,
) -> rusqlite::Result<i64> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO runs (id, job_id, run_id, run_attempt, summary_id, seq, is_final, complete, start_time_ms,
             end_time_ms, duration_seconds, cpu_seconds, received_at_ms, digest, payload, sources, ci)
         VALUES (:id, :job, :run_id, :run_attempt, :summary_id, :seq, :is_final, :complete, :start_time_ms,
             :end_time_ms, :duration_seconds, :cpu_seconds, :received_at_ms, :digest, :payload, :sources, :ci)",
    )?;
    let failed = |error| rusqlite::Error::ToSqlConversionFailure(Box::new(error));
    let sources = serde_json::to_string(&run.sources).map_err(failed)?;
    let ci = run.ci.as_ref().map(serde_json::to_string).transpose().map_err(failed)?;
    statement.execute(named_params! {
        ":id": id,
        ":job": job,
        ":run_id": run.run_id,
        ":run_attempt": run.run_attempt,
        ":summary_id": run.summary.as_ref().map(|key| &key.summary_id),
        ":seq": run.summary.as_ref().map(|key| key.seq.cast_signed()),
        ":is_final": run.is_final,
        ":complete": run.complete,
        ":start_time_ms": run.start_time.as_millisecond(),
        ":end_time_ms": run.end_time.as_millisecond(),
        ":duration_seconds": run.duration_seconds,
        ":cpu_seconds": run.cpu_seconds,
        ":received_at_ms": run.received_at.as_millisecond(),
        ":digest": run.digest,
        ":payload": run.payload,
        ":sources": (!run.sources.is_empty()).then_some(sources),
        ":ci": ci,
    })?;
    let id = connection.last_insert_rowid();
    containers::insert(connection, id, &run.containers)?;
    let mut seen =
        connection.prepare_cached("INSERT INTO seen (run, key, end_time_ms) VALUES (?1, ?2, ?3)")?;
    for place in &run.places {
        seen.execute(params![id, place.key, run.end_time.as_millisecond()])?;
    }
    Ok(id)
}
