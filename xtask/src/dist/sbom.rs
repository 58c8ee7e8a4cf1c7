//! What a program is made of, as a `CycloneDX` bill of materials.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::arch::Arch;
use crate::command::{cargo, checked, find, root};

/// Writes the bill of one program for one processor; glibc, which is linked in, is no crate and not in it.
pub(super) fn write(name: &str, arch: Arch, to: &Path) -> Result<()> {
    let path = find("cargo-cyclonedx").context("cargo-cyclonedx is not installed")?;
    let cargo = cargo();
    let mut tool = std::process::Command::new(path);
    // It asks the cargo that runs it.
    tool.env("CARGO", cargo.get_program()).current_dir(root());
    let stem = format!("{name}.dist");
    tool.args(["cyclonedx", "--format=json", "--quiet", "--target", &arch.target()]);
    tool.args(["--spec-version=1.5", "--override-filename", &stem]);
    tool.arg("--manifest-path").arg(root().join(name).join("Cargo.toml"));
    checked(&mut tool)?;
    // It writes beside the manifest of each member that it walks over.
    for member in fs::read_dir(root())? {
        let found = member?.path().join(format!("{stem}.json"));
        if !found.is_file() {
            continue;
        }
        if found.parent().is_some_and(|parent| parent.ends_with(name)) {
            // Where this was built is nobody's business, and would make the bill of the same commit another one elsewhere.
            let bill = fs::read_to_string(&found)?.replace(&root().display().to_string(), "");
            fs::write(to, bill).with_context(|| to.display().to_string())?;
        }
        fs::remove_file(&found)?;
    }
    fs::metadata(to).map(drop).with_context(|| format!("cargo-cyclonedx wrote no bill of {name}"))
}
