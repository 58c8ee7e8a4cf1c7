//! The BPF object: `core` for the BPF target comes from the toolchain's sources or, on Debian, from a package.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::build::{cargo, checked, root};

const TARGET: &str = "bpfel-unknown-none";
/// What Debian's `rustc-web` and `libstd-rust-web-dev-bpf` install.
const SYSTEM_RUSTC: &str = "/usr/bin/rustc";

/// How the object can be built here.
enum Toolchain {
    /// A rustup nightly with its sources: `core` is built along.
    Nightly,
    /// A system compiler that brings `core` for the BPF target.
    System,
}

/// Builds the object and tells where it is.
pub(crate) fn build() -> Result<PathBuf> {
    let mut build = cargo();
    if !runs("bpf-linker", &["--version"]) {
        bail!("bpf-linker is needed and not installed (cargo install bpf-linker)");
    }
    let name = match toolchain()? {
        Toolchain::Nightly => {
            build.env("RUSTUP_TOOLCHAIN", "nightly").env_remove("CARGO").env_remove("RUSTC");
            build.arg("-Zbuild-std=core");
            "rustup nightly with rust-src"
        }
        Toolchain::System => {
            build.env("RUSTC", SYSTEM_RUSTC).env("RUSTC_BOOTSTRAP", "1");
            "the system's rustc with core for the BPF target"
        }
    };
    // Paths of this machine have no place in the object: the same sources make the same bytes anywhere.
    let remap = format!("--remap-path-prefix={}=.", root().display());
    let arch = format!("--cfg=bpf_target_arch=\"{}\"", std::env::consts::ARCH);
    let flags = [arch.as_str(), "-Cdebuginfo=2", "-Clink-arg=--btf", &remap];
    build.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    let target = root().join("target/bpf");
    build.args(["build", "--locked", "--package=collector-ebpf", "--features=bpf", "--profile=bpf"]);
    build.arg(format!("--target={TARGET}")).arg("--target-dir").arg(&target);
    checked(&mut build)?;
    let object = target.join(TARGET).join("bpf/collector-ebpf");
    let size = std::fs::metadata(&object).with_context(|| object.display().to_string())?.len();
    eprintln!("built with {name}: {} ({size} bytes)", object.display());
    Ok(object)
}

fn toolchain() -> Result<Toolchain> {
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
        "no toolchain for {TARGET}: either `rustup toolchain install nightly --component rust-src`, or on Debian \
         the packages rustc-web and libstd-rust-web-dev-bpf"
    )
}

fn has_core(directory: &Path) -> bool {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name()).any(|name| name.to_string_lossy().starts_with("libcore-"))
}

fn runs(program: &str, arguments: &[&str]) -> bool {
    Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
}
