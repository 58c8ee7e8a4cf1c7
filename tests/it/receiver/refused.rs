//! Refused requests, with status and message. Nothing of them is stored.

use serde_json::{Value, json};
use tests::http::{self, Answer};
use tests::receiver::{READ_TOKEN, Receiver};

use super::submission;

const PUSH: &str = "/api/v1/metrics";
const QUERY: &str = "/api/v1/metrics/repo/my-org/my-repo/ci.yml/build";

fn problem(answer: &Answer, status: u16) -> Value {
    assert_eq!(answer.status, status, "{}", answer.body);
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{}", answer.body);
    let problem = answer.json();
    assert_eq!(problem["status"], status);
    problem
}

#[test]
fn fields_that_cannot_be_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&directory.path().join("db"));
    let organization = receiver.token(&json!({"organization": "my-org"}));
    let container =
        json!({"name": "x", "cpu_cores": {"peak": 1, "avg": 1}, "memory_bytes": {"peak": 1, "avg": 1}});
    let many = vec![container; 1001];
    let changes: [(&str, Value, &str, &str); 18] = [
        ("/payload/start_time", Value::Null, "payload.start_time", "null"),
        ("/payload/start_time", json!("yesterday"), "payload.start_time", "2026-02-06T14:30:00Z"),
        ("/payload/end_time", json!("2026-02-06T14:30:02.184Z"), "payload.end_time", "before start_time"),
        ("/payload/duration_seconds", json!(-1), "payload.duration_seconds", "0 or more"),
        ("/payload/sample_count", json!(-1), "payload.sample_count", "u64"),
        (
            "/payload/containers/0/cpu_cores/peak",
            json!(-0.5),
            "payload.containers[0].cpu_cores.peak",
            "is -0.5",
        ),
        ("/payload/containers/0/cpu_cores/peak", json!("two"), "payload.containers[0].cpu_cores.peak", "two"),
        (
            "/payload/containers/0/memory_bytes",
            json!({"peak": 1}),
            "payload.containers[0].memory_bytes.avg",
            "missing",
        ),
        ("/payload/containers/0/name", json!("a\u{7}b"), "payload.containers[0].name", "control character"),
        ("/payload/containers/0/name", json!(""), "payload.containers[0].name", "empty"),
        ("/payload/containers", json!(many), "payload.containers", "at most 1000"),
        ("/payload/top_cpu_processes/0/pid", json!(1.5), "payload.top_cpu_processes[0].pid", "u32"),
        ("/payload", json!([]), "payload", "invalid"),
        ("/organization", json!(""), "organization", "empty"),
        ("/job", json!("a\nb"), "job", "control character"),
        ("/workflow", json!("x".repeat(600)), "workflow", "at most 512"),
        ("/run_id", json!("\u{0}"), "run_id", "control character"),
        ("/repository", json!(5), "repository", "string"),
    ];
    for (pointer, value, field, words) in changes {
        let mut body = submission();
        *body.pointer_mut(pointer).unwrap() = value;
        let problem = problem(&receiver.push(&organization, &body.to_string()), 422);
        assert_eq!(problem["field"], field, "{pointer}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains(words), "{pointer}: {problem}");
    }
    let memory = json!({"peak": -1, "avg": 1});
    for (at, name, value, field, words) in [
        ("/payload/containers/0", "restarts", json!(u64::MAX), "payload.containers[0].restarts", "63 bits"),
        (
            "/payload",
            "pod_overhead",
            json!({"cpu_seconds": 1, "memory_bytes": memory}),
            "payload.pod_overhead.memory_bytes.peak",
            "0 or more",
        ),
        (
            "/payload",
            "pod_overhead",
            json!({"cpu_seconds": 1}),
            "payload.pod_overhead.memory_bytes",
            "missing",
        ),
        (
            "/payload",
            "pod",
            json!({"cpu_cores": {"peak": 1, "avg": 1}, "memory_bytes": {"peak": 1, "avg": -1}}),
            "payload.pod.memory_bytes.avg",
            "0 or more",
        ),
    ] {
        let mut body = submission();
        body.pointer_mut(at).unwrap()[name] = value;
        let problem = problem(&receiver.push(&organization, &body.to_string()), 422);
        assert_eq!(problem["field"], field, "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(words), "{problem}");
    }
    for field in ["organization", "run_id", "payload"] {
        let mut body = submission();
        body.as_object_mut().unwrap().remove(field);
        assert_eq!(problem(&receiver.push(&organization, &body.to_string()), 422)["field"], field);
    }
    let mut body = submission();
    body["payload"].as_object_mut().unwrap().remove("end_time");
    assert_eq!(problem(&receiver.push(&organization, &body.to_string()), 422)["field"], "payload.end_time");
    for (given, missing) in [("summary_id", "seq"), ("seq", "summary_id")] {
        let mut body = submission();
        body[given] = if given == "seq" { json!(1) } else { json!("x") };
        assert_eq!(problem(&receiver.push(&organization, &body.to_string()), 422)["field"], missing);
    }
    let twice = submission().to_string().replacen("\"run_id\":", "\"run_id\":\"other\",\"run_id\":", 1);
    assert!(
        problem(&receiver.push(&organization, &twice), 422)["detail"].as_str().unwrap().contains("duplicate")
    );
    assert!(receiver.runs().is_empty());
}

#[test]
fn what_is_no_json_is_told_by_line_and_column() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&directory.path().join("db"));
    let token = receiver.job_token();
    let deep = format!("{{\"payload\": {}", "[".repeat(5000));
    let text = submission().to_string();
    let infinite = text.replace("20.0", "1e999");
    let half = &text[..text.len() / 2];
    // In unknown fields, which are stored unchanged.
    let [lone, vast] = ["\"\\ud800\"", "[{\"x\": 1e999}]"]
        .map(|value| text.replacen("\"run_id\":", &format!("\"unknown\":{value},\"run_id\":"), 1));
    let inner = text.replacen("\"sample_count\":", "\"\\udc00\":1,\"sample_count\":", 1);
    let more = format!("{text}x");
    for body in [
        "{\n  \"organization\": nope}",
        "{",
        "\u{feff}{}",
        half,
        &infinite,
        &deep,
        &more,
        &lone,
        &vast,
        &inner,
    ] {
        let detail = problem(&receiver.push(&token, body), 400)["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains("line ") && detail.contains("column "), "{body}: {detail}");
    }
    let detail = problem(&receiver.push(&token, "{\n  \"organization\": nope}"), 400)["detail"].clone();
    assert!(detail.as_str().unwrap().contains("line 2 column 20"), "{detail}");
    assert!(receiver.runs().is_empty());
}

#[test]
fn types_sizes_paths_and_methods() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start_with(&directory.path().join("db"), &["--max-body=2000"]);
    let token = receiver.job_token();
    let head =
        format!("POST {PUSH} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {token}\r\n");
    let body = submission().to_string();
    for content_type in ["", "content-type: text/plain\r\n", "content-type: application/jsonp\r\n"] {
        let request = format!("{head}{content_type}content-length: {}\r\n\r\n{body}", body.len());
        problem(&http::raw(&receiver.address, request.as_bytes()), 415);
    }
    let request = format!(
        "{head}content-type: Application/JSON; charset=utf-8\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    assert_eq!(http::raw(&receiver.address, request.as_bytes()).status, 201);

    let json = "content-type: application/json\r\n";
    let announced = format!("{head}{json}content-length: 2001\r\n\r\n");
    problem(&http::raw(&receiver.address, announced.as_bytes()), 413);
    let chunk = "x".repeat(1500);
    let chunked = format!(
        "{head}{json}transfer-encoding: chunked\r\n\r\n5dc\r\n{chunk}\r\n5dc\r\n{chunk}\r\n0\r\n\r\n"
    );
    problem(&http::raw(&receiver.address, chunked.as_bytes()), 413);

    for path in ["/api/v2/metrics", "/api/v1/metric", "/api/v1/metrics/repo/a/b/c", "/metrics/../x"] {
        problem(&receiver.request("GET", path, READ_TOKEN, ""), 404);
    }
    for (method, path, allowed) in [
        ("GET", PUSH, "POST"),
        ("DELETE", PUSH, "POST"),
        ("GET", "/api/v1/token", "POST"),
        ("POST", QUERY, "GET, HEAD"),
        ("PUT", "/healthz", "GET, HEAD"),
    ] {
        let answer = receiver.request(method, path, READ_TOKEN, "");
        problem(&answer, 405);
        assert_eq!(answer.header("allow"), Some(allowed), "{method} {path}");
    }
    assert_eq!(receiver.runs().len(), 1);
}

#[test]
fn who_may_not() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&directory.path().join("db"));
    let body = submission().to_string();
    let token = receiver.job_token();
    let without = |path: &str| receiver.request("POST", path, "", &body);
    for answer in [
        without(PUSH),
        without("/api/v1/token"),
        receiver.request("GET", QUERY, "", ""),
        receiver.push(&token[1..], &body),
        receiver.push(&token.to_uppercase(), &body),
        receiver.push(&format!("{token}.x"), &body),
        receiver.request("GET", QUERY, &token, ""),
        receiver.request("GET", QUERY, "my-secret-toke", ""),
        receiver.request("POST", "/api/v1/token", &token, r#"{"organization":"my-org"}"#),
    ] {
        problem(&answer, 401);
        assert!(answer.header("www-authenticate").unwrap().starts_with("Bearer"), "{}", answer.body);
    }
    let scopes = [
        json!({"organization": "other"}),
        json!({"organization": "my-org", "repository": "other"}),
        json!({"organization": "my-org", "repository": "my-repo", "workflow": "other"}),
        json!({"organization": "my-org", "repository": "my-repo", "workflow": "ci.yml", "job": "other"}),
        json!({"organization": "my-org", "repository": "my-repo/ci.yml"}),
        json!({"organization": "my", "repository": "org/my-repo"}),
    ];
    for scope in scopes {
        problem(&receiver.push(&receiver.token(&scope), &body), 403);
    }
    problem(&receiver.push(READ_TOKEN, &body), 403);
    let forged = format!("{}.4000000000", receiver.job_token());
    problem(&receiver.push(&forged, &body), 403);
    assert!(receiver.runs().is_empty());
}

#[test]
fn a_body_is_not_read_for_who_has_no_token() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&directory.path().join("db"));
    // The request has no body, but it is answered.
    let head = format!(
        "POST {PUSH} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n"
    );
    let begin = std::time::Instant::now();
    problem(&http::raw(&receiver.address, head.as_bytes()), 401);
    assert!(begin.elapsed() < std::time::Duration::from_secs(5));
}

#[test]
fn query_parameters_are_checked() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&directory.path().join("db"));
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("limit=1&limit=2", "limit"),
        ("before=x", "before"),
        ("since=yesterday", "since"),
        ("until=2026-13-01T00:00:00Z", "until"),
        ("page=2", "page"),
    ] {
        let answer = receiver.request("GET", &format!("{QUERY}?{query}"), READ_TOKEN, "");
        assert_eq!(problem(&answer, 422)["field"], field, "{query}");
    }
    problem(&receiver.request("GET", &format!("{QUERY}?limit=%ff"), READ_TOKEN, ""), 400);
    for path in ["/api/v1/metrics/repo/a/b/c/d%0A", "/api/v1/metrics/repo/a//c/d"] {
        problem(&receiver.request("GET", path, READ_TOKEN, ""), 422);
    }
}
