//! The collector while everything around it fails.

mod bare;
mod clocks;
mod killed;
mod limits;

mod peers;
mod secrets;

mod signals;
mod strange;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tests::program::{Ended, collector};
use tests::receiver::Receiver;

use crate::together::SCOPE;

/// A sidecar that pushes to this endpoint and has a spool.
fn pushing(endpoint: &str, token: &str, spool: &Path) -> Command {
    let mut command = collector();
    about_to_push(&mut command, endpoint, token, spool);
    command
}

/// The same for a command that becomes the collector.
fn about_to_push(command: &mut Command, endpoint: &str, token: &str, spool: &Path) {
    command.envs(SCOPE).env("COLLECTOR_PUSH_ENDPOINT", endpoint).env("COLLECTOR_PUSH_TOKEN", token);
    command.env("COLLECTOR_SPOOL_DIR", spool).env("COLLECTOR_INTERVAL", "100ms");
    command.env("COLLECTOR_LOG_FORMAT", "json").env("COLLECTOR_OUTPUT", "none").env("COLLECTOR_EBPF", "off");
}

fn endpoint(receiver: &Receiver) -> String {
    format!("http://{}/api/v1/metrics", receiver.address)
}

/// The files in a spool with this suffix.
fn spooled(spool: &Path, suffix: &str) -> Vec<PathBuf> {
    let files = std::fs::read_dir(spool).into_iter().flatten().flatten().map(|file| file.path());
    let mut files: Vec<_> = files.filter(|path| path.to_string_lossy().ends_with(suffix)).collect();
    files.sort();
    files
}

fn all_of(spool: &Path) -> Vec<PathBuf> {
    spooled(spool, "")
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Runs `collector deliver` to its end.
fn deliver(receiver: &Receiver, spool: &Path) -> Ended {
    let mut command = collector();
    command.arg("deliver").arg(spool).args(["--log-format=json", "--push-endpoint", &endpoint(receiver)]);
    command.env("COLLECTOR_PUSH_TOKEN", receiver.job_token());
    tests::program::Program::start(&mut command).wait()
}
