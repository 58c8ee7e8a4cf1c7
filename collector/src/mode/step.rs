//! A step of a job: a command with a name for it in its environment.

use std::ffi::OsString;
use std::process::ExitCode;

use super::run::{as_alone, cannot_run};
use crate::args::STEP_VARIABLE;

/// Replaces this process with the command. Returns only if it cannot be run.
pub fn run(name: &str, command: &[OsString]) -> ExitCode {
    let open_files = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let error =
        std::os::unix::process::CommandExt::exec(as_alone(command, open_files).env(STEP_VARIABLE, name));
    cannot_run(command, &error)
}
