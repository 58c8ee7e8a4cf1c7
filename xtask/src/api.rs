//! The group `api`: schemathesis checks a live receiver against everything that its description promises, and Prometheus'
//! own checker reads its metrics.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::build::Programs;
use crate::command::{checked, find, root};
use crate::programs::{Receiver, random};
use crate::schemathesis;

/// Cases per operation, positive and negative. All of them take about a minute.
const EXAMPLES: &str = "25";
/// The same, in the long form.
const LONG_EXAMPLES: &str = "200";
/// Runs that a collector measures, one after the other. Their ids are 1 to this number.
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

/// Has a collector measure and push one run.
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
    check.stdin.take().context("no standard input")?.write_all(metrics.as_bytes())?;
    let status = check.wait()?;
    if !status.success() {
        bail!("promtool check metrics: {status}, of\n{metrics}");
    }
    Ok(())
}

fn ask(receiver: &Receiver, token: &str, directory: &Path, long: bool) -> Result<()> {
    // A new seed every time. The printed seed reproduces a finding.
    let seed = u32::from_str_radix(&random()?[..8], 16)?;
    let seed = std::env::var("SCHEMATHESIS_SEED").unwrap_or_else(|_| seed.to_string());
    println!("schemathesis is seeded with {seed}; SCHEMATHESIS_SEED={seed} repeats it.");
    let mut schemathesis = Command::new(schemathesis::program());
    // One worker: several share what its generator keeps of source lines, and now and then one fails on it (`KeyError`).
    schemathesis.args(["run", "--checks=all", "--no-color", "--continue-on-failure", "--workers=1"]);
    schemathesis.args(["--seed", &seed, "--max-examples", if long { LONG_EXAMPLES } else { EXAMPLES }]);
    schemathesis.arg(format!("{}/openapi.json", receiver.base));
    // In the temporary directory, because state that schemathesis keeps between runs would change the next run.
    schemathesis.current_dir(directory).env("SCHEMATHESIS_HOOKS", root().join("tests/api/hooks.py"));
    schemathesis.env("RECEIVER_READ_TOKEN", &receiver.read_token).env("RECEIVER_PUSH_TOKEN", token);
    checked(&mut schemathesis)
}
