//! The parts of a program, as a `CycloneDX` bill of materials.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::arch::Arch;
use crate::command::{cargo, checked, find, root};

/// Writes the bill of one program for one processor. It lacks glibc, which is linked in but is not a crate.
pub(super) fn write(name: &str, arch: Arch, to: &Path) -> Result<()> {
    let path = find("cargo-cyclonedx").context("cargo-cyclonedx is not installed")?;
    let cargo = cargo();
    let mut tool = std::process::Command::new(path);
    // The tool runs the cargo that this variable names.
    tool.env("CARGO", cargo.get_program()).current_dir(root());
    let stem = format!("{name}.dist");
    tool.args(["cyclonedx", "--format=json", "--quiet", "--target", &arch.target()]);
    tool.args(["--spec-version=1.5", "--override-filename", &stem]);
    tool.arg("--manifest-path").arg(root().join(name).join("Cargo.toml"));
    checked(&mut tool)?;
    // The tool writes a file beside the manifest of each member that it visits.
    for member in fs::read_dir(root())? {
        let found = member?.path().join(format!("{stem}.json"));
        if !found.is_file() {
            continue;
        }
        if found.parent().is_some_and(|parent| parent.ends_with(name)) {
            // The build path is private, and would make the bill of the same commit differ between machines.
            let bill = fs::read_to_string(&found)?.replace(&root().display().to_string(), "");
            fs::write(to, bill).with_context(|| to.display().to_string())?;
        }
        fs::remove_file(&found)?;
    }
    fs::metadata(to)
        .map(drop)
        .with_context(|| format!("cargo-cyclonedx wrote no bill of materials for {name}"))
}
