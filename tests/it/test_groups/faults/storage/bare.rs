//! The receiver with only what its manifest gives it, and with nothing at all.

use std::path::PathBuf;
use std::process::Output;

use serde_json::{Value, json};
use tests::bare::{Bare, Layout};
use tests::faults::{body, summary_id};
use tests::program::path;
use tests::receiver::{HMAC_KEY, LISTENING, READ_TOKEN, Receiver};

/// The default limit of a body, in bytes.
const LARGEST: usize = 4 << 20;

struct Place {
    bare: Bare,
    layout: Layout,
}

impl Place {
    fn new(layout: Layout) -> Self {
        Self { bare: Bare::new(&[program()]), layout }
    }

    fn start(&self, arguments: &[&str]) -> Receiver {
        let mut command = self.bare.command(self.layout, "/bin/receiver");
        command.env("RECEIVER_READ_TOKEN", READ_TOKEN).env("RECEIVER_HMAC_KEY", HMAC_KEY);
        Receiver::start_command(command.args(LISTENING).arg("--db=/data/metrics.db").args(arguments))
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.bare.command(self.layout, "/bin/receiver").args(arguments).output().unwrap()
    }

    fn succeeds(&self, arguments: &[&str]) {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

fn program() -> PathBuf {
    path("RECEIVER_BIN", "receiver")
}

/// A summary with this many containers. If `largest`, it is padded to the largest accepted size.
fn large(id: &str, seq: u64, is_final: bool, containers: usize, largest: bool) -> String {
    let mut value: Value = serde_json::from_str(&body(id, seq, is_final)).unwrap();
    let container = value["payload"]["containers"][0].clone();
    let all = (0..containers).map(|number| {
        let mut container = container.clone();
        container["name"] = json!(format!("container-{number}"));
        container
    });
    value["payload"]["containers"] = all.collect();
    value["payload"]["padding"] = json!("");
    if largest {
        let left = LARGEST - value.to_string().len();
        value["payload"]["padding"] = json!("x".repeat(left));
        assert_eq!(value.to_string().len(), LARGEST);
    }
    value.to_string()
}

/// Tests everything that writes, reads, copies and deletes.
fn everything_works(layout: Layout) {
    let place = Place::new(layout);
    let receiver = place.start(&[]);
    let token = receiver.job_token();
    for (containers, largest) in [(1, false), (8, false), (100, false), (1, true), (1000, true)] {
        let id = summary_id();
        let first = receiver.push(&token, &large(&id, 1, false, containers, largest));
        assert_eq!(first.status, 201, "{containers}, {largest}: {}", first.body);
        for (seq, is_final) in [(2, false), (3, true)] {
            let answer = receiver.push(&token, &large(&id, seq, is_final, containers, largest));
            assert_eq!(answer.status, 200, "{containers}, {largest}, {seq}: {}", answer.body);
        }
    }
    let runs = receiver.runs();
    assert_eq!(runs.len(), 5);
    every_question_is_answered(&receiver, runs[0]["id"].as_u64().unwrap());
    place.succeeds(&["health", "--addr", &receiver.address]);
    place.succeeds(&["backup", "--db=/data/metrics.db", "/data/copy.db"]);
    place.succeeds(&["check", "/data/copy.db"]);
    let ended = receiver.stop();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert!(!ended.stderr.contains("\"ERROR\""), "{}", ended.stderr);

    let receiver = place.start(&["--keep-runs-per-job=2"]);
    let told = receiver.program().wait_for("runs were deleted because of their age or number");
    assert_eq!(told["runs"], 3);
    assert_eq!(receiver.runs().len(), 2);
    assert_eq!(receiver.stop().status.code(), Some(0));
    let left = std::fs::read_dir(place.bare.data()).unwrap().flatten().map(|entry| entry.file_name());
    let mut left: Vec<_> = left.map(|name| name.into_string().unwrap()).collect();
    left.sort();
    assert_eq!(left, ["copy.db", "metrics.db"], "something else was left");
    place.succeeds(&["check", "/data/metrics.db"]);
}

/// Requests every GET path in the receiver's own description.
fn every_question_is_answered(receiver: &Receiver, run: u64) {
    let get = |path: &str| receiver.request("GET", path, READ_TOKEN, "");
    let description = get("/openapi.json").json();
    let mut asked = 0;
    for (path, methods) in description["paths"].as_object().unwrap() {
        // This path needs a push token.
        if methods.get("get").is_none() || path == "/api/v1/push-check" {
            continue;
        }
        let path = path.replace("{organization}", "my-org").replace("{repository}", "my-repo");
        let path = path.replace("{workflow}", "ci.yml").replace("{job}", "build");
        let path = path.replace("{id}", &run.to_string());
        let query = if path == "/api/v1/compare" { format!("?a={run}&b={run}") } else { String::new() };
        let answer = get(&format!("{path}{query}"));
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        asked += 1;
    }
    assert!(asked >= 15, "{asked}");
    for sort in ["waste", "risk", "last_run", "name"] {
        let answer = get(&format!("/api/v1/jobs?sort={sort}&search=build"));
        assert_eq!(answer.status, 200, "{sort}: {}", answer.body);
    }
    for format in ["ndjson", "csv"] {
        let answer = get(&format!("/api/v1/export?format={format}"));
        assert_eq!(answer.status, 200, "{format}: {}", answer.body);
        assert!(answer.body.len() > 1000, "{format}");
    }
    for page in ["/", "/docs", "/docs/", "/docs/swagger-ui.css"] {
        assert!(get(page).status < 400, "{page}");
    }
}

#[test]
fn f41_the_receiver_needs_what_its_manifest_gives_it_and_no_more() {
    everything_works(Layout { devices: true, ..Layout::default() });
}

#[test]
fn f41_the_receiver_needs_nothing_but_a_directory() {
    everything_works(Layout::default());
}

#[test]
fn f41_a_copy_is_checked_where_nothing_can_be_written() {
    let place = Place::new(Layout::default());
    let receiver = place.start(&[]);
    let token = receiver.job_token();
    for _ in 0..100 {
        assert_eq!(receiver.push(&token, &body(&summary_id(), 1, true)).status, 201);
    }
    place.succeeds(&["backup", "--db=/data/metrics.db", "/data/copy.db"]);
    assert_eq!(receiver.stop().status.code(), Some(0));
    super::database::open_to_all(&place.bare.data(), 0o555);
    place.succeeds(&["check", "/data/copy.db"]);
    let refused = place.run(&["backup", "--db=/data/metrics.db", "/data/other.db"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("/data/other.db"));
}
