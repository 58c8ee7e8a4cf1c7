//! Beside the job: measures everything in sight until it is told to stop.

use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;
use tracing::info;

use crate::config::Config;
use crate::engine::locator::InSight;
use crate::engine::publisher::RunPublisher;
use crate::engine::single_run::SingleRun;
use crate::engine::writer_thread::WriterThread;
use crate::host;

/// Runs until SIGINT or SIGTERM.
pub(super) async fn run(config: &Config) -> anyhow::Result<ExitCode> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let (_, open_files_limit) = host::raise_open_files();
    let writer_thread = WriterThread::start();
    let (mut publisher, recovered) = RunPublisher::open(config, true)?;
    let mut run = SingleRun::start(config, InSight::new(config), open_files_limit, recovered)?;
    writer_thread.settle();
    info!(interval = ?config.interval, proc_path = %config.proc_path.display(), "measuring");
    let signal = loop {
        tokio::select! {
            () = run.sampler.due() => run.pass(false)?,
            step = publisher.next_step() => publisher.step(step, run.snapshot()),
            _ = interrupt.recv() => break "SIGINT",
            _ = terminate.recv() => break "SIGTERM",
        }
    };
    let deadline = Instant::now() + config.shutdown_timeout;
    info!(signal, "stopping: one last pass, then the summary");
    run.pass(true)?;
    let again = async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    let delivered = publisher.finish(config, run.snapshot(), deadline, again).await?;
    Ok(ExitCode::from(if delivered { super::EXIT_OK } else { super::EXIT_PUSH }))
}
