//! Pushes the content of a spool directory, without measuring.

use std::process::ExitCode;

use anyhow::Context;

use crate::config::Config;
use crate::deliver::backlog::{Backlog, Tally};
use crate::deliver::push::Pusher;
use crate::deliver::recover::recover;
use crate::engine::publisher::open_spool;
use crate::inherited;

/// Pushes everything. Runs whose collectors were killed get their final summary first.
pub(super) async fn run(config: &Config) -> anyhow::Result<ExitCode> {
    // The spool is safe at any moment.
    inherited::accept_end_signals();
    let target = config.push.as_ref().context("there is nowhere to push to")?;
    let spool = open_spool(config)?.context("there is no spool directory")?;
    recover(&spool, |_| false)?;
    let Tally { refused, kept, .. } = Backlog::new(spool, Pusher::new(target)).deliver(|_| false).await?;
    Ok(super::exit_code(refused + kept == 0))
}
