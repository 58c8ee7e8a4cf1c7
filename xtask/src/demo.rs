//! The main task on real input: measures a real build from end to end.

use std::ffi::OsString;
use std::process::Command;

use anyhow::{Context, Result, bail};
use collector::output::text;
use collector::run_identity::RunIdentity;
use serde_json::json;

use crate::build::{self, Object};
use crate::command::{cargo, root};
use crate::programs::Receiver;

pub(crate) fn run(keep: bool, command: &[OsString]) -> Result<()> {
    step("building collector and receiver");
    let programs = build::programs(false, Object::IfPossible)?;
    let directory = tempfile::Builder::new().prefix("runner-resource-collector-").tempdir()?;

    step("starting a receiver on a loopback port, with a temporary database");
    let receiver = Receiver::start(&programs.receiver, &directory.path().join("metrics.db"))?;
    eprintln!("{} is listening", receiver.base);

    step("asking it for a push token for one job");
    let run = RunIdentity {
        organization: "demo".to_owned(),
        repository: "demo/runner-resource-collector".to_owned(),
        workflow: "demo".to_owned(),
        job: "build".to_owned(),
        run_id: format!("{}", std::process::id()),
        run_attempt: None,
        ci: wire::CiContext::default(),
    };
    let token = receiver.push_token(&json!({
        "organization": run.organization, "repository": run.repository, "workflow": run.workflow, "job": run.job
    }))?;

    let mut collector = Command::new(&programs.collector);
    collector.args(["run", "--interval=1s", "--output=none", "--log-level=warn"]);
    collector
        .arg(format!("--push-endpoint={}/api/v1/metrics", receiver.base))
        .env("COLLECTOR_PUSH_TOKEN", token);
    for (flag, value) in [
        ("organization", &run.organization),
        ("repository", &run.repository),
        ("workflow", &run.workflow),
        ("job", &run.job),
        ("run-id", &run.run_id),
    ] {
        collector.arg(format!("--{flag}={value}"));
    }
    collector.arg("--");
    if command.is_empty() {
        step("measuring a clean build of the receiver (rustc, cc, ld), as `collector run -- cargo build …`");
        let cargo = cargo();
        collector.current_dir(root()).arg(cargo.get_program());
        collector
            .args(["build", "--locked", "--package=receiver", "--target-dir"])
            .arg(directory.path().join("target"));
    } else {
        step("measuring your command, as `collector run -- COMMAND…`");
        collector.args(command);
    }
    let status = collector.status().context("cannot run the collector")?;
    if !status.success() && command.is_empty() {
        bail!("the measured build failed: {status}");
    }

    step("asking the receiver for the job's usage");
    let runs = receiver.runs("demo/runner-resource-collector/demo/build")?;
    let stored = runs.first().context("the receiver has no run")?;
    println!(
        "{}",
        text::render(&stored.payload, Some(&run), std::io::IsTerminal::is_terminal(&std::io::stdout()))
    );
    if keep {
        let base = receiver.base.clone();
        let read_token = receiver.read_token.clone();
        let pid = receiver.leave();
        println!(
            "The receiver is still running: {base} (stop it with `kill {pid}`), database in {}",
            directory.keep().display()
        );
        println!(
            "curl -H 'Authorization: Bearer {read_token}' {base}/api/v1/metrics/repo/demo/runner-resource-collector/demo/build"
        );
    } else {
        receiver.stop()?;
        eprintln!("Measure your own command: cargo xtask demo -- make -j2");
    }
    if !status.success() {
        bail!("the measured command ended with {status}");
    }
    Ok(())
}

fn step(what: &str) {
    eprintln!("\n== {what}");
}
