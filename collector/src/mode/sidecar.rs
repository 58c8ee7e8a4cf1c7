//! Beside the job: measures everything in sight until it is told to stop.

use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;
use tracing::info;

use super::file_thread::FileThread;
use super::finish::finish;
use super::measurement::{Measurement, Whose};
use super::outbox::Outbox;
use super::ticker::Ticker;
use crate::config::Config;
use crate::host;

/// Runs until SIGINT or SIGTERM.
pub async fn run(config: &Config) -> anyhow::Result<ExitCode> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let (_, open_files_limit) = host::raise_open_files();
    let file_thread = FileThread::start();
    let (mut outbox, recovered) = Outbox::open(config, true)?;
    let mut measurement = Measurement::begin(config, Whose::All, open_files_limit, recovered)?;
    file_thread.settle();
    let mut ticker = Ticker::new(config.interval);
    info!(interval = ?config.interval, proc_path = %config.proc_path.display(), "measuring");
    let signal = loop {
        tokio::select! {
            missed = ticker.tick() => {
                measurement.count_missed(missed);
                measurement.pass()?;
            }
            () = outbox.work(&mut measurement) => {}
            _ = interrupt.recv() => break "SIGINT",
            _ = terminate.recv() => break "SIGTERM",
        }
    };
    let deadline = Instant::now() + config.shutdown_timeout;
    info!(signal, "stopping: one last pass, then the summary");
    measurement.last_pass(|| ())?;
    let again = async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    let delivered = finish(config, &measurement, outbox, deadline, again).await?;
    Ok(ExitCode::from(if delivered { super::EXIT_OK } else { super::EXIT_PUSH }))
}
