//! Files of a proc tree: their paths, and why one cannot be read.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::io::{Errno, pread};

use crate::sample::pid_stat::PidStat;

/// Why a process could not be read.
pub(super) enum ReadError {
    /// It has ended.
    Gone,
    Forbidden,
    Garbled,
}

impl From<Errno> for ReadError {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::ACCESS | Errno::PERM => Self::Forbidden,
            Errno::NOENT | Errno::SRCH => Self::Gone,
            _ => Self::Garbled,
        }
    }
}

pub(super) fn read_stat(file: &impl AsFd, buffer: &mut [u8]) -> Result<PidStat, ReadError> {
    let length = loop {
        match pread(file, &mut *buffer, 0) {
            Err(Errno::INTR) => {}
            result => break result?,
        }
    };
    PidStat::parse(&buffer[..length]).map_err(|_| ReadError::Garbled)
}

/// The collector's own PID in a proc tree; `None` if the tree does not show the collector. Each tree shows the PIDs of the
/// namespace that it was mounted in.
pub fn own_pid(path: &Path) -> Option<u32> {
    std::fs::read_link(path.join("self")).ok()?.to_str()?.parse().ok()
}

/// Whether the PIDs in a proc tree are those that system calls take.
pub fn has_own_pids(path: &Path) -> bool {
    own_pid(path) == Some(std::process::id())
}

/// `loadavg` describes the reader's PID namespace: it is useful only if the tree shows the same one.
pub(super) fn own_loadavg(path: &Path) -> Option<OwnedFd> {
    has_own_pids(path).then(|| File::open(path.join("loadavg")).ok().map(Into::into)).flatten()
}

/// The PID in a directory's name; `None` for other directories.
pub(super) fn parse_pid(name: &[u8]) -> Option<u32> {
    if !name.first()?.is_ascii_digit() {
        return None;
    }
    std::str::from_utf8(name).ok()?.parse().ok()
}

/// `PID/name` without an allocation; this runs for every process in every pass.
pub(super) fn join_path<'a>(space: &'a mut [u8; 32], pid: u32, name: &CStr) -> &'a CStr {
    let mut digits = [0u8; 10];
    let mut at = digits.len();
    let mut rest = pid;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    let digits = &digits[at..];
    space[..digits.len()].copy_from_slice(digits);
    space[digits.len()] = b'/';
    let name = name.to_bytes_with_nul();
    let start = digits.len() + 1;
    space[start..start + name.len()].copy_from_slice(name);
    CStr::from_bytes_until_nul(space).unwrap_or_default()
}
