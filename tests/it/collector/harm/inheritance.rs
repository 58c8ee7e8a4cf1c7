//! A command inherits the same under the collector as it does alone.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::fs::Mode;
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, setrlimit, umask};
use tests::program::{Program, collector};

/// Prints everything that a program can find out about what it inherited.
const LOOK: &str = "grep -E 'Sig(Blk|Ign)|Cap|NoNewPrivs|Seccomp|CoreDump' /proc/self/status; umask; ulimit -a; ulimit -aH; \
    nice; cat /proc/self/oom_score_adj; grep . /proc/self/sched | grep -E 'policy|prio'; pwd; \
    for fd in /proc/self/fd/*; do [ -e $fd ] && echo ${fd##*/}; done; env | grep -v '^_='";

/// The command's output, alone or under the collector. `prepare` runs before either starts.
fn seen(behind: bool, prepare: fn()) -> String {
    let mut command = if behind {
        let mut command = collector();
        command.env_remove("COLLECTOR_SPOOL_DIR").args(["run", "--output=none", "--", "bash", "-c", LOOK]);
        command
    } else {
        let mut command = Command::new("bash");
        command.args(["-c", LOOK]);
        command
    };
    // SAFETY: `prepare` only makes plain system calls.
    unsafe {
        command.pre_exec(move || {
            prepare();
            Ok(())
        });
    }
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn ignore(signals: &[Signal]) {
    for one in signals {
        // SAFETY: ignoring a signal installs no handler.
        assert_ne!(unsafe { libc::signal(one.as_raw(), libc::SIG_IGN) }, libc::SIG_ERR);
    }
}

fn block(signals: &[Signal]) {
    // SAFETY: the set is initialised before it is used, and nothing else refers to it.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for one in signals {
            libc::sigaddset(&raw mut set, one.as_raw());
        }
        assert_eq!(libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()), 0);
    }
}

fn limit(resource: Resource, soft: u64, hard: u64) {
    setrlimit(resource, Rlimit { current: Some(soft), maximum: Some(hard) }).unwrap();
}

fn forwarded() -> [Signal; 6] {
    [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT, Signal::USR1, Signal::USR2]
}

#[test]
fn signals_limits_masks_and_descriptors_are_the_same() {
    let cases: [(&str, fn()); 8] = [
        ("as it is", || {}),
        ("nohup", || ignore(&[Signal::HUP])),
        ("in the background", || ignore(&[Signal::INT, Signal::QUIT])),
        ("everything ignored", || ignore(&forwarded())),
        ("children and pipes", || ignore(&[Signal::CHILD, Signal::PIPE, Signal::TSTP])),
        ("blocked", || block(&[Signal::TERM, Signal::USR1, Signal::WINCH])),
        ("umask and limits", || {
            umask(Mode::from_raw_mode(0o027));
            limit(Resource::Nofile, 200, 300);
            limit(Resource::Core, 0, 0);
            // SAFETY: it only changes this process.
            unsafe { libc::nice(5) };
        }),
        // SAFETY: only the program could use the descriptor after this, and the program is meant to find it closed.
        ("closed", || unsafe {
            libc::close(0);
        }),
    ];
    for (what, prepare) in cases {
        let (alone, behind) = (seen(false, prepare), seen(true, prepare));
        assert!(alone.contains("SigIgn"), "{alone}");
        assert_eq!(behind, alone, "{what}");
    }
}

/// A collector that inherits this signal as ignored, in front of a command that prints a line at its end.
fn ignoring(one: Signal) -> Program {
    let mut command = collector();
    command.args(["run", "--output=none", "--log-level=debug", "--log-format=json", "--interval=20ms"]);
    command.args(["--", "sh", "-c", "sleep 0.7; echo whole"]);
    // SAFETY: a plain system call.
    unsafe {
        command.pre_exec(move || {
            ignore(&[one]);
            Ok(())
        });
    }
    Program::start(&mut command)
}

#[test]
fn a_signal_that_was_ignored_ends_nothing() {
    for one in forwarded() {
        let program = ignoring(one);
        program.wait_for("pass");
        program.signal(one);
        let ended = program.wait();
        assert_eq!((ended.status.code(), ended.stdout.as_str()), (Some(0), "whole\n"), "{one:?}");
    }
}

#[test]
fn nohup_and_hangup_are_as_without_it() {
    let mut command = Command::new("nohup");
    command.arg(collector().get_program()).args([
        "run",
        "--output=none",
        "--",
        "sh",
        "-c",
        "sleep 0.5; exit 5",
    ]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(200));
    kill_process(Pid::from_child(&child), Signal::HUP).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(5));
}
