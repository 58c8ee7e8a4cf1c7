//! CPU time of processes, in nanoseconds.

use std::io;
use std::mem::MaybeUninit;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::time::{ClockId, clock_gettime};

/// CPU time of a process, all its threads included.
pub(crate) fn cpu_time(pid: u32) -> Result<Duration> {
    let mut clock = 0;
    let mut time = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: `clock` is valid for writes.
    let error = unsafe { libc::clock_getcpuclockid(pid.cast_signed(), &raw mut clock) };
    ensure!(error == 0, "no CPU clock of process {pid}: {}", io::Error::from_raw_os_error(error));
    // SAFETY: `time` is valid for writes.
    if unsafe { libc::clock_gettime(clock, time.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error()).context("the CPU clock of a process cannot be read");
    }
    // SAFETY: the kernel has filled it in.
    let time = unsafe { time.assume_init() };
    Ok(Duration::new(time.tv_sec.cast_unsigned(), u32::try_from(time.tv_nsec)?))
}

/// CPU time of this process.
pub(crate) fn own_cpu_time() -> Result<Duration> {
    Ok(clock_gettime(ClockId::ProcessCPUTime).try_into()?)
}

/// CPU time of this process's children that have been waited for.
pub(crate) fn children_cpu_time() -> Result<Duration> {
    let mut usage = MaybeUninit::<libc::rusage>::uninit();
    // SAFETY: `usage` is valid for writes.
    if unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, usage.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error()).context("the CPU time of children cannot be read");
    }
    // SAFETY: the kernel has filled it in.
    let usage = unsafe { usage.assume_init() };
    let micros = |time: libc::timeval| (time.tv_sec * 1_000_000 + time.tv_usec).cast_unsigned();
    Ok(Duration::from_micros(micros(usage.ru_utime) + micros(usage.ru_stime)))
}
