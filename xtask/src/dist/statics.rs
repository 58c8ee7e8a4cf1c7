//! The programs, linked statically.
//!
//! This includes glibc. Its name service would load libraries of exactly the same glibc, so no program looks up names with
//! it: the collector's client has its own resolver, and the receiver listens at addresses.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{Endianness, elf};

use super::arch::Arch;
use crate::build::{self, Object, Programs};
use crate::command::{cargo, checked, root};
use crate::ebpf;
use crate::setup::{self, For};

/// The paths of the programs.
#[derive(Debug)]
pub(crate) struct Statics {
    pub(crate) collector: PathBuf,
    pub(crate) receiver: PathBuf,
    /// Only for tests.
    pub(crate) workload: PathBuf,
}

/// Builds them, the collector with the BPF object in it, and checks that they need no library.
pub(crate) fn build(arch: Arch, release: bool) -> Result<Statics> {
    if !release && arch == Arch::native()? {
        let Programs { collector, receiver, workload, .. } = build::static_programs(false, Object::Required)?;
        [&collector, &receiver, &workload].into_iter().try_for_each(|program| check(program))?;
        return Ok(Statics { collector, receiver, workload });
    }
    setup::ensure(For::Object)?;
    let object = ebpf::build_for(arch.rust_name())?;
    let target = arch.target();
    let mut build = cargo();
    // The variable replaces the flags in .cargo/config.toml.
    let mut flags =
        vec!["-Ctarget-feature=+crt-static".to_owned(), "--cfg=getrandom_backend=\"linux_raw\"".to_owned()];
    if arch != Arch::native()? {
        super::cross::prepare(arch, &mut build, &mut flags)?;
    }
    build.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f")).env("COLLECTOR_BPF_OBJECT", &object);
    let directory = root().join("target/static");
    build.args(["build", "--locked", "--bins", "--target", &target]).arg("--target-dir").arg(&directory);
    build.args(["--package=collector", "--package=receiver", "--package=tests"]);
    if release {
        build.arg("--release");
    }
    checked(&mut build)?;
    let directory = directory.join(target).join(if release { "release" } else { "debug" });
    let program = |name: &str| -> Result<PathBuf> {
        let path = directory.join(name);
        check(&path)?;
        Ok(path)
    };
    Ok(Statics {
        collector: program("collector")?,
        receiver: program("receiver")?,
        workload: program("workload")?,
    })
}

/// Fails if a program has an interpreter, because it is not static then.
fn check(program: &Path) -> Result<()> {
    let bytes = std::fs::read(program).with_context(|| program.display().to_string())?;
    let header = elf::FileHeader64::<Endianness>::parse(&*bytes)
        .with_context(|| format!("{} is not a 64-bit ELF file", program.display()))?;
    let endian = header.endian()?;
    for segment in header.program_headers(endian, &*bytes)? {
        if segment.interpreter(endian, &*bytes)?.is_some() {
            bail!("{} is not static: it needs an interpreter", program.display());
        }
    }
    Ok(())
}

/// Copies a program without its debug information, or with it if there is no tool to strip it.
pub(crate) fn stripped(program: &Path, arch: Arch, to: &Path) -> Result<()> {
    let strip = if Arch::native()? == arch {
        "strip".to_owned()
    } else {
        format!("{}-linux-gnu-strip", arch.rust_name())
    };
    checked(Command::new(strip).arg("--strip-all").arg("-o").arg(to).arg(program))
}
