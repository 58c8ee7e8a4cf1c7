//! The receiver over real sockets.

mod catalog;
mod ci;
mod export;
mod ingest;
mod joined;
mod life;
mod metrics;
mod page;
mod push_check;
mod query;
mod refused;
mod replay;
mod retention;
mod runs;
mod sizing;
mod streams;
mod tokens;
mod variables;

use serde_json::{Value, json};

/// A valid submission, for the job that most tests use.
fn submission() -> Value {
    json!({
        "organization": "my-org", "repository": "my-org/my-repo", "workflow": "ci.yml", "job": "build",
        "run_id": "run-123",
        "payload": {
            "start_time": "2026-02-06T14:30:02.185Z", "end_time": "2026-02-06T14:30:22.190Z",
            "duration_seconds": 20.0, "sample_count": 11,
            "cpu_total_percent": {"peak": 99.1, "avg": 50.0, "p50": 45.5},
            "mem_used_bytes": {"peak": 1000, "avg": 900},
            "containers": [{
                "name": "runner",
                "cpu_cores": {"peak": 2.007, "avg": 1.5, "p50": 1.817, "p95": 2.004},
                "memory_bytes": {"peak": 18_567_168, "avg": 18_567_168}
            }],
            "top_cpu_processes": [{"pid": 7, "name": "cc1", "peak_cpu_percent": 100.0}],
            "top_mem_processes": [{"pid": 7, "name": "cc1", "peak_mem_bytes": 4096}]
        }
    })
}

/// The same, as summary `seq` of one run.
fn summary(seq: u64, is_final: bool) -> Value {
    let mut submission = submission();
    submission["summary_id"] = json!("0192f0c4-aaaa");
    submission["seq"] = json!(seq);
    submission["final"] = json!(is_final);
    submission["payload"]["sample_count"] = json!(seq);
    submission
}
