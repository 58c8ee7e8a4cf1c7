use serde_json::json;
use tests::receiver::{HMAC_KEY, READ_TOKEN, Receiver, command};

use super::submission;

#[test]
fn a_prefix_lets_everything_below_it_in() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&directory.path().join("db"));
    let scopes = [
        json!({"organization": "my-org"}),
        json!({"organization": "my-org", "repository": "my-repo"}),
        json!({"organization": "my-org", "repository": "my-org/my-repo", "workflow": "ci.yml"}),
        json!({"organization": "my-org", "repository": "my-org/my-repo", "workflow": "ci.yml", "job": "build"}),
        json!({"organization": "my-org", "repository": "my-repo", "expires_in_seconds": 60}),
    ];
    for scope in &scopes {
        let token = receiver.token(scope);
        assert_eq!(receiver.push(&token, &submission().to_string()).status, 201, "{scope}");
        let mut short = submission();
        short["repository"] = json!("my-repo");
        assert_eq!(receiver.push(&token, &short.to_string()).status, 201, "{scope}");
    }
    assert_eq!(receiver.runs().len(), 2 * scopes.len());
}

#[test]
fn an_expired_token_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&directory.path().join("db"));
    let token = receiver.token(&json!({"organization": "my-org", "expires_in_seconds": 1}));
    let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        let answer = receiver.push(&token, &submission().to_string());
        if answer.status == 403 {
            assert!(answer.json()["detail"].as_str().unwrap().contains("expired"));
            break;
        }
        assert!(std::time::Instant::now() < end, "it is still valid");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

#[test]
fn token_requests_are_checked() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&directory.path().join("db"));
    let cases = [
        (json!({}), "organization"),
        (json!({"organization": ""}), "organization"),
        (json!({"organization": "o", "job": "j"}), "repository"),
        (json!({"organization": "o", "repository": "o/"}), "repository"),
        (json!({"organization": "o", "expires_in_seconds": 0}), "expires_in_seconds"),
        (json!({"organization": "o", "expires_in_seconds": -5}), "expires_in_seconds"),
        (json!({"organization": "o", "expires_in_seconds": u64::MAX}), "expires_in_seconds"),
        (json!({"organization": "o", "branch": "main"}), "branch"),
    ];
    for (request, field) in cases {
        let answer = receiver.request("POST", "/api/v1/token", READ_TOKEN, &request.to_string());
        assert_eq!(answer.status, 422, "{request}: {}", answer.body);
        assert_eq!(answer.json()["field"], field, "{request}: {}", answer.body);
    }
}

#[test]
fn a_token_made_offline_is_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&directory.path().join("db"));
    let key = directory.path().join("key");
    std::fs::write(&key, format!("{HMAC_KEY}\n")).unwrap();
    let parts = ["--organization=my-org", "--repository=my-org/my-repo", "--workflow=ci.yml", "--job=build"];
    let mut offline = command();
    offline.env_remove("RECEIVER_HMAC_KEY").arg("token").args(parts).arg("--hmac-key-file").arg(&key);
    let output = offline.output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), receiver.job_token());
    let output = command().arg("token").args(parts).arg("--expires-in=30d").output().unwrap();
    let expiring = String::from_utf8(output.stdout).unwrap();
    assert_eq!(receiver.push(expiring.trim(), &submission().to_string()).status, 201);
    let output = command().args(["token", "--organization=o", "--job=j"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("only trailing parts"));
}
