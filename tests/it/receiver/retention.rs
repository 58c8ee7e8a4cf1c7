//! Deletion of old runs, and of nothing else.

use std::process::Command;

use rusqlite::Connection;
use serde_json::json;
use tests::receiver::{READ_TOKEN, Receiver};

use super::{submission, summary};

/// Waits for the log line about deleted runs and returns their number.
fn deleted(receiver: &Receiver) -> u64 {
    let line = receiver.program().wait_for("runs were deleted because of their age or number");
    line["runs"].as_u64().unwrap()
}

fn ids(receiver: &Receiver) -> Vec<u64> {
    receiver.runs().iter().map(|run| run["id"].as_u64().unwrap()).collect()
}

fn check(database: &std::path::Path) {
    let program = tests::program::path("RECEIVER_BIN", "receiver");
    let output = Command::new(program).arg("check").arg(database).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_oldest_of_too_many_go() {
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("db");
    let receiver = Receiver::start(&database);
    let token = receiver.token(&json!({"organization": "my-org"}));
    for run in 0..130 {
        let mut body = submission();
        assert_eq!(receiver.push(&token, &body.to_string()).status, 201);
        if run < 3 {
            body["job"] = json!("few");
            assert_eq!(receiver.push(&token, &body.to_string()).status, 201);
        }
    }
    receiver.stop();
    let receiver = Receiver::start_with(&database, &["--keep-runs-per-job=5"]);
    assert_eq!(deleted(&receiver), 125);
    assert_eq!(ids(&receiver), [133, 132, 131, 130, 129]);
    let job = |job: &str| {
        let path = format!("/api/v1/jobs/my-org/my-repo/ci.yml/{job}");
        let job = receiver.request("GET", &path, READ_TOKEN, "").json();
        (job["run_count"].clone(), job["last_run"].clone())
    };
    assert_eq!(job("build"), (json!(5), json!(133)));
    assert_eq!(job("few"), (json!(3), json!(6)));
    let metrics = receiver.request("GET", "/metrics", "", "").body;
    assert!(metrics.contains("\nreceiver_runs_deleted_total 125\n"), "{metrics}");
    assert!(metrics.contains("\nreceiver_stored_runs 8\n"), "{metrics}");
    // An id is never used again.
    assert_eq!(receiver.push(&token, &submission().to_string()).json(), json!({"id": 134}));
    receiver.stop();
    check(&database);
}

#[test]
fn what_is_too_old_goes_and_a_job_without_runs_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("db");
    let receiver = Receiver::start(&database);
    let token = receiver.token(&json!({"organization": "my-org"}));
    for job in ["build", "gone", "build"] {
        let mut body = summary(1, true);
        body["job"] = json!(job);
        body["summary_id"] = json!(format!("{job}-{}", receiver.runs().len()));
        assert_eq!(receiver.push(&token, &body.to_string()).status, 201);
    }
    receiver.stop();
    let connection = Connection::open(&database).unwrap();
    connection
        .execute("UPDATE runs SET received_at_ms = received_at_ms - 100 * 86400000 WHERE id < 3", [])
        .unwrap();
    drop(connection);
    let receiver = Receiver::start_with(&database, &["--retention=90d"]);
    assert_eq!(deleted(&receiver), 2);
    assert_eq!(ids(&receiver), [3]);
    let jobs = receiver.request("GET", "/api/v1/jobs", READ_TOKEN, "").json();
    assert_eq!(jobs.as_array().unwrap().len(), 1, "{jobs}");
    let orphans = Connection::open(&database).unwrap();
    let containers: i64 = orphans.query_row("SELECT count(*) FROM containers", [], |row| row.get(0)).unwrap();
    assert_eq!(containers, 1, "containers go with their runs");
    drop(orphans);
    // A run that is pushed again after its deletion is a new row, and its job reappears.
    let mut body = summary(1, true);
    body["job"] = json!("gone");
    body["summary_id"] = json!("gone-1");
    assert_eq!(receiver.push(&token, &body.to_string()).json(), json!({"id": 4}));
    receiver.stop();
    check(&database);
}

#[test]
fn a_database_whose_jobs_do_not_agree_with_their_runs_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("db");
    let receiver = Receiver::start(&database);
    assert_eq!(receiver.push(&receiver.job_token(), &submission().to_string()).status, 201);
    receiver.stop();
    check(&database);
    Connection::open(&database).unwrap().execute("UPDATE jobs SET run_count = 2", []).unwrap();
    let program = tests::program::path("RECEIVER_BIN", "receiver");
    let output = Command::new(program).arg("check").arg(&database).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && stderr.contains("1 jobs do not match"), "{stderr}");
}

#[test]
fn what_is_wrong_with_it_is_named() {
    for argument in ["--retention=soon", "--retention=0s", "--keep-runs-per-job=0", "--keep-runs-per-job=-1"]
    {
        let output = tests::receiver::command().arg(argument).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{argument}");
        assert!(stderr.contains(argument.split('=').next().unwrap()), "{stderr}");
    }
}
