//! schemathesis, which tests the receiver against its description: installed with pip, only for this purpose.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::command::{checked, root};

/// The package for pip. The version is fixed because it decides which tests run.
const SCHEMATHESIS: &str = "schemathesis==4.32.5";

/// The directory of its virtual environment.
fn directory() -> PathBuf {
    root().join("target/api-venv")
}

/// Whether schemathesis is installed in this version.
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

/// The path of the program.
pub(crate) fn program() -> PathBuf {
    directory().join("bin/schemathesis")
}
