//! A program that is started and observed through its log.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// The longest time for anything.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A shipped program: named by its variable, otherwise beside this test.
///
/// # Panics
/// If the program does not exist.
pub fn path(variable: &str, name: &str) -> PathBuf {
    let path = std::env::var_os(variable).map_or_else(
        || {
            let test = std::env::current_exe().expect("the path of this test");
            test.parent().and_then(|deps| deps.parent()).expect("a target directory").join(name)
        },
        PathBuf::from,
    );
    assert!(path.exists(), "{} is not built; run `cargo xtask test`", path.display());
    path
}

/// The collector.
pub fn collector() -> Command {
    let mut command = Command::new(path("COLLECTOR_BIN", "collector"));
    // Without a spool, because tests would find each other's files.
    command.env("COLLECTOR_SPOOL_DIR", "none");
    command
}

/// The command, without inherited descriptors other than the standard streams. The test runner may leave others open.
pub fn without_inherited(command: &mut Command) -> &mut Command {
    // SAFETY: between fork and exec it only calls close_range, which is a plain system call.
    unsafe {
        command.pre_exec(|| {
            // An older kernel leaves them open.
            libc::close_range(3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC as libc::c_int);
            Ok(())
        })
    }
}

/// Workloads that are hard to account for.
pub fn workload() -> PathBuf {
    path("WORKLOAD_BIN", "workload")
}

/// A running program that logs JSON on standard error; killed when dropped.
#[derive(Debug)]
pub struct Program {
    child: Child,
    log: mpsc::Receiver<String>,
}

/// How a program ended.
#[derive(Debug)]
pub struct Ended {
    /// Exit status.
    pub status: ExitStatus,
    /// What it wrote to standard output.
    pub stdout: String,
    /// Its output on standard error, without the lines that were waited for.
    pub stderr: String,
}

impl Program {
    /// Starts it.
    pub fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stderr = child.stderr.take().expect("standard error");
        let (sender, log) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
                if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    break;
                }
            }
        });
        Self { child, log }
    }

    /// Its PID.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line of the log with this message.
    pub fn wait_for(&self, message: &str) -> Value {
        let end = Instant::now() + PATIENCE;
        let mut seen = String::new();
        while let Ok(line) = self.log.recv_timeout(end.saturating_duration_since(Instant::now())) {
            let value: Value = serde_json::from_str(&line).unwrap_or_default();
            if value["message"] == message {
                return value;
            }
            seen.push_str(&line);
            seen.push('\n');
        }
        panic!("no {message:?} in the log:\n{seen}");
    }

    /// Waits for the first line of the log at this level, such as `WARN`.
    pub fn wait_for_level(&self, level: &str) -> Value {
        let end = Instant::now() + PATIENCE;
        while let Ok(line) = self.log.recv_timeout(end.saturating_duration_since(Instant::now())) {
            let value: Value = serde_json::from_str(&line).unwrap_or_default();
            if value["level"] == level {
                return value;
            }
        }
        panic!("no {level} in the log");
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the program is gone");
    }

    /// Sends SIGTERM and waits for the end.
    pub fn stop(self) -> Ended {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Waits for it to end.
    pub fn wait(mut self) -> Ended {
        let mut stdout = String::new();
        self.child.stdout.take().expect("standard output").read_to_string(&mut stdout).expect("UTF-8");
        let end = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                break status;
            }
            assert!(Instant::now() < end, "the program did not end in {PATIENCE:?}");
            std::thread::sleep(Duration::from_millis(5));
        };
        let mut stderr = String::new();
        while let Ok(line) = self.log.recv_timeout(PATIENCE) {
            stderr.push_str(&line);
            stderr.push('\n');
        }
        Ended { status, stdout, stderr }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
