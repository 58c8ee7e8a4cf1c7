//! Builds the programs that the other commands need.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::command::cargo;
pub(crate) use crate::command::{checked, root}; // `bench` imports them from here
use crate::ebpf;
use crate::setup::{self, For};

/// The paths of the built programs.
#[derive(Debug)]
pub(crate) struct Programs {
    pub(crate) collector: PathBuf,
    pub(crate) receiver: PathBuf,
    /// Workloads for tests and benchmarks.
    pub(crate) workload: PathBuf,
    /// The BPF object that is embedded in the collector.
    object: Option<PathBuf>,
}

impl Programs {
    /// Whether the collector has the eBPF program.
    pub(crate) fn has_object(&self) -> bool {
        self.object.is_some()
    }

    /// Has a cargo command embed the same object, so that it does not build a different collector over this one.
    pub(crate) fn embed(&self, command: &mut Command) {
        if let Some(object) = &self.object {
            command.env("COLLECTOR_BPF_OBJECT", object);
        }
    }
}

/// Whether the collector needs the eBPF program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Object {
    /// Install whatever its toolchain lacks; fail if that is not possible.
    Required,
    /// Without it the collector measures from /proc alone.
    IfPossible,
}

/// Builds a collector as a plain `cargo build` does, without the eBPF program.
pub(crate) fn plain_collector() -> Result<PathBuf> {
    let mut build = cargo();
    build.args(["build", "--locked", "--workspace", "--bins"]).env_remove("COLLECTOR_BPF_OBJECT");
    checked(build.current_dir(root()))?;
    let plain = root().join("target/debug/collector-plain");
    std::fs::copy(root().join("target/debug/collector"), &plain).context("cannot copy the collector")?;
    Ok(plain)
}

/// Builds the programs and returns their paths.
pub(crate) fn programs(release: bool, object: Object) -> Result<Programs> {
    programs_by(None, release, object)
}

/// The programs, linked statically as they are shipped. They replace the dynamically linked ones.
pub(crate) fn static_programs(release: bool, object: Object) -> Result<Programs> {
    programs_by(Some(&root().join("xtask/src/dist/static.sh")), release, object)
}

/// `wrapper` is the program that cargo calls instead of rustc for the crates of the workspace.
fn programs_by(wrapper: Option<&Path>, release: bool, object: Object) -> Result<Programs> {
    let object = match (setup::ensure(For::Object).and_then(|()| ebpf::build()), object) {
        (Ok(object), _) => Some(object),
        (Err(error), Object::Required) => return Err(error),
        (Err(error), Object::IfPossible) => {
            eprintln!("going on without eBPF: {error:#}");
            None
        }
    };
    let mut build = cargo();
    if let Some(object) = &object {
        build.env("COLLECTOR_BPF_OBJECT", object);
    }
    if let Some(wrapper) = wrapper {
        build.env("RUSTC_WORKSPACE_WRAPPER", wrapper);
    }
    build.args(["build", "--locked", "--bins"]);
    if release {
        build.args(["--release", "--package=collector", "--package=receiver", "--package=tests"]);
    } else {
        // The whole workspace, as the tests do: a part of it has other features, and cargo would build it again.
        build.arg("--workspace");
    }
    checked(&mut build)?;
    let profile = if release { "release" } else { "debug" };
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let program = |name: &str| target.join(profile).join(name);
    Ok(Programs {
        collector: program("collector"),
        receiver: program("receiver"),
        workload: program("workload"),
        object,
    })
}
