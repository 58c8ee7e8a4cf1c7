//! What a CI system says about a run: stored, shown, exported, selected by, sized by.

use serde_json::{Value, json};
use tests::receiver::{READ_TOKEN, Receiver};

use super::page::{cookie, send, sign_in};
use super::submission;

const RUNS: &str = "/api/v1/jobs/my-org/my-repo/ci.yml/build/runs";
const SIZING: &str = "/api/v1/sizing/repo/my-org/my-repo/ci.yml/build";
const LINUX: &str = "{\"go\":\"1.26\",\"os\":\"linux\"}";

fn run(run_id: &str, ci: &Value, peak_mib: u64) -> Value {
    let mut body = submission();
    body["run_id"] = json!(run_id);
    body["payload"]["ci"] = ci.clone();
    body["payload"]["duration_seconds"] = json!(100.0);
    body["payload"]["containers"] = json!([{
        "name": "runner", "cpu_cores": {"peak": 1.0, "avg": 1.0, "p95": 1.0},
        "memory_bytes": {"peak": peak_mib << 20, "avg": 1000},
        "memory_needed_at_most_bytes": peak_mib << 20,
        "memory_request_bytes": 4u64 << 30, "memory_limit_bytes": 4u64 << 30,
    }]);
    body
}

fn ci(variant: &str, git_ref: &str, result: &str) -> Value {
    json!({
        "system": "forgejo", "variant": variant, "ref": git_ref, "sha": "0123abcd", "event": "push", "fork": false,
        "url": "https://ci.example/my-org/my-repo/actions/runs/7", "runner_name": "r1", "result": result,
    })
}

fn receiver() -> (tempfile::TempDir, Receiver) {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&directory.path().join("db"));
    (directory, receiver)
}

fn get(receiver: &Receiver, path: &str) -> Value {
    let answer = receiver.request("GET", path, READ_TOKEN, "");
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    answer.json()
}

fn push(receiver: &Receiver, body: &Value) {
    let answer = receiver.push(&receiver.job_token(), &body.to_string());
    assert_eq!(answer.status, 201, "{}", answer.body);
}

#[test]
fn runs_are_listed_shown_and_exported_by_what_the_ci_system_said() {
    let (_directory, receiver) = receiver();
    push(&receiver, &run("1", &ci(LINUX, "refs/heads/main", "success"), 100));
    push(&receiver, &run("2", &ci("other <b>", "refs/heads/side", "failure"), 100));
    push(&receiver, &run("3", &Value::Null, 100));
    let ids = |query: &str| -> Vec<String> {
        let runs = get(&receiver, &format!("{RUNS}?{query}"));
        let ids = runs.as_array().unwrap().iter().map(|run| run["run_id"].as_str().unwrap().to_owned());
        ids.collect()
    };
    assert_eq!(ids(""), ["3", "2", "1"]);
    let linux = "%7B%22go%22%3A%221.26%22%2C%22os%22%3A%22linux%22%7D";
    assert_eq!(ids(&format!("variant={linux}")), ["1"]);
    assert_eq!(ids("ref=refs/heads/side"), ["2"]);
    assert_eq!(ids("event=push&result=failure"), ["2"]);
    assert_eq!(ids("event=schedule"), Vec::<String>::new());
    let wrong = receiver.request("GET", &format!("{RUNS}?result=good"), READ_TOKEN, "");
    assert_eq!(wrong.status, 422, "{}", wrong.body);
    assert!(wrong.body.contains("success") && wrong.body.contains("cancelled"), "{}", wrong.body);
    let first = &get(&receiver, &format!("{RUNS}?ref=refs/heads/main"))[0];
    assert_eq!(first["ci"], ci(LINUX, "refs/heads/main", "success"));
    let whole = get(&receiver, "/api/v1/metrics/repo/my-org/my-repo/ci.yml/build?result=success");
    assert_eq!(whole.as_array().unwrap().len(), 1);
    assert_eq!(whole[0]["payload"]["ci"]["sha"], "0123abcd");

    let csv = receiver.request("GET", "/api/v1/export?format=csv", READ_TOKEN, "").body;
    let lines: Vec<&str> = csv.lines().collect();
    assert!(
        lines[0].ends_with(",variant,ref,sha,event,fork,result,ci_system,ci_url,runner_name,runner_labels"),
        "{csv}"
    );
    let quoted = LINUX.replace('"', "\"\"");
    let said = format!(
        ",\"{quoted}\",refs/heads/main,0123abcd,push,false,success,forgejo,https://ci.example/my-org/my-repo/actions/runs/7,r1,"
    );
    assert!(lines[1].ends_with(&said), "{csv}");
    assert!(lines[3].ends_with(&",".repeat(10)), "{csv}");

    let cookie = cookie(&sign_in(&receiver, "", READ_TOKEN));
    let page = |path: &str| send(&receiver, "GET", path, &format!("cookie: {cookie}\r\n"), "").body;
    let first = page("/runs/1");
    assert!(first.contains("href=\"https://ci.example/my-org/my-repo/actions/runs/7\""), "{first}");
    assert!(first.contains("refs/heads/main") && first.contains("0123abcd"), "{first}");
    let second = page("/runs/2");
    assert!(second.contains("other &#60;b&#62;") || second.contains("other &lt;b&gt;"), "{second}");
    assert!(second.contains("failed"), "{second}");
    let job = page("/jobs/my-org/my-repo/ci.yml/build?ref=refs%2Fheads%2Fside");
    assert!(job.contains("/runs/2\"") && !job.contains("/runs/1\""), "{job}");
}

#[test]
fn what_is_no_name_or_link_is_refused() {
    let (_directory, receiver) = receiver();
    for (field, value) in [
        ("url", json!("javascript:alert(1)")),
        ("url", json!("https://x y")),
        ("variant", json!("")),
        ("ref", json!("a\nb")),
        ("sha", json!("x".repeat(513))),
        ("result", json!(7)),
        ("fork", json!("yes")),
    ] {
        let mut body = run("1", &ci("a", "main", "success"), 100);
        body["payload"]["ci"][field] = value;
        let answer = receiver.push(&receiver.job_token(), &body.to_string());
        assert_eq!(answer.status, 422, "{field}: {}", answer.body);
        assert_eq!(answer.json()["field"], format!("payload.ci.{field}"), "{}", answer.body);
    }
}

#[test]
fn a_variant_is_sized_by_its_own_runs_if_they_are_enough() {
    let (_directory, receiver) = receiver();
    for at in 0..3 {
        push(&receiver, &run(&format!("s{at}"), &ci("small", "main", "success"), 100));
        push(&receiver, &run(&format!("l{at}"), &ci("large", "main", "success"), 1000));
    }
    push(&receiver, &run("new", &ci("new", "main", "success"), 100));
    let sized = |query: &str| {
        let sizing = get(&receiver, &format!("{SIZING}?{query}"));
        let row = &sizing["containers"][0];
        let mib = row["memory"]["target_bytes"].as_u64().unwrap_or_default() >> 20;
        (mib, row["basis"]["level"].as_str().unwrap_or_default().to_owned(), sizing)
    };
    let (mib, level, sizing) = sized("variant=small");
    assert!((100..=160).contains(&mib) && level == "variant", "{sizing:#}");
    assert_eq!(sizing["parameters"]["variant"], "small");
    let (mib, level, sizing) = sized("variant=large");
    assert!((1000..=1400).contains(&mib) && level == "variant", "{sizing:#}");
    for query in ["", "variant=new", "ref=main&event=push"] {
        let (mib, level, sizing) = sized(query);
        assert!((1000..=1400).contains(&mib) && level == "job", "{query}: {sizing:#}");
    }
    assert_eq!(sized("ref=elsewhere").1, "", "no run of that branch");
}

#[test]
fn a_run_that_failed_shows_only_what_is_needed_at_least() {
    let (_directory, receiver) = receiver();
    for at in 0..3 {
        push(&receiver, &run(&format!("f{at}"), &ci("a", "main", "failure"), 100));
    }
    let sizing = get(&receiver, SIZING);
    let memory = &sizing["containers"][0]["memory"];
    assert_eq!(memory["change"], "keep", "{sizing:#}");
    assert_eq!(sizing["containers"][0]["basis"]["censored_runs"], 3);
    assert!(memory["reasons"].to_string().contains("3 of 3 runs failed or were cancelled"), "{sizing:#}");
    for at in 0..3 {
        push(&receiver, &run(&format!("g{at}"), &ci("a", "main", "success"), 200));
    }
    let sizing = get(&receiver, SIZING);
    assert_eq!(sizing["containers"][0]["memory"]["change"], "lower", "{sizing:#}");
}
