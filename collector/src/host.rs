//! Facts about the machine, read once and passed on, so that code that computes with them stays pure.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Facts that do not change while the collector runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Host {
    /// `sysconf(_SC_CLK_TCK)`: the unit of the times in `/proc/[pid]/stat`; 100 on every common kernel.
    pub ticks_per_second: u64,
    /// Bytes in a page.
    pub page_bytes: u64,
}

impl Host {
    /// Reads the facts of this machine.
    pub fn read() -> Self {
        Self {
            ticks_per_second: rustix::param::clock_ticks_per_second().max(1),
            page_bytes: rustix::param::page_size() as u64,
        }
    }

    /// Nanoseconds in a clock tick.
    pub fn tick_ns(self) -> u64 {
        1_000_000_000 / self.ticks_per_second
    }
}

/// Release of the running kernel, such as `6.18.44`.
pub fn kernel_release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// Major and minor number of a release.
pub fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// One reading of the clocks that a pass needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// `CLOCK_MONOTONIC`: stands still while the machine sleeps, so that rates stay true.
    pub monotonic: Duration,
    /// `CLOCK_BOOTTIME`: goes on while the machine sleeps, so that durations stay true.
    pub boot: Duration,
}

impl Moment {
    /// Reads the clocks.
    pub fn now() -> Self {
        Self { monotonic: read_clock(ClockId::Monotonic), boot: read_clock(ClockId::Boottime) }
    }
}

/// CPU time that the collector itself has used, all threads (`CLOCK_PROCESS_CPUTIME_ID`).
pub fn own_cpu_time() -> Duration {
    read_clock(ClockId::ProcessCPUTime)
}

/// The largest resident set size of all children that were waited for, and of children that they waited for, in bytes.
///
/// For a process that executed another program, it is the larger of both. So a child of the collector has at least the
/// collector's own size.
pub fn largest_child_bytes() -> u64 {
    // SAFETY: the kernel fills the structure, which is plain numbers; zeros are valid.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        (libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage) == 0).then_some(usage)
    };
    usage.and_then(|usage| u64::try_from(usage.ru_maxrss).ok()).unwrap_or_default().saturating_mul(1024)
}

/// Resident set size of the collector itself.
pub fn own_resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

fn read_clock(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec.max(0) as u64, time.tv_nsec as u32)
}

/// Raises the soft limit of open files to the hard one: every process in sight keeps one open.
///
/// Returns the limits before and after.
pub fn raise_open_files() -> (rustix::process::Rlimit, u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let before = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: before.maximum, maximum: before.maximum };
    let now = if setrlimit(Resource::Nofile, raised).is_ok() { raised } else { before };
    // Even without a hard limit, there is no need for more descriptors than there can be PIDs.
    (before, now.current.unwrap_or(1 << 22))
}

#[cfg(test)]
mod tests {
    use super::kernel_version;

    #[test]
    fn a_release_begins_with_two_numbers() {
        assert_eq!(kernel_version("6.18.44-fc-v669"), Some((6, 18)));
        assert_eq!(kernel_version("5.8.0-rc1"), Some((5, 8)));
        assert_eq!(kernel_version("4.18.0-553.el8_10.x86_64"), Some((4, 18)));
        assert_eq!(kernel_version("6"), None);
        assert_eq!(kernel_version("next"), None);
    }
}
