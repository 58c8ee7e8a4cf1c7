//! The database. This is the only module that knows SQL.
//!
//! One thread owns the connection that writes; readers have connections of their own. A write is answered only after
//! its transaction has been committed with `synchronous=FULL`: what was answered is on disk.

mod catalog;
mod containers;
mod deferred;
mod error;
mod export;
mod health;
mod integrity;
mod parts;
mod received;
mod retention;
mod rows;
mod runs;
mod schema;
mod sizing_input;
mod summaries;
mod totals;
mod wal;
mod write;

pub mod backup;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::{Semaphore, mpsc, oneshot};
use wire::{CiContext, ContainerSummary, RunSummary, Scope, Source};

pub use self::catalog::{JobCursor, JobQuery, JobRow, JobSort, NameLevel, NameQuery, NameRow, Within};
use self::deferred::Deferred;
pub use self::error::{Cause, StoreError};
pub use self::export::{ExportCursor, ExportPage, ExportQuery, ExportedFigures};
use self::health::Health;
pub use self::integrity::OpenError;
pub use self::received::{Place, Received};
pub use self::retention::Deleted;
pub use self::runs::{RunFilter, RunQuery, WholeRun};
pub use self::sizing_input::{CompleteRun, HistoryQuery, JobHistory, JobState, StaleJob, StoredFigures};
pub use self::summaries::SummaryQuery;
pub use self::totals::Sums;
use self::write::{Insert, WriteRequest, Writer};

/// At most this many writes may be queued. Beyond that, clients must try again later.
const QUEUE: usize = 1024;
/// Maximum number of concurrent queries.
const READERS: usize = 4;
/// Time limit of a query: while it reads, the write-ahead log cannot be reset and grows.
const READ_TIME: Duration = Duration::from_secs(10);
/// The time limit is checked after this many steps of SQLite's virtual machine, about 100 µs.
const STEPS: i32 = 10_000;

/// The database.
#[derive(Debug, Clone)]
pub struct Store {
    writes: mpsc::Sender<WriteRequest>,
    readers: Arc<Readers>,
    health: Arc<Health>,
}

/// Ends the writing thread and closes the database.
#[derive(Debug)]
pub struct Closer {
    writer: JoinHandle<()>,
}

#[derive(Debug)]
struct Readers {
    path: PathBuf,
    /// Time limit of a query.
    time: Duration,
    connections: Mutex<Vec<rusqlite::Connection>>,
    permits: Arc<Semaphore>,
}

/// A summary to be stored.
#[derive(Debug, Clone)]
pub struct NewRun {
    /// The names of the job, all four parts.
    pub scope: Scope,
    /// The CI system's identifier of the run.
    pub run_id: String,
    /// Which attempt.
    pub run_attempt: Option<u32>,
    /// Identifies the summary: an id that the collector makes once per run, and a sequence number.
    pub summary: Option<SummaryKey>,
    /// Whether it is the run's last summary.
    pub is_final: bool,
    /// Whether it covers the whole run.
    pub complete: Option<bool>,
    /// When measuring began.
    pub start_time: Timestamp,
    /// When measuring ended.
    pub end_time: Timestamp,
    /// How long it was measured.
    pub duration_seconds: f64,
    /// Total CPU time.
    pub cpu_seconds: Option<f64>,
    /// What the CI system says about it.
    pub ci: Option<CiContext>,
    /// When the summary arrived.
    pub received_at: Timestamp,
    /// SHA-256 of the body, to distinguish a repeat from a conflict.
    pub digest: [u8; 32],
    /// The payload as received.
    pub payload: String,
    /// What its containers used.
    pub containers: Vec<ContainerSummary>,
    /// The collectors that measured it.
    pub sources: Vec<Source>,
    /// Keys to find other summaries of the same containers; empty if there can be none.
    pub places: Vec<Place>,
}

/// Sizes of the database's files, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// The database.
    pub database: u64,
    /// Its write-ahead log.
    pub log: u64,
}

/// How much is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    /// Jobs.
    pub jobs: i64,
    /// Runs.
    pub runs: i64,
}

/// Identifies a summary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SummaryKey {
    /// The same for all summaries of a run.
    pub summary_id: String,
    /// Sequence number within the run.
    pub seq: u64,
}

/// What happened to a summary, and the row id of its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was stored in a new row.
    Created(i64),
    /// It replaced an earlier summary of its run.
    Replaced(i64),
    /// It was joined to a run that another collector had already reported. The row now holds the better figures of
    /// both.
    Joined(i64),
    /// It was already stored.
    Repeated(i64),
    /// It was not stored: the row of its run holds a later summary.
    Superseded(i64),
    /// It was not stored: a different summary has its sequence number.
    Conflict,
}

impl Store {
    /// Opens the database, or creates it.
    pub fn open(path: &Path) -> Result<(Self, Closer), OpenError> {
        let writer = schema::open_for_writing(path)?;
        let readers = (0..READERS).map(|_| schema::open_for_reading(path)).collect::<Result<Vec<_>, _>>()?;
        let (writes, queue) = mpsc::channel(QUEUE);
        let health = Arc::<Health>::default();
        let writer = Writer::new(path, writer, Arc::clone(&health));
        let writer = std::thread::Builder::new()
            .name("writer".to_owned())
            .spawn(move || writer.run(queue))
            .map_err(|error| OpenError::Thread(error.to_string()))?;
        let readers = Readers {
            path: path.to_owned(),
            time: READ_TIME,
            connections: Mutex::new(readers),
            permits: Arc::new(Semaphore::new(READERS)),
        };
        Ok((Self { writes, readers: Arc::new(readers), health }, Closer { writer }))
    }

    /// Stores a summary. Once it is queued, it is stored even if nobody waits for the answer any more.
    pub async fn insert(&self, run: NewRun) -> Result<Outcome, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(WriteRequest::Insert(Box::new(Insert { run, reply })))?;
        answer.await.unwrap_or_else(|_| Err(StoreError::Failed("the writer has ended".to_owned())))
    }

    /// Runs `work` in a transaction of its own, once no push is waiting, or after a second. It should take a few
    /// milliseconds: a push that arrives meanwhile waits for it. If the future is dropped before its turn, the work is
    /// not done.
    pub(crate) async fn background<T: Send + 'static>(
        &self,
        work: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (work, answer) = Deferred::new(work);
        self.send(WriteRequest::Deferred(work))?;
        answer.await.unwrap_or_else(|_| Err(StoreError::Failed("the writer has ended".to_owned())))
    }

    fn send(&self, command: WriteRequest) -> Result<(), StoreError> {
        self.writes.try_send(command).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => StoreError::Busy,
            mpsc::error::TrySendError::Closed(_) => StoreError::Failed("the writer has ended".to_owned()),
        })
    }

    /// The runs of a job, newest first.
    pub async fn runs(&self, query: RunQuery) -> Result<Vec<WholeRun>, StoreError> {
        self.read(move |connection| runs::runs(connection, &query)).await
    }

    /// The last complete runs of a job, or of each job of a workflow or repository.
    pub async fn history(&self, query: HistoryQuery) -> Result<Vec<JobHistory>, StoreError> {
        self.read(move |connection| sizing_input::of_scope(connection, &query)).await
    }

    /// How many jobs there are in a repository or workflow.
    pub async fn count_jobs(&self, scope: Scope) -> Result<usize, StoreError> {
        self.read(move |connection| sizing_input::count_jobs(connection, &scope)).await
    }

    /// Jobs whose figures must be recomputed, with their last complete runs.
    pub(crate) async fn stale_jobs(
        &self,
        after: i64,
        jobs: u32,
        runs: u32,
    ) -> Result<Vec<StaleJob>, StoreError> {
        self.read(move |connection| sizing_input::stale(connection, after, jobs, runs)).await
    }

    /// Stores the figures of jobs. Jobs that changed meanwhile remain stale.
    pub(crate) async fn store_figures(&self, figures: Vec<StoredFigures>) -> Result<(), StoreError> {
        self.background(move |connection| sizing_input::store_figures(connection, &figures)).await
    }

    /// The jobs that match a query.
    pub async fn jobs(&self, query: JobQuery) -> Result<Vec<JobRow>, StoreError> {
        self.read(move |connection| catalog::jobs(connection, &query)).await
    }

    /// Sums over all jobs below a name.
    pub async fn sums(&self, within: Within) -> Result<Sums, StoreError> {
        self.read(move |connection| totals::totals(connection, &within)).await
    }

    /// One job by all four parts; `None` if it does not exist.
    pub async fn job(&self, scope: Scope) -> Result<Option<JobRow>, StoreError> {
        self.read(move |connection| catalog::job(connection, &scope)).await
    }

    /// Organizations, repositories or workflows, by name.
    pub async fn names(&self, query: NameQuery) -> Result<Vec<NameRow>, StoreError> {
        self.read(move |connection| catalog::names(connection, &query)).await
    }

    /// The runs of a job without their payloads, newest first; `None` if there is no such job.
    pub async fn summaries(&self, query: SummaryQuery) -> Result<Option<Vec<RunSummary>>, StoreError> {
        self.read(move |connection| summaries::page(connection, &query)).await
    }

    /// One run by its row id; `None` if it does not exist.
    pub async fn run(&self, id: i64) -> Result<Option<WholeRun>, StoreError> {
        self.read(move |connection| summaries::run(connection, id)).await
    }

    /// The next runs with their payloads.
    pub async fn export_payloads(
        &self,
        query: ExportQuery,
        cursor: ExportCursor,
    ) -> Result<ExportPage<WholeRun>, StoreError> {
        self.read(move |connection| export::payloads(connection, &query, cursor)).await
    }

    /// The next runs without their payloads.
    pub async fn export_figures(
        &self,
        query: ExportQuery,
        cursor: ExportCursor,
    ) -> Result<ExportPage<ExportedFigures>, StoreError> {
        self.read(move |connection| export::figures(connection, &query, cursor)).await
    }

    /// Jobs with too many runs, or with one that is too old, in the order of their row ids after `after`.
    pub(crate) async fn jobs_beyond(
        &self,
        after: i64,
        limit: u32,
        keep: Option<u32>,
        cutoff: Option<Timestamp>,
    ) -> Result<Vec<i64>, StoreError> {
        self.read(move |connection| retention::jobs_beyond(connection, after, limit, keep, cutoff)).await
    }

    /// Deletes those of a job's `piece` oldest runs that are too old or too many.
    pub(crate) async fn delete_runs(
        &self,
        job: i64,
        piece: u32,
        keep: Option<u32>,
        cutoff: Option<Timestamp>,
    ) -> Result<Deleted, StoreError> {
        self.background(move |connection| retention::delete(connection, job, piece, keep, cutoff)).await
    }

    /// Number of queued writes.
    pub fn queue_length(&self) -> usize {
        QUEUE - self.writes.capacity()
    }

    /// Sizes of the files; 0 for a file that does not exist.
    pub fn sizes(&self) -> Sizes {
        let size = |path: &Path| path.metadata().map_or(0, |metadata| metadata.len());
        let database = &self.readers.path;
        Sizes { database: size(database), log: size(&wal::path_of(database)) }
    }

    /// How much is stored.
    pub async fn totals(&self) -> Result<Totals, StoreError> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(catalog::TOTALS)?;
            statement
                .query_row([], |row| Ok(Totals { jobs: row.get(0)?, runs: row.get::<_, f64>(1)? as i64 }))
        })
        .await
    }

    /// Checks that the database answers and that the writer is alive, and tries a write if the last one failed.
    ///
    /// A receiver that is not ready gets no pushes, and only a write can show that the database works again. So this
    /// tries one itself.
    pub async fn check(&self) -> Result<(), StoreError> {
        if self.writes.is_closed() {
            return Err(StoreError::Failed("the writer has ended".to_owned()));
        }
        if let Some((error, probe)) = self.health.not_writable() {
            let Some(probe) = probe else { return Err(error) };
            let database = self.readers.path.clone();
            self.background(move |connection| probe.run(connection, &database)).await?;
            self.health.is_writable();
        }
        self.read(|connection| connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())))
            .await
    }

    async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let readers = Arc::clone(&self.readers);
        let health = Arc::clone(&self.health);
        let failed = |what: &str| StoreError::Failed(what.to_owned());
        let permit = Arc::clone(&self.readers.permits).acquire_owned().await;
        let permit = permit.map_err(|_| failed("the readers have ended"))?;
        let result = tokio::task::spawn_blocking(move || {
            // Held as long as the connection is in use: the caller may be gone before the query ends.
            let _permit = permit;
            let pop = || readers.connections.lock().ok()?.pop();
            // A failed connection is not put back. Open a new one in its place.
            let mut connection = match pop() {
                Some(connection) => connection,
                None => schema::open_for_reading(&readers.path)?,
            };
            let end = Instant::now() + readers.time;
            connection.progress_handler(STEPS, Some(move || Instant::now() > end))?;
            let result = query(&connection).map_err(StoreError::from);
            if matches!(&result, Err(failure) if failure.breaks_connection()) {
                return result;
            }
            if let Ok(mut connections) = readers.connections.lock() {
                connections.push(connection);
            }
            result
        });
        let result = result.await.map_err(|error| failed(&error.to_string()))?;
        health.read(result.as_ref());
        result
    }
}

impl Closer {
    /// Waits until every [`Store`] is dropped and all queued writes are stored, and closes the database.
    pub fn close(self) {
        if self.writer.join().is_err() {
            tracing::error!("the writer ended in a panic");
        }
    }
}

#[cfg(test)]
mod tests;
