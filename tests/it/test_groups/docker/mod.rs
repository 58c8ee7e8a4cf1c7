//! The images in a Docker Engine that `cargo xtask test` started, as root.

mod names;
mod node;
mod pod;
mod shipped;
mod sidecar;
mod stress;

use std::process::{Command, Output};

/// Runs the client of the tested engine.
fn docker(arguments: &[&str]) -> Output {
    let output = Command::new("docker").args(arguments).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "docker {arguments:?}: {told}");
    output
}

/// Its standard output.
fn told(arguments: &[&str]) -> String {
    String::from_utf8(docker(arguments).stdout).unwrap().trim().to_owned()
}
