//! Errors of the store, as callers need to distinguish them.

use rusqlite::{ErrorCode, ffi};

/// Why something could not be stored or read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The store is overloaded; nothing was stored.
    #[error("the queue of writes is full")]
    Busy,
    /// A query took too long.
    #[error("a query took too long")]
    TooSlow,
    /// The disk, or the database on it, is not usable; nothing was acknowledged.
    #[error("{cause}: {error}")]
    Unusable {
        /// Why, in words that clients may see.
        cause: Cause,
        /// SQLite's own message.
        error: String,
    },
    /// The database failed; nothing was stored.
    #[error("the database failed: {0}")]
    Failed(String),
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked, OperationInterrupted};
        if let Some(cause) = Cause::of(&error) {
            return Self::Unusable { cause, error: error.to_string() };
        }
        match error.sqlite_error_code() {
            Some(DatabaseBusy | DatabaseLocked) => Self::Busy,
            Some(OperationInterrupted) => Self::TooSlow,
            _ => Self::Failed(error.to_string()),
        }
    }
}

impl StoreError {
    /// Whether the connection can no longer be trusted after this error.
    pub(super) fn breaks_connection(&self) -> bool {
        matches!(self, Self::Unusable { cause, .. } if cause.breaks_connection())
    }
}

/// Why the database cannot be used: the state of the disk or of the database, not a fault of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// `SQLITE_FULL`.
    #[error("the disk is full")]
    Full,
    /// `SQLITE_IOERR`.
    #[error("the disk of the database failed")]
    Disk,
    /// `SQLITE_IOERR_GETTEMPPATH`: SQLite writes to a temporary file only what is too large for memory.
    #[error("there is no directory for temporary files: the database's directory is not writable")]
    NoTemporaryDirectory,
    /// `SQLITE_CANTOPEN`, `SQLITE_PERM`.
    #[error("a file of the database cannot be opened")]
    CannotOpen,
    /// `SQLITE_READONLY`.
    #[error("the database is read-only")]
    ReadOnly,
    /// `SQLITE_CORRUPT`, `SQLITE_NOTADB`.
    #[error("the database is corrupt")]
    Corrupt,
    /// `SQLITE_PROTOCOL`.
    #[error("the files of the database cannot be locked")]
    NoLocks,
    /// `SQLITE_NOMEM`.
    #[error("out of memory")]
    NoMemory,
}

impl Cause {
    /// The cause of this error; `None` if it is not the state of the disk or of the database.
    pub(super) fn of(error: &rusqlite::Error) -> Option<Self> {
        let extended = error.sqlite_error()?.extended_code;
        match extended {
            ffi::SQLITE_IOERR_GETTEMPPATH => return Some(Self::NoTemporaryDirectory),
            ffi::SQLITE_IOERR_NOMEM => return Some(Self::NoMemory),
            ffi::SQLITE_IOERR_CORRUPTFS => return Some(Self::Corrupt),
            _ => {}
        }
        match error.sqlite_error_code()? {
            ErrorCode::DiskFull => Some(Self::Full),
            ErrorCode::SystemIoFailure | ErrorCode::NoLargeFileSupport => Some(Self::Disk),
            ErrorCode::CannotOpen | ErrorCode::PermissionDenied => Some(Self::CannotOpen),
            ErrorCode::ReadOnly => Some(Self::ReadOnly),
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => Some(Self::Corrupt),
            ErrorCode::FileLockingProtocolFailed => Some(Self::NoLocks),
            ErrorCode::OutOfMemory => Some(Self::NoMemory),
            _ => None,
        }
    }

    /// Whether the connection can no longer be trusted. SQLite reports a full disk and a lack of memory before it
    /// changes anything. After any other failure, the kernel and SQLite may disagree about what the file contains.
    pub(super) fn breaks_connection(self) -> bool {
        !matches!(self, Self::Full | Self::NoMemory)
    }
}
