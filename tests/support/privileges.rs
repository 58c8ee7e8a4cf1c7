//! The collector as a user without privileges, or with only those that the eBPF program needs.

use std::io::Result;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// The user `nobody`, and the group with the same number.
const NOBODY: &str = "65534";

/// A program's capabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capabilities {
    /// Nothing.
    None,
    /// `CAP_BPF` and `CAP_PERFMON`.
    Ebpf,
    /// `CAP_BPF` alone, which is too little.
    BpfOnly,
    /// `CAP_PERFMON` alone, which is too little.
    PerfmonOnly,
}

/// Runs a program as the user nobody with only these capabilities; needs root.
///
/// The program is copied to `directory`, because the user nobody may not read the build directory.
pub fn as_nobody(program: &Path, directory: &Path, capabilities: Capabilities) -> Result<Command> {
    let copy = directory.join(program.file_name().unwrap_or_default());
    if !copy.exists() {
        std::fs::copy(program, &copy)?;
        open_to_all(&copy, 0o755)?;
    }
    open_to_all(directory, 0o777)?;
    let mut command = Command::new("setpriv");
    command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]);
    let allowed = match capabilities {
        Capabilities::None => "-all",
        Capabilities::Ebpf => "-all,+bpf,+perfmon",
        Capabilities::BpfOnly => "-all,+bpf",
        Capabilities::PerfmonOnly => "-all,+perfmon",
    };
    command.args(["--bounding-set", allowed, "--inh-caps", allowed, "--ambient-caps", allowed]).arg(copy);
    Ok(command)
}

/// Sets the mode of a file or directory.
pub fn open_to_all(path: &Path, mode: u32) -> Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}
