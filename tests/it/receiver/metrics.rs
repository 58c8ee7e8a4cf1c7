//! The receiver's own metrics.

use serde_json::json;
use tests::receiver::{READ_TOKEN, Receiver};

use super::{submission, summary};

#[test]
fn what_happens_is_counted_and_nobody_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&directory.path().join("db"));
    let token = receiver.job_token();
    for seq in [2, 2, 1, 3] {
        assert_eq!(receiver.push(&token, &summary(seq, false).to_string()).status / 100, 2);
    }
    assert_eq!(receiver.push(&token, "{").status, 400);
    let mut wrong = submission();
    wrong["payload"]["duration_seconds"] = json!(-1);
    assert_eq!(receiver.push(&token, &wrong.to_string()).status, 422);
    wrong = submission();
    wrong["job"] = json!("other");
    assert_eq!(receiver.push(&token, &wrong.to_string()).status, 403);
    assert_eq!(receiver.request("GET", "/api/v1/jobs", "wrong", "").status, 401);
    assert_eq!(
        receiver.request("GET", "/api/v1/jobs/my-org/my-repo/ci.yml/build", READ_TOKEN, "").status,
        200
    );
    assert_eq!(receiver.request("BREW", "/nowhere", "", "").status, 404);
    let answer = receiver.request("GET", "/metrics", "", "");
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let text = answer.body;
    for line in [
        "receiver_summaries_total{outcome=\"created\"} 1",
        "receiver_summaries_total{outcome=\"replaced\"} 1",
        "receiver_summaries_total{outcome=\"repeated\"} 1",
        "receiver_summaries_total{outcome=\"superseded\"} 1",
        "receiver_summaries_rejected_total{reason=\"malformed\"} 1",
        "receiver_summaries_rejected_total{reason=\"invalid\"} 1",
        "receiver_summaries_rejected_total{reason=\"forbidden\"} 1",
        "receiver_failed_authentications_total 2",
        "receiver_http_requests_total{route=\"(none)\",method=\"other\",status=\"404\"} 1",
        "receiver_http_requests_total{route=\"/api/v1/jobs/{organization}/{repository}/{workflow}/{job}\",method=\"GET\",status=\"200\"} 1",
        "receiver_http_request_duration_seconds_count{route=\"/api/v1/metrics\"} 7",
        "receiver_stored_runs 1",
        "receiver_stored_jobs 1",
        "receiver_write_queue_length 0",
        "receiver_runs_deleted_total 0",
    ] {
        assert!(text.lines().any(|told| told == line), "{line} is not in\n{text}");
    }
    let value = |name: &str| {
        let line =
            text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name}\n{text}"));
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    assert!(value("receiver_database_size_bytes{file=\"database\"}") >= 4096.0);
    assert!(value("receiver_database_size_bytes{file=\"write_ahead_log\"}") > 0.0);
    for name in ["my-org", "my-repo", "ci.yml", "run-123"] {
        assert!(!text.contains(name), "{text}");
    }
}
