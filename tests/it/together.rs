//! Both programs together, as in the README of the original project.

use std::process::Command;

use serde_json::{Value, json};
use tests::program::{Program, collector};
use tests::receiver::{READ_TOKEN, Receiver};

pub(crate) const SCOPE: [(&str, &str); 5] = [
    ("GITHUB_REPOSITORY_OWNER", "my-org"),
    ("GITHUB_REPOSITORY", "my-org/my-repo"),
    ("GITHUB_WORKFLOW", "ci.yml"),
    ("GITHUB_JOB", "build"),
    ("GITHUB_RUN_ID", "run-123"),
];

fn pushing(receiver: &Receiver, token: &str) -> Command {
    let mut command = collector();
    command.arg(format!("--push-endpoint=http://{}/api/v1/metrics", receiver.address)).envs(SCOPE);
    command.env("COLLECTOR_PUSH_TOKEN", token).args([
        "--log-format=json",
        "--interval=100ms",
        "--output=json",
    ]);
    command
}

#[test]
fn a_sidecar_pushes_one_summary_when_it_is_stopped() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&directory.path().join("metrics.db"));
    let program = Program::start(&mut pushing(&receiver, &receiver.job_token()));
    program.wait_for("measuring");
    let ended = program.stop();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    let runs = receiver.runs();
    assert_eq!(runs.len(), 1);
    assert_eq!((&runs[0]["run_id"], &runs[0]["repository"]), (&json!("run-123"), &json!("my-org/my-repo")));
    let printed: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(runs[0]["payload"], printed);
    let path = "/api/v1/metrics/repo/my-org/my-org%2Fmy-repo/ci.yml/build?run_id=run-123";
    assert_eq!(receiver.request("GET", path, READ_TOKEN, "").json().as_array().unwrap().len(), 1);
}

#[test]
fn a_push_that_fails_loses_nothing_and_is_told_by_the_exit_code() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&directory.path().join("metrics.db"));
    let other = receiver.token(&json!({"organization": "other"}));
    let cases = [(other.as_str(), "403 Forbidden"), ("not-a-push-token", "401 Unauthorized")];
    for (token, status) in cases {
        let program = Program::start(&mut pushing(&receiver, token));
        program.wait_for("measuring");
        let ended = program.stop();
        assert_eq!(ended.status.code(), Some(3), "{}", ended.stderr);
        assert!(ended.stderr.contains(status) && !ended.stderr.contains(token), "{}", ended.stderr);
        let kept =
            ended.stderr.lines().find(|line| line.starts_with("{\"organization\"")).expect("the summary");
        let kept: Value = serde_json::from_str(kept).unwrap();
        assert_eq!(kept["payload"], serde_json::from_str::<Value>(&ended.stdout).unwrap());
    }
    assert!(receiver.runs().is_empty());
}

#[test]
fn a_receiver_that_comes_up_late_still_gets_the_summary() {
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("metrics.db");
    let receiver = Receiver::start(&database);
    let token = receiver.job_token();
    let address = receiver.address.clone();
    let mut command = pushing(&receiver, &token);
    receiver.stop();
    let program = Program::start(command.arg("--output=none"));
    program.wait_for("measuring");
    program.signal(rustix::process::Signal::TERM);
    program.wait_for("the summary could not be pushed yet; trying again");
    let receiver = Receiver::start_with(&database, &[&format!("--addr={address}")]);
    let ended = program.wait();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert_eq!(receiver.runs().len(), 1);
}

#[test]
fn the_shutdown_timeout_holds_and_a_second_signal_ends_it_sooner() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    for (timeout, again) in [("--shutdown-timeout=500ms", false), ("--shutdown-timeout=1h", true)] {
        let mut command = collector();
        command.arg(format!("--push-endpoint=http://{}/", silent.local_addr().unwrap())).envs(SCOPE);
        command.args([timeout, "--push-token=t0ken", "--log-format=json", "--output=none"]);
        let program = Program::start(&mut command);
        program.wait_for("measuring");
        let begin = std::time::Instant::now();
        program.signal(rustix::process::Signal::TERM);
        if again {
            program.wait_for("stopping: one last pass, then the summary");
            std::thread::sleep(std::time::Duration::from_millis(200));
            program.signal(rustix::process::Signal::TERM);
        }
        let ended = program.wait();
        assert_eq!(ended.status.code(), Some(3), "{}", ended.stderr);
        assert!(begin.elapsed() < std::time::Duration::from_secs(4), "{:?}", begin.elapsed());
    }
}
