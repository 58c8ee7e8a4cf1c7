//! A process, and its state in one pass.

use serde::{Deserialize, Serialize};

use super::cgroups::CgroupId;
use crate::sample::pid_stat::{Comm, PidStat};

/// Identifies a process forever: PIDs are reused, (PID, start) is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProcessKey {
    /// PID in the collector's PID namespace.
    pub pid: u32,
    /// Field 22 of `stat`: clock ticks since boot.
    pub start_ticks: u64,
}

/// One process as one pass saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observation {
    /// Which process.
    pub key: ProcessKey,
    /// Its parent's PID; 0 when that is outside the PID namespace.
    pub ppid: u32,
    /// Its command name now.
    pub comm: Comm,
    /// Whether it has ended and waits for its parent; it holds no memory, but its CPU time still counts here.
    pub zombie: bool,
    /// Whether it is a kernel thread.
    pub kernel_thread: bool,
    /// Its own CPU time so far, in clock ticks.
    pub own_ticks: u64,
    /// For a process that has ended: CPU time of its first thread, in nanoseconds (`schedstat`), if the kernel reports it.
    pub final_ns: Option<u64>,
    /// CPU time of the children that it waited for so far, in clock ticks.
    pub reaped_ticks: u64,
    /// Resident set size in pages.
    pub rss_pages: u64,
    /// Page faults that needed no I/O: each added one page, or a huge one.
    pub minor_faults: u64,
    /// The address at which its stack starts: another one means that it has executed a program.
    pub stack_start: u64,
    /// Its cgroups; `None` if they could not be read or mean nothing (a zombie's read `/`).
    pub cgroup: Option<CgroupId>,
}

impl Observation {
    pub(super) fn new(stat: &PidStat) -> Self {
        Self {
            key: ProcessKey { pid: stat.pid, start_ticks: stat.start_ticks },
            ppid: stat.ppid,
            comm: stat.comm,
            zombie: stat.is_zombie(),
            kernel_thread: stat.kernel_thread,
            own_ticks: stat.own_ticks,
            final_ns: None,
            reaped_ticks: stat.reaped_ticks,
            rss_pages: stat.rss_pages,
            minor_faults: stat.minor_faults,
            stack_start: stat.stack_start,
            cgroup: None,
        }
    }
}
