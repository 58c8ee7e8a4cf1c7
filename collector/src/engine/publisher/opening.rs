//! Opens a publisher: the spool, the run to continue, the lock of the run.

use std::time::Duration;

use anyhow::Context;
use tracing::{debug, info, warn};

use super::RunPublisher;
use crate::config::{Config, SpoolConfig};
use crate::deliver::backlog::Backlog;
use crate::deliver::checkpoint::{Checkpoint, Head};
use crate::deliver::push::Pusher;
use crate::deliver::recover::{Recovered, recover};
use crate::deliver::spool::{RunLock, Spool};
use crate::host;
use crate::run_identity::RunIdentity;
use crate::sample::boot_id;

/// A run whose collector was killed longer ago than this is not continued: too much of it is missing.
const RECOVERY_AGE: Duration = Duration::from_mins(15);
/// How far the numbers of a recovered run jump: past any number that a summary since the checkpoint can have.
const RECOVERY_STEP: u64 = 1 << 20;

impl RunPublisher {
    /// Opens the spool and the receiver, if configured. Returns the checkpoint of the run to continue, if `may_resume` is
    /// set and there is one.
    pub(crate) fn open(config: &Config, may_resume: bool) -> anyhow::Result<(Self, Option<Checkpoint>)> {
        match (Self::try_open(config, may_resume), &config.spool) {
            // The user did not ask for the default spool.
            (Err(error), Some(SpoolConfig { is_default: true, .. })) => {
                debug!(error = format!("{error:#}"), "there is no spool");
                Self::try_open(&Config { spool: None, ..config.clone() }, may_resume)
            }
            (opened, _) => opened,
        }
    }

    fn try_open(config: &Config, may_resume: bool) -> anyhow::Result<(Self, Option<Checkpoint>)> {
        let spool = open_spool(config)?;
        let pusher = config.push.as_ref().map(Pusher::new);
        let mut publisher = Self::new(config, config.run.clone(), pusher, spool);
        let Some(spool) = publisher.spool.clone() else { return Ok((publisher, None)) };
        let resumable = resumable("sidecar");
        let is_ours = |head: &Head| may_resume && config.run.as_ref() == Some(&head.run) && resumable(head);
        let recovered = recover(&spool, is_ours).context("the spool directory cannot be read")?;
        let checkpoint = recovered.map(|Recovered { checkpoint, lock }| {
            let head = &checkpoint.head;
            info!(
                summary_id = head.summary_id,
                age_seconds = host::Moment::now().boot.saturating_sub(head.written).as_secs_f64(),
                "going on with the run of a collector that was killed"
            );
            publisher.resume(head, lock);
            checkpoint
        });
        if publisher.lock.is_none() {
            publisher.lock =
                spool.lock(&publisher.summary_id).context("the spool directory cannot be written to")?;
        }
        if let Some(pusher) = publisher.pusher.clone() {
            let own = publisher.summary_id.clone();
            let backlog = Backlog::new(spool, pusher);
            publisher.backlog = Some(tokio::spawn(backlog.deliver_repeatedly(move |id| id == own, true)));
        }
        Ok((publisher, checkpoint))
    }

    /// Opens the publisher of one of many runs. `recovered` is the head of the checkpoint that it continues from, and the
    /// lock of the run.
    pub(crate) fn for_run(
        config: &Config,
        run: RunIdentity,
        pusher: Option<Pusher>,
        spool: Option<Spool>,
        recovered: Option<(&Head, RunLock)>,
    ) -> Self {
        let mut publisher = Self::new(config, Some(run), pusher, spool);
        if let Some((head, lock)) = recovered {
            publisher.resume(head, lock);
        } else if let Some(spool) = &publisher.spool {
            // Without a lock another collector may deliver the run's checkpoint, which the final summary supersedes.
            match spool.lock(&publisher.summary_id) {
                Ok(lock) => publisher.lock = lock,
                Err(error) => warn!(%error, "the spool directory cannot be written to"),
            }
        }
        publisher
    }

    fn resume(&mut self, head: &Head, lock: RunLock) {
        self.summary_id.clone_from(&head.summary_id);
        self.next_seq = head.next_seq + RECOVERY_STEP;
        self.recovered = true;
        self.lock = Some(lock);
    }
}

/// Whether a run can be continued: a collector of the same mode wrote its checkpoint in this boot, and not long ago.
pub(crate) fn resumable(mode: &str) -> impl Fn(&Head) -> bool {
    let boot_id = boot_id::read();
    let now = host::Moment::now().boot;
    move |head| {
        let age = now.checked_sub(head.written);
        head.mode == mode
            && boot_id.is_some()
            && head.boot_id == boot_id
            && age.is_some_and(|age| age <= RECOVERY_AGE)
    }
}

/// Opens the spool, if one is configured, and removes outdated and unfinished files.
pub(crate) fn open_spool(config: &Config) -> anyhow::Result<Option<Spool>> {
    let Some(spool_config) = &config.spool else { return Ok(None) };
    let directory = spool_config.directory.display();
    let spool = Spool::open(spool_config).with_context(|| {
        format!("--spool-dir {directory} cannot be used; a directory that this user can write to is accepted")
    })?;
    spool.tidy();
    Ok(Some(spool))
}
