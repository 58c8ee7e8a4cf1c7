//! The group `api`: a live receiver asked by schemathesis for everything that its description promises, and its metrics
//! read by Prometheus' own checker.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::build::Programs;
use crate::command::{checked, find, root};
use crate::programs::{Receiver, random};
use crate::schemathesis;

/// So many cases an operation, positive and negative; all of it takes about a minute.
const EXAMPLES: &str = "25";
/// The same, in the long form.
const LONG_EXAMPLES: &str = "200";
/// Runs that a collector really measured, one after the other: their ids are 1 to this.
const RUNS: usize = 5;

pub(crate) fn run(programs: &Programs, long: bool) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let receiver = Receiver::start(&programs.receiver, &directory.path().join("db"))?;
    let token = receiver.push_token(&json!({"organization": "my-org"}))?;
    for run in 0..RUNS {
        measure(&programs.collector, &receiver, &token, run)?;
    }
    check_metrics(&receiver)?;
    ask(&receiver, &token, directory.path(), long)?;
    check_metrics(&receiver)?;
    receiver.stop()
}

/// A run that a collector measures and pushes.
fn measure(collector: &Path, receiver: &Receiver, token: &str, run: usize) -> Result<()> {
    let mut collector = Command::new(collector);
    collector.args(["run", "--interval=50ms", "--output=none", "--log-level=warn", "--ebpf=off"]);
    collector.arg(format!("--push-endpoint={}/api/v1/metrics", receiver.base));
    collector.args(["--organization=my-org", "--repository=my-repo", "--workflow=ci.yml", "--job=build"]);
    collector.arg(format!("--run-id=run-{run}")).env("COLLECTOR_PUSH_TOKEN", token);
    collector.args(["--", "sh", "-c", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done"]);
    checked(&mut collector)
}

fn check_metrics(receiver: &Receiver) -> Result<()> {
    let metrics = ureq::get(format!("{}/metrics", receiver.base)).call()?.body_mut().read_to_string()?;
    let promtool = find("promtool").context("promtool is not installed")?;
    eprintln!("+ promtool check metrics");
    let mut check = Command::new(promtool).args(["check", "metrics"]).stdin(Stdio::piped()).spawn()?;
    check.stdin.take().context("standard input is not there")?.write_all(metrics.as_bytes())?;
    let status = check.wait()?;
    if !status.success() {
        bail!("promtool check metrics: {status}, of\n{metrics}");
    }
    Ok(())
}

fn ask(receiver: &Receiver, token: &str, directory: &Path, long: bool) -> Result<()> {
    // Another one every time; what it finds is found again with it.
    let seed = u32::from_str_radix(&random()?[..8], 16)?;
    let seed = std::env::var("SCHEMATHESIS_SEED").unwrap_or_else(|_| seed.to_string());
    println!("schemathesis is seeded with {seed}; SCHEMATHESIS_SEED={seed} repeats it.");
    let mut schemathesis = Command::new(schemathesis::program());
    schemathesis.args(["run", "--checks=all", "--no-color", "--continue-on-failure", "--workers=2"]);
    schemathesis.args(["--seed", &seed, "--max-examples", if long { LONG_EXAMPLES } else { EXAMPLES }]);
    schemathesis.arg(format!("{}/openapi.json", receiver.base));
    // What it remembers from one time to the next would make each time another one.
    schemathesis.current_dir(directory).env("SCHEMATHESIS_HOOKS", root().join("tests/api/hooks.py"));
    schemathesis.env("RECEIVER_READ_TOKEN", &receiver.read_token).env("RECEIVER_PUSH_TOKEN", token);
    checked(&mut schemathesis)
}
