use serde_json::{Value, json};
use tests::receiver::{READ_TOKEN, Receiver};

use super::submission;

fn ids(answer: &tests::http::Answer) -> Vec<u64> {
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json().as_array().unwrap().iter().map(|run| run["id"].as_u64().unwrap()).collect()
}

#[test]
fn pages_lead_through_all_runs() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&directory.path().join("db"));
    let token = receiver.token(&json!({"organization": "my-org"}));
    for run in 0..7 {
        let mut body = submission();
        body["run_id"] = json!(format!("run {}/{run}", run % 2));
        assert_eq!(receiver.push(&token, &body.to_string()).status, 201);
        body["job"] = json!("other");
        assert_eq!(receiver.push(&token, &body.to_string()).status, 201);
    }
    let mut path = "/api/v1/metrics/repo/my-org/my-org%2Fmy-repo/ci.yml/build?limit=3".to_owned();
    let mut pages = vec![];
    loop {
        let answer = receiver.request("GET", &path, READ_TOKEN, "");
        pages.push(ids(&answer));
        let Some(link) = answer.header("link") else { break };
        path = link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap().to_owned();
    }
    assert_eq!(pages, [vec![13, 11, 9], vec![7, 5, 3], vec![1]]);
    let get = |query: &str| {
        ids(&receiver.request(
            "GET",
            &format!("/api/v1/metrics/repo/my-org/my-repo/ci.yml/build?{query}"),
            READ_TOKEN,
            "",
        ))
    };
    assert_eq!(get("run_id=run%201/3"), [7]);
    assert_eq!(get("run_id=run+0/2&limit=5"), [5]);
    assert_eq!(get("before=5"), [3, 1]);
    assert_eq!(get("since=2000-01-01T00:00:00Z&until=2100-01-01T00:00:00Z").len(), 7);
    assert!(get("since=2100-01-01T00:00:00Z").is_empty() && get("until=2000-01-01T00:00:00Z").is_empty());
}

#[test]
fn any_name_can_be_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&directory.path().join("db"));
    let names = ["a/b", "a%2Fb", "..", "ü ☃", "a?b#c", "x".repeat(512).leak()];
    let encode = |name: &str| name.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
    for name in names {
        let scope = json!({"organization": name, "repository": name, "workflow": name, "job": name});
        let mut body = submission();
        for (field, value) in scope.as_object().unwrap() {
            body[field] = value.clone();
        }
        assert_eq!(receiver.push(&receiver.token(&scope), &body.to_string()).status, 201, "{name}");
        let name = encode(name);
        let path = format!("/api/v1/metrics/repo/{name}/{name}/{name}/{name}");
        let runs: Value = receiver.request("GET", &path, READ_TOKEN, "").json();
        assert_eq!(runs.as_array().unwrap().len(), 1, "{path}");
    }
}
