//! Whether a database can be trusted: checked before it is served.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Read};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};
use tracing::warn;

use super::wal;

/// Time limit of the check at start; `receiver check` reads everything.
const CHECK_TIME: Duration = Duration::from_secs(5);
const STEPS: i32 = 10_000;

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// This version of SQLite can corrupt the database.
    #[error("SQLite {0} can corrupt a database in WAL mode; 3.51.3 or newer is needed")]
    OldSqlite(&'static str),
    /// It was made by a newer receiver.
    #[error(
        "the database has version {found}, newer than this program supports ({known}); run the program that made it, or a newer one"
    )]
    Newer {
        /// Its version.
        found: i64,
        /// The version that this program knows.
        known: i64,
    },
    /// It belongs to another program.
    #[error("the file is a database of another program; name another file")]
    Foreign,
    /// It is not a database.
    #[error("the file is not a SQLite database; name another file, or one that does not exist yet")]
    NoDatabase,
    /// Its pages contradict each other.
    #[error("the database is corrupt ({0}); restore a backup, or move it away to start with an empty one")]
    Corrupt(String),
    /// Summaries that were acknowledged are in a damaged part of the write-ahead log.
    #[error(
        "the write-ahead log is damaged at frame {frame}, and SQLite would silently drop the complete transactions after it; \
         restore a backup, or move the -wal file away to go on without them"
    )]
    CorruptLog {
        /// The first damaged frame, counted from 1.
        frame: u64,
    },
    /// It cannot be written to.
    #[error(
        "the database is read-only; the file and its directory must be writable by the user that runs this"
    )]
    ReadOnly,
    /// Its file system does not support locks.
    #[error(
        "the file system of the database cannot lock files ({0}); put it on a local one, such as ext4, xfs or a block volume"
    )]
    NoLocks(io::Error),
    /// WAL mode was refused.
    #[error(
        "the database cannot use WAL mode (it is in {0:?} mode); its file system may not support locks or shared memory: put it on a local one"
    )]
    NoWal(String),
    /// It cannot be opened or read.
    #[error("the database cannot be opened: {0}")]
    Sqlite(rusqlite::Error),
    /// One of its files cannot be opened or read.
    #[error("the database cannot be opened: {0}")]
    File(#[from] io::Error),
    /// The writing thread could not be started.
    #[error("cannot start the writer: {0}")]
    Thread(String),
}

impl From<rusqlite::Error> for OpenError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => Self::NoDatabase,
            Some(ErrorCode::DatabaseCorrupt) => Self::Corrupt(error.to_string()),
            Some(ErrorCode::ReadOnly) => Self::ReadOnly,
            Some(ErrorCode::FileLockingProtocolFailed) => {
                Self::NoLocks(io::Error::from_raw_os_error(libc::EPROTO))
            }
            _ => Self::Sqlite(error),
        }
    }
}

/// Takes a lock as SQLite does. SQLite itself reports a file system without locks as "busy".
pub(super) fn try_locks(path: &Path) -> Result<(), OpenError> {
    let Ok(file) = OpenOptions::new().read(true).write(true).open(path) else {
        // It does not exist or cannot be opened, which is reported later with more detail.
        return Ok(());
    };
    let lock = libc::flock {
        l_type: libc::F_RDLCK as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: 0,
        l_len: 1,
        l_pid: 0,
    };
    // SAFETY: the descriptor is open, and the kernel only reads the lock. rustix locks whole files only.
    if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLK, &raw const lock) } == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        // Another process may hold it, so the file system has locks.
        Some(libc::EACCES | libc::EAGAIN) => Ok(()),
        _ => Err(OpenError::NoLocks(error)),
    }
}

/// Checks the pages, for a few seconds at most.
pub(super) fn check_pages(connection: &mut Connection) -> Result<(), OpenError> {
    let end = Instant::now() + CHECK_TIME;
    connection.progress_handler(STEPS, Some(move || Instant::now() > end))?;
    let found = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
    connection.progress_handler(0, None::<fn() -> bool>)?;
    match found {
        Ok(answer) if answer == "ok" => Ok(()),
        Ok(answer) => Err(OpenError::Corrupt(answer)),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => {
            warn!(after = ?CHECK_TIME, "the database is large and was checked in part; receiver check reads all of it");
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

const LOG_HEADER: u64 = 32;
const FRAME_HEADER: usize = 24;

/// Checks that the write-ahead log was not changed after it was written.
///
/// SQLite reads the frames up to the first wrong checksum and drops the rest. That is right for the torn end that a
/// power loss leaves, and for the remains of a failed transaction that was partly overwritten: no transaction follows
/// another one there. If one does, with each frame continuing the checksum of the one before, then the second was
/// written after the first had been synced and acknowledged. So it is damage that would lose both of them.
pub(super) fn check_log(database: &Path) -> Result<(), OpenError> {
    let mut file = match std::fs::File::open(wal::path_of(database)) {
        Ok(file) => io::BufReader::with_capacity(1 << 20, file),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let mut header = [0; LOG_HEADER as usize];
    if file.get_ref().metadata()?.len() <= LOG_HEADER {
        return Ok(());
    }
    file.read_exact(&mut header)?;
    let big_endian = match word(&header, 0) {
        0x377f_0682 => false,
        0x377f_0683 => true,
        // Zeros: a power loss kept the header, and everything after it, from reaching the disk.
        0 => return Ok(()),
        _ => return Err(OpenError::CorruptLog { frame: 1 }),
    };
    let mut sum = checksum((0, 0), &header[..24], big_endian);
    if sum != (word(&header, 24), word(&header, 28)) {
        return Err(OpenError::CorruptLog { frame: 1 });
    }
    let salts = &header[16..24];
    let mut frame = vec![0; FRAME_HEADER + word(&header, 8) as usize];
    let (mut number, mut wrong, mut before, mut transactions) = (0, None, None, 0);
    while file.read_exact(&mut frame).is_ok() {
        number += 1;
        if &frame[8..16] != salts {
            // Left over from before the log was reset, or damaged in the salts.
            wrong.get_or_insert(number);
            before = None;
            continue;
        }
        let told = (word(&frame, 16), word(&frame, 20));
        let continues = |sum| {
            checksum(checksum(sum, &frame[..8], big_endian), &frame[FRAME_HEADER..], big_endian) == told
        };
        if wrong.is_none() && continues(sum) {
            sum = told;
            continue;
        }
        let first = *wrong.get_or_insert(number);
        if !before.is_some_and(continues) {
            transactions = 0;
        }
        before = Some(told);
        // The last frame of a transaction holds the size of the database.
        transactions += u32::from(word(&frame, 4) != 0);
        if transactions > 1 {
            return Err(OpenError::CorruptLog { frame: first });
        }
    }
    Ok(())
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().fold(0, |word, byte| word << 8 | u32::from(*byte))
}

/// The checksum of the WAL format, over pairs of words in the byte order that the header names.
fn checksum((mut first, mut second): (u32, u32), bytes: &[u8], big_endian: bool) -> (u32, u32) {
    for pair in bytes.chunks_exact(8) {
        let [one, two] =
            [0, 4].map(|at| if big_endian { word(pair, at) } else { word(pair, at).swap_bytes() });
        first = first.wrapping_add(one).wrapping_add(second);
        second = second.wrapping_add(two).wrapping_add(first);
    }
    (first, second)
}
