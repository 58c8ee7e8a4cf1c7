//! The thread that writes.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, error};

use super::deferred::Deferred;
use super::health::Health;
use super::rows::{count, insert_job, insert_row, stored};
use super::wal::Wal;
use super::{NewRun, Outcome, StoreError, parts, runs, schema};

/// At most this many writes share a transaction.
const MAX_BATCH: usize = 256;

/// Background work waits until no push is waiting, but no longer than this: each piece of it is small.
const BACKGROUND_PATIENCE: Duration = Duration::from_secs(1);

/// A request to the writer.
#[derive(Debug)]
pub(super) enum WriteRequest {
    /// A summary. The sender waits until it is on disk.
    Insert(Box<Insert>),
    /// Background work.
    Deferred(Deferred),
}

/// A summary, and the channel for its outcome.
#[derive(Debug)]
pub(super) struct Insert {
    pub(super) run: NewRun,
    pub(super) reply: oneshot::Sender<Result<Outcome, StoreError>>,
}

/// The state of the writing thread.
#[derive(Debug)]
pub(super) struct Writer {
    path: PathBuf,
    /// `None` after a failure: a connection's view of a disk that failed cannot be trusted.
    connection: Option<Connection>,
    wal: Wal,
    health: Arc<Health>,
}

impl Writer {
    pub(super) fn new(path: &Path, connection: Connection, health: Arc<Health>) -> Self {
        Self { path: path.to_owned(), connection: Some(connection), wal: Wal::default(), health }
    }

    /// Writes until every sender is gone.
    ///
    /// Requests that arrive while one batch is written to disk form the next batch, so that none waits longer than it
    /// must.
    pub(super) fn run(mut self, mut queue: mpsc::Receiver<WriteRequest>) {
        let mut batch = Vec::new();
        let mut waiting: VecDeque<(Instant, Deferred)> = VecDeque::new();
        loop {
            let first = if waiting.is_empty() { queue.blocking_recv() } else { queue.try_recv().ok() };
            if first.is_none() && waiting.is_empty() {
                break;
            }
            let rest = std::iter::from_fn(|| queue.try_recv().ok());
            for command in first.into_iter().chain(rest).take(MAX_BATCH) {
                match command {
                    WriteRequest::Insert(insert) => batch.push(*insert),
                    WriteRequest::Deferred(work) => waiting.push_back((Instant::now(), work)),
                }
            }
            let idle = batch.is_empty();
            if !idle {
                self.store(&mut batch);
            }
            let due = waiting.front().is_some_and(|(since, _)| idle || since.elapsed() > BACKGROUND_PATIENCE);
            if due && let Some((_, work)) = waiting.pop_front() {
                self.work(work);
            }
            if let Some(connection) = &self.connection {
                self.wal.after_batch(connection);
            }
        }
        let close = "PRAGMA wal_checkpoint(TRUNCATE); PRAGMA optimize;";
        if let Some(Err(failed)) = self.connection.map(|connection| connection.execute_batch(close)) {
            error!(error = %failed, "cannot empty the write-ahead log; the next start will do it");
        }
    }

    /// Stores a batch of summaries and sends the outcomes.
    fn store(&mut self, batch: &mut Vec<Insert>) {
        let results = self.with_connection(|connection| write(connection, batch));
        debug!(writes = batch.len(), "batch");
        let bytes = batch.iter().map(|insert| insert.run.payload.len()).max().unwrap_or(0) as u64;
        let unusable = |result: &Result<Outcome, StoreError>| {
            result.as_ref().err().filter(|failed| matches!(failed, StoreError::Unusable { .. })).cloned()
        };
        match &results {
            Ok(outcomes) => match outcomes.iter().find_map(unusable) {
                Some(failed) => self.health.wrote(Err::<(), _>(&failed), bytes),
                None => self.health.wrote(Ok(()), bytes),
            },
            Err(failed) => self.health.wrote(Err::<(), _>(failed), bytes),
        }
        if let Err(failed @ StoreError::Failed(_)) = &results {
            error!(error = %failed, writes = batch.len(), "a batch could not be stored");
        }
        for (index, insert) in batch.drain(..).enumerate() {
            let result = match &results {
                Ok(outcomes) => outcomes[index].clone(),
                Err(failed) => Err(failed.clone()),
            };
            if let (Ok(_), Err(failed @ StoreError::Failed(_))) = (&results, &result) {
                error!(error = %failed, "a summary could not be stored");
            }
            // The caller may be gone. The summary is stored nevertheless.
            let _ = insert.reply.send(result);
        }
    }

    /// Does a piece of background work in a transaction of its own, unless nobody waits for it any more.
    fn work(&mut self, mut work: Deferred) {
        if work.is_abandoned() {
            return;
        }
        let result = self.with_connection(|connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            work.run(&transaction)?;
            Ok(transaction.commit()?)
        });
        self.health.wrote_in_background(result.as_ref());
        work.answer(result);
    }

    /// Runs `write` on the connection, and reopens the connection first if it failed before.
    fn with_connection<T>(
        &mut self,
        write: impl FnOnce(&mut Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if self.connection.is_none() {
            self.connection = Some(schema::reopen_for_writing(&self.path)?);
            debug!("the database was reopened");
        }
        let Some(connection) = &mut self.connection else { return Err(StoreError::Busy) };
        let result = write(connection);
        if matches!(&result, Err(failed) if failed.breaks_connection()) {
            // The kernel reports a failed write once and forgets it. A retry would only seem to succeed.
            self.connection = None;
        }
        result
    }
}

/// Writes a batch in one transaction. A summary that fails is rolled back alone.
fn write(
    connection: &mut Connection,
    batch: &[Insert],
) -> Result<Vec<Result<Outcome, StoreError>>, StoreError> {
    let mut transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut outcomes = Vec::with_capacity(batch.len());
    for Insert { run, .. } in batch {
        let savepoint = transaction.savepoint()?;
        let outcome = insert(&savepoint, run).map_err(StoreError::from);
        match &outcome {
            Ok(_) => savepoint.commit()?,
            // A full disk, among other errors, rolls back the whole transaction and not just this write. There is no
            // savepoint to return to, and the summaries before it in the batch are not stored either.
            Err(failed) if savepoint.is_autocommit() => return Err(failed.clone()),
            Err(failed) if failed.breaks_connection() => return Err(failed.clone()),
            Err(_) => savepoint.finish()?,
        }
        outcomes.push(outcome);
    }
    transaction.commit()?;
    Ok(outcomes)
}

fn insert(connection: &Connection, run: &NewRun) -> rusqlite::Result<Outcome> {
    let job = runs::job(connection, &run.scope)?;
    let stored = match (&run.summary, job) {
        (Some(key), Some(job)) => stored(connection, job, key)?,
        _ => None,
    };
    if let (Some(key), Some(stored)) = (&run.summary, &stored) {
        if key.seq == stored.seq {
            let same = stored.digest == run.digest;
            return Ok(if same { Outcome::Repeated(stored.id) } else { Outcome::Conflict });
        }
        if key.seq < stored.seq || (stored.is_final && !run.is_final) {
            return Ok(Outcome::Superseded(stored.id));
        }
    }
    let job = match job {
        Some(job) => job,
        None => insert_job(connection, run)?,
    };
    if let Some(outcome) = parts::join(connection, job, run, stored.as_ref())? {
        return Ok(outcome);
    }
    let Some(stored) = stored else {
        let id = insert_row(connection, None, job, run)?;
        count(connection, job, 1, id, run)?;
        return Ok(Outcome::Created(id));
    };
    // The containers are deleted with the row. The new row keeps the id.
    connection.prepare_cached("DELETE FROM runs WHERE id = ?1")?.execute([stored.id])?;
    insert_row(connection, Some(stored.id), job, run)?;
    count(connection, job, 0, stored.id, run)?;
    Ok(Outcome::Replaced(stored.id))
}

/// Writes runs for a test.
#[cfg(test)]
pub(super) fn execute(connection: &mut Connection, runs: Vec<NewRun>) -> Vec<Result<Outcome, StoreError>> {
    try_execute(connection, runs).unwrap()
}

/// The same, for a batch that fails as a whole.
#[cfg(test)]
pub(super) fn try_execute(
    connection: &mut Connection,
    runs: Vec<NewRun>,
) -> Result<Vec<Result<Outcome, StoreError>>, StoreError> {
    let batch = runs.into_iter().map(|run| Insert { run, reply: oneshot::channel().0 });
    write(connection, &batch.collect::<Vec<_>>())
}
