//! Deletion of runs, in small batches.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, named_params, params};

/// Jobs with too many runs, or whose oldest run is too old.
pub(super) const JOBS_BEYOND: &str = "
    SELECT id FROM jobs WHERE id > :after AND (
        run_count > :keep OR
        (SELECT received_at_ms FROM runs WHERE job_id = jobs.id ORDER BY runs.id LIMIT 1) < :cutoff
    ) ORDER BY id LIMIT :limit";

/// The oldest runs of a job.
pub(super) const OLDEST: &str = "SELECT id, received_at_ms FROM runs WHERE job_id = ?1 ORDER BY id LIMIT ?2";

/// The row id of the newest run of a job.
pub(super) const NEWEST: &str = "SELECT max(id) FROM runs WHERE job_id = ?1";

/// The result of deleting runs of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deleted {
    /// How many runs.
    pub runs: u64,
    /// Whether there may be more to delete.
    pub more: bool,
}

pub(super) fn jobs_beyond(
    connection: &Connection,
    after: i64,
    limit: u32,
    keep: Option<u32>,
    cutoff: Option<Timestamp>,
) -> rusqlite::Result<Vec<i64>> {
    let mut statement = connection.prepare_cached(JOBS_BEYOND)?;
    let parameters = named_params! {
        ":after": after,
        ":limit": limit,
        ":keep": keep.map_or(i64::MAX, i64::from),
        ":cutoff": cutoff.map_or(i64::MIN, Timestamp::as_millisecond),
    };
    let jobs = statement.query_map(parameters, |row| row.get(0))?;
    jobs.collect()
}

/// Deletes those of a job's `piece` oldest runs that are too old or too many. A job without runs is deleted, too.
pub(super) fn delete(
    connection: &Connection,
    job: i64,
    piece: u32,
    keep: Option<u32>,
    cutoff: Option<Timestamp>,
) -> rusqlite::Result<Deleted> {
    let mut count = connection.prepare_cached("SELECT run_count FROM jobs WHERE id = ?1")?;
    let count: Option<i64> = count.query_row([job], |row| row.get(0)).optional()?;
    let Some(count) = count else { return Ok(Deleted { runs: 0, more: false }) };
    let beyond = keep.map_or(0, |keep| count - i64::from(keep));
    let cutoff = cutoff.map_or(i64::MIN, Timestamp::as_millisecond);
    let mut oldest = connection.prepare_cached(OLDEST)?;
    let oldest = oldest.query_map(params![job, piece], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let oldest = oldest.collect::<rusqlite::Result<Vec<(i64, i64)>>>()?;
    let looked_at = oldest.len();
    let too_many = |at: usize| (at as i64) < beyond;
    let gone =
        oldest.into_iter().enumerate().filter(|(at, (_, received))| too_many(*at) || *received < cutoff);
    let mut delete = connection.prepare_cached("DELETE FROM runs WHERE id = ?1")?;
    let mut runs = 0;
    for (_, (id, _)) in gone {
        delete.execute([id])?;
        runs += 1;
    }
    if runs > 0 {
        forget(connection, job, runs)?;
    }
    let more = runs == looked_at as i64 && looked_at == piece as usize;
    Ok(Deleted { runs: runs.cast_unsigned(), more })
}

/// Updates the row of a job after this many of its runs were deleted.
fn forget(connection: &Connection, job: i64, runs: i64) -> rusqlite::Result<()> {
    let newest: Option<i64> = connection.prepare_cached(NEWEST)?.query_row([job], |row| row.get(0))?;
    match newest {
        Some(newest) => connection
            .prepare_cached(
                "UPDATE jobs SET run_count = run_count - ?2, last_run = ?3, stale = stale + 1 WHERE id = ?1",
            )?
            .execute(params![job, runs, newest])?,
        None => connection.prepare_cached("DELETE FROM jobs WHERE id = ?1")?.execute([job])?,
    };
    Ok(())
}
