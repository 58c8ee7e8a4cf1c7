//! The streamed export of everything.

use serde_json::{Value, json};
use tests::receiver::{READ_TOKEN, Receiver};

use super::submission;

fn get(receiver: &Receiver, query: &str) -> String {
    let answer = receiver.request("GET", &format!("/api/v1/export?{query}"), READ_TOKEN, "");
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body
}

#[test]
fn every_run_is_a_line_of_json() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&directory.path().join("db"));
    assert_eq!(get(&receiver, ""), "");
    let token = receiver.token(&json!({"organization": "my-org"}));
    // More runs than fit on a page, of alternating jobs. Pretty-printed, as a client may send them.
    let mut body = submission();
    body["payload"]["text"] = json!("a\nb");
    for run in 0..300 {
        body["run_id"] = json!(run.to_string());
        body["job"] = json!(["build", "a first one"][run % 2]);
        let body = serde_json::to_string_pretty(&body).unwrap();
        assert_eq!(receiver.push(&token, &body).status, 201);
    }
    let text = get(&receiver, "format=ndjson");
    let runs: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ids: Vec<_> = runs.iter().map(|run| run["id"].as_u64().unwrap()).collect();
    let expected: Vec<_> = (1..=150).map(|run| run * 2).chain((0..150).map(|run| run * 2 + 1)).collect();
    assert_eq!(ids, expected, "by the name of the job, then by id");
    assert_eq!(runs[0]["payload"], body["payload"]);
    let one = receiver.request("GET", "/api/v1/runs/2", READ_TOKEN, "").json();
    assert_eq!(runs[0], one);
    assert_eq!(get(&receiver, "search=FIRST").lines().count(), 150);
    assert_eq!(
        get(&receiver, "organization=my-org&repository=my-org/my-repo&workflow=ci.yml").lines().count(),
        300
    );
    assert_eq!(get(&receiver, "organization=other"), "");
    let middle = runs[10]["received_at"].as_str().unwrap();
    let since = get(&receiver, &format!("since={middle}")).lines().count();
    let until = get(&receiver, &format!("until={middle}")).lines().count();
    assert_eq!(since + until, 300);
    assert!(until >= 20, "{until}");
}

#[test]
fn every_container_is_a_line_of_csv() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&directory.path().join("db"));
    let mut body = submission();
    body["job"] = json!("=cmd|' /C calc'!A0");
    let mut second = body["payload"]["containers"][0].clone();
    second["name"] = json!("a,\"b\"");
    second["cpu_seconds"] = json!(1.5);
    body["payload"]["containers"].as_array_mut().unwrap().push(second);
    let token = receiver.token(&json!({"organization": "my-org"}));
    assert_eq!(receiver.push(&token, &body.to_string()).status, 201);
    body["payload"]["containers"] = json!([]);
    assert_eq!(receiver.push(&token, &body.to_string()).status, 201);
    let text = get(&receiver, "format=csv");
    let python = "import csv, json, sys; print(json.dumps(list(csv.DictReader(sys.stdin, strict=True))))";
    let file = directory.path().join("runs.csv");
    std::fs::write(&file, &text).unwrap();
    let input = std::fs::File::open(&file).unwrap();
    let output = std::process::Command::new("python3").args(["-c", python]).stdin(input).output().unwrap();
    let rows: Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows = rows.as_array().unwrap();
    assert_eq!(rows.len(), 3, "{text}");
    assert!(rows.iter().all(|row| row["job"] == "'=cmd|' /C calc'!A0"));
    assert_eq!((&rows[0]["container"], &rows[0]["cpu_peak_cores"]), (&json!("runner"), &json!("2.007")));
    assert_eq!((&rows[1]["container"], &rows[1]["cpu_seconds"]), (&json!("a,\"b\""), &json!("1.5")));
    assert_eq!((&rows[2]["run"], &rows[2]["container"]), (&json!("2"), &json!("")));
}
