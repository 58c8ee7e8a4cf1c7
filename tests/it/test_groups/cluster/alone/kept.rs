//! The receiver as in its manifest, and the change from the trial to permanent use.

use serde_json::{Value, json};

use super::super::asked::{
    COLLECTOR, READ_TOKEN, RECEIVER, kube, on_node, push_token, receiver, run_id, told, until,
};

/// The default of `--max-body`. The rest of the body besides the payload has to fit in as well.
const LARGEST: usize = 4 << 20;

/// A submission with this many containers.
fn submission(run_id: &str, containers: usize, is_final: bool) -> String {
    let container = |number: usize| {
        let stats = json!({"peak": 1.0, "p99": 1.0, "p95": 0.9, "p75": 0.5, "p50": 0.4, "avg": 0.3});
        json!({"name": format!("container-{number}"), "cpu_cores": stats, "memory_bytes": stats, "cpu_seconds": 1.0})
    };
    let payload = json!({
        "start_time": "2026-01-01T00:00:00Z", "end_time": "2026-01-01T00:01:00Z", "duration_seconds": 60.0,
        "sample_count": 30, "complete": is_final,
        "containers": (0..containers).map(container).collect::<Vec<_>>(),
        "top_commands": (0..containers * 11).map(|number| json!({
            "name": format!("command-{number}"), "process_count": 1, "cpu_seconds": 0.1, "peak_mem_bytes": 1,
        })).collect::<Vec<_>>(),
    });
    json!({
        "organization": "my-org", "repository": "my-org/my-repo", "workflow": "ci.yml", "job": "large", "run_id": run_id,
        "summary_id": format!("01a21973-63ce-744e-8d0b-{}", &run_id[..12]), "seq": if is_final { 2 } else { 1 },
        "final": is_final, "payload": payload,
    })
    .to_string()
}

/// The receiver's root file system is read-only, and only /data can be written to.
#[test]
fn the_largest_summaries_take_each_others_place_in_the_shipped_receiver() {
    let token = push_token("my-org");
    let address = told("CLUSTER_RECEIVER");
    let address = address.trim_start_matches("http://");
    for containers in [10, 100, 900] {
        let run_id = run_id();
        for (is_final, status) in [(false, 201), (true, 200)] {
            let body = submission(&run_id, containers, is_final);
            assert!(body.len() < LARGEST);
            let answer = tests::http::request(address, "POST", "/api/v1/metrics", &token, &body);
            assert_eq!(
                answer.status,
                status,
                "{containers} containers, {} bytes: {}",
                body.len(),
                answer.body
            );
        }
    }
    let exported = receiver("GET", "/api/v1/export?format=csv", "");
    assert_eq!(exported.status, 200, "{}", exported.body);
}

/// The trial's data is kept: the commands of docs/kubernetes.md, with the user's own secrets, applied over the running trial.
#[test]
fn from_the_trial_to_keeping_it_nothing_is_deleted() {
    let before = runs_in_all();
    let project = super::super::asked::project().join("deploy/kubernetes");
    let at = |name: &str| project.join(name).to_string_lossy().into_owned();
    let secret = |namespace: &str, name: &str, values: &Value| {
        super::super::asked::apply(&json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace}, "stringData": values,
        }));
    };
    let token = push_token("my-org");
    secret(RECEIVER, "receiver", &json!({"read-token": READ_TOKEN, "hmac-key": "dummyhmackey"}));
    secret(COLLECTOR, "collector", &json!({"push-token": token}));
    let rolled = || {
        for (namespace, what) in [(RECEIVER, "statefulset/receiver"), (COLLECTOR, "daemonset/collector")] {
            kube(&["--namespace", namespace, "rollout", "status", what, "--timeout=120s"]);
        }
    };
    for part in ["receiver", "node"] {
        kube(&["apply", "--kustomize", &at(part)]);
    }
    rolled();
    until("the same runs", || (runs_in_all() >= before).then_some(()));
    assert!(on_node("ls /volumes/receiver").contains("metrics.db"));
    // Back to the trial, for the tests that follow.
    kube(&["apply", "--kustomize", &at("overlays/try")]);
    rolled();
    until("the receiver", || (runs_in_all() >= before).then_some(()));
}

/// The number of stored runs.
fn runs_in_all() -> u64 {
    let answer = receiver("GET", "/api/v1/organizations", "");
    assert_eq!(answer.status, 200, "{}", answer.body);
    let all: Value = serde_json::from_str(&answer.body).unwrap();
    let all = all.as_array().or_else(|| all["organizations"].as_array()).cloned().unwrap_or_default();
    all.iter().filter_map(|one| one["run_count"].as_u64()).sum()
}
