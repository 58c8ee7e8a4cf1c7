//! The program that asks the receiver for everything its description promises: installed with pip, for this alone.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::command::{checked, root};

/// What is installed with pip; the version is part of what is tested.
const SCHEMATHESIS: &str = "schemathesis==4.32.5";

/// Where it is installed.
fn directory() -> PathBuf {
    root().join("target/api-venv")
}

/// Whether schemathesis is there, in the version that is wanted.
pub(crate) fn is_installed() -> bool {
    let marker = std::fs::read_to_string(directory().join("installed"));
    marker.is_ok_and(|installed| installed == SCHEMATHESIS) && program().is_file()
}

/// Installs it into a directory of its own.
pub(crate) fn install() -> Result<()> {
    checked(Command::new("python3").args(["-m", "venv", "--clear"]).arg(directory()))?;
    let mut install = Command::new(directory().join("bin/pip"));
    checked(install.args(["install", "--quiet", "--disable-pip-version-check", SCHEMATHESIS]))?;
    Ok(std::fs::write(directory().join("installed"), SCHEMATHESIS)?)
}

/// The program.
pub(crate) fn program() -> PathBuf {
    directory().join("bin/schemathesis")
}
