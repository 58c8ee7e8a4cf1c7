use serde_json::json;
use tests::http::request;
use tests::receiver::Receiver;

use super::{submission, summary};

#[test]
fn the_originals_example_is_stored_and_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&directory.path().join("db"));
    let token = receiver.job_token();
    let answer = receiver.push(&token, &submission().to_string());
    assert_eq!((answer.status, answer.json()), (201, json!({"id": 1})));
    // Without a summary_id every push is a row of its own.
    assert_eq!(receiver.push(&token, &submission().to_string()).json(), json!({"id": 2}));
    let runs = receiver.runs();
    assert_eq!(runs.iter().map(|run| &run["id"]).collect::<Vec<_>>(), [2, 1]);
    let expected = submission();
    for field in ["organization", "repository", "workflow", "job", "run_id", "payload"] {
        assert_eq!(runs[0][field], expected[field], "{field}");
    }
    assert!(runs[0]["received_at"].as_str().unwrap().ends_with('Z'));
}

#[test]
fn a_payload_is_kept_as_it_came() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&directory.path().join("db"));
    let odd = r#"{ "start_time":"2026-01-01T00:00:00Z",  "end_time":"2026-01-01T00:00:00Z", "duration_seconds":1.000,
        "sample_count":1, "from_the_future": {"x": [1e2, 123456789012345678901234567890, "\u00e9"]} }"#;
    let body = format!(
        r#"{{"organization":"my-org","repository":"my-repo","workflow":"ci.yml","job":"build","run_id":"1","new":1,"payload":{odd}}}"#
    );
    assert_eq!(receiver.push(&receiver.job_token(), &body).status, 201);
    let path = "/api/v1/metrics/repo/my-org/my-repo/ci.yml/build";
    let answer = receiver.request("GET", path, tests::receiver::READ_TOKEN, "");
    assert!(answer.body.contains(odd), "{}", answer.body);
}

#[test]
fn all_summaries_of_a_run_are_one_row() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&directory.path().join("db"));
    let token = receiver.job_token();
    let push = |body: &serde_json::Value| {
        let answer = receiver.push(&token, &body.to_string());
        (answer.status, answer.json())
    };
    let stored = json!({"id": 1});
    let superseded = json!({"id": 1, "superseded": true});
    assert_eq!(push(&summary(2, false)), (201, stored.clone()));
    assert_eq!(push(&summary(2, false)), (200, stored.clone()));
    assert_eq!(push(&summary(1, false)), (200, superseded.clone()));
    assert_eq!(push(&summary(3, false)), (200, stored.clone()));
    assert_eq!(push(&summary(5, true)), (200, stored.clone()));
    assert_eq!(push(&summary(6, false)), (200, superseded), "an interim one never replaces the final one");
    let mut other = summary(5, true);
    other["payload"]["duration_seconds"] = json!(21.0);
    let (status, problem) = push(&other);
    assert_eq!((status, &problem["status"]), (409, &json!(409)));
    let runs = receiver.runs();
    assert_eq!(runs.len(), 1);
    assert_eq!(runs[0]["payload"]["sample_count"], 5);
    // The same summary_id in another scope is another run.
    let mut elsewhere = summary(9, true);
    elsewhere["job"] = json!("test");
    let workflow =
        receiver.token(&json!({"organization": "my-org", "repository": "my-repo", "workflow": "ci.yml"}));
    assert_eq!(receiver.push(&workflow, &elsewhere.to_string()).status, 201);
    assert_eq!(receiver.runs()[0]["payload"]["sample_count"], 5);
}

#[test]
fn many_at_once_are_one_row_too() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&directory.path().join("db"));
    let token = receiver.job_token();
    let body = summary(1, true).to_string();
    let address = &receiver.address;
    let push = || request(address, "POST", "/api/v1/metrics", &token, &body).status;
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let pushes: Vec<_> = (0..50).map(|_| scope.spawn(push)).collect();
        pushes.into_iter().map(|push| push.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| [200, 201].contains(status)), "{statuses:?}");
    assert_eq!(receiver.runs().len(), 1);
}
