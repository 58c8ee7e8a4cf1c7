//! The wire format, version 1, as a file. A change of the format shows here.

use serde_json::Value;
use wire::{Payload, Submission};

#[test]
fn every_field_is_read_and_written_as_documented() {
    let golden: Value = serde_json::from_str(include_str!("submission.json")).expect("JSON");
    let submission: Submission = serde_json::from_value(golden.clone()).expect("a submission");
    assert_eq!(serde_json::to_value(&submission).expect("JSON"), golden);
    assert_eq!(submission.payload.containers[0].process_count, Some(894));
}

#[test]
fn what_is_not_known_is_absent() {
    let least = r#"{"start_time":"2026-01-01T00:00:00Z","end_time":"2026-01-01T00:00:00Z","duration_seconds":1.0,"sample_count":2}"#;
    let payload: Payload = serde_json::from_str(least).expect("a payload");
    let written = serde_json::to_value(&payload).expect("JSON");
    let fields: Vec<_> = written.as_object().expect("an object").keys().map(String::as_str).collect();
    let lists = ["containers", "top_commands", "top_cpu_processes", "top_mem_processes"];
    let expected = ["duration_seconds", "end_time", "sample_count", "start_time"];
    assert_eq!(fields.len(), lists.len() + expected.len(), "{fields:?}");
    assert!(lists.iter().chain(&expected).all(|field| fields.contains(field)), "{fields:?}");
    let newer = least.replacen('{', r#"{"from_the_future":[1],"quantile_method":"better","#, 1);
    assert_eq!(serde_json::from_str::<Payload>(&newer).expect("a payload").sample_count, 2);
}
