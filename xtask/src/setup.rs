//! What a machine needs beside Rust and a C compiler, found or installed.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use crate::build::{cargo, checked, root};
use crate::ebpf;

/// The release of `bpf-linker` that the object is built with.
const BPF_LINKER: &str = "bpf-linker@0.13.0";
/// The LLVM of Debian's `rustc-web`, which wrote its `core`: the linker must be of the same.
const LLVM_PREFIX: &str = "/usr/lib/llvm-22";

/// Something that is needed.
struct Need {
    name: &'static str,
    what_for: &'static str,
    /// Debian's packages for it; without any, it is built by cargo.
    packages: &'static [&'static str],
    present: fn() -> bool,
}

/// Programs that the tests run.
const TESTS: [Need; 4] = [
    Need { name: "cc", what_for: "tests compile with it", packages: &["gcc"], present: || has("cc") },
    Need {
        name: "setpriv",
        what_for: "tests drop privileges with it",
        packages: &["util-linux"],
        present: || has("setpriv"),
    },
    Need {
        name: "python3",
        what_for: "tests talk to the receiver with it",
        packages: &["python3"],
        present: || has("python3"),
    },
    Need {
        name: "openssl",
        what_for: "tests make certificates with it",
        packages: &["openssl"],
        present: || has("openssl"),
    },
];

/// What the BPF object is built with.
const OBJECT: [Need; 2] = [
    Need {
        name: "a Rust toolchain for BPF",
        what_for: "compiles the eBPF program",
        packages: &["rustc-web", "libstd-rust-web-dev-bpf"],
        present: || ebpf::toolchain().is_ok(),
    },
    Need {
        name: "bpf-linker",
        what_for: "links the eBPF program",
        packages: &[],
        present: || ebpf::linker().is_some(),
    },
];

/// What `bpf-linker` is built with.
const LINKER_PACKAGES: [&str; 2] = ["llvm-22-dev", "libpolly-22-dev"];

/// What to be set up for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum For {
    Object,
    Tests,
}

/// Prints what is needed and installs what is missing; with `check`, only prints.
pub(crate) fn run(check: bool) -> Result<()> {
    let mut missing = 0;
    for need in OBJECT.iter().chain(&TESTS) {
        let present = (need.present)();
        missing += usize::from(!present);
        println!("{:<8} {} ({})", if present { "found" } else { "missing" }, need.name, need.what_for);
    }
    if missing == 0 {
        println!("Nothing is missing.");
        return Ok(());
    }
    if check {
        bail!("{missing} of these are missing; cargo xtask setup installs them");
    }
    ensure(For::Object)?;
    ensure(For::Tests)
}

/// Installs what is missing, and says what.
pub(crate) fn ensure(what: For) -> Result<()> {
    let needs = match what {
        For::Object => &OBJECT[..],
        For::Tests => &TESTS,
    };
    let missing: Vec<&Need> = needs.iter().filter(|need| !(need.present)()).collect();
    let mut packages: Vec<&str> = missing.iter().flat_map(|need| need.packages).copied().collect();
    let linker = missing.iter().any(|need| need.packages.is_empty());
    if linker {
        packages.extend(LINKER_PACKAGES);
    }
    if packages.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = missing.iter().map(|need| need.name).collect();
    let names = names.join(", ");
    if !nix::unistd::geteuid().is_root() || !has("apt-get") {
        bail!(
            "missing: {names}. On Debian, root can install {} (cargo xtask setup does); elsewhere, `rustup toolchain \
             install nightly --component rust-src` and `cargo install bpf-linker` serve for the eBPF program",
            packages.join(", ")
        );
    }
    eprintln!("missing: {names}; installing {}", packages.join(", "));
    apt_install(&packages)?;
    if linker {
        let mut install = cargo();
        install.args(["install", "--locked", "--no-default-features", "--features=llvm-22", BPF_LINKER]);
        install.arg("--root").arg(tools()).env("LLVM_PREFIX", LLVM_PREFIX);
        checked(&mut install)?;
    }
    if let Some(need) = missing.iter().find(|need| !(need.present)()) {
        bail!("{} is still missing after installing {}", need.name, packages.join(", "));
    }
    Ok(())
}

/// Where cargo installs what is needed here alone.
pub(crate) fn tools() -> PathBuf {
    root().join("target/tools")
}

/// Where a program is, on the path or among the tools.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut directories = std::env::split_paths(&path).chain([tools().join("bin")]);
    directories.find_map(|directory| Some(directory.join(program)).filter(|path| path.is_file()))
}

fn has(program: &str) -> bool {
    find(program).is_some()
}

/// Installs Debian packages.
pub(crate) fn apt_install(packages: &[&str]) -> Result<()> {
    let apt_get = || {
        // Standard output is for results.
        let mut apt_get = Command::new("apt-get");
        apt_get.stdout(std::io::stderr());
        apt_get
    };
    checked(apt_get().args(["update", "--quiet"]))?;
    let mut install = apt_get();
    install.args(["install", "--yes", "--quiet", "--no-install-recommends"]).args(packages);
    checked(install.env("DEBIAN_FRONTEND", "noninteractive"))
}
