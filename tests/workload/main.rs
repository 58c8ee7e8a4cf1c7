//! Workloads for tests and benchmarks: processes that are hard to account for.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, exit};
use std::time::Duration;

use rustix::event::pause;
use rustix::process::{
    Pid, Signal, WaitOptions, kill_process, set_parent_process_death_signal, setsid, wait, waitpid,
};
use rustix::thread::set_name;
use rustix::time::{ClockId, clock_gettime};

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
        Some("share") => share(number(1) as usize, number(2), number(3)),
        Some("idle") => idle(number(1), number(2) as usize),
        Some("as") => stress::named(&args[1], &args[2..]),
        _ => {
            eprintln!(
                "burn MS | orphans N MS | daemon MS | deaf N MS | mover DIR DIR ROUNDS MS | threads N MS | bursts N US | \
                 headless MS BYTES | thread-exec COMMAND… | vforks N | exits PER_SECOND SECONDS | alias NAME MS | rusage COMMAND… | touch BYTES | \
                 share BYTES N MS | idle N BYTES | as NAME WHAT…"
            );
            exit(2);
        }
    }
}

/// Uses this much CPU time, no matter how long that takes.
fn burn(time: Duration) {
    let used = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).expect("a positive time");
    let end = used() + time;
    while used() < end {
        std::hint::spin_loop();
    }
}

fn myself() -> Command {
    Command::new(std::env::current_exe().expect("this program's path"))
}

/// Returns the child's PID in the parent and nothing in the child. The child may do anything, because there is one thread.
fn fork() -> Option<Pid> {
    assert_eq!(fs::read_dir("/proc/self/task").expect("threads").count(), 1, "a fork of several threads");
    // SAFETY: there is no other thread, so no lock is held forever and no memory is half changed in the child.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
    Pid::from_raw(pid)
}

fn wait_for_any() {
    wait(WaitOptions::empty()).expect("wait");
}

/// Children whose parent ends before them.
fn orphans(count: u64, ms: &str) {
    for _ in 0..count {
        if fork().is_none() {
            myself().args(["burn", ms]).spawn().expect("burn");
            exit(0);
        }
        wait_for_any();
    }
}

/// Children that have this process's memory and use none of it.
fn share(bytes: usize, count: u64, ms: u64) {
    let memory = vec![1u8; bytes];
    for _ in 0..count {
        if fork().is_none() {
            std::thread::sleep(Duration::from_millis(ms));
            exit(0);
        }
    }
    (0..count).for_each(|_| wait_for_any());
    drop(std::hint::black_box(memory));
}

/// A grandchild in a session of its own, whose parents end at once.
fn daemon(ms: u64) {
    for _ in 0..2 {
        if fork().is_some() {
            exit(0);
        }
        let _ = setsid();
    }
    burn(Duration::from_millis(ms));
}

/// Children of a parent that ignores SIGCHLD, so the kernel drops their CPU times.
fn deaf(count: u64, ms: &str) {
    // SAFETY: ignoring a signal runs no handler.
    assert_ne!(unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) }, libc::SIG_ERR, "ignore SIGCHLD");
    for _ in 0..count {
        let child = myself().args(["burn", ms]).spawn().expect("burn");
        // A child cannot be waited for by PID while SIGCHLD is ignored.
        drop(child);
        // Waits until there is no child left, without a status of any.
        while wait(WaitOptions::empty()).is_ok() {}
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

/// Threads that run one after another and end before a clock tick sees them.
fn bursts(count: u64, us: u64) {
    for _ in 0..count {
        std::thread::spawn(move || burn(Duration::from_micros(us))).join().expect("a thread");
    }
}

/// A process whose first thread ends at once while another thread works and holds memory.
fn headless(ms: u64, bytes: usize) {
    std::thread::spawn(move || {
        let memory = vec![1u8; bytes];
        burn(Duration::from_millis(ms));
        std::hint::black_box(&memory);
        exit(0);
    });
    // SAFETY: ends only this thread, whose data is not used any more.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
}

/// A thread other than the first executes a program, which replaces all threads.
fn thread_exec(command: &[String]) {
    let mut program = Command::new(&command[0]);
    program.args(&command[1..]);
    let error = std::thread::spawn(move || std::os::unix::process::CommandExt::exec(&mut program)).join();
    panic!("{error:?}");
}

/// Children that share their parent's memory until they execute a program.
#[expect(deprecated, reason = "it is what is to be tested, and the child touches nothing")]
fn vforks(count: u64) {
    for _ in 0..count {
        // SAFETY: the child only executes a program or ends.
        unsafe {
            let child = libc::vfork();
            if child == 0 {
                libc::execl(c"/bin/true".as_ptr(), c"true".as_ptr(), std::ptr::null::<libc::c_char>());
                libc::_exit(127);
            }
            assert!(child > 0, "vfork");
        }
        wait_for_any();
    }
}

/// Starts and ends this many processes per second.
fn exits(per_second: u64, seconds: u64) {
    let begin = std::time::Instant::now();
    for slice in 1..=seconds * 100 {
        vforks(per_second / 100);
        std::thread::sleep(Duration::from_millis(slice * 10).saturating_sub(begin.elapsed()));
    }
}

/// Gives itself and a child another name than the executed program's. The child executes nothing.
fn alias(name: &str, ms: u64) {
    let name = std::ffi::CString::new(name).expect("a name");
    set_name(&name).expect("set_name");
    if fork().is_some() {
        wait_for_any();
    }
    burn(Duration::from_millis(ms));
}

/// Runs a command and prints the highest RSS that the kernel reports to its parent, in bytes.
#[expect(clippy::zombie_processes, reason = "wait4 waits for it")]
fn rusage(command: &[String]) {
    let child = Command::new(&command[0]).args(&command[1..]).spawn().expect("the command");
    // SAFETY: an all-zero rusage is valid, and the kernel fills it.
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
        let Some(child) = fork() else {
            // If the parent is killed, so are its children.
            set_parent_process_death_signal(Some(Signal::KILL)).expect("a signal at the parent's death");
            let memory = vec![1u8; bytes];
            loop {
                pause();
                std::hint::black_box(&memory);
            }
        };
        children.push(child);
    }
    println!("ready");
    std::io::stdout().flush().expect("standard output");
    let _ = std::io::stdin().read(&mut [0]);
    for child in children {
        let _ = kill_process(child, Signal::KILL);
        let _ = waitpid(Some(child), WaitOptions::empty());
    }
}
