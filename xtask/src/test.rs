//! All tests, by groups of what they need.

use std::process::Command;

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::build::{self, checked};

/// Tests that need the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Group {
    /// Nothing but a user: unit tests, and the shipped programs over sockets and scenes of proc.
    Unit,
    /// Root: cgroups and real processes in them.
    Kernel,
}

/// Programs that the tests run, and Debian's packages for them.
const NEEDED: [(&str, &str); 3] = [("cc", "gcc"), ("setpriv", "util-linux"), ("python3", "python3-minimal")];

pub(crate) fn run(groups: &[Group]) -> Result<()> {
    let root = nix::unistd::geteuid().is_root();
    let all = groups.is_empty();
    let wanted = |group| all || groups.contains(&group);
    install_needed(root)?;
    if wanted(Group::Kernel) && !all && !root {
        bail!("the group kernel makes cgroups, which needs root");
    }
    let programs = build::programs(false)?;
    let with_programs = |command: &mut Command| {
        command.env("COLLECTOR_BIN", &programs.collector).env("RECEIVER_BIN", &programs.receiver);
        command.env("WORKLOAD_BIN", &programs.workload);
    };
    if wanted(Group::Unit) {
        let mut test = build::cargo();
        test.args(["test", "--locked", "--workspace"]);
        with_programs(&mut test);
        checked(&mut test)?;
    }
    if wanted(Group::Kernel) && root {
        // CPU time is compared with the kernel's own count: one at a time, so that nothing else is running.
        let mut test = build::cargo();
        test.args([
            "test",
            "--locked",
            "--package=tests",
            "--features=kernel",
            "--test=it",
            "--",
            "kernel::",
        ]);
        test.arg("--test-threads=1");
        with_programs(&mut test);
        checked(&mut test)?;
    }
    if all && !root {
        println!(
            "Not run: the group kernel, which makes cgroups and needs root (sudo cargo xtask test --group kernel)."
        );
    }
    println!("All tests passed that were run.");
    Ok(())
}

fn install_needed(root: bool) -> Result<()> {
    let found = |program: &str| {
        std::env::var_os("PATH").is_some_and(|path| {
            std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
        })
    };
    let missing: Vec<_> =
        NEEDED.iter().filter(|(program, _)| !found(program)).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !root || !found("apt-get") {
        bail!("these are needed and not installed: {}", missing.join(", "));
    }
    apt_install(&missing)
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
