//! Run mode: measures a command and all its descendants, and passes everything through.

use std::ffi::OsString;
use std::io::{ErrorKind, IsTerminal};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, ExitCode, ExitStatus};

use anyhow::{Context, anyhow};
use program::stream::tell;
use rustix::process::{
    Pid, Resource, Rlimit, Signal, WaitId, WaitIdOptions, WaitOptions, kill_process, waitid, waitpid,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;
use tracing::{debug, error, warn};
use wire::RunResult;

use crate::config::{Config, check_proc};
use crate::engine::locator::CommandTree;
use crate::engine::publisher::RunPublisher;
use crate::engine::single_run::SingleRun;
use crate::engine::writer_thread::WriterThread;
use crate::output::report::Redirected;
use crate::{hardening, host, inherited};

/// A shell's exit codes for a command that cannot be run, and for one that does not exist.
const EXIT_CANNOT_RUN: u8 = 126;
const EXIT_NOT_FOUND: u8 = 127;

/// Runs the command; returns its exit code, or 128 plus the signal that ended it.
///
/// The command runs and ends as it would alone, even if the collector cannot measure it: this program is copied into
/// foreign images, and a job is worth more than its measurement.
pub async fn run(config: &Config, command: &[OsString]) -> anyhow::Result<ExitCode> {
    let open_files = rustix::process::getrlimit(Resource::Nofile);
    // The runtime panics if, for example, it cannot start a thread.
    let reason = match catch_unwind(AssertUnwindSafe(|| Begun::begin(config))) {
        Ok(Ok(begun)) => return Box::pin(begun.run(config, command, open_files)).await,
        Ok(Err(error)) => format!("{error:#}"),
        Err(_) => "a panic, see above".to_owned(),
    };
    Ok(unmeasured(config, command, open_files, &reason))
}

/// Replaces this process with the unmeasured command. Returns only if the command cannot be run, or if `strict` forbids
/// running it unmeasured.
pub fn unmeasured(config: &Config, command: &[OsString], open_files: Rlimit, reason: &str) -> ExitCode {
    // On standard error at any log level: a user who expects figures must see why there are none.
    tell(&format!("collector: nothing is measured: {reason}"));
    if config.strict {
        return ExitCode::from(super::EXIT_CONFIG);
    }
    // The command would inherit it. It may be off already.
    let _ = rustix::process::set_child_subreaper(None);
    let error = as_alone(command, open_files).exec();
    cannot_run(command, &error)
}

pub(super) fn cannot_run(command: &[OsString], error: &std::io::Error) -> ExitCode {
    tell(&format!("collector: cannot run {}: {error}", command[0].display()));
    ExitCode::from(if error.kind() == ErrorKind::NotFound { EXIT_NOT_FOUND } else { EXIT_CANNOT_RUN })
}

/// The command, set up to start as it would without the collector.
pub(super) fn as_alone(command: &[OsString], open_files: Rlimit) -> Command {
    let mut child = Command::new(&command[0]);
    child.args(&command[1..]).envs(hardening::empty_variables().iter().map(|name| (name, "")));
    // SAFETY: only plain system calls are made between fork and exec, and the thread that executes the program is the only
    // one.
    unsafe {
        child.pre_exec(move || {
            rustix::process::setrlimit(Resource::Nofile, open_files)?;
            inherited::restore()
        });
    }
    child
}

/// Everything that exists before the command starts.
struct Begun {
    signals: Forwarded,
    child_ended: tokio::signal::unix::Signal,
    publisher: RunPublisher,
    run: SingleRun<CommandTree>,
}

impl Begun {
    fn begin(config: &Config) -> anyhow::Result<Self> {
        check_proc(&config.proc_path)?;
        // Orphans of the command become the collector's children, so that their CPU time ends up there.
        if let Err(error) = rustix::process::set_child_subreaper(Some(rustix::process::getpid())) {
            warn!(%error, "the usage of processes that outlive their parents may be missing");
        }
        let signals = Forwarded::new()?;
        let child_ended = signal(SignalKind::child())?;
        let (_, open_files_limit) = host::raise_open_files();
        // The runtime panics if it cannot start a thread. A message of that would be in the build's log.
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let writer_thread = catch_unwind(WriterThread::start);
        std::panic::set_hook(hook);
        let writer_thread = writer_thread.map_err(|_| anyhow!("no thread can be started"))?;
        // Another command of the same job is another run: the checkpoint of a killed one is delivered, not continued.
        let (publisher, _) = match RunPublisher::open(config, false) {
            Err(error) if config.spool.is_some() => {
                let error = format!("{error:#}");
                warn!(error, "there is no spool: a summary that cannot be pushed will be lost");
                RunPublisher::open(&Config { spool: None, ..config.clone() }, false)?
            }
            opened => opened?,
        };
        let tree = CommandTree::of_collector(&config.proc_path).with_context(|| {
            let path = config.proc_path.display();
            format!("--proc-path {path} shows another PID namespace, in which this process does not exist: mount one here")
        })?;
        let run = SingleRun::start(config, tree, open_files_limit, None)?;
        writer_thread.settle();
        Ok(Self { signals, child_ended, publisher, run })
    }

    async fn run(
        self,
        config: &Config,
        command: &[OsString],
        open_files: Rlimit,
    ) -> anyhow::Result<ExitCode> {
        let Self { mut signals, mut child_ended, mut publisher, mut run } = self;
        let checking =
            publisher.target().map(|(pusher, run)| tokio::spawn(async move { pusher.check(&run).await }));
        let mut child = match as_alone(command, open_files).spawn() {
            Ok(child) => child,
            Err(error) => {
                publisher.forget_run().await;
                // No process may be added, as with `ulimit -u`. The command alone needs no more than this one.
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::OutOfMemory) {
                    let reason = format!("no process can be started beside the collector: {error}");
                    return Ok(unmeasured(config, command, open_files, &reason));
                }
                return Ok(cannot_run(command, &error));
            }
        };
        let pid = Pid::from_child(&child);
        let mut failed = false;
        let mut cancelled = false;
        let mut note = |read: std::io::Result<()>| {
            if let Err(error) = read
                && !std::mem::replace(&mut failed, true)
            {
                warn!(%error, "the proc tree can no longer be read: what the command uses from now on may be missing");
            }
        };
        loop {
            if has_ended(pid)? {
                break;
            }
            tokio::select! {
                () = run.sampler.due() => note(run.pass(false)),
                step = publisher.next_step() => publisher.step(step, run.snapshot()),
                signal = signals.recv() => {
                    cancelled |= matches!(signal, Signal::INT | Signal::TERM);
                    forward(pid, signal);
                }
                _ = child_ended.recv() => {}
            }
        }
        let deadline = Instant::now() + config.shutdown_timeout;
        if let Some(checking) = checking {
            checking.abort();
        }
        // The command is a zombie now: its last figures are in /proc until it is waited for.
        let reading = run.read();
        let status = child.wait();
        note(reading.map(|reading| run.record(&reading, true)));
        let status = status.context("cannot wait for the command")?;
        publisher.ended(match status.success() {
            true => RunResult::Success,
            false if cancelled => RunResult::Cancelled,
            false => RunResult::Failure,
        });
        run.add_memory_peak(host::largest_child_bytes());
        let again = async { while !matches!(signals.recv().await, Signal::INT | Signal::TERM) {} };
        let delivered =
            publisher.finish(config, run.snapshot(), deadline, again).await.unwrap_or_else(|error| {
                if error.is::<Redirected>() {
                    return false;
                }
                error!(error = format!("{error:#}"), "not everything about the run could be reported");
                false
            });
        if config.strict && !delivered && status.success() {
            return Ok(ExitCode::from(super::EXIT_FAILURE));
        }
        Ok(exit_code(status))
    }
}

/// Reaps orphans that have ended. Returns whether the command has ended; the command itself stays a zombie.
fn has_ended(command: Pid) -> anyhow::Result<bool> {
    let peek = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    if waitid(WaitId::Pid(command), peek)?.is_some() {
        return Ok(true);
    }
    // The command is alive, so every zombie is an orphan. If the command ends meanwhile, it may be the zombie found here
    // and is left alone.
    loop {
        match any_zombie()? {
            None => return Ok(false),
            Some(found) if found == command => return Ok(true),
            Some(orphan) => waitpid(Some(orphan), WaitOptions::NOHANG)?,
        };
    }
}

/// A child that has ended and has not been waited for. It stays a zombie.
fn any_zombie() -> std::io::Result<Option<Pid>> {
    // SAFETY: zeros are a valid `siginfo_t`, which the kernel fills in, or leaves as it is if there is none; either way the
    // field for the PID is an integer. rustix has no accessor for it.
    unsafe {
        let mut child: libc::siginfo_t = std::mem::zeroed();
        let peek = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        match libc::waitid(libc::P_ALL, 0, &raw mut child, peek) {
            0 => Ok(Pid::from_raw(child.si_pid())),
            _ => Err(std::io::Error::last_os_error()),
        }
    }
}

fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(super::EXIT_FAILURE))
}

fn forward(command: Pid, signal: Signal) {
    // A terminal sends its signals to the whole foreground group: the command has this one already.
    let from_terminal = matches!(signal, Signal::INT | Signal::QUIT) && std::io::stdin().is_terminal();
    if !from_terminal && let Err(error) = kill_process(command, signal) {
        debug!(?signal, %error, "the command could not be signalled");
    }
}

/// The signals that are forwarded to the command.
struct Forwarded(Vec<(Signal, tokio::signal::unix::Signal)>);

impl Forwarded {
    fn new() -> std::io::Result<Self> {
        let signals = [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT, Signal::USR1, Signal::USR2];
        // A signal that the parent process ignored (nohup, a shell in the background) stays ignored.
        let signals = signals.into_iter().filter(|one| !inherited::is_ignored(one.as_raw()));
        let streams = signals.map(|one| Ok((one, signal(SignalKind::from_raw(one.as_raw()))?)));
        let listening = Self(streams.collect::<std::io::Result<_>>()?);
        inherited::accept_end_signals();
        Ok(listening)
    }

    async fn recv(&mut self) -> Signal {
        std::future::poll_fn(|context| {
            for (signal, stream) in &mut self.0 {
                if stream.poll_recv(context).is_ready() {
                    return std::task::Poll::Ready(*signal);
                }
            }
            std::task::Poll::Pending
        })
        .await
    }
}
