//! Types of other kernels, for tests.

use std::path::Path;

use anyhow::{Context, Result};
use collector::sample::bpf::btf::Btf;
use collector::sample::bpf::offsets;
use object::{Object, ObjectSection};

/// Writes the types that the eBPF program needs of a kernel. `from` is a copy of its `/sys/kernel/btf/vmlinux`, or the
/// `vmlinux` itself.
pub(crate) fn record(from: &Path, to: &Path) -> Result<()> {
    let content = std::fs::read(from).with_context(|| from.display().to_string())?;
    let bytes = match object::File::parse(&*content) {
        Ok(elf) => elf.section_by_name(".BTF").context("the file has no section .BTF")?.data()?.to_owned(),
        Err(_) => content,
    };
    let btf = Btf::parse(&bytes).with_context(|| from.display().to_string())?;
    // Types that the program cannot run with are not worth recording.
    offsets::resolve(&btf)?;
    std::fs::write(to, offsets::excerpt(&btf)).with_context(|| to.display().to_string())
}
