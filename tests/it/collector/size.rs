//! The size of a summary.

use std::time::Duration;

use serde_json::Value;
use tests::day::{self, Day};
use tests::program::collector;
use tests::stub::{Stub, stored};
use wire::Submission;

const SCOPE: [(&str, &str); 5] = [
    ("GITHUB_REPOSITORY_OWNER", "an-organization-with-a-long-name"),
    ("GITHUB_REPOSITORY", "an-organization-with-a-long-name/and-its-repository"),
    ("GITHUB_WORKFLOW", "continuous-integration.yml"),
    ("GITHUB_JOB", "build-and-test-on-linux"),
    ("GITHUB_RUN_ID", "123456789012"),
];

#[test]
fn ten_containers_of_a_day_at_the_default_interval_are_less_than_64_kib() {
    let directory = tempfile::tempdir().unwrap();
    Day::in_full(10).checkpoint(directory.path(), &day::identity(&SCOPE)).unwrap();
    let stub = Stub::answering(vec![stored()]);
    let mut command = collector();
    command.arg("deliver").arg(directory.path()).args(["--push-token=token", "--log-level=error"]);
    let output = command.arg(format!("--push-endpoint={}", stub.endpoint())).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let [request] = <[_; 1]>::try_from(stub.requests()).unwrap();
    let submission: Submission = serde_json::from_slice(&request.body).unwrap();
    let payload = &submission.payload;
    // All lists are full.
    let lists = (payload.containers.len(), payload.top_cpu_processes.len(), payload.top_commands.len());
    assert_eq!(lists, (10, 10, 10));
    assert_eq!(payload.duration_seconds, Duration::from_hours(24).as_secs_f64());
    for usage in &payload.containers {
        let histogram = usage.cpu_cores_histogram.as_ref().unwrap();
        assert!(histogram.buckets().len() > 80, "{histogram:?}");
        assert!(
            (histogram.seconds() / payload.duration_seconds - 1.0).abs() < 0.001,
            "{}",
            histogram.seconds()
        );
        let series = usage.series.as_ref().unwrap();
        assert!(series.cpu_cores.len() > 120 && series.memory_bytes.iter().all(|bytes| *bytes > 1 << 30));
        let known = usage.cpu_periods.is_some() && usage.memory_request_bytes.is_some();
        assert!(known && usage.pod_uid.is_some() && usage.working_set_bytes.is_some(), "{usage:?}");
    }
    let bytes = request.body.len();
    let all = format!("{bytes} bytes, of which in containers {:?}", parts(&request.body));
    println!("{all}");
    assert!(bytes < 64 << 10, "{all}");
}

/// The bytes of each field of the containers.
fn parts(body: &[u8]) -> std::collections::BTreeMap<String, usize> {
    let mut parts = std::collections::BTreeMap::new();
    let body: Value = serde_json::from_slice(body).unwrap();
    for container in body["payload"]["containers"].as_array().unwrap() {
        for (field, value) in container.as_object().unwrap() {
            *parts.entry(field.clone()).or_default() += value.to_string().len();
        }
    }
    parts
}
