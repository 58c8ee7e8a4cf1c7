//! Builds for another processor: a C compiler and Rust's standard library for it.
//!
//! The library is rustup's if it is installed. On Debian it is the package for the other processor, which the system's
//! compiler of the same version accepts as its own.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use super::arch::Arch;
use crate::command::find;
use crate::debian::{self, From};
use crate::setup;

const SYSTEM_RUSTC: &str = "/usr/bin/rustc";
/// The prefix of Debian's packages with the standard library, without the version in the second one's name.
const LIBRARY: &str = "libstd-rust-web-dev";

/// Has cargo build for another processor than this machine's; an error says what is missing.
pub(crate) fn prepare(arch: Arch, build: &mut Command, flags: &mut Vec<String>) -> Result<()> {
    let compiler = arch.cross_compiler();
    if find(&compiler).is_none() {
        let package = format!("gcc-{}-linux-gnu", arch.rust_name());
        let libc = format!("libc6-dev-{}-cross", arch.name());
        if !setup::can_install() {
            bail!("no C compiler for {}: install {compiler} ({package} and {libc} on Debian)", arch.name());
        }
        setup::apt_install(&[&package, &libc])?;
    }
    flags.push(format!("-Clinker={compiler}"));
    if rustups(arch) {
        return Ok(());
    }
    let sysroot = debians(arch)?;
    build.env("RUSTC", SYSTEM_RUSTC);
    flags.push(format!("--sysroot={}", sysroot.display()));
    Ok(())
}

/// Whether cargo's compiler has the library for it.
fn rustups(arch: Arch) -> bool {
    let asked = Command::new("rustc").args(["--print=target-libdir", "--target", &arch.target()]).output();
    asked.is_ok_and(|output| {
        output.status.success() && Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir()
    })
}

/// The directory below which the system's compiler finds the library.
fn debians(arch: Arch) -> Result<PathBuf> {
    let missing = || {
        format!(
            "no Rust standard library for {}: `rustup target add {0}`, or on Debian the packages rustc-web and {LIBRARY}",
            arch.target()
        )
    };
    let asked = Command::new(SYSTEM_RUSTC).arg("--version").output();
    let Some(version) = asked.ok().and_then(|output| release(&String::from_utf8_lossy(&output.stdout)))
    else {
        bail!(missing());
    };
    let packages = [LIBRARY.to_owned(), format!("libstd-rust-web-{version}")];
    let packages: Vec<&str> = packages.iter().map(String::as_str).collect();
    let name = format!("std-{version}-{}", arch.name());
    match debian::unpack(&name, From::Processor(arch.name()), &packages) {
        Ok(root) => Ok(root.join("usr")),
        Err(error) => Err(error.context(missing())),
    }
}

/// Major and minor version: `rustc 1.96.0 (…)` is `1.96`.
fn release(version: &str) -> Option<String> {
    let number = version.split_whitespace().nth(1)?;
    let mut parts = number.split('.');
    Some(format!("{}.{}", parts.next()?, parts.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_is_in_the_name_of_the_package() {
        assert_eq!(release("rustc 1.96.0 (ac68faa20 2026-05-25)").as_deref(), Some("1.96"));
        assert_eq!(release(""), None);
    }
}
