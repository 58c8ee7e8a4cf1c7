//! A database that cannot be written: 503 with a cause, logged once, and recovery without a restart.

use std::time::{Duration, Instant};

use tests::disk::{Disk, Failing, Small, Syncs};
use tests::faults::{body, summary_id};
use tests::http::Answer;
use tests::program::PATIENCE;
use tests::receiver::Receiver;

const NOT_WRITTEN: &str = "the database cannot be written; each request tries again";
const WRITTEN_AGAIN: &str = "the database can be written again";

fn ready(receiver: &Receiver) -> Answer {
    receiver.request("GET", "/readyz", "", "")
}

/// The collector's check before its command starts.
fn check(receiver: &Receiver, token: &str) -> Answer {
    let path = "/api/v1/push-check?organization=my-org&repository=my-repo&workflow=ci.yml&job=build";
    receiver.request("GET", path, token, "")
}

fn push(receiver: &Receiver, token: &str) -> Answer {
    receiver.push(token, &body(&summary_id(), 1, true))
}

/// Checks that pushes are refused, and that every answer gives the cause.
fn refuses(receiver: &Receiver, token: &str, cause: &str) {
    let begin = Instant::now();
    // Pushes that still fit into the log are stored.
    while push(receiver, token).status == 201 {
        assert!(begin.elapsed() < PATIENCE, "the disk does not fail");
    }
    for _ in 0..20 {
        let answer = push(receiver, token);
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")), "{}", answer.body);
        assert!(answer.json()["detail"].as_str().unwrap().contains(cause), "{}", answer.body);
    }
    // Repeated checks retry the write, but they do not log it again.
    for _ in 0..4 {
        for answer in [ready(receiver), check(receiver, token)] {
            assert_eq!(answer.status, 503, "{}", answer.body);
            assert!(answer.json()["detail"].as_str().unwrap().contains(cause), "{}", answer.body);
        }
        std::thread::sleep(Duration::from_millis(400));
    }
    assert_eq!(receiver.request("GET", "/healthz", "", "").status, 200, "it is no fault of the process");
    receiver.runs();
}

/// Checks that the receiver recovers without pushes, because clients do not push while it is not ready.
fn recovers(receiver: &Receiver, token: &str) {
    let begin = Instant::now();
    while ready(receiver).status != 200 {
        assert!(begin.elapsed() < PATIENCE, "it does not get ready");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(check(receiver, token).status, 204);
    assert_eq!(push(receiver, token).status, 201);
    let told = receiver.program().wait_for(NOT_WRITTEN);
    assert_eq!(told["level"], "ERROR");
    assert!(!told["cause"].as_str().unwrap().is_empty() && !told["error"].as_str().unwrap().is_empty());
    assert!(receiver.program().wait_for(WRITTEN_AGAIN)["failed"].as_u64().unwrap() >= 20);
}

fn told_once(receiver: Receiver) {
    let ended = receiver.stop();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert!(!ended.stderr.contains("cannot be written"), "it was told more than once:\n{}", ended.stderr);
    assert!(!ended.stderr.contains("could not be stored"), "{}", ended.stderr);
}

#[test]
fn f3_a_full_disk_is_a_cause_and_passes() {
    let disk = Small::new(64 << 20);
    let receiver = Receiver::start(&disk.path().join("db"));
    let token = receiver.job_token();
    assert_eq!(push(&receiver, &token).status, 201);
    let ballast = disk.fill();
    refuses(&receiver, &token, "the disk is full");
    drop(ballast);
    recovers(&receiver, &token);
    told_once(receiver);
}

#[test]
fn f4_a_disk_that_fails_is_a_cause_and_passes() {
    for failing in [Failing::Write, Failing::Sync] {
        let disk = Disk::new();
        let receiver =
            Receiver::start_as(&disk.database(), &[], |command| disk.under(command, Syncs::AsAsked));
        let token = receiver.job_token();
        assert_eq!(push(&receiver, &token).status, 201);
        disk.fail(failing, true);
        refuses(&receiver, &token, "the disk of the database failed");
        disk.fail(failing, false);
        recovers(&receiver, &token);
        told_once(receiver);
    }
}
