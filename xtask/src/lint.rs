//! Imports, formatting, lints, documentation and licences.

use std::process::Command;

use anyhow::{Context, Result};

use crate::command::{cargo, checked, find, root};
use crate::{ebpf, modules};

pub(crate) fn run() -> Result<()> {
    modules::check()?;
    checked(cargo().args(["fmt", "--all", "--check"]))?;
    let everything = ["--locked", "--workspace", "--all-targets", "--all-features"];
    checked(cargo().arg("clippy").args(everything).args(["--", "--deny", "warnings"]))?;
    ebpf::clippy()?;
    let mut doc = cargo();
    doc.args(["doc", "--locked", "--workspace", "--no-deps", "--quiet"]);
    checked(doc.env("RUSTDOCFLAGS", "--deny warnings"))?;
    // Not the advisories, because not every build machine can reach the database.
    let mut deny = Command::new(find("cargo-deny").context("cargo-deny is not installed")?);
    deny.current_dir(root());
    checked(deny.args(["--locked", "check", "licenses", "bans", "sources"]))
}
