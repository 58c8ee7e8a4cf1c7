//! Process state that a child would not inherit unchanged: Rust's runtime opens closed standard streams and ignores SIGPIPE, the
//! standard library clears a child's mask of blocked signals, and exec resets every signal that we handle to its default. It is
//! recorded before Rust's runtime starts and restored before exec, so that a command starts as it would without the collector.

use std::io;
use std::os::fd::RawFd;
use std::sync::OnceLock;

/// Signals that exist: the last real-time one is 64.
const SIGNALS: std::ops::RangeInclusive<libc::c_int> = 1..=64;
/// Signals that ask a program to end.
const END_SIGNALS: [libc::c_int; 2] = [libc::SIGINT, libc::SIGTERM];
/// Standard streams.
const STREAMS: [RawFd; 3] = [0, 1, 2];

/// The state in which this process started.
#[derive(Clone, Copy)]
struct Inherited {
    /// Bit `n`: signal `n` was ignored.
    ignored: u128,
    blocked: libc::sigset_t,
    closed: [bool; 3],
}

static INHERITED: OnceLock<Inherited> = OnceLock::new();

/// Records the inherited state, and blocks the signals that ask for an end until [`accept_end_signals`]: a job can be over
/// before its collector listens for them, and by default they would end it without a summary. Must run before Rust's runtime
/// starts, so it is registered with the functions that the C library calls before `main`.
pub extern "C" fn remember() {
    let mut ignored = 0;
    for signal in SIGNALS {
        if disposition(signal).is_some_and(|action| action == libc::SIG_IGN) {
            ignored |= 1 << signal;
        }
    }
    // SAFETY: the sets are valid memory to be written to, and only read if the call succeeds or as the empty set.
    let blocked = unsafe {
        let mut blocked = std::mem::zeroed();
        let mut end_signals = std::mem::zeroed();
        libc::sigemptyset(&raw mut end_signals);
        for signal in END_SIGNALS {
            libc::sigaddset(&raw mut end_signals, signal);
        }
        libc::sigprocmask(libc::SIG_BLOCK, &raw const end_signals, &raw mut blocked);
        blocked
    };
    // SAFETY: asking for the flags of a descriptor changes nothing.
    let closed = STREAMS.map(|stream| unsafe { libc::fcntl(stream, libc::F_GETFD) } == -1);
    let _ = INHERITED.set(Inherited { ignored, blocked, closed });
}

fn disposition(signal: libc::c_int) -> Option<libc::sighandler_t> {
    // SAFETY: without a new action nothing is changed, and the old one is valid memory to be written to.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        (libc::sigaction(signal, std::ptr::null(), &raw mut action) == 0).then_some(action.sa_sigaction)
    }
}

/// Makes a write beyond `RLIMIT_FSIZE` fail with an error, as on a full disk. By default the kernel would kill this process, and
/// measuring would end with it.
pub fn outlive_file_limits() {
    // SAFETY: no handler is installed. It cannot fail, as this signal may be ignored.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// Unblocks the signals that ask for an end, including those sent since this process started. The process now listens for them,
/// or they may end it.
pub fn accept_end_signals() {
    let Some(inherited) = INHERITED.get() else { return };
    // It cannot fail: the set is one that the kernel filled in.
    // SAFETY: as above; the old set is not asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const inherited.blocked, std::ptr::null_mut()) };
}

/// Whether the signal was ignored when this process started. It must stay ignored.
pub fn is_ignored(signal: libc::c_int) -> bool {
    INHERITED.get().is_some_and(|inherited| inherited.ignored & (1 << signal) != 0)
}

/// Restores the recorded state in a process that is about to execute another program.
///
/// # Errors
/// The kernel refuses the mask.
///
/// # Safety
/// Only for the one thread of a process that executes another program next: standard streams are closed.
pub unsafe fn restore() -> io::Result<()> {
    let Some(inherited) = INHERITED.get() else { return Ok(()) };
    // SAFETY: it is the default of every program, unless the signal was ignored, as below.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_DFL) };
    for signal in SIGNALS {
        if inherited.ignored & (1 << signal) != 0 {
            // SAFETY: to ignore a signal is always allowed; signals that cannot be ignored were not ignored before.
            unsafe { libc::signal(signal, libc::SIG_IGN) };
        }
    }
    // SAFETY: the set was filled in by the kernel.
    if unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const inherited.blocked, std::ptr::null_mut()) }
        != 0
    {
        return Err(io::Error::last_os_error());
    }
    for (stream, closed) in STREAMS.into_iter().zip(inherited.closed) {
        if closed {
            // SAFETY: the caller promises that nothing of this process writes there any more.
            unsafe { libc::close(stream) };
        }
    }
    Ok(())
}
