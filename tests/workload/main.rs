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

mod stress;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| args[at].parse().expect("a number");
    match args.first().map(String::as_str) {
        Some("burn") => burn(Duration::from_millis(number(1))),
        Some("orphans") => orphans(number(1), &args[2]),
        Some("daemon") => daemon(number(1)),
        Some("deaf") => deaf(number(1), &args[2]),
        Some("mover") => mover(Path::new(&args[1]), Path::new(&args[2]), number(3), number(4)),
        Some("threads") => threads(number(1), number(2)),
        Some("bursts") => bursts(number(1), number(2)),
        Some("headless") => headless(number(1), number(2) as usize),
        Some("thread-exec") => thread_exec(&args[1..]),
        Some("vforks") => vforks(number(1)),
        Some("exits") => exits(number(1), number(2)),
        Some("alias") => alias(&args[1], number(2)),
        Some("rusage") => rusage(&args[1..]),
        Some("touch") => drop(std::hint::black_box(vec![1u8; number(1) as usize])),
        Some("idle") => idle(number(1), number(2) as usize),
        Some("as") => stress::named(&args[1], &args[2..]),
        _ => {
            eprintln!(
                "burn MS | orphans N MS | daemon MS | deaf N MS | mover DIR DIR ROUNDS MS | threads N MS | bursts N US | \
                 headless MS BYTES | thread-exec COMMAND… | vforks N | exits PER_SECOND SECONDS | alias NAME MS | rusage COMMAND… | touch BYTES | \
                 idle N BYTES | as NAME WHAT…"
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

/// A grandchild in a session of its own, left behind at once.
fn daemon(ms: u64) {
    for _ in 0..2 {
        // SAFETY: there is one thread, so that a child may do anything.
        match unsafe { fork() }.expect("fork") {
            ForkResult::Child => {
                let _ = nix::unistd::setsid();
            }
            ForkResult::Parent { .. } => exit(0),
        }
    }
    burn(Duration::from_millis(ms));
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

/// A thread that is not the first executes a program, which takes the place of all.
fn thread_exec(command: &[String]) {
    let mut program = Command::new(&command[0]);
    program.args(&command[1..]);
    let error = std::thread::spawn(move || std::os::unix::process::CommandExt::exec(&mut program)).join();
    panic!("{error:?}");
}

/// Children that share the memory of their parent until they execute something.
#[expect(deprecated, reason = "it is what is to be tested, and the child touches nothing")]
fn vforks(count: u64) {
    for _ in 0..count {
        // SAFETY: the child does nothing but execute a program, or end.
        unsafe {
            let child = libc::vfork();
            if child == 0 {
                libc::execl(c"/bin/true".as_ptr(), c"true".as_ptr(), std::ptr::null::<libc::c_char>());
                libc::_exit(127);
            }
            assert!(child > 0, "vfork");
        }
        wait().expect("wait");
    }
}

/// So many processes that begin and end in each second.
fn exits(per_second: u64, seconds: u64) {
    let begin = std::time::Instant::now();
    for slice in 1..=seconds * 100 {
        vforks(per_second / 100);
        std::thread::sleep(Duration::from_millis(slice * 10).saturating_sub(begin.elapsed()));
    }
}

/// Calls itself something else than what was executed, and so does a child of it that executes nothing.
fn alias(name: &str, ms: u64) {
    let name = std::ffi::CString::new(name).expect("a name");
    nix::sys::prctl::set_name(&name).expect("set_name");
    // SAFETY: there is one thread, so that a child may do anything.
    if unsafe { fork() }.expect("fork").is_parent() {
        wait().expect("wait");
    }
    burn(Duration::from_millis(ms));
}

/// Runs a command and prints the highest resident set size that the kernel tells its parent of, in bytes.
#[expect(clippy::zombie_processes, reason = "wait4 waits for it")]
fn rusage(command: &[String]) {
    let child = Command::new(&command[0]).args(&command[1..]).spawn().expect("the command");
    // SAFETY: an all-zero rusage is one, and the kernel fills it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        let pid = child.id().cast_signed();
        assert_eq!(libc::wait4(pid, std::ptr::null_mut(), 0, &raw mut usage), pid);
        usage
    };
    println!("{}", usage.ru_maxrss * 1024);
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
