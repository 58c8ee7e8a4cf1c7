//! The BPF object: `core` for the BPF target comes from the toolchain's sources or, on Debian, from a package.

use std::env::consts::ARCH;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use object::build::elf::{Builder, SectionData};
use object::elf;

use crate::command::{cargo, checked, find, root};

const TARGET: &str = "bpfel-unknown-none";
const PROFILE: &str = "bpf";
/// The compiler of Debian's `rustc-web` and `libstd-rust-web-dev-bpf`.
const SYSTEM_RUSTC: &str = "/usr/bin/rustc";
/// The driver of Debian's `rust-web-clippy`.
const SYSTEM_CLIPPY: &str = "/usr/bin/clippy-driver";

/// A toolchain that can build the object here.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Toolchain {
    /// A rustup nightly with its sources; it builds `core` as well.
    Nightly,
    /// A system compiler that comes with `core` for the BPF target.
    System,
}

/// Builds the object for this machine and returns its path.
pub(crate) fn build() -> Result<PathBuf> {
    build_for(ARCH)
}

/// Builds the object for a kernel on this processor, because a tracepoint's arguments are in processor-specific registers.
pub(crate) fn build_for(arch: &str) -> Result<PathBuf> {
    let target = if arch == ARCH { "target/bpf".to_owned() } else { format!("target/bpf-{arch}") };
    build_in(&root().join(target), arch)
}

/// Builds the object and its dependencies again in another directory: the same sources make the same bytes.
pub(crate) fn check_reproducible() -> Result<()> {
    let read = |path: &Path| std::fs::read(path).with_context(|| path.display().to_string());
    let object = build()?;
    let first = read(&object)?;
    let again = tempfile::tempdir()?;
    // Build scripts and macros take a minute to build and are no part of the object.
    let tools = object.with_file_name(PROFILE);
    checked(Command::new("cp").arg("--archive").arg(tools).arg(again.path()))?;
    if read(&build_in(again.path(), ARCH)?)? != first {
        bail!("two builds of the BPF object with one toolchain differ");
    }
    Ok(())
}

/// Lints the program as it is built for the kernel; warnings are errors.
pub(crate) fn clippy() -> Result<()> {
    let (mut clippy, _) = cargo_for_bpf("clippy", &root().join("target/bpf"), ARCH)?;
    if let Toolchain::System = toolchain()? {
        // The same as `cargo clippy`, but with the driver of the system's compiler.
        clippy.env("RUSTC_WORKSPACE_WRAPPER", SYSTEM_CLIPPY);
        clippy.env("CLIPPY_ARGS", "--deny__CLIPPY_HACKERY__warnings__CLIPPY_HACKERY__");
    } else {
        clippy.args(["--", "--deny", "warnings"]);
    }
    checked(&mut clippy)
}

/// Whether the program can be linted here.
pub(crate) fn can_lint() -> bool {
    !matches!(toolchain(), Ok(Toolchain::System)) || Path::new(SYSTEM_CLIPPY).exists()
}

fn build_in(target: &Path, arch: &str) -> Result<PathBuf> {
    let (mut build, name) = cargo_for_bpf("build", target, arch)?;
    checked(&mut build)?;
    let built = target.join(TARGET).join(PROFILE).join("collector-ebpf");
    let built = std::fs::read(&built).with_context(|| built.display().to_string())?;
    let (stripped, programs) = strip(&built)?;
    let object = target.join("collector-ebpf.o");
    // An unchanged object is not written again, so that cargo does not rebuild the collector.
    if std::fs::read(&object).ok().as_ref() != Some(&stripped) {
        std::fs::write(&object, &stripped).with_context(|| object.display().to_string())?;
    }
    eprintln!("built with {name}: {} bytes, programs {}", stripped.len(), programs.join(", "));
    Ok(object)
}

/// A cargo command for the program, and the name of the toolchain.
fn cargo_for_bpf(command: &str, target: &Path, arch: &str) -> Result<(Command, &'static str)> {
    let mut cargo = cargo();
    let Some(linker) = linker() else {
        bail!("bpf-linker is needed and not installed; cargo xtask setup installs it");
    };
    let toolchain = toolchain()?;
    let name = match toolchain {
        Toolchain::Nightly => {
            cargo.env("RUSTUP_TOOLCHAIN", "nightly").env_remove("CARGO").env_remove("RUSTC");
            "rustup's nightly and its core from source"
        }
        Toolchain::System => {
            cargo.env("RUSTC", SYSTEM_RUSTC).env("RUSTC_BOOTSTRAP", "1");
            "the system's rustc with core for the BPF target"
        }
    };
    // This machine's paths must not get into the object: the same sources make the same bytes anywhere.
    let remap = format!("--remap-path-prefix={}=.", root().display());
    let arch = format!("--cfg=bpf_target_arch=\"{arch}\"");
    let linker = format!("-Clinker={}", linker.display());
    let flags = [arch.as_str(), "-Cdebuginfo=2", "-Clink-arg=--btf", &linker, &remap];
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    // With the system's compiler, `cargo clippy` is a check with the clippy driver around it.
    let command = match (command, toolchain) {
        ("clippy", Toolchain::System) => "check",
        (command, _) => command,
    };
    cargo.args([command, "--locked", "--package=collector-ebpf", "--features=bpf", "--profile", PROFILE]);
    cargo.arg(format!("--target={TARGET}")).arg("--target-dir").arg(target);
    if let Toolchain::Nightly = toolchain {
        cargo.arg("-Zbuild-std=core");
    }
    Ok((cargo, name))
}

/// Returns the object without debug information (BTF stays: the verifier quotes the source with it), and its programs.
fn strip(object: &[u8]) -> Result<(Vec<u8>, Vec<String>)> {
    let mut elf = Builder::read(object).context("the BPF object is not an ELF file")?;
    let mut programs = Vec::new();
    for section in &mut elf.sections {
        let name = section.name.to_string();
        section.delete = name.starts_with(".debug") || name.starts_with(".rel.debug");
        programs.extend(name.strip_prefix("tp_btf/").map(ToOwned::to_owned));
    }
    elf.delete_orphans();
    // LLVM keeps the sections' names in the table of the symbols' names. The rewritten sections get a table of their own.
    let names = elf.sections.add();
    names.name = b".shstrtab"[..].into();
    names.sh_type = elf::SHT_STRTAB;
    names.sh_addralign = 1;
    names.data = SectionData::SectionString;
    let mut stripped = Vec::new();
    elf.write(&mut stripped).context("cannot write the stripped BPF object")?;
    Ok((stripped, programs))
}

pub(crate) fn linker() -> Option<PathBuf> {
    find("bpf-linker")
}

pub(crate) fn toolchain() -> Result<Toolchain> {
    let sysroot = |rustc: &mut Command| -> Option<PathBuf> {
        let output =
            rustc.args(["--print", "sysroot"]).output().ok().filter(|output| output.status.success())?;
        Some(PathBuf::from(String::from_utf8(output.stdout).ok()?.trim()))
    };
    let nightly = sysroot(Command::new("rustup").args(["run", "nightly", "rustc"]));
    if nightly.is_some_and(|path| path.join("lib/rustlib/src/rust/library/core").is_dir()) {
        return Ok(Toolchain::Nightly);
    }
    let system = sysroot(&mut Command::new(SYSTEM_RUSTC));
    if system.is_some_and(|path| has_core(&path.join("lib/rustlib").join(TARGET).join("lib"))) {
        return Ok(Toolchain::System);
    }
    bail!(
        "no Rust toolchain for {TARGET}: cargo xtask setup installs Debian's (rustc-web, libstd-rust-web-dev-bpf); \
         elsewhere, `rustup toolchain install nightly --component rust-src`"
    )
}

fn has_core(directory: &Path) -> bool {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name()).any(|name| name.to_string_lossy().starts_with("libcore-"))
}
