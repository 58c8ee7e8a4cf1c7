//! Faults injected round by round while clients push, and the books of promised and kept data.
//!
//! Tests assert on the books; `cargo xtask bench faults` prints them.

mod pushers;
mod rounds;

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

pub use self::pushers::{Pushers, body, summary_id};
pub use self::rounds::{failing_disk, full_disk, kill, power_loss, repeats, stop};

/// The result of the rounds of one fault.
#[derive(Debug, Clone, Default)]
pub struct Books {
    /// Rounds.
    pub rounds: u32,
    /// Runs that were answered with 2xx.
    pub acknowledged: u64,
    /// Acknowledged runs that are not stored.
    pub lost: u64,
    /// Runs that are stored more than once.
    pub doubled: u64,
    /// The longest time until the next push was acknowledged.
    pub recovered_in: Duration,
}

impl Books {
    /// Compares the acknowledged with the stored runs, and has SQLite check the database.
    ///
    /// # Panics
    /// If the database is damaged.
    pub fn enter(&mut self, database: &Path, acknowledged: &[String], recovered_in: Duration) {
        let connection = open(database);
        let found: String =
            connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("integrity_check");
        assert_eq!(found, "ok", "{} is damaged", database.display());
        let stored = stored(&connection);
        self.rounds += 1;
        self.acknowledged += acknowledged.len() as u64;
        self.lost += acknowledged.iter().filter(|id| !stored.contains_key(*id)).count() as u64;
        self.doubled += stored.values().filter(|count| **count > 1).count() as u64;
        self.recovered_in = self.recovered_in.max(recovered_in);
    }
}

/// Opens a receiver's database for inspection.
///
/// # Panics
/// If the database cannot be opened.
pub fn open(database: &Path) -> Connection {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(database, flags).expect("the database");
    connection.busy_timeout(Duration::from_secs(10)).expect("a timeout");
    connection
}

/// The number of rows of each summary.
fn stored(connection: &Connection) -> HashMap<String, i64> {
    let sql = "SELECT summary_id, count(*) FROM runs WHERE summary_id IS NOT NULL GROUP BY 1";
    let mut statement = connection.prepare(sql).expect("a statement");
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("rows");
    rows.collect::<Result<_, _>>().expect("rows")
}
