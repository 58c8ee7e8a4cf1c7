//! Names as CI systems give them.

use serde_json::{Value, json};
use tests::program::collector;
use tests::receiver::{READ_TOKEN, Receiver};

#[test]
fn a_token_for_the_name_that_is_printed_fits() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&directory.path().join("metrics.db"));
    let long = "x".repeat(600);
    let cases = [
        ("Docker: Build & Push\n", "Docker: Build & Push"),
        (" two\t\r\n  words \u{7}", "two words"),
        (long.as_str(), long.as_str()),
    ];
    for (number, (given, known)) in cases.into_iter().enumerate() {
        let scope =
            json!({"organization": "my-org", "repository": "my-repo", "workflow": known, "job": known});
        let mut command = collector();
        command.env("GITHUB_REPOSITORY_OWNER", "my-org\n").env("GITHUB_REPOSITORY", "my-org/my-repo\n");
        command.env("GITHUB_WORKFLOW", given).env("GITHUB_JOB", given);
        command.env("GITHUB_RUN_ID", format!("{number}\n")).env("GITHUB_RUN_ATTEMPT", "first");
        command.env("COLLECTOR_PUSH_TOKEN", receiver.token(&scope));
        command.env("COLLECTOR_PUSH_ENDPOINT", format!("http://{}", receiver.address));
        let output = command.args(["run", "--", "echo", "ran"]).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), &b"ran\n"[..]), "{stderr}");
        assert!(stderr.contains("GITHUB_RUN_ATTEMPT is \"first\", which is not a number"), "{stderr}");
        assert_eq!(stderr.matches("WARN").count(), 1, "{stderr}");
    }
    let exported = receiver.request("GET", "/api/v1/export", READ_TOKEN, "").body;
    let mut runs: Vec<Value> = exported.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    runs.sort_by_key(|run| std::cmp::Reverse(run["run_id"].to_string()));
    assert_eq!(runs.len(), cases.len());
    for (number, run) in runs.iter().rev().enumerate() {
        let workflow = run["workflow"].as_str().unwrap();
        assert!(workflow.chars().count() <= 512 && !workflow.contains(char::is_control), "{workflow}");
        assert_eq!(run["run_id"], number.to_string());
        assert_eq!(run["run_attempt"], Value::Null);
    }
    assert!(runs[0]["job"].as_str().unwrap().starts_with("xxx"));
    assert_eq!(runs[2]["workflow"], "Docker: Build & Push");
}
