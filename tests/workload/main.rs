//! Workloads for tests and benchmarks: processes that are hard to account for.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, exit};
use std::time::Duration;

use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::wait::wait;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{ForkResult, fork, pause};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| args[at].parse().expect("a number");
    match args.first().map(String::as_str) {
        Some("burn") => burn(Duration::from_millis(number(1))),
        Some("orphans") => orphans(number(1), &args[2]),
        Some("deaf") => deaf(number(1), &args[2]),
        Some("mover") => mover(Path::new(&args[1]), Path::new(&args[2]), number(3), number(4)),
        Some("threads") => threads(number(1), number(2)),
        Some("bursts") => bursts(number(1), number(2)),
        Some("headless") => headless(number(1), number(2) as usize),
        Some("idle") => idle(number(1), number(2) as usize),
        _ => {
            eprintln!(
                "burn MS | orphans N MS | deaf N MS | mover DIR DIR ROUNDS MS | threads N MS | bursts N US | headless MS BYTES | idle N BYTES"
            );
            exit(2);
        }
    }
}

/// Uses that much CPU time, however long it takes to get it.
fn burn(time: Duration) {
    let used = || Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("a clock"));
    let end = used() + time;
    while used() < end {
        std::hint::spin_loop();
    }
}

fn myself() -> Command {
    Command::new(std::env::current_exe().expect("this program's path"))
}

/// Children whose parent ends before them.
fn orphans(count: u64, ms: &str) {
    for _ in 0..count {
        // SAFETY: there is one thread, so that a child may do anything.
        match unsafe { fork() }.expect("fork") {
            ForkResult::Child => {
                myself().args(["burn", ms]).spawn().expect("burn");
                exit(0);
            }
            ForkResult::Parent { .. } => {
                wait().expect("wait");
            }
        }
    }
}

/// Children of a parent that ignores SIGCHLD: the kernel drops their time.
fn deaf(count: u64, ms: &str) {
    // SAFETY: ignoring a signal runs no handler.
    unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) }.expect("ignore SIGCHLD");
    for _ in 0..count {
        let child = myself().args(["burn", ms]).spawn().expect("burn");
        // Nobody can be waited for by name where SIGCHLD is ignored.
        drop(child);
        // Waits until there is no child left; there is nobody to be told about.
        while wait().is_ok() {}
    }
}

/// One process that moves between two cgroups.
fn mover(first: &Path, second: &Path, rounds: u64, ms: u64) {
    for round in 0..rounds {
        let cgroup = if round % 2 == 0 { first } else { second };
        fs::write(cgroup.join("cgroup.procs"), std::process::id().to_string()).expect("move");
        burn(Duration::from_millis(ms));
    }
    fs::write(first.join("cgroup.procs"), std::process::id().to_string()).expect("move");
}

/// Threads that all work.
fn threads(count: u64, ms: u64) {
    let workers: Vec<_> =
        (0..count).map(|_| std::thread::spawn(move || burn(Duration::from_millis(ms)))).collect();
    for worker in workers {
        worker.join().expect("a thread");
    }
}

/// Threads one after another that end before any clock tick sees them.
fn bursts(count: u64, us: u64) {
    for _ in 0..count {
        std::thread::spawn(move || burn(Duration::from_micros(us))).join().expect("a thread");
    }
}

/// A process whose first thread ends at once while another works and holds memory.
fn headless(ms: u64, bytes: usize) {
    std::thread::spawn(move || {
        let memory = vec![1u8; bytes];
        burn(Duration::from_millis(ms));
        std::hint::black_box(&memory);
        exit(0);
    });
    // SAFETY: ends this thread and nothing else; what it owns is not used any more.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
}

/// Processes that hold memory and do nothing, until standard input ends.
fn idle(count: u64, bytes: usize) {
    let mut children = Vec::new();
    for _ in 0..count {
        // SAFETY: there is one thread, so that a child may do anything.
        match unsafe { fork() }.expect("fork") {
            ForkResult::Child => {
                // Should the parent be killed, so are its children.
                nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).expect("set_pdeathsig");
                let memory = vec![1u8; bytes];
                loop {
                    pause();
                    std::hint::black_box(&memory);
                }
            }
            ForkResult::Parent { child } => children.push(child),
        }
    }
    println!("ready");
    std::io::stdout().flush().expect("standard output");
    let _ = std::io::stdin().read(&mut [0]);
    for child in children {
        let _ = nix::sys::signal::kill(child, Signal::SIGKILL);
        let _ = nix::sys::wait::waitpid(child, None);
    }
}
