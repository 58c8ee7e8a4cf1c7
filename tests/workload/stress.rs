//! The workloads of the stress demo's containers. Each runs until it is stopped, under its own name.

use std::process::{Command, exit};
use std::time::Duration;

use rustix::process::{WaitOptions, wait};
use rustix::thread::set_name;

use super::{burn, myself};

/// The CPU time of one child.
const CHILD_MS: &str = "2";

/// Takes `name` as its name and runs the workload in `what`.
pub(crate) fn named(name: &str, what: &[String]) {
    let name = std::ffi::CString::new(name).expect("a name");
    set_name(&name).expect("set_name");
    let number = |at: usize| what[at].parse().expect("a number");
    match what[0].as_str() {
        "pause" => pause(),
        "cpu" => cpu(number(1)),
        "grow" => grow(number(1), number(2), number(3)),
        "storm" => storm(number(1)),
        "brief" => burn(Duration::from_millis(number(1))),
        other => {
            eprintln!(
                "{other}: pause | cpu THREADS | grow STEP_BYTES STEPS MS | storm PER_SECOND | brief MS"
            );
            exit(2);
        }
    }
}

/// The first process of a PID namespace: waits for orphans until it is stopped.
fn pause() {
    // SAFETY: the set is initialised before it is used, and nothing else refers to it.
    let set = unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGCHLD] {
            libc::sigaddset(&raw mut set, signal);
        }
        assert_eq!(libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()), 0);
        set
    };
    loop {
        let mut signal = 0;
        // SAFETY: the set is initialised, and the signal's number is written to valid memory.
        let failed = unsafe { libc::sigwait(&raw const set, &raw mut signal) };
        if failed != 0 || signal != libc::SIGCHLD {
            break;
        }
        while wait(WaitOptions::NOHANG).is_ok_and(|ended| ended.is_some()) {}
    }
}

/// Threads that use all the CPU time they get.
fn cpu(threads: u64) {
    let burners: Vec<_> =
        (0..threads).map(|_| std::thread::spawn(|| burn(Duration::from_secs(u64::MAX / 2)))).collect();
    for burner in burners {
        burner.join().expect("a thread");
    }
}

/// Memory that grows step by step and is then held.
fn grow(step: u64, steps: u64, ms: u64) {
    let mut held = Vec::new();
    loop {
        if (held.len() as u64) < steps {
            held.push(vec![1u8; step as usize]);
        }
        std::hint::black_box(&held);
        std::thread::sleep(Duration::from_millis(ms));
    }
}

/// Children that live for milliseconds, started one after another at this rate per second.
fn storm(per_second: u64) {
    loop {
        let begin = std::time::Instant::now();
        child().status().expect("a child");
        std::thread::sleep(Duration::from_micros(1_000_000 / per_second).saturating_sub(begin.elapsed()));
    }
}

fn child() -> Command {
    let mut child = myself();
    child.args(["burn", CHILD_MS]);
    child
}
