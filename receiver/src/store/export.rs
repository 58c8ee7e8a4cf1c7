//! Exports all runs below a name, one page at a time. No read transaction is longer than a page, so that the
//! write-ahead log can be reset however slowly a client reads.

use jiff::Timestamp;
use rusqlite::{Connection, Row, named_params};

use super::catalog::{self, time};
use wire::{ContainerSummary, RunSummary, Scope};

use super::runs::WholeRun;
use super::{JobCursor, JobQuery, JobRow, JobSort, Within, containers, runs};

/// At most this many rows are read for one page.
const PAGE_ROWS: u32 = 256;
/// A page ends once its payloads have this many bytes.
const PAGE_BYTES: usize = 1 << 20;

/// The next runs of a job in order. Runs outside the interval are included without their payloads.
pub(super) const PAYLOADS: &str = "
    SELECT id, received_at_ms, run_id, iif(received_at_ms >= :since AND received_at_ms < :until, payload, NULL),
        sources
    FROM runs WHERE job_id = :job AND id > :after ORDER BY id LIMIT :limit";

/// The same without any payloads.
pub(super) const FIGURES: &str = "
    SELECT id, received_at_ms, run_id, run_attempt, is_final, complete, start_time_ms, end_time_ms, duration_seconds,
        cpu_seconds, received_at_ms >= :since AND received_at_ms < :until, ci
    FROM runs WHERE job_id = :job AND id > :after ORDER BY id LIMIT :limit";

/// What to export.
#[derive(Debug, Clone, Default)]
pub struct ExportQuery {
    /// Restriction to an organization, repository or workflow.
    pub within: Within,
    /// Only jobs whose `organization/repository/workflow/job` contains this text, ignoring case.
    pub search: Option<String>,
    /// Only runs that arrived at this time or later.
    pub since: Option<Timestamp>,
    /// Only runs that arrived before this time.
    pub until: Option<Timestamp>,
}

/// The position of an export.
#[derive(Debug, Clone, Default)]
pub struct ExportCursor {
    job: Option<JobRow>,
    run: i64,
}

/// A page of an export.
#[derive(Debug, Clone)]
pub struct ExportPage<T> {
    /// Runs, ordered by job and row id.
    pub runs: Vec<T>,
    /// Where the next page begins; `None` after the last one.
    pub next: Option<ExportCursor>,
}

/// A run without its payload, and the names of its job.
#[derive(Debug, Clone)]
pub struct ExportedFigures {
    /// The names of its job.
    pub scope: Scope,
    /// The run.
    pub run: RunSummary,
}

/// Runs with their payloads.
pub(super) fn payloads(
    connection: &Connection,
    query: &ExportQuery,
    cursor: ExportCursor,
) -> rusqlite::Result<ExportPage<WholeRun>> {
    page(connection, query, cursor, PAYLOADS, |job, row| {
        let Some(payload) = row.get::<_, Option<String>>(3)? else { return Ok(None) };
        let bytes = payload.len();
        let run = WholeRun {
            id: row.get(0)?,
            scope: job.scope.clone(),
            run_id: row.get(2)?,
            received_at: time(row.get(1)?),
            payload,
            sources: runs::sources(row.get(4)?),
        };
        Ok(Some((run, bytes)))
    })
}

/// Runs without their payloads.
pub(super) fn figures(
    connection: &Connection,
    query: &ExportQuery,
    cursor: ExportCursor,
) -> rusqlite::Result<ExportPage<ExportedFigures>> {
    page(connection, query, cursor, FIGURES, |job, row| {
        if !row.get::<_, bool>(10)? {
            return Ok(None);
        }
        let id = row.get(0)?;
        let containers = containers::select(connection, containers::OF_RUN, id)?;
        let bytes = containers.len() * size_of::<ContainerSummary>();
        let run = RunSummary {
            id,
            received_at: time(row.get(1)?),
            run_id: row.get(2)?,
            run_attempt: row.get(3)?,
            is_final: row.get(4)?,
            complete: row.get(5)?,
            start_time: time(row.get(6)?),
            end_time: time(row.get(7)?),
            duration_seconds: row.get(8)?,
            cpu_seconds: row.get(9)?,
            ci: runs::ci(row.get(11)?),
            containers,
        };
        let run = ExportedFigures { scope: job.scope.clone(), run };
        Ok(Some((run, bytes)))
    })
}

fn page<T>(
    connection: &Connection,
    query: &ExportQuery,
    mut cursor: ExportCursor,
    sql: &str,
    read: impl Fn(&JobRow, &Row<'_>) -> rusqlite::Result<Option<(T, usize)>>,
) -> rusqlite::Result<ExportPage<T>> {
    let mut page = ExportPage { runs: vec![], next: None };
    let (mut rows_left, mut bytes) = (PAGE_ROWS, 0);
    let mut statement = connection.prepare_cached(sql)?;
    while rows_left > 0 && bytes < PAGE_BYTES {
        let Some(job) = &cursor.job else {
            match next_job(connection, query, None)? {
                Some(job) => cursor.job = Some(job),
                None => return Ok(page),
            }
            continue;
        };
        let mut rows = statement.query(named_params! {
            ":job": job.id,
            ":after": cursor.run,
            ":since": query.since.map_or(i64::MIN, Timestamp::as_millisecond),
            ":until": query.until.map_or(i64::MAX, Timestamp::as_millisecond),
            ":limit": rows_left,
        })?;
        let mut ended = false;
        while rows_left > 0 && bytes < PAGE_BYTES && !ended {
            match rows.next()? {
                Some(row) => {
                    cursor.run = row.get(0)?;
                    rows_left -= 1;
                    if let Some((run, size)) = read(job, row)? {
                        bytes += size;
                        page.runs.push(run);
                    }
                }
                None => ended = true,
            }
        }
        if ended {
            match next_job(connection, query, Some(job))? {
                Some(next) => cursor = ExportCursor { job: Some(next), run: 0 },
                None => return Ok(page),
            }
        }
    }
    page.next = Some(cursor);
    Ok(page)
}

/// The next job by name. Continues after the last job even if that job is gone.
fn next_job(
    connection: &Connection,
    query: &ExportQuery,
    last: Option<&JobRow>,
) -> rusqlite::Result<Option<JobRow>> {
    let sort = JobSort::Name;
    let after: Option<JobCursor> = last.map(|last| sort.cursor(last));
    let query = JobQuery {
        within: query.within.clone(),
        search: query.search.clone(),
        since: query.since,
        sort,
        after,
        limit: 1,
    };
    Ok(catalog::jobs(connection, &query)?.pop())
}
