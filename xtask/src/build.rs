//! Cargo, asked for what the other commands need.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::ebpf;
use crate::setup::{self, For};

/// Where the programs are.
#[derive(Debug)]
pub(crate) struct Programs {
    pub(crate) collector: PathBuf,
    pub(crate) receiver: PathBuf,
    /// Workloads for tests and benchmarks.
    pub(crate) workload: PathBuf,
    /// What the collector has embedded.
    object: Option<PathBuf>,
}

impl Programs {
    /// Whether the collector has the eBPF program.
    pub(crate) fn has_object(&self) -> bool {
        self.object.is_some()
    }

    /// Has a cargo command embed the same object, so that it does not build another collector over this one.
    pub(crate) fn embed(&self, command: &mut Command) {
        if let Some(object) = &self.object {
            command.env("COLLECTOR_BPF_OBJECT", object);
        }
    }
}

/// Whether the collector needs the eBPF program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Object {
    /// What its toolchain lacks is installed, or it is an error.
    Required,
    /// Without it the collector measures from /proc alone.
    IfPossible,
}

/// The workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// The cargo that runs this.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root());
    // What `cargo run` says of xtask: the build script of ring, which runs again if these change, would do so in turns, here
    // and in `cargo xtask` itself, and with it all that is built on it.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text == "OUT_DIR" || text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(name);
        }
    }
    cargo
}

/// Says what is run, runs it, and fails if it fails.
pub(crate) fn checked(command: &mut Command) -> Result<()> {
    let line = announced(command);
    let status = command.status().with_context(|| format!("cannot run {line}"))?;
    if !status.success() {
        bail!("{line}: {status}");
    }
    Ok(())
}

/// Says what is run.
pub(crate) fn announced(command: &Command) -> String {
    let words = [command.get_program()].into_iter().chain(command.get_args());
    let line = words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    eprintln!("+ {line}");
    line
}

/// A command as what another one is told to run, which ends with words for it: `nsenter … COMMAND`.
pub(crate) fn within(mut outer: Command, command: &Command) -> Command {
    outer.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    if let Some(directory) = command.get_current_dir() {
        outer.current_dir(directory);
    }
    outer
}

/// A collector as a plain `cargo build` makes it, without the eBPF program.
pub(crate) fn plain_collector() -> Result<PathBuf> {
    let mut build = cargo();
    build.args(["build", "--locked", "--workspace", "--bins"]).env_remove("COLLECTOR_BPF_OBJECT");
    checked(build.current_dir(root()))?;
    let plain = root().join("target/debug/collector-plain");
    std::fs::copy(root().join("target/debug/collector"), &plain).context("cannot copy the collector")?;
    Ok(plain)
}

/// Builds the programs and tells where they are.
pub(crate) fn programs(release: bool, object: Object) -> Result<Programs> {
    programs_by(None, release, object)
}

/// The programs as tests have them, but with no library that they would need where they run: in the place of those.
pub(crate) fn static_programs() -> Result<Programs> {
    programs_by(Some(&root().join("xtask/src/dist/static.sh")), false, Object::Required)
}

/// `wrapper`: what cargo calls for the crates of the workspace, instead of rustc.
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
        // All of it, as the tests do: what is built for a part has other features and would be built again.
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
