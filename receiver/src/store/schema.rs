//! Opening the database and bringing it up to date.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use tracing::{debug, warn};

use super::sound::{self, OpenError};
use super::{StoreError, catalog, log};

/// Marks a database as ours (`PRAGMA application_id`): "`RRCv`" in ASCII.
const APPLICATION_ID: i32 = 0x5252_4376;
/// SQLite before this one can corrupt a WAL database with several connections (the WAL-reset bug).
const OLDEST_SQLITE: i32 = 3_051_003;
/// A database that must be there.
const EXISTING: OpenFlags = OpenFlags::SQLITE_OPEN_READ_WRITE.union(OpenFlags::SQLITE_OPEN_NO_MUTEX);
/// The first version with a table of jobs.
pub(super) const WITH_JOBS: usize = 2;
/// How long a connection waits for another process's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Each brings a database from the version that is its index to the next.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE runs (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        organization TEXT NOT NULL,
        repository TEXT NOT NULL,
        workflow TEXT NOT NULL,
        job TEXT NOT NULL,
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
        payload TEXT NOT NULL
    ) STRICT;
    CREATE INDEX runs_of_job ON runs (organization, repository, workflow, job, id);
    CREATE INDEX runs_by_run_id ON runs (organization, repository, workflow, job, run_id, id);
    CREATE UNIQUE INDEX runs_by_summary ON runs (organization, repository, workflow, job, summary_id)
        WHERE summary_id IS NOT NULL;
    CREATE TABLE containers (
        run INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
        position INTEGER NOT NULL,
        name TEXT NOT NULL,
        cpu_seconds REAL,
        cpu_peak_cores REAL NOT NULL,
        cpu_p95_cores REAL,
        cpu_limit_cores REAL,
        cpu_throttled_seconds REAL,
        memory_peak_bytes REAL NOT NULL,
        memory_p95_bytes REAL,
        memory_limit_bytes INTEGER,
        oom_kills INTEGER,
        PRIMARY KEY (run, position)
    ) STRICT, WITHOUT ROWID;
", "
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
    INSERT INTO jobs (organization, repository, workflow, job, run_count, last_run, last_received_at_ms)
        SELECT organization, repository, workflow, job, count(*), max(id), max(received_at_ms) FROM runs
        GROUP BY 1, 2, 3, 4;
    ALTER TABLE runs RENAME TO runs_1;
    ALTER TABLE containers RENAME TO containers_1;
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
        payload TEXT NOT NULL
    ) STRICT;
    INSERT INTO runs
        SELECT runs_1.id, jobs.id, run_id, run_attempt, summary_id, seq, is_final, complete, start_time_ms, end_time_ms,
            duration_seconds, cpu_seconds, received_at_ms, digest, payload
        FROM runs_1 JOIN jobs USING (organization, repository, workflow, job) ORDER BY runs_1.id;
    -- An id that was given is not given again, even if its run is gone.
    UPDATE sqlite_sequence SET seq = (SELECT seq FROM sqlite_sequence WHERE name = 'runs_1')
        WHERE name = 'runs' AND EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'runs_1');
    CREATE TABLE containers (
        run INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
        position INTEGER NOT NULL,
        name TEXT NOT NULL,
        cpu_seconds REAL,
        cpu_peak_cores REAL NOT NULL,
        cpu_p95_cores REAL,
        cpu_request_cores REAL,
        cpu_limit_cores REAL,
        cpu_throttled_seconds REAL,
        cpu_periods INTEGER,
        cpu_throttled_periods INTEGER,
        memory_peak_bytes REAL NOT NULL,
        memory_p95_bytes REAL,
        working_set_peak_bytes REAL,
        cgroup_memory_peak_bytes INTEGER,
        memory_request_bytes INTEGER,
        memory_limit_bytes INTEGER,
        oom_kills INTEGER,
        cpu_cores_histogram TEXT,
        PRIMARY KEY (run, position)
    ) STRICT, WITHOUT ROWID;
    INSERT INTO containers (run, position, name, cpu_seconds, cpu_peak_cores, cpu_p95_cores, cpu_limit_cores,
            cpu_throttled_seconds, memory_peak_bytes, memory_p95_bytes, memory_limit_bytes, oom_kills)
        SELECT run, position, name, cpu_seconds, cpu_peak_cores, cpu_p95_cores, cpu_limit_cores, cpu_throttled_seconds,
            memory_peak_bytes, memory_p95_bytes, memory_limit_bytes, oom_kills
        FROM containers_1;
    DROP TABLE containers_1;
    DROP TABLE runs_1;
    CREATE INDEX runs_of_job ON runs (job_id, id);
    CREATE INDEX runs_by_run_id ON runs (job_id, run_id, id);
    CREATE UNIQUE INDEX runs_by_summary ON runs (job_id, summary_id) WHERE summary_id IS NOT NULL;
", "
    ALTER TABLE runs ADD COLUMN sources TEXT;
    -- By what a run is found that another collector tells of, too.
    CREATE TABLE seen (
        run INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
        key INTEGER NOT NULL,
        end_time_ms INTEGER NOT NULL,
        PRIMARY KEY (run, key)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX seen_by_key ON seen (key, end_time_ms);
    -- What a run was put together from.
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
", "
    -- What the machine has is here, too: a column of `runs` behind `payload` is only read through all of that.
    ALTER TABLE containers ADD COLUMN cpu_bound_cores REAL;
    ALTER TABLE containers ADD COLUMN memory_bound_bytes INTEGER;
    ALTER TABLE containers ADD COLUMN machine_cpus INTEGER;
    ALTER TABLE containers ADD COLUMN machine_memory_bytes INTEGER;
"];

/// The connection that writes; the database exists, is sound and up to date afterwards.
pub(super) fn open_for_writing(path: &Path) -> Result<Connection, OpenError> {
    if rusqlite::version_number() < OLDEST_SQLITE {
        return Err(OpenError::OldSqlite(rusqlite::version()));
    }
    sound::try_locks(path)?;
    sound::check_log(path)?;
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    if connection.is_readonly("main")? {
        return Err(OpenError::ReadOnly);
    }
    // A foreign database must not even be switched to WAL mode.
    let version = check(&connection)?;
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(OpenError::NoWal(mode));
    }
    sound::check_pages(&mut connection)?;
    configure(&connection)?;
    if !log::empty(&connection)? {
        warn!("another process reads the database, so the write-ahead log is not begun anew");
    }
    // To sort all runs for an index is the one thing here that memory should not hold.
    temporary_files_beside(&connection);
    connection.pragma_update(None, "temp_store", "FILE")?;
    migrate(&mut connection, version)?;
    nothing_in_temporary_files(&connection)?;
    Ok(connection)
}

/// Has SQLite's temporary files, which have no name once they are open, in the directory of the database.
///
/// SQLite takes the first directory that can be written to of `sqlite3_temp_directory`, `$SQLITE_TMPDIR`, `$TMPDIR`,
/// `/var/tmp`, `/usr/tmp`, `/tmp` and the working directory; with none of them a statement ends in a disk I/O error
/// (`SQLITE_IOERR_GETTEMPPATH`). That of the database must be writable in any case, for the log, and has room as there
/// must be room. The setting is the whole process's; SQLite guards it by a mutex.
fn temporary_files_beside(connection: &Connection) {
    // SQLite's own name of the file: absolute, and not that of a link to it. One that is no UTF-8 cannot be said in SQL.
    let Some(directory) = connection.path().and_then(|file| Path::new(file).parent()) else { return };
    let set = connection.pragma_update(None, "temp_store_directory", directory.to_string_lossy());
    if let Err(error) = set {
        // Then it is one of the others; what needs one and finds none says so.
        debug!(directory = %directory.display(), %error, "temporary files are not beside the database");
    }
}

/// Has a connection hold in memory what SQLite would write to temporary files, of which it needs none then.
///
/// What that is has a bound: what one statement may have to take back (of a write, the pages of one run: the largest body
/// twice), as no query sorts; where it has none, as in a migration, see [`temporary_files_beside`]. A file would also
/// need room: on a full disk not even deleting would go.
pub(super) fn nothing_in_temporary_files(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "temp_store", "MEMORY")
}

/// The connection that writes, again, to a database that failed; nothing is written before its log is empty.
pub(super) fn reopen_for_writing(path: &Path) -> Result<Connection, StoreError> {
    let connection = Connection::open_with_flags(path, EXISTING)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    configure(&connection)?;
    nothing_in_temporary_files(&connection)?;
    if log::empty(&connection)? { Ok(connection) } else { Err(StoreError::Busy) }
}

/// A connection that reads.
pub(super) fn open_for_reading(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, EXISTING)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.execute_batch("PRAGMA query_only = ON;")?;
    nothing_in_temporary_files(&connection)?;
    catalog::add_functions(&connection)?;
    Ok(connection)
}

/// The writer says itself when the log is copied into the database, after the answers.
fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(
        "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA journal_size_limit = 67108864;
         PRAGMA wal_autocheckpoint = 0; PRAGMA cache_size = -16384;",
    )
}

/// The database's version; 0 for one that was just made.
pub(super) fn check(connection: &Connection) -> Result<usize, OpenError> {
    let integer = |sql| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    let version = integer("PRAGMA user_version")?;
    let application = integer("PRAGMA application_id")?;
    let tables = integer("SELECT count(*) FROM sqlite_schema")?;
    let ours = application == i64::from(APPLICATION_ID);
    let new = application == 0 && version == 0 && tables == 0;
    if !ours && !new {
        return Err(OpenError::Foreign);
    }
    match usize::try_from(version) {
        Ok(version) if version <= MIGRATIONS.len() => Ok(version),
        _ => Err(OpenError::Newer { found: version, known: MIGRATIONS.len() }),
    }
}

/// A database as it was at a version, for tests of what comes after it.
#[cfg(test)]
pub(super) fn create_at(path: &Path, version: usize) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    for migration in &MIGRATIONS[..version] {
        connection.execute_batch(migration)?;
    }
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    connection.pragma_update(None, "user_version", version as i64)?;
    Ok(connection)
}

/// All that is missing, in one transaction: a database is of one version or of the other.
fn migrate(connection: &mut Connection, version: usize) -> Result<(), OpenError> {
    if version == MIGRATIONS.len() {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    // Another process may have done it meanwhile.
    let version = check(&transaction)?;
    for migration in &MIGRATIONS[version..] {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", MIGRATIONS.len() as i64)?;
    transaction.commit()?;
    Ok(())
}
