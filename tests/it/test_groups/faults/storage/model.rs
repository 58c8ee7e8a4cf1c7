//! Random histories of a receiver, checked against a model of the promise: pushes, repeats, reorderings, kills and restarts.

use std::collections::HashMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use rustix::process::Signal;
use serde_json::{Value, json};
use tests::receiver::{READ_TOKEN, Receiver};

use super::rounds;

/// A step of a history.
#[derive(Debug, Clone)]
enum Step {
    /// A push: its run, its number, whether it is final, and which of two contents it has.
    Push { run: u8, seq: u64, is_final: bool, content: u8 },
    /// A push whose answer is not awaited before the kill.
    PushAndKill { run: u8, seq: u64 },
    /// SIGKILL and start.
    Kill,
    /// SIGTERM and start.
    Restart,
}

/// The parts of a summary that the promise depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Summary {
    seq: u64,
    is_final: bool,
    content: u8,
}

/// The runs that must be stored.
#[derive(Debug, Default)]
struct Model {
    runs: HashMap<u8, Summary>,
}

impl Model {
    /// The expected answer: status, superseded.
    fn push(&mut self, run: u8, new: Summary) -> (u16, bool) {
        let Some(old) = self.runs.get(&run).copied() else {
            self.runs.insert(run, new);
            return (201, false);
        };
        if new.seq == old.seq {
            return if new == old { (200, false) } else { (409, false) };
        }
        if new.seq < old.seq || (old.is_final && !new.is_final) {
            return (200, true);
        }
        self.runs.insert(run, new);
        (200, false)
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..4_u8, 0..6_u64, any::<bool>(), 0..2_u8)
            .prop_map(|(run, seq, is_final, content)| Step::Push { run, seq, is_final, content }),
        2 => (0..4_u8, 0..8_u64).prop_map(|(run, seq)| Step::PushAndKill { run, seq }),
        1 => Just(Step::Kill),
        1 => Just(Step::Restart),
    ]
}

fn body(run: u8, summary: Summary) -> String {
    let body = json!({
        "organization": "my-org", "repository": "my-repo", "workflow": "ci.yml", "job": "build",
        "run_id": run.to_string(), "summary_id": format!("summary-{run}"), "seq": summary.seq, "final": summary.is_final,
        "payload": {
            "start_time": "2026-02-06T14:30:02Z", "end_time": "2026-02-06T14:30:22Z", "duration_seconds": 20.0,
            "sample_count": summary.seq, "complete": summary.is_final, "containers": [], "content": summary.content
        }
    });
    body.to_string()
}

/// The stored summaries, read over HTTP.
fn stored(receiver: &Receiver) -> HashMap<u8, Summary> {
    let answer = receiver.request(
        "GET",
        "/api/v1/metrics/repo/my-org/my-repo/ci.yml/build?limit=1000",
        READ_TOKEN,
        "",
    );
    let runs: Vec<Value> = serde_json::from_str(&answer.body).unwrap();
    let count = runs.len();
    let stored: HashMap<_, _> = runs
        .iter()
        .map(|run| {
            let payload = &run["payload"];
            let summary = Summary {
                seq: payload["sample_count"].as_u64().unwrap(),
                is_final: payload["complete"].as_bool().unwrap(),
                content: payload["content"].as_u64().unwrap() as u8,
            };
            (run["run_id"].as_str().unwrap().parse().unwrap(), summary)
        })
        .collect();
    assert_eq!(stored.len(), count, "a run is one row");
    stored
}

fn history(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("db");
    let mut receiver = Receiver::start(&database);
    let token = receiver.job_token();
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Push { run, seq, is_final, content } => {
                let summary = Summary { seq, is_final, content };
                let answer = receiver.push(&token, &body(run, summary));
                let told = (answer.status, answer.status == 200 && answer.json()["superseded"] == true);
                prop_assert_eq!(told, model.push(run, summary));
            }
            Step::PushAndKill { run, seq } => {
                let summary = Summary { seq, is_final: true, content: 0 };
                let (address, token) = (receiver.address.clone(), token.clone());
                let sent = std::thread::spawn(move || {
                    let mut client = tests::http::Client::connect(&address)?;
                    client.send("POST", "/api/v1/metrics", &token, &body(run, summary))
                });
                std::thread::sleep(std::time::Duration::from_millis(seq));
                receiver.program().signal(Signal::KILL);
                let answer = sent.join().unwrap();
                drop(receiver);
                receiver = Receiver::start(&database);
                let mut with = Model { runs: model.runs.clone() };
                let due = with.push(run, summary);
                match answer {
                    Ok(answer) => {
                        prop_assert_eq!(answer.status, due.0);
                        model = with;
                    }
                    // Without an answer the summary is either stored completely or not at all.
                    Err(_) if stored(&receiver) == with.runs => model = with,
                    Err(_) => {}
                }
            }
            Step::Kill => {
                receiver.program().signal(Signal::KILL);
                drop(receiver);
                receiver = Receiver::start(&database);
            }
            Step::Restart => {
                prop_assert_eq!(receiver.stop().status.code(), Some(0));
                receiver = Receiver::start(&database);
            }
        }
        prop_assert_eq!(&stored(&receiver), &model.runs);
    }
    Ok(())
}

#[test]
fn f1_f9_f11_random_histories_keep_the_promise() {
    let config = Config { cases: rounds(20), failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new(config);
    runner.run(&prop::collection::vec(step(), 1..40), history).unwrap();
}
