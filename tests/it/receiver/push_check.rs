//! The check whether a push would be accepted, before there is anything to push.

use serde_json::json;
use tests::http::Answer;
use tests::receiver::{READ_TOKEN, Receiver};

use super::submission;

const CHECK: &str = "/api/v1/push-check";
const JOB: &str = "organization=my-org&repository=my-repo&workflow=ci.yml&job=build";

fn check(receiver: &Receiver, token: &str, query: &str) -> Answer {
    receiver.request("GET", &format!("{CHECK}?{query}"), token, "")
}

fn detail(answer: &Answer, status: u16) -> String {
    assert_eq!(answer.status, status, "{}", answer.body);
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    answer.json()["detail"].as_str().unwrap().to_owned()
}

#[test]
fn it_is_answered_as_the_push_will_be() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&directory.path().join("db"));
    let body = submission().to_string();
    let other = "this push token was not made for this organization, repository, workflow and job";
    let read = "this is a read token, not a push token; POST /api/v1/token makes one";
    let garbled = "this is not a push token; POST /api/v1/token makes one";
    let job = receiver.job_token();
    let cases = [
        (job.clone(), 204, ""),
        (receiver.token(&json!({"organization": "my-org"})), 204, ""),
        (receiver.token(&json!({"organization": "my-org", "repository": "my-org/my-repo"})), 204, ""),
        (receiver.token(&json!({"organization": "other"})), 403, other),
        (receiver.token(&json!({"organization": "my-org", "repository": "other"})), 403, other),
        (format!("{job}.4000000000"), 403, other),
        (READ_TOKEN.to_owned(), 403, read),
        (job[1..].to_owned(), 401, garbled),
        ("nonsense".to_owned(), 401, garbled),
        (String::new(), 401, "an Authorization header with a Bearer token is needed"),
    ];
    for (token, status, words) in &cases {
        let answer = check(&receiver, token, JOB);
        let pushed = receiver.push(token, &body);
        let version = answer.header("receiver-version").unwrap_or_else(|| panic!("{answer:?}"));
        assert!(version.starts_with(|first: char| first.is_ascii_digit()), "{version}");
        if *status == 204 {
            assert_eq!(
                (answer.status, answer.body.as_str(), pushed.status),
                (204, "", 201),
                "{}",
                pushed.body
            );
        } else {
            assert_eq!(detail(&answer, *status), *words);
            assert_eq!(detail(&pushed, *status), *words, "the push is told the same");
        }
    }
    assert_eq!(receiver.runs().len(), 3);
}

#[test]
fn a_read_token_in_the_form_of_a_push_token_is_told_from_one() {
    let directory = tempfile::tempdir().unwrap();
    let hexadecimal = "0123456789abcdef".repeat(4);
    let arguments = [&format!("--read-token={READ_TOKEN}\n{hexadecimal}")];
    let receiver = Receiver::start_with(&directory.path().join("db"), &arguments.map(String::as_str));
    let answer = check(&receiver, &hexadecimal, JOB);
    assert!(detail(&answer, 403).starts_with("this is a read token"), "{}", answer.body);
}

#[test]
fn it_says_since_when_a_token_has_expired() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&directory.path().join("db"));
    let minted = json!({"organization": "my-org", "expires_in_seconds": 1}).to_string();
    let minted = receiver.request("POST", "/api/v1/token", READ_TOKEN, &minted).json();
    let (token, until) = (minted["token"].as_str().unwrap(), minted["expires_at"].as_str().unwrap());
    let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
    let answer = loop {
        let answer = check(&receiver, token, JOB);
        if answer.status != 204 {
            break answer;
        }
        assert!(std::time::Instant::now() < end, "it is still valid");
        std::thread::sleep(std::time::Duration::from_millis(50));
    };
    let expected = format!("this push token has expired; it was valid until {until}");
    assert_eq!(detail(&answer, 403), expected);
    assert_eq!(detail(&receiver.push(token, &submission().to_string()), 403), expected);
}

#[test]
fn what_is_left_out_is_all_below() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&directory.path().join("db"));
    let organization = receiver.token(&json!({"organization": "my-org"}));
    let repository = receiver.token(&json!({"organization": "my-org", "repository": "my-repo"}));
    for (token, query, status) in [
        (&organization, "organization=my-org", 204),
        (&organization, "organization=my-org&repository=my-repo&workflow=ci.yml", 204),
        (&repository, "organization=my-org&repository=my-org%2Fmy-repo", 204),
        (&repository, "organization=my-org", 403),
    ] {
        assert_eq!(check(&receiver, token, query).status, status, "{query}");
    }
    assert_eq!(
        detail(&check(&receiver, &repository, "organization=my-org"), 403),
        "this push token was not made for this organization"
    );
    let answer = check(&receiver, &organization, "organization=other&repository=my-repo");
    assert_eq!(detail(&answer, 403), "this push token was not made for this organization and repository");
}

#[test]
fn what_is_no_scope_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&directory.path().join("db"));
    let token = receiver.job_token();
    for (query, field) in [
        ("", "organization"),
        ("organization=%0A", "organization"),
        ("organization=o&job=j", "repository"),
        ("organization=o&repository=", "repository"),
        ("organization=o&organization=o", "organization"),
        ("organization=o&branch=main", "branch"),
    ] {
        let answer = check(&receiver, &token, query);
        assert_eq!(
            (answer.status, &answer.json()["field"]),
            (422, &json!(field)),
            "{query}: {}",
            answer.body
        );
    }
    assert_eq!(receiver.request("POST", CHECK, &token, "{}").status, 405);
    assert_eq!(receiver.request("HEAD", &format!("{CHECK}?{JOB}"), &token, "").status, 204);
}

#[test]
fn names_are_made_normal_wherever_a_token_is_made_or_asked_about() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&directory.path().join("db"));
    let long = "☃".repeat(600);
    // Names as CI systems set them, and as the collector sends them.
    let names = [
        ("Docker: Build & Push\n", "Docker: Build & Push", "Docker%3A+Build+%26+Push%0A"),
        (" build\t\u{7}  all ", "build all", "+build%09%07++all+"),
        ("a  b", "a b", "a++b"),
        (long.as_str(), &wire::normal_name(&long), &long.replace('☃', "%E2%98%83")),
    ];
    for (raw, normal, encoded) in names {
        let scope =
            json!({"organization": "my-org\n", "repository": " my-org/my-repo", "workflow": raw, "job": raw});
        let token = receiver.token(&scope);
        assert_eq!(
            token,
            receiver.token(
                &json!({"organization": "my-org", "repository": "my-repo", "workflow": normal, "job": normal})
            )
        );
        let mut offline = tests::receiver::command();
        offline.args([
            "token",
            "--organization",
            "my-org\n",
            "--repository=my-repo",
            "--workflow",
            raw,
            "--job",
            raw,
        ]);
        let output = offline.output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), token, "{raw:?}");
        let query = format!("organization=+my-org&repository=my-repo%0A&workflow={encoded}&job={encoded}");
        assert_eq!(check(&receiver, &token, &query).status, 204, "{raw:?}");
        let mut body = submission();
        body["workflow"] = json!(normal);
        body["job"] = json!(normal);
        assert_eq!(receiver.push(&token, &body.to_string()).status, 201, "{raw:?}");
        // The raw name is accepted with the same token, unless it breaks a rule.
        body["workflow"] = json!(raw);
        body["job"] = json!(raw);
        let strict = raw.chars().any(char::is_control) || raw.chars().count() > wire::MAX_NAME_CHARS;
        let answer = receiver.push(&token, &body.to_string());
        if strict {
            assert_eq!((answer.status, &answer.json()["field"]), (422, &json!("workflow")), "{raw:?}");
        } else {
            assert_eq!(answer.status, 201, "{raw:?}: {}", answer.body);
        }
    }
}

#[test]
fn a_wrong_token_is_slowed_down() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&directory.path().join("db"));
    let begin = std::time::Instant::now();
    for _ in 0..9 {
        assert_eq!(check(&receiver, &"0".repeat(64), JOB).status, 403);
    }
    // The first five are answered at once. The next four wait 50, 100, 200 and 400 ms.
    assert!(begin.elapsed() > std::time::Duration::from_millis(700), "{:?}", begin.elapsed());
    let text = receiver.request("GET", "/metrics", "", "").body;
    assert!(text.contains("receiver_failed_authentications_total 9"), "{text}");
}

#[test]
fn a_slash_at_the_end_is_no_other_address() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&directory.path().join("db"));
    let scope = r#"{"organization":"my-org"}"#;
    let minted = receiver.request("POST", "/api/v1/token/", READ_TOKEN, scope);
    let token = minted.json()["token"].as_str().unwrap().to_owned();
    let push = |path: &str| receiver.request("POST", path, &token, &submission().to_string()).status;
    assert_eq!((push("/api/v1/metrics/"), push("/api/v1/metrics//")), (201, 404));
    let answer = receiver.request("GET", "/api/v1/metrics/", READ_TOKEN, "");
    assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")));
    assert_eq!(receiver.runs().len(), 1);
    let text = receiver.request("GET", "/metrics", "", "").body;
    let told = "receiver_http_requests_total{route=\"/api/v1/metrics\",method=\"POST\",status=\"201\"} 1";
    assert!(text.lines().any(|line| line == told), "{text}");
}
