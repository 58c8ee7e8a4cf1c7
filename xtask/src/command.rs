//! Paths and commands that every other module needs.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The root of the workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// The directory of tools that cargo installs for this workspace only.
pub(crate) fn tools() -> PathBuf {
    root().join("target/tools")
}

/// The path of a program, on the search path or among the tools.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut directories = std::env::split_paths(&path).chain([tools().join("bin")]);
    directories.find_map(|directory| Some(directory.join(program)).filter(|path| path.is_file()))
}

/// The cargo that runs this program.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root());
    // `cargo run` sets these for xtask. The build script of ring runs again when they change, so it and everything that
    // depends on it would be rebuilt in turns by this cargo and by `cargo xtask` itself.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text == "OUT_DIR" || text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(name);
        }
    }
    cargo
}

/// Prints a command, runs it, and fails if it fails.
pub(crate) fn checked(command: &mut Command) -> Result<()> {
    let line = announced(command);
    let status = command.status().with_context(|| format!("cannot run {line}"))?;
    if !status.success() {
        bail!("{line}: {status}");
    }
    Ok(())
}

/// Prints a command.
pub(crate) fn announced(command: &Command) -> String {
    let words = [command.get_program()].into_iter().chain(command.get_args());
    let line = words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    eprintln!("+ {line}");
    line
}

/// Appends a command to one that runs its last arguments, such as `nsenter … COMMAND`.
pub(crate) fn within(mut outer: Command, command: &Command) -> Command {
    outer.arg(command.get_program()).args(command.get_args());
    take_surroundings(&mut outer, command);
    outer
}

/// Gives a command another one's changes to the environment, and its directory.
pub(crate) fn take_surroundings(to: &mut Command, of: &Command) {
    for (name, value) in of.get_envs() {
        match value {
            Some(value) => to.env(name, value),
            None => to.env_remove(name),
        };
    }
    if let Some(directory) = of.get_current_dir() {
        to.current_dir(directory);
    }
}
