//! All tests, by groups of what they need.

use std::process::Command;

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::build::{self, Object, checked};
use crate::setup::{self, For};

/// Tests that need the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Group {
    /// Nothing but a user: unit tests, and the shipped programs over sockets and scenes of proc.
    Unit,
    /// Root: cgroups and real processes in them.
    Kernel,
    /// Root, on a kernel with BTF: the eBPF program.
    Bpf,
    /// Root: the shipped programs killed, disks filled, peers that misbehave.
    Faults,
}

impl Group {
    fn name(self) -> &'static str {
        match self {
            Self::Unit => "unit",
            Self::Kernel => "kernel",
            Self::Bpf => "bpf",
            Self::Faults => "faults",
        }
    }
}

/// Rounds of each fault in the long form.
const LONG_ROUNDS: &str = "200";

pub(crate) fn run(groups: &[Group], long: bool) -> Result<()> {
    let root = nix::unistd::geteuid().is_root();
    let all = groups.is_empty();
    let wanted = |group| all || groups.contains(&group);
    setup::ensure(For::Tests)?;
    let programs =
        build::programs(false, if groups == [Group::Unit] { Object::IfPossible } else { Object::Required })?;
    let with_programs = |command: &mut Command| {
        command.env("COLLECTOR_BIN", &programs.collector).env("RECEIVER_BIN", &programs.receiver);
        command.env("WORKLOAD_BIN", &programs.workload);
        programs.embed(command);
    };
    if wanted(Group::Unit) {
        let mut test = build::cargo();
        test.args(["test", "--locked", "--workspace"]);
        with_programs(&mut test);
        checked(&mut test)?;
    }
    for group in [Group::Kernel, Group::Bpf, Group::Faults].into_iter().filter(|group| wanted(*group)) {
        let name = group.name();
        if !root {
            if !all {
                bail!("the group {name} needs root");
            }
            println!("Not run: the group {name}, which needs root (sudo cargo xtask test --group {name}).");
            continue;
        }
        // CPU time is compared with the kernel's own count: one at a time, so that nothing else is running.
        let mut test = build::cargo();
        test.args(["test", "--locked", "--package=tests", "--test=it"]).arg(format!("--features={name}"));
        test.arg("--").arg(format!("{name}::")).arg("--test-threads=1");
        with_programs(&mut test);
        if long {
            test.env("FAULT_ROUNDS", LONG_ROUNDS);
        }
        checked(&mut test)?;
    }
    println!("All tests passed that were run.");
    Ok(())
}
