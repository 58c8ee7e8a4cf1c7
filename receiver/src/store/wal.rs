//! Checkpoints of the write-ahead log: when it is copied into the database, and whether it can be.

use std::path::{Path, PathBuf};

use rusqlite::Connection;
use tracing::{debug, info, warn};

/// The log is copied into the database once it has this many frames (of 4 KiB: 16 MiB): enough that pages which change
/// often are written once, few enough to be read back quickly after a crash.
const CHECKPOINT_FRAMES: i64 = 4096;
/// It gets this long (128 MiB) only if something keeps it from being reset.
const ALARM_FRAMES: i64 = 32 * 1024;

/// What is known about the length of the log.
#[derive(Debug, Default)]
pub(super) struct Wal {
    /// Frames in the log when the last checkpoint could not copy all of them.
    tried_frames: i64,
    alarmed: bool,
}

/// The path of a database's write-ahead log.
pub(super) fn path_of(database: &Path) -> PathBuf {
    let mut path = database.as_os_str().to_owned();
    path.push("-wal");
    path.into()
}

impl Wal {
    /// Copies the log into the database if it is long. The batch has been answered by then, so only the next one waits.
    pub(super) fn after_batch(&mut self, connection: &Connection) {
        let (frames, copied) = match checkpoint(connection, "PRAGMA wal_checkpoint(NOOP)") {
            Ok(counts) => counts,
            Err(error) => return debug!(error = %error, "cannot read the length of the write-ahead log"),
        };
        if frames < self.tried_frames {
            self.tried_frames = 0;
        }
        if frames - copied.max(self.tried_frames) < CHECKPOINT_FRAMES {
            return;
        }
        match checkpoint(connection, "PRAGMA wal_checkpoint(PASSIVE)") {
            Ok((frames, copied)) if frames == copied => {
                self.tried_frames = 0;
                if std::mem::take(&mut self.alarmed) {
                    info!("the write-ahead log was copied into the database again");
                }
            }
            Ok((frames, copied)) => {
                self.tried_frames = frames;
                if frames >= ALARM_FRAMES && !self.alarmed {
                    self.alarmed = true;
                    warn!(
                        frames,
                        copied,
                        "the write-ahead log grows because another process keeps reading the database"
                    );
                }
            }
            Err(error) => {
                self.tried_frames = frames;
                warn!(error = %error, "cannot copy the write-ahead log into the database; will retry");
            }
        }
    }
}

/// Copies all of it into the database and truncates it. Returns false if a reader still needs it.
///
/// After a failed sync, the frames of the rejected transaction are not on the disk but still in the page cache. The
/// next connection would read them there, take the transaction for a committed one and append to it. A power loss would
/// then lose what follows as well. Copying the frames writes them again.
pub(super) fn empty(connection: &Connection) -> rusqlite::Result<bool> {
    connection
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0).map(|busy| busy == 0))
}

/// Frames in the log, and how many of them are copied.
fn checkpoint(connection: &Connection, sql: &str) -> rusqlite::Result<(i64, i64)> {
    connection.prepare_cached(sql)?.query_row([], |row| Ok((row.get(1)?, row.get(2)?)))
}
