//! Inserts rows into a receiver's database directly: a year of runs in a minute.

use std::path::Path;

use rusqlite::params;

use crate::faults::{body, open};

/// The number of jobs that the rows belong to, including the one that most tests use. Each job gets about as many rows.
const JOBS: u64 = 1000;

/// Adds this many runs to a database that a receiver made and that is not in use.
///
/// # Panics
/// If the database cannot be written.
pub fn fill(database: &Path, rows: u64) {
    fill_jobs(database, JOBS, rows);
}

/// The same with this many jobs, each with different requests.
///
/// # Panics
/// If the database cannot be written.
pub fn fill_jobs(database: &Path, jobs: u64, rows: u64) {
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
        let mut job = transaction
            .prepare(
                "INSERT INTO jobs (organization, repository, workflow, job, run_count, last_run, last_received_at_ms)
                 VALUES ('my-org', 'my-repo', 'ci.yml', ?1, ?2, 0, 0)
                 ON CONFLICT DO UPDATE SET run_count = run_count + ?2, stale = 1 RETURNING id",
            )
            .expect("a statement");
        let ids: Vec<i64> = (0..jobs.min(rows))
            .map(|index| {
                let name = if index == 0 { "build".to_owned() } else { format!("job-{index}") };
                let count = (rows - index).div_ceil(jobs) as i64;
                job.query_row(params![name, count], |row| row.get(0)).expect("a job")
            })
            .collect();
        let mut run = transaction
            .prepare(
                "INSERT INTO runs (job_id, run_id, summary_id, seq, is_final, start_time_ms, end_time_ms,
                     duration_seconds, received_at_ms, digest, payload)
                 VALUES (?1, ?2, ?3, 1, 1, 0, 0, 20.0, ?4, zeroblob(32), ?5)",
            )
            .expect("a statement");
        let mut container = transaction
            .prepare(
                "INSERT INTO containers (run, position, name, cpu_seconds, cpu_peak_cores, cpu_p95_cores,
                     cpu_request_cores, memory_peak_bytes, memory_request_bytes, memory_limit_bytes)
                 VALUES (?1, 0, 'runner', 30.1, 2.0, 1.9, ?2, 1e9, ?3, ?3)",
            )
            .expect("a statement");
        for row in 0..rows {
            let job = ids[(row % jobs) as usize];
            let id = format!("filled-{row:09}");
            run.execute(params![job, id, id, row as i64, payload]).expect("a row");
            let (cores, bytes) = (2.0 + (job % 97) as f64 / 10.0, 1_100_000_000 + job % 89 * 100_000_000);
            container.execute(params![transaction.last_insert_rowid(), cores, bytes]).expect("a row");
        }
        let last = "UPDATE jobs SET last_run = (SELECT max(id) FROM runs WHERE job_id = jobs.id),
            last_received_at_ms = (SELECT max(received_at_ms) FROM runs WHERE job_id = jobs.id)";
        transaction.execute(last, []).expect("the last runs");
    }
    transaction.commit().expect("commit");
    connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE); PRAGMA optimize").expect("a checkpoint");
}
