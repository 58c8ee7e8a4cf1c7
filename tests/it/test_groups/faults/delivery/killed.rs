//! SIGKILL, which CI systems send.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use rustix::process::Signal;
use serde_json::Value;
use tests::program::Program;
use tests::receiver::Receiver;
use tests::stub::{Stub, stored};

use super::{all_of, deliver, endpoint, json, pushing, spooled};

const PUSH_INTERVAL: Duration = Duration::from_secs(1);
const CHECKPOINT_INTERVAL: Duration = Duration::from_millis(500);

fn restless(endpoint: &str, token: &str, spool: &Path) -> std::process::Command {
    let mut command = pushing(endpoint, token, spool);
    command.env("COLLECTOR_PUSH_INTERVAL", "1s").env("COLLECTOR_CHECKPOINT_INTERVAL", "500ms");
    command.env("COLLECTOR_LOG_LEVEL", "debug");
    command
}

/// Starts a collector and kills it after an interim summary and a checkpoint after that.
fn killed(command: &mut std::process::Command) {
    let program = Program::start(command);
    program.wait_for("the receiver has an interim summary");
    program.wait_for("the checkpoint is on disk");
    program.signal(Signal::KILL);
    program.wait();
}

/// The time since the end of a summary.
fn age(payload: &Value) -> Duration {
    let end: jiff::Timestamp = payload["end_time"].as_str().unwrap().parse().unwrap();
    Duration::try_from(jiff::Timestamp::now().duration_since(end)).unwrap_or_default()
}

#[test]
fn f17_what_a_killed_collector_leaves_is_no_older_than_promised_and_the_next_one_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&directory.path().join("metrics.db"));
    let token = receiver.job_token();
    let spool = directory.path().join("spool");
    let start = || Program::start(&mut restless(&endpoint(&receiver), &token, &spool));
    let program = start();
    let begin = Instant::now();
    for _ in 0..3 {
        program.wait_for("the receiver has an interim summary");
    }
    std::thread::sleep(Duration::from_millis(700));
    program.signal(Signal::KILL);
    program.wait();
    let runs = receiver.runs();
    assert_eq!(runs.len(), 1, "all interim summaries are one row");
    let payload = &runs[0]["payload"];
    assert_eq!(payload["complete"], false);
    assert!(age(payload) < PUSH_INTERVAL + Duration::from_secs(1), "{:?}", age(payload));
    let checkpoints = spooled(&spool, ".checkpoint");
    let written = std::fs::metadata(&checkpoints[0]).unwrap().modified().unwrap();
    let checkpoint_age = SystemTime::now().duration_since(written).unwrap();
    assert!(checkpoint_age < CHECKPOINT_INTERVAL + Duration::from_millis(800), "{checkpoint_age:?}");
    let lived = begin.elapsed();
    let samples = payload["sample_count"].as_u64().unwrap();

    let program = start();
    program.wait_for("going on with the run of a collector that was killed");
    program.wait_for("measuring");
    program.wait_for("pass");
    let ended = program.stop();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    let runs = receiver.runs();
    assert_eq!(runs.len(), 1, "the run is one row still");
    let payload = &runs[0]["payload"];
    assert_eq!(payload["complete"], false, "a part of it was not seen");
    assert!(payload["sample_count"].as_u64().unwrap() > samples, "{payload}");
    let duration = payload["duration_seconds"].as_f64().unwrap();
    assert!(
        duration > lived.as_secs_f64() - 0.5 && duration < lived.as_secs_f64() + 5.0,
        "{duration} {lived:?}"
    );
    assert!(all_of(&spool).is_empty(), "{:?}", all_of(&spool));
}

#[test]
fn f17_a_checkpoint_of_another_run_becomes_that_runs_last_summary() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&directory.path().join("metrics.db"));
    let token = receiver.job_token();
    let spool = directory.path().join("spool");
    killed(&mut restless(&endpoint(&receiver), &token, &spool));
    let before = receiver.runs()[0]["payload"]["sample_count"].as_u64().unwrap();
    // The next collector delivers it although it measures another run. `collector run` does the same.
    let mut next = restless(&endpoint(&receiver), &token, &spool);
    let program = Program::start(next.env("GITHUB_RUN_ID", "run-124"));
    program.wait_for("the collector of this run was killed; its last summary is in the spool");
    program.wait_for("a summary from the spool was delivered");
    assert_eq!(program.stop().status.code(), Some(0));
    let runs = receiver.runs();
    assert_eq!(runs.iter().map(|run| &run["run_id"]).collect::<Vec<_>>(), ["run-124", "run-123"]);
    assert_eq!(runs[1]["payload"]["complete"], false);
    assert!(runs[1]["payload"]["sample_count"].as_u64().unwrap() >= before);
    assert!(all_of(&spool).is_empty(), "{:?}", all_of(&spool));

    let mut run = restless(&endpoint(&receiver), &token, &spool);
    killed(run.args(["run", "--", "sleep", "5"]));
    assert_eq!(deliver(&receiver, &spool).status.code(), Some(0));
    assert!(all_of(&spool).is_empty(), "{:?}", all_of(&spool));
    assert_eq!(receiver.runs().len(), 3);
}

#[test]
fn f17_a_run_that_goes_on_is_nobody_elses() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&directory.path().join("metrics.db"));
    let token = receiver.job_token();
    let spool = directory.path().join("spool");
    let first = Program::start(&mut restless(&endpoint(&receiver), &token, &spool));
    first.wait_for("the checkpoint is on disk");
    let second = Program::start(&mut restless(&endpoint(&receiver), &token, &spool));
    second.wait_for("measuring");
    assert_eq!(deliver(&receiver, &spool).status.code(), Some(0));
    assert_eq!(second.stop().status.code(), Some(0));
    first.wait_for("the checkpoint is on disk");
    assert_eq!(first.stop().status.code(), Some(0));
    let runs = receiver.runs();
    assert_eq!(runs.len(), 2);
    assert!(runs.iter().all(|run| run["payload"]["complete"] == true));
    assert!(all_of(&spool).is_empty(), "{:?}", all_of(&spool));
}

#[test]
fn f17_a_checkpoint_that_cannot_be_used_is_set_aside_and_measuring_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let spool = directory.path().join("spool");
    let receiver = Stub::answering(vec![stored()]);
    killed(&mut restless(&receiver.endpoint(), "t0ken", &spool));
    let path = spooled(&spool, ".checkpoint").remove(0);
    let whole = std::fs::read(&path).unwrap();
    let newer = [&whole[..8], &9u32.to_le_bytes(), &whole[12..]].concat();
    let flipped = [&whole[..100], &[whole[100] ^ 4], &whole[101..]].concat();
    let cases = [
        ("truncated", whole[..whole.len() / 2].to_vec(), "truncated or corrupt"),
        ("flipped", flipped, "truncated or corrupt"),
        ("newer", newer, "version 9, this collector reads version"),
        ("empty", Vec::new(), "not a checkpoint"),
        ("foreign", b"{\"seq\": 1}".to_vec(), "not a checkpoint"),
    ];
    for (name, content, reason) in cases {
        std::fs::write(&path, content).unwrap();
        let program = Program::start(&mut restless(&receiver.endpoint(), "t0ken", &spool));
        let line = program.wait_for("a checkpoint cannot be used and is set aside");
        assert!(line["reason"].as_str().unwrap().contains(reason), "{name}: {line}");
        program.wait_for("measuring");
        assert_eq!(program.stop().status.code(), Some(0), "{name}");
        let left = all_of(&spool);
        assert_eq!(left.len(), 1, "{name}: {left:?}");
        assert!(left[0].to_string_lossy().ends_with(".unreadable"));
    }
    let last: Value = serde_json::from_slice(&receiver.requests().last().unwrap().body).unwrap();
    assert_eq!((&last["seq"], &last["payload"]["complete"]), (&1.into(), &true.into()), "a run of its own");
}

#[test]
fn f17_a_receiver_that_is_down_gets_the_latest_interim_summary_when_it_is_back() {
    let directory = tempfile::tempdir().unwrap();
    let spool = directory.path().join("spool");
    let mut command = restless("http://127.0.0.1:1/", "t0ken", &spool);
    let program = Program::start(
        command.env("COLLECTOR_PUSH_INTERVAL", "100ms").env("COLLECTOR_CHECKPOINT_INTERVAL", "0"),
    );
    let waiting = program.wait_for("an interim summary was not sent: a later one replaces it");
    assert!(waiting["seq"].as_u64().unwrap() >= 2);
    program.wait_for("the interim summary is in the spool");
    program.signal(Signal::KILL);
    program.wait();
    let files = spooled(&spool, ".interim.json");
    assert_eq!(files.len(), 1);
    assert_eq!(json(&files[0])["final"], false);
    let receiver = Receiver::start(&directory.path().join("metrics.db"));
    assert_eq!(deliver(&receiver, &spool).status.code(), Some(0));
    assert_eq!(receiver.runs().len(), 1);
    assert!(all_of(&spool).is_empty(), "{:?}", all_of(&spool));
}
