//! The tables of the database, and connections to it.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use tracing::warn;

use super::integrity::{self, OpenError};
use super::{StoreError, catalog, wal};

/// Marks a database as ours (`PRAGMA application_id`): "`RRCv`" in ASCII.
const APPLICATION_ID: i32 = 0x5252_4376;
/// Older versions of SQLite can corrupt a WAL database with several connections (the WAL-reset bug).
const OLDEST_SQLITE: i32 = 3_051_003;
/// Opens only a database that exists.
const EXISTING: OpenFlags = OpenFlags::SQLITE_OPEN_READ_WRITE.union(OpenFlags::SQLITE_OPEN_NO_MUTEX);
/// How long a connection waits for another process's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Version of [`SCHEMA`] (`PRAGMA user_version`).
const VERSION: i64 = 1;

/// All tables and indexes. `id`s of runs are never reused (`AUTOINCREMENT`), even after the runs are deleted.
const SCHEMA: &str = "
    CREATE TABLE jobs (
        id INTEGER PRIMARY KEY,
        organization TEXT NOT NULL,
        repository TEXT NOT NULL,
        workflow TEXT NOT NULL,
        job TEXT NOT NULL,
        run_count INTEGER NOT NULL,
        last_run INTEGER NOT NULL,
        last_received_at_ms INTEGER NOT NULL,
        stale INTEGER NOT NULL DEFAULT 1,
        waste REAL,
        risk REAL,
        figures TEXT,
        UNIQUE (organization, repository, workflow, job)
    ) STRICT;
    CREATE INDEX jobs_stale ON jobs (id) WHERE stale > 0;
    CREATE INDEX jobs_by_waste ON jobs (coalesce(waste, -1.0), id);
    CREATE INDEX jobs_by_risk ON jobs (coalesce(risk, -1.0), id);
    CREATE INDEX jobs_by_last_run ON jobs (last_run);
    CREATE INDEX jobs_by_runs ON jobs (run_count, waste, risk);

    -- What is long comes last: a column behind `payload` is only read through all of it.
    CREATE TABLE runs (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        job_id INTEGER NOT NULL REFERENCES jobs (id),
        run_id TEXT NOT NULL,
        run_attempt INTEGER,
        summary_id TEXT,
        seq INTEGER,
        is_final INTEGER NOT NULL,
        complete INTEGER,
        start_time_ms INTEGER NOT NULL,
        end_time_ms INTEGER NOT NULL,
        duration_seconds REAL NOT NULL,
        cpu_seconds REAL,
        received_at_ms INTEGER NOT NULL,
        digest BLOB NOT NULL,
        sources TEXT,
        -- What the CI system says about the run, as JSON.
        ci TEXT,
        variant TEXT AS (ci ->> '$.variant') VIRTUAL,
        ref TEXT AS (ci ->> '$.ref') VIRTUAL,
        event TEXT AS (ci ->> '$.event') VIRTUAL,
        result TEXT AS (ci ->> '$.result') VIRTUAL,
        payload TEXT NOT NULL
    ) STRICT;
    CREATE INDEX runs_of_job ON runs (job_id, id);
    CREATE INDEX runs_by_run_id ON runs (job_id, run_id, id);
    CREATE UNIQUE INDEX runs_by_summary ON runs (job_id, summary_id) WHERE summary_id IS NOT NULL;

    CREATE TABLE containers (
        run INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
        position INTEGER NOT NULL,
        name TEXT NOT NULL,
        cpu_seconds REAL,
        cpu_peak_cores REAL NOT NULL,
        cpu_p95_cores REAL,
        cpu_request_cores REAL,
        cpu_limit_cores REAL,
        cpu_bound_cores REAL,
        cpu_throttled_seconds REAL,
        cpu_periods INTEGER,
        cpu_throttled_periods INTEGER,
        cpu_stalled_seconds REAL,
        memory_peak_bytes REAL NOT NULL,
        memory_p95_bytes REAL,
        working_set_peak_bytes REAL,
        cgroup_memory_peak_bytes INTEGER,
        memory_needed_bytes INTEGER,
        processes_memory_bytes INTEGER,
        processes_memory_at_most_bytes INTEGER,
        memory_request_bytes INTEGER,
        memory_limit_bytes INTEGER,
        memory_bound_bytes INTEGER,
        oom_kills INTEGER,
        exit_status INTEGER,
        machine_cpus INTEGER,
        machine_memory_bytes INTEGER,
        cpu_cores_histogram TEXT,
        PRIMARY KEY (run, position)
    ) STRICT, WITHOUT ROWID;

    -- Containers and times by which another collector's summary of the same run is found.
    CREATE TABLE seen (
        run INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
        key INTEGER NOT NULL,
        end_time_ms INTEGER NOT NULL,
        PRIMARY KEY (run, key)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX seen_by_key ON seen (key, end_time_ms);

    -- The summaries that a run was put together from.
    CREATE TABLE parts (
        run INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
        job_id INTEGER NOT NULL REFERENCES jobs (id),
        run_id TEXT NOT NULL,
        run_attempt INTEGER,
        summary_id TEXT NOT NULL,
        seq INTEGER NOT NULL,
        is_final INTEGER NOT NULL,
        received_at_ms INTEGER NOT NULL,
        digest BLOB NOT NULL,
        payload TEXT NOT NULL
    ) STRICT;
    CREATE INDEX parts_of_run ON parts (run);
    CREATE UNIQUE INDEX parts_by_summary ON parts (job_id, summary_id);
";

/// Opens the connection that writes. Afterwards the database exists, is sound and has its tables.
pub(super) fn open_for_writing(path: &Path) -> Result<Connection, OpenError> {
    if rusqlite::version_number() < OLDEST_SQLITE {
        return Err(OpenError::OldSqlite(rusqlite::version()));
    }
    integrity::try_locks(path)?;
    integrity::check_log(path)?;
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    nothing_in_temporary_files(&connection)?;
    if connection.is_readonly("main")? {
        return Err(OpenError::ReadOnly);
    }
    // A foreign database must not even be switched to WAL mode.
    let exists = check(&connection)?;
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(OpenError::NoWal(mode));
    }
    integrity::check_pages(&mut connection)?;
    configure(&connection)?;
    if !wal::empty(&connection)? {
        warn!("another process reads the database, so the write-ahead log cannot be restarted");
    }
    if !exists {
        create(&mut connection)?;
    }
    Ok(connection)
}

/// Makes a connection hold in memory what SQLite would write to temporary files, so that it needs no directory for
/// them.
///
/// The size is bounded, since no query sorts: it is what one statement may have to roll back (for a write the pages of
/// one run: twice the largest body). A file would also need space: on a full disk not even a deletion would succeed.
pub(super) fn nothing_in_temporary_files(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "temp_store", "MEMORY")
}

/// Opens a new connection that writes after the database failed. Nothing is written before the log is empty.
pub(super) fn reopen_for_writing(path: &Path) -> Result<Connection, StoreError> {
    let connection = Connection::open_with_flags(path, EXISTING)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    configure(&connection)?;
    nothing_in_temporary_files(&connection)?;
    if wal::empty(&connection)? { Ok(connection) } else { Err(StoreError::Busy) }
}

/// Opens a connection that only reads.
pub(super) fn open_for_reading(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, EXISTING)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.execute_batch("PRAGMA query_only = ON;")?;
    nothing_in_temporary_files(&connection)?;
    catalog::add_functions(&connection)?;
    Ok(connection)
}

/// Automatic checkpoints are off: the writer checkpoints the log itself, after it has replied.
fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(
        "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA journal_size_limit = 67108864;
         PRAGMA wal_autocheckpoint = 0; PRAGMA cache_size = -16384;",
    )
}

/// Whether the database has its tables; false if it was just created.
pub(super) fn check(connection: &Connection) -> Result<bool, OpenError> {
    let integer = |sql| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    let found = integer("PRAGMA user_version")?;
    let application = integer("PRAGMA application_id")?;
    let tables = integer("SELECT count(*) FROM sqlite_schema")?;
    if application == 0 && found == 0 && tables == 0 {
        return Ok(false);
    }
    if application != i64::from(APPLICATION_ID) {
        return Err(OpenError::Foreign);
    }
    if found == VERSION { Ok(true) } else { Err(OpenError::Newer { found, known: VERSION }) }
}

/// Creates all tables in one transaction: a database has all of them or none.
fn create(connection: &mut Connection) -> Result<(), OpenError> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    // Another process may have created them meanwhile.
    if !check(&transaction)? {
        transaction.execute_batch(SCHEMA)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
    }
    transaction.commit()?;
    Ok(())
}
