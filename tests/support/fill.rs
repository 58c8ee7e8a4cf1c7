//! Rows put into a receiver's database directly: what a year of runs leaves, in a minute.

use std::path::Path;

use rusqlite::params;

use crate::faults::{body, open};

/// Jobs that the rows are of, besides the one that most tests use; that one gets as many as each of them.
const JOBS: u64 = 1000;

/// Adds so many runs to a database that a receiver made and that nobody uses.
///
/// # Panics
/// If it cannot.
pub fn fill(database: &Path, rows: u64) {
    let mut connection = open(database);
    connection
        .execute_batch(
            "PRAGMA synchronous = OFF; PRAGMA cache_size = -262144; PRAGMA wal_autocheckpoint = 100000",
        )
        .expect("settings");
    let body: serde_json::Value = serde_json::from_str(&body("filled", 1, true)).expect("JSON");
    let payload = body["payload"].to_string();
    let transaction = connection.transaction().expect("a transaction");
    {
        let mut run = transaction
            .prepare(
                "INSERT INTO runs (organization, repository, workflow, job, run_id, summary_id, seq, is_final,
                     start_time_ms, end_time_ms, duration_seconds, received_at_ms, digest, payload)
                 VALUES ('my-org', 'my-repo', 'ci.yml', ?1, ?2, ?3, 1, 1, 0, 0, 20.0, ?4, zeroblob(32), ?5)",
            )
            .expect("a statement");
        let mut container = transaction
            .prepare(
                "INSERT INTO containers (run, position, name, cpu_peak_cores, memory_peak_bytes)
                 VALUES (?1, 0, 'runner', 2.0, 1e6)",
            )
            .expect("a statement");
        for row in 0..rows {
            let job = match row % JOBS {
                0 => "build".to_owned(),
                job => format!("job-{job}"),
            };
            let id = format!("filled-{row:09}");
            run.execute(params![job, id, id, row as i64, payload]).expect("a row");
            container.execute([transaction.last_insert_rowid()]).expect("a row");
        }
    }
    transaction.commit().expect("commit");
    connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE); PRAGMA optimize").expect("a checkpoint");
}
