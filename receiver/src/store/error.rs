//! What can go wrong, as those who ask need to tell it apart.

use super::Cause;

/// Why something could not be stored or read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// There is too much to do; nothing was stored.
    #[error("the queue of writes is full")]
    Busy,
    /// A query took too long.
    #[error("a query took too long")]
    TooSlow,
    /// The disk, or what is on it, is not as it must be; nothing was acknowledged.
    #[error("{cause}: {error}")]
    Unusable {
        /// Why, in words that a client may read.
        cause: Cause,
        /// The same in SQLite's words.
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
    /// Whether a connection is not to be relied upon after this.
    pub(super) fn breaks_connection(&self) -> bool {
        matches!(self, Self::Unusable { cause, .. } if cause.breaks_connection())
    }
}
