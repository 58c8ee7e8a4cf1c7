//! The page in a real browser: `tests/browser` drives it, this module provides its data.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tests::certificate::certificate;
use tests::histories::COMPANY;
use tests::http::Client;
use tests::program::collector;
use tests::receiver::{READ_TOKEN, Receiver};

/// Hostile names that the page must display safely.
const HOSTILE: [[&str; 4]; 3] = [
    [
        "<script>alert(1)</script>",
        "\"><img src=x onerror=alert(2)>",
        "'; --&amp;{{7*7}}",
        "</textarea><svg/onload=alert(3)>",
    ],
    ["\u{202e}desrever", "שלום/עולם", "..", "مرحبا \u{202e}txt.exe"],
    ["a/b", "c%2Fd", "~", ""],
];

fn push(receiver: &Receiver, client: &mut Client, token: &str, body: &Value) {
    let answer = client.send("POST", "/api/v1/metrics", token, &body.to_string()).unwrap();
    assert_eq!(answer.status, 201, "{} {}", receiver.address, answer.body);
}

/// The runs of a company, pushed as by a collector.
fn company(receiver: &Receiver) {
    let mut client = Client::connect(&receiver.address).unwrap();
    for job in COMPANY {
        let token = receiver.token(&json!({"organization": job.names[0]}));
        for number in 0..job.runs {
            push(receiver, &mut client, &token, &job.submission(number));
        }
    }
}

fn hostile(receiver: &Receiver) {
    let mut client = Client::connect(&receiver.address).unwrap();
    let long = "long-".repeat(60);
    for names in HOSTILE {
        let names = names.map(|name| if name.is_empty() { long.as_str() } else { name });
        let mut body = COMPANY[0].submission(0);
        for (field, name) in ["organization", "repository", "workflow", "job"].iter().zip(names) {
            body[*field] = json!(name);
        }
        body["run_id"] = json!(names[3]);
        let payload = &mut body["payload"];
        payload["containers"][0]["name"] = json!(names[0]);
        payload["top_commands"][0]["name"] = json!(names[3].chars().take(15).collect::<String>());
        payload["top_commands"][0]["container"] = json!(names[0]);
        payload["collector"]["source_reason"] = json!(names[1]);
        let step = |name: &str, begin: f64| {
            json!({"name": name, "begin_seconds": begin, "end_seconds": begin + 3.5, "cpu_seconds": 1.5, "peak_mem_bytes": 5_000_000,
                "process_count": 12})
        };
        payload["steps"] =
            json!([step(names[0], 0.0), step(names[1], 3.5), step(names[2], 3.6), step(names[3], 90.0)]);
        let token = receiver.token(&json!({"organization": names[0]}));
        for number in 0..4 {
            body["summary_id"] = json!(format!("hostile-{number}"));
            push(receiver, &mut client, &token, &body);
        }
    }
}

/// Runs the shipped collector in front of a real command.
fn measured(receiver: &Receiver) {
    let token = receiver.token(&json!({"organization": "measured"}));
    for number in 0..3 {
        let mut command = collector();
        command.arg("run").arg(format!("--push-endpoint=http://{}/api/v1/metrics", receiver.address));
        command.args(["--interval=100ms", "--output=json", "--output-file=/dev/null"]);
        command.env("COLLECTOR_PUSH_TOKEN", &token).env("GITHUB_REPOSITORY_OWNER", "measured");
        command
            .env("GITHUB_REPOSITORY", "measured/here")
            .env("GITHUB_WORKFLOW", "ci.yml")
            .env("GITHUB_JOB", "loop");
        command.env("GITHUB_RUN_ID", format!("real-{number}"));
        // Two steps, named as a runner names them.
        let script =
            "GITHUB_ACTION=configure sh -c 'i=0; while [ $i -lt 300 ]; do /bin/true; i=$((i+1)); done'
            GITHUB_ACTION=__run_2 sh -c 'sort /proc/self/maps >/dev/null; sleep 0.3'; true";
        let status = command.args(["--", "/bin/sh", "-c", script]).status().unwrap();
        assert!(status.success());
    }
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

#[test]
fn people_use_it() {
    let directory = tempfile::tempdir().unwrap();
    let full = Receiver::start_with(&directory.path().join("full"), &[]);
    company(&full);
    measured(&full);
    let strange = Receiver::start(&directory.path().join("strange"));
    hostile(&strange);
    let short = Receiver::start_with(&directory.path().join("short"), &["--session-time=3s"]);
    company(&short);
    let empty = Receiver::start(&directory.path().join("empty"));
    certificate(directory.path(), "receiver");
    let [cert, key] = ["cert.pem", "key.pem"].map(|name| directory.path().join(name).display().to_string());
    let tls = ["--tls-cert", &cert, "--tls-key", &key];
    let secure = Receiver::start_with(&directory.path().join("secure"), &tls);
    let script = std::env::var_os("BROWSER_SCRIPT")
        .map_or_else(|| repository().join("tests/browser/all.mjs"), PathBuf::from);
    let mut node = Command::new("node");
    node.arg(script).env("READ_TOKEN", READ_TOKEN);
    node.env("FULL", &full.address).env("STRANGE", &strange.address);
    node.env("SHORT", &short.address).env("EMPTY", &empty.address);
    node.env("SECURE", &secure.address);
    node.env("SCREENSHOTS", repository().join("target/screenshots"));
    let status = node.status().expect("node; run `cargo xtask test --group browser`");
    assert!(status.success(), "what went wrong is above");
}
