//! A run measured by both a sidecar and the node's collector.

use std::process::Command;

use serde_json::{Value, json};
use tests::receiver::{READ_TOKEN, Receiver};

use super::page::{cookie, send, sign_in};
use super::submission;

const POD: &str = "6a4ce4a0-ba47-11ea-b2a7-0cc47ac5979e";

/// A collector's summary of a pod whose job used this much CPU time.
fn summary(mode: &str, run: &str, seq: u64, is_final: bool, cpu_seconds: f64) -> Value {
    let is_node = mode == "node";
    let container = |name: &str, id: Option<&str>, cpu_seconds: f64| {
        json!({
            "name": name, "id": id, "pod_uid": format!("{POD}{run}"), "cpu_seconds": cpu_seconds, "process_count": 3,
            "cpu_cores": {"peak": 2.0, "p95": 1.5, "avg": 1.0}, "cpu_cores_histogram": [[20, 20.0]],
            "memory_bytes": {"peak": 200_000_000, "avg": 100_000_000},
            "oom_kills": if is_node { json!(1) } else { Value::Null },
        })
    };
    // A sidecar with a cgroup namespace of its own does not know its id.
    let own = is_node.then_some("c1c1c1c1c1c1c1c1");
    let containers =
        [container("build", Some("b1b1b1b1b1b1b1b1"), cpu_seconds), container("collector", own, 0.1)];
    let mut body = submission();
    body["run_id"] = if is_node { json!(run) } else { json!(format!("{POD}{run}")) };
    body["summary_id"] = json!(format!("{mode}-{run}"));
    body["seq"] = json!(seq);
    body["final"] = json!(is_final);
    body["payload"]["complete"] = json!(is_final);
    body["payload"]["containers"] = json!(containers);
    body["payload"]["collector"] = json!({
        "version": "1", "mode": mode, "source": if is_node { "ebpf" } else { "proc" }, "interval_seconds": 2.0,
        "cpu_count": 2
    });
    body["payload"]["attribution"] = json!({
        "cpu_seconds": cpu_seconds + 0.1, "exited_cpu_seconds": 0.0, "unattributed_cpu_seconds": 0.0,
        "process_count": 6, "missed_samples": 0, "lost_records": 0, "collector_cpu_seconds": 0.1
    });
    body
}

/// Pushes, and returns the status and the answer.
fn push(receiver: &Receiver, body: &Value) -> (u16, Value) {
    let answer = receiver.push(&receiver.job_token(), &body.to_string());
    (answer.status, answer.json())
}

fn get(receiver: &Receiver, path: &str) -> Value {
    let answer = receiver.request("GET", path, READ_TOKEN, "");
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    answer.json()
}

/// Pushes four runs, each measured by both collectors, in different orders and with repeats.
fn pushed(receiver: &Receiver) {
    let sidecar = |run: &str, seq, is_final| summary("sidecar", run, seq, is_final, 15.0 + seq as f64);
    let node = |run: &str, seq, is_final| summary("node", run, seq, is_final, 18.0 + seq as f64);
    assert_eq!(push(receiver, &sidecar("1", 1, false)), (201, json!({"id": 1})));
    assert_eq!(push(receiver, &node("1", 1, false)), (200, json!({"id": 1, "joined": true})));
    assert_eq!(push(receiver, &node("1", 1, false)), (200, json!({"id": 1})), "a repeat");
    assert_eq!(push(receiver, &sidecar("1", 2, true)), (200, json!({"id": 1})));
    assert_eq!(push(receiver, &node("1", 2, true)), (200, json!({"id": 1})));
    assert_eq!(push(receiver, &node("1", 1, false)), (200, json!({"id": 1, "superseded": true})));
    let mut other = node("1", 2, true);
    other["payload"]["sample_count"] = json!(99);
    assert_eq!(push(receiver, &other).0, 409, "another summary of the same number");

    assert_eq!(push(receiver, &node("2", 2, true)), (201, json!({"id": 2})));
    assert_eq!(push(receiver, &sidecar("2", 2, true)), (200, json!({"id": 2, "joined": true})));
    assert_eq!(push(receiver, &sidecar("2", 1, false)), (200, json!({"id": 2, "superseded": true})));
    for run in ["3", "4"] {
        push(receiver, &sidecar(run, 2, true));
        push(receiver, &node(run, 2, true));
    }
}

#[test]
fn two_that_measured_one_run_are_one_row_everywhere() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&directory.path().join("db"));
    pushed(&receiver);

    let runs = receiver.runs();
    let told: Vec<_> = runs.iter().map(|run| (&run["id"], run["run_id"].as_str().unwrap())).collect();
    assert_eq!(told, [(&json!(4), "4"), (&json!(3), "3"), (&json!(2), "2"), (&json!(1), "1")]);
    // The result does not depend on the order of the pushes.
    for run in &runs {
        let containers = run["payload"]["containers"].as_array().unwrap();
        let names: Vec<_> = containers.iter().map(|container| container["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["build", "collector"], "{run}");
        assert_eq!((&containers[0]["cpu_seconds"], &containers[0]["oom_kills"]), (&json!(20.0), &json!(1)));
        assert_eq!(run["payload"]["attribution"]["cpu_seconds"], 20.1);
        assert_eq!(run["payload"]["complete"], true);
    }
    assert_eq!(
        runs[3]["sources"],
        json!([
            {"mode": "node", "source": "ebpf", "summary_id": "node-1", "seq": 2, "final": true, "complete": true},
            {"mode": "sidecar", "source": "proc", "summary_id": "sidecar-1", "seq": 2, "final": true, "complete": true}
        ])
    );
    assert_eq!(get(&receiver, "/api/v1/runs/1")["sources"], runs[3]["sources"]);

    let job = "/api/v1/jobs/my-org/my-repo/ci.yml/build";
    assert_eq!(get(&receiver, job)["run_count"], 4);
    assert_eq!(get(&receiver, "/api/v1/workflows")[0]["run_count"], 4);
    assert_eq!(get(&receiver, &format!("{job}/runs")).as_array().unwrap().len(), 4);
    let lines = |query: &str| {
        let answer = receiver.request("GET", &format!("/api/v1/export?{query}"), READ_TOKEN, "");
        answer.body.lines().count()
    };
    assert_eq!((lines("format=ndjson"), lines("format=csv")), (4, 1 + 4 * 2));
    let sizing = get(&receiver, "/api/v1/sizing/repo/my-org/my-repo/ci.yml/build");
    assert_eq!(
        (&sizing["window"]["runs"], &sizing["containers"][0]["basis"]["runs"]),
        (&json!(4), &json!(4))
    );
    let compared = get(&receiver, "/api/v1/compare?a=1&b=2");
    assert_eq!(compared["containers"].as_array().unwrap().len(), 2);
    let session = cookie(&sign_in(&receiver, "", READ_TOKEN));
    let page = send(&receiver, "GET", "/runs/1", &format!("cookie: {session}\r\n"), "").body;
    assert!(page.contains("<dt>Measured by</dt><dd>node collector (eBPF), sidecar</dd>"), "{page}");
    let metrics = receiver.request("GET", "/metrics", "", "").body;
    for line in [
        "receiver_stored_runs 4",
        "receiver_summaries_total{outcome=\"created\"} 4",
        "receiver_summaries_total{outcome=\"joined\"} 4",
    ] {
        assert!(metrics.lines().any(|other| other == line), "{line}: {metrics}");
    }
}

#[test]
fn two_legs_of_a_matrix_are_never_one_run() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&directory.path().join("db"));
    let leg = |mut body: Value, variant: &str| {
        body["payload"]["ci"] = json!({"variant": variant, "sha": "0123abcd"});
        body
    };
    let sidecar = |run| summary("sidecar", run, 1, true, 15.0);
    let node = |run| summary("node", run, 1, true, 18.0);
    assert_eq!(push(&receiver, &leg(sidecar("1"), "linux")), (201, json!({"id": 1})));
    assert_eq!(push(&receiver, &leg(node("1"), "macos")), (201, json!({"id": 2})));
    assert_eq!(push(&receiver, &leg(node("2"), "linux")), (201, json!({"id": 3})));
    // A sidecar that does not know its variant measured the run of the node's collector, which does.
    let mut unknown = sidecar("2");
    unknown["payload"]["ci"] = json!({"ref": "main"});
    assert_eq!(push(&receiver, &unknown), (200, json!({"id": 3, "joined": true})));
    let ci = get(&receiver, "/api/v1/runs/3")["payload"]["ci"].clone();
    assert_eq!(ci, json!({"variant": "linux", "sha": "0123abcd", "ref": "main"}));
}

#[test]
fn a_run_goes_with_all_that_was_told_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("db");
    let receiver = Receiver::start(&database);
    pushed(&receiver);
    receiver.stop();
    let receiver = Receiver::start_with(&database, &["--keep-runs-per-job=2"]);
    let line = receiver.program().wait_for("runs were deleted because of their age or number");
    assert_eq!(line["runs"], 2);
    let ids: Vec<_> = receiver.runs().iter().map(|run| run["id"].clone()).collect();
    assert_eq!(ids, [4, 3]);
    // The receiver forgets deleted runs: a repeated summary makes a new run, and the other collector's summary joins it.
    assert_eq!(push(&receiver, &summary("node", "1", 2, true, 20.0)), (201, json!({"id": 5})));
    let late = summary("sidecar", "1", 2, true, 17.0);
    assert_eq!(push(&receiver, &late), (200, json!({"id": 5, "joined": true})));
    receiver.stop();
    let connection = rusqlite::Connection::open(&database).unwrap();
    let count = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(count("SELECT count(*) FROM parts"), 6);
    assert_eq!(count("SELECT count(DISTINCT run) FROM parts"), count("SELECT count(*) FROM runs"));
    drop(connection);
    let copy = directory.path().join("copy");
    let program = tests::program::path("RECEIVER_BIN", "receiver");
    for arguments in
        [vec!["backup".into(), "--db".into(), database.clone(), copy.clone()], vec!["check".into(), copy]]
    {
        let output = Command::new(&program).args(&arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
