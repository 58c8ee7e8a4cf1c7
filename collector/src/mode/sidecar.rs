//! Sidecar mode: measures every visible process until a signal stops it.

use std::process::ExitCode;

use tokio::time::Instant;
use tracing::info;

use super::stop_signals::StopSignals;
use crate::config::Config;
use crate::engine::locator::InSight;
use crate::engine::publisher::RunPublisher;
use crate::engine::single_run::SingleRun;
use crate::engine::writer_thread::WriterThread;
use crate::host;

/// Runs until SIGINT or SIGTERM.
pub(super) async fn run(config: &Config) -> anyhow::Result<ExitCode> {
    let mut signals = StopSignals::listen()?;
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
            signal = signals.recv() => break signal,
        }
    };
    let deadline = Instant::now() + config.shutdown_timeout;
    info!(signal, "stopping: one last pass, then the summary");
    run.pass(true)?;
    let again = async {
        signals.recv().await;
    };
    let delivered = publisher.finish(config, run.snapshot(), deadline, again).await?;
    Ok(super::exit_code(delivered))
}
