//! Runs without their payloads, a single run, and two runs side by side.

use serde_json::{Value, json};
use tests::receiver::{READ_TOKEN, Receiver};

use super::submission;

fn get(receiver: &Receiver, path: &str) -> Value {
    let answer = receiver.request("GET", path, READ_TOKEN, "");
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    answer.json()
}

#[test]
fn a_run_is_told_short_and_whole() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&directory.path().join("db"));
    let mut body = submission();
    body["run_attempt"] = json!(2);
    let container = &mut body["payload"]["containers"][0];
    for (field, value) in [
        ("cpu_seconds", json!(30.5)),
        ("cpu_limit_cores", json!(2.0)),
        ("cpu_bound_cores", json!(6.5)),
        ("memory_bound_bytes", json!(3_u64 << 30)),
        ("memory_request_bytes", json!(1 << 30)),
        ("oom_kills", json!(1)),
        ("working_set_bytes", json!({"peak": 5.0, "avg": 4.0})),
        ("memory_peak_bytes", json!(99)),
    ] {
        container[field] = value;
    }
    let token = receiver.job_token();
    for _ in 0..3 {
        assert_eq!(receiver.push(&token, &body.to_string()).status, 201);
    }
    let runs = get(&receiver, "/api/v1/jobs/my-org/my-repo/ci.yml/build/runs?limit=2");
    assert_eq!(runs.as_array().unwrap().iter().map(|run| &run["id"]).collect::<Vec<_>>(), [3, 2]);
    let run = &runs[0];
    assert_eq!(
        (&run["run_attempt"], &run["final"], &run["duration_seconds"]),
        (&json!(2), &json!(true), &json!(20.0))
    );
    assert!(run.get("complete").is_none() && run.get("payload").is_none());
    assert_eq!(
        run["containers"],
        json!([{
            "name": "runner", "cpu_seconds": 30.5, "cpu_peak_cores": 2.007, "cpu_p95_cores": 2.004,
            "cpu_limit_cores": 2.0, "cpu_bound_cores": 6.5, "memory_bound_bytes": 3_u64 << 30, "memory_peak_bytes": 18_567_168.0, "working_set_peak_bytes": 5.0,
            "cgroup_memory_peak_bytes": 99, "memory_request_bytes": 1 << 30, "oom_kills": 1
        }])
    );
    let rest = get(&receiver, "/api/v1/jobs/my-org/my-org%2Fmy-repo/ci.yml/build/runs?before=2");
    assert_eq!(rest.as_array().unwrap().len(), 1);
    let whole = get(&receiver, "/api/v1/runs/3");
    assert_eq!(whole["payload"], body["payload"]);
    assert_eq!((&whole["id"], &whole["repository"]), (&json!(3), &json!("my-org/my-repo")));
    assert_eq!(receiver.request("GET", "/api/v1/runs/4", READ_TOKEN, "").status, 404);
    let none = receiver.request("GET", "/api/v1/jobs/my-org/my-repo/ci.yml/none/runs", READ_TOKEN, "");
    assert_eq!(none.status, 404);
}

#[test]
fn two_runs_are_compared() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&directory.path().join("db"));
    let token = receiver.job_token();
    let command = |name: &str, cpu_seconds: f64| json!({"name": name, "container": "runner", "cpu_seconds": cpu_seconds, "process_count": 3, "peak_mem_bytes": 8});
    let mut body = submission();
    body["payload"]["top_commands"] = json!([command("cc1", 4.0), command("ld", 1.0)]);
    assert_eq!(receiver.push(&token, &body.to_string()).status, 201);
    body["payload"]["containers"][0]["memory_bytes"]["peak"] = json!(37_134_336);
    let mut other = body["payload"]["containers"][0].clone();
    other["name"] = json!("database");
    body["payload"]["containers"].as_array_mut().unwrap().push(other);
    body["payload"]["top_commands"] = json!([command("cc1", 6.0), command("rustc", 9.0)]);
    assert_eq!(receiver.push(&token, &body.to_string()).status, 201);
    let comparison = get(&receiver, "/api/v1/compare?a=1&b=2");
    assert_eq!((&comparison["a"]["id"], &comparison["b"]["job"]), (&json!(1), &json!("build")));
    let container = |name: &str| {
        let containers = comparison["containers"].as_array().unwrap();
        containers.iter().find(|container| container["name"] == name).unwrap().clone()
    };
    let memory = json!({"a": 18_567_168.0, "b": 37_134_336.0, "difference": 18_567_168.0, "relative": 1.0});
    assert_eq!(container("runner")["memory_peak_bytes"], memory);
    assert_eq!(container("runner")["in"], "both");
    assert_eq!(
        (&container("database")["in"], &container("database")["oom_kills"]),
        (&json!("b"), &json!({}))
    );
    let commands: Vec<_> = comparison["commands"]
        .as_array()
        .unwrap()
        .iter()
        .map(|command| (command["name"].as_str().unwrap(), command["in"].as_str().unwrap()))
        .collect();
    assert_eq!(commands, [("rustc", "b"), ("cc1", "both"), ("ld", "a")]);
    let missing = receiver.request("GET", "/api/v1/compare?a=1&b=3", READ_TOKEN, "");
    assert_eq!(missing.status, 404);
    assert!(missing.json()["detail"].as_str().unwrap().starts_with("b is 3"));
}
