//! What a command inherits is what it would inherit alone.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, kill, signal, sigprocmask};
use nix::unistd::Pid;
use tests::program::{Program, collector};

/// What a program can tell of what it was given.
const LOOK: &str = "grep -E 'Sig(Blk|Ign)|Cap|NoNewPrivs|Seccomp|CoreDump' /proc/self/status; umask; ulimit -a; ulimit -aH; \
    nice; cat /proc/self/oom_score_adj; grep . /proc/self/sched | grep -E 'policy|prio'; pwd; \
    for fd in /proc/self/fd/*; do [ -e $fd ] && echo ${fd##*/}; done; env | grep -v '^_='";

/// What the command sees, alone or behind the collector; `prepare` is done before either begins.
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
    // SAFETY: what is prepared are plain system calls.
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
        // SAFETY: to ignore a signal installs no handler.
        unsafe { signal(*one, SigHandler::SigIgn) }.unwrap();
    }
}

fn forwarded() -> [Signal; 6] {
    use Signal::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
    [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2]
}

#[test]
fn signals_limits_masks_and_descriptors_are_the_same() {
    let cases: [(&str, fn()); 8] = [
        ("as it is", || {}),
        ("nohup", || ignore(&[Signal::SIGHUP])),
        ("in the background", || ignore(&[Signal::SIGINT, Signal::SIGQUIT])),
        ("everything ignored", || ignore(&forwarded())),
        ("children and pipes", || ignore(&[Signal::SIGCHLD, Signal::SIGPIPE, Signal::SIGTSTP])),
        ("blocked", || {
            let set: SigSet = [Signal::SIGTERM, Signal::SIGUSR1, Signal::SIGWINCH].into_iter().collect();
            sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), None).unwrap();
        }),
        ("umask and limits", || {
            nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o027));
            nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE, 200, 300).unwrap();
            nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, 0).unwrap();
            // SAFETY: it changes this process alone.
            unsafe { libc::nice(5) };
        }),
        // SAFETY: nothing that follows uses them but the program, which is to find them closed.
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

/// A collector that ignored this signal when it began, in front of a command that tells of its end.
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
        assert_eq!((ended.status.code(), ended.stdout.as_str()), (Some(0), "whole\n"), "{one}");
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
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGHUP).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(5));
}
