//! For another processor: what cargo needs for it.

use std::process::Command;

use anyhow::{Result, bail};

use super::statics::Arch;

/// Has cargo build for a processor that is not this machine's; an error says what is missing.
pub(crate) fn prepare(arch: Arch, _build: &mut Command, _flags: &mut Vec<String>) -> Result<()> {
    bail!("{} is not built here", arch.name())
}
