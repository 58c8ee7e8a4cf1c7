//! Records whether the database can be used. Clients get the cause, and the log gets a line whenever it changes.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ffi};
use tracing::{debug, error, info};

use super::error::{Cause, StoreError};

/// Minimum time between two probes of an unusable database. In between, the last result is returned.
const PROBE_PAUSE: Duration = Duration::from_secs(1);
/// Free space, in bytes, that a disk must have again after it was full: a transaction of a few pages.
const LEAST_ROOM: u64 = 256 * 1024;

/// Whether the database can be written, and whether it can be read.
#[derive(Debug, Default)]
pub(super) struct Health {
    writing: Mutex<Option<Trouble>>,
    reading: Mutex<Option<Trouble>>,
}

/// Why the database cannot be used, and since when.
#[derive(Debug)]
struct Trouble {
    error: StoreError,
    cause: Cause,
    since: Instant,
    /// How many requests failed because of it.
    failed: u64,
    /// Size of the largest summary that there was no room for, in bytes.
    bytes: u64,
    probed: Option<Instant>,
}

/// A test of whether the database can be written again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Probe {
    cause: Cause,
    bytes: u64,
}

impl Health {
    /// Records whether summaries could be written. The largest one has this many bytes.
    pub(super) fn wrote<T>(&self, result: Result<T, &StoreError>, bytes: u64) {
        note(&self.writing, result.map(drop), bytes, &WRITING);
    }

    /// Records a small write in the background. That there was room for it does not mean that a summary fits.
    pub(super) fn wrote_in_background<T>(&self, result: Result<T, &StoreError>) {
        let is_full = lock(&self.writing).as_ref().is_some_and(|trouble| trouble.cause == Cause::Full);
        if result.is_err() || !is_full {
            note(&self.writing, result.map(drop), 0, &WRITING);
        }
    }

    /// Records whether a query could be answered.
    pub(super) fn read<T>(&self, result: Result<T, &StoreError>) {
        note(&self.reading, result.map(drop), 0, &READING);
    }

    /// Why the database cannot be written, as far as is known; `None` if it can be. Includes a probe unless one was
    /// started just now.
    pub(super) fn not_writable(&self) -> Option<(StoreError, Option<Probe>)> {
        let mut writing = lock(&self.writing);
        let trouble = writing.as_mut()?;
        let now = Instant::now();
        let due = trouble.probed.is_none_or(|last| now.duration_since(last) >= PROBE_PAUSE);
        if due {
            trouble.probed = Some(now);
        }
        let probe = Probe { cause: trouble.cause, bytes: trouble.bytes };
        Some((trouble.error.clone(), due.then_some(probe)))
    }

    /// Records that a probe succeeded.
    pub(super) fn is_writable(&self) {
        note(&self.writing, Ok(()), 0, &WRITING);
    }
}

/// Log messages for when something begins to fail, and for when it works again.
struct Words {
    fails: &'static str,
    works: &'static str,
}

const WRITING: Words = Words {
    fails: "the database cannot be written; each request tries again",
    works: "the database can be written again",
};
const READING: Words = Words {
    fails: "the database cannot be read; each request tries again",
    works: "the database can be read again",
};

fn note(place: &Mutex<Option<Trouble>>, result: Result<(), &StoreError>, bytes: u64, words: &Words) {
    let mut known = lock(place);
    match result {
        Ok(()) => {
            if let Some(Trouble { since, failed, .. }) = known.take() {
                info!(seconds = since.elapsed().as_secs(), failed, "{}", words.works);
            }
        }
        Err(failure @ StoreError::Unusable { cause, error }) => {
            let (cause, same) = (*cause, known.as_ref().is_some_and(|trouble| trouble.cause == *cause));
            if same {
                debug!(%cause, error, "{}", words.fails);
            } else {
                error!(%cause, error, "{}", words.fails);
            }
            let trouble = known.get_or_insert_with(|| Trouble {
                error: failure.clone(),
                cause,
                since: Instant::now(),
                failed: 0,
                bytes: 0,
                probed: None,
            });
            trouble.error = failure.clone();
            trouble.cause = cause;
            trouble.failed += 1;
            trouble.bytes = trouble.bytes.max(bytes);
        }
        // Another process has the lock, or the request was at fault. Neither says anything about the disk.
        Err(_) => {}
    }
}

fn lock(place: &Mutex<Option<Trouble>>) -> MutexGuard<'_, Option<Trouble>> {
    place.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Probe {
    /// Writes like a push: to the write-ahead log, with a sync. It writes the version number that is already there.
    ///
    /// The log file keeps the space that it once had. On a full disk, this write alone could therefore succeed although
    /// a summary does not fit.
    pub(super) fn run(self, connection: &Connection, database: &Path) -> rusqlite::Result<()> {
        if self.cause == Cause::Full {
            has_room(database, self.bytes.saturating_mul(2).max(LEAST_ROOM)).map_err(|error| {
                let full = matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded);
                let code = if full { ffi::SQLITE_FULL } else { ffi::SQLITE_IOERR_WRITE };
                rusqlite::Error::SqliteFailure(ffi::Error::new(code), Some(error.to_string()))
            })?;
        }
        let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        connection.pragma_update(None, "user_version", version)
    }
}

/// Checks that a file of this many bytes fits beside the database.
fn has_room(database: &Path, bytes: u64) -> io::Result<()> {
    let mut path = database.as_os_str().to_owned();
    path.push("-room");
    // Left over from a receiver that was killed at this point.
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).open(&path)?;
    // The file needs no name any more. Its space is free again as soon as it is closed.
    std::fs::remove_file(&path)?;
    let zeros = [0; 16 * 1024];
    let mut left = bytes;
    while left > 0 {
        let piece = left.min(zeros.len() as u64);
        file.write_all(&zeros[..piece as usize])?;
        left -= piece;
    }
    // Some file systems find out only now that there is no room (NFS, quotas).
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(code: i32) -> rusqlite::Error {
        rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)
    }

    #[test]
    fn the_state_of_the_database_is_told_from_a_mistake() {
        for (code, expected) in [
            (ffi::SQLITE_FULL, Some(Cause::Full)),
            (ffi::SQLITE_IOERR, Some(Cause::Disk)),
            (ffi::SQLITE_IOERR_FSYNC, Some(Cause::Disk)),
            (ffi::SQLITE_IOERR_GETTEMPPATH, Some(Cause::NoTemporaryDirectory)),
            (ffi::SQLITE_IOERR_NOMEM, Some(Cause::NoMemory)),
            (ffi::SQLITE_NOMEM, Some(Cause::NoMemory)),
            (ffi::SQLITE_CANTOPEN, Some(Cause::CannotOpen)),
            (ffi::SQLITE_CANTOPEN_ISDIR, Some(Cause::CannotOpen)),
            (ffi::SQLITE_PERM, Some(Cause::CannotOpen)),
            (ffi::SQLITE_READONLY_DBMOVED, Some(Cause::ReadOnly)),
            (ffi::SQLITE_CORRUPT_INDEX, Some(Cause::Corrupt)),
            (ffi::SQLITE_NOTADB, Some(Cause::Corrupt)),
            (ffi::SQLITE_PROTOCOL, Some(Cause::NoLocks)),
            (ffi::SQLITE_BUSY, None),
            (ffi::SQLITE_CONSTRAINT_UNIQUE, None),
            (ffi::SQLITE_TOOBIG, None),
            (ffi::SQLITE_MISUSE, None),
        ] {
            assert_eq!(Cause::of(&failure(code)), expected, "{code}");
        }
        assert_eq!(Cause::of(&rusqlite::Error::QueryReturnedNoRows), None);
    }

    #[test]
    fn room_for_something_small_is_none_for_a_summary() {
        let health = Health::default();
        let full = StoreError::from(failure(ffi::SQLITE_FULL));
        let disk = StoreError::from(failure(ffi::SQLITE_IOERR_WRITE));
        let cause = |health: &Health| {
            health.not_writable().map(|(error, _)| match error {
                StoreError::Unusable { cause, .. } => cause,
                other => panic!("{other:?}"),
            })
        };
        health.wrote(Ok(()), 0);
        assert_eq!(cause(&health), None);
        health.wrote(Err::<(), _>(&full), 1000);
        health.wrote_in_background(Ok(()));
        assert_eq!(cause(&health), Some(Cause::Full));
        health.wrote(Err::<(), _>(&StoreError::Busy), 10);
        assert_eq!(cause(&health), Some(Cause::Full), "a lock tells nothing");
        health.wrote_in_background(Err::<(), _>(&disk));
        assert_eq!(cause(&health), Some(Cause::Disk));
        health.wrote_in_background(Ok(()));
        assert_eq!(cause(&health), None);
        health.wrote(Err::<(), _>(&full), 1000);
        health.wrote(Ok(()), 10);
        assert_eq!(cause(&health), None, "a summary was stored");
    }

    #[test]
    fn whoever_asks_often_has_it_tried_once() {
        let health = Health::default();
        health.wrote(Err::<(), _>(&StoreError::from(failure(ffi::SQLITE_READONLY))), 0);
        assert!(matches!(health.not_writable(), Some((_, Some(_)))));
        assert!(matches!(health.not_writable(), Some((_, None))));
    }

    #[test]
    fn a_probe_writes_to_the_log_and_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db");
        let connection = super::super::schema::open_for_writing(&path).unwrap();
        let frames =
            || -> i64 { connection.query_row("PRAGMA wal_checkpoint(NOOP)", [], |row| row.get(1)).unwrap() };
        let before = frames();
        Probe { cause: Cause::Full, bytes: 1 << 20 }.run(&connection, &path).unwrap();
        assert!(frames() > before, "nothing was written");
        let names: Vec<_> = std::fs::read_dir(directory.path()).unwrap().flatten().collect();
        assert_eq!(names.len(), 3, "the database, its log and its shared memory: {names:?}");
        let nowhere = directory.path().join("nowhere/db");
        let error = Probe { cause: Cause::Full, bytes: 1 }.run(&connection, &nowhere).unwrap_err();
        assert_eq!(Cause::of(&error), Some(Cause::Disk), "{error}");
    }
}
