//! What leaves the collector while it measures, and at the end: interim summaries, checkpoints, the last summary.
//!
//! Nothing here makes a pass wait. A summary and a checkpoint are made container by container between two passes, and
//! given up should a pass come first; pushes and files are other tasks' and threads' work.

mod checkpoint;
mod interim;
mod many;

use std::time::{Duration, Instant as StdInstant};

use anyhow::Context;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};
use uuid::Uuid;
use wire::Payload;

use self::checkpoint::Writing;
use self::interim::Interim;
use super::measurement::Measurement;
use crate::accumulate::Accumulator;
use crate::config::{Config, RunIdentity, SpoolConfig};
use crate::deliver::backlog::{Backlog, Tally};
use crate::deliver::checkpoint::{Checkpoint, Head};
use crate::deliver::push::Pusher;
use crate::deliver::recover::{Recovered, recover};
use crate::deliver::spool::{RunLock, Spool};
use crate::host;
use crate::sample::boot_id;
use crate::summarise::{Draft, Run};

/// A run whose collector was killed longer ago is not gone on with: too much of it is missing.
pub(super) const RECOVERY_AGE: Duration = Duration::from_mins(15);
/// How much further a recovered run counts: more summaries than can have been numbered since the checkpoint.
const RECOVERY_STEP: u64 = 1 << 20;
/// How long at a time a summary is worked on.
const SLICE: Duration = Duration::from_millis(1);
/// A disk that takes longer is not waited for at the end.
const LAST_WRITE: Duration = Duration::from_secs(2);
/// One run as it is measured, for what is sent and written of it.
pub(super) trait Measured {
    /// What a checkpoint needs beside the samples.
    fn head(&self, run: RunIdentity, summary_id: String, next_seq: u64, recovered: bool) -> Head;
    /// The samples.
    fn accumulator(&self) -> &Accumulator;
    /// Does something with all that a summary is made of.
    fn with_run<T>(&self, complete: bool, work: impl FnOnce(Run<'_>) -> T) -> T;
}

/// Everything that is sent or written.
#[derive(Debug)]
pub(super) struct Outbox {
    pub(super) run: Option<RunIdentity>,
    pub(super) pusher: Option<Pusher>,
    pub(super) spool: Option<Spool>,
    summary_id: String,
    next_seq: u64,
    recovered: bool,
    lock: Option<RunLock>,
    push: Timer,
    draft: Option<(u64, Draft)>,
    interim: Interim,
    checkpoint: Timer,
    writing: Option<Writing>,
    last_write: Option<JoinHandle<()>>,
    backlog: Option<JoinHandle<()>>,
}

/// What is to be done next.
#[derive(Debug, Clone, Copy)]
pub(super) enum Job {
    Push,
    Draft,
    Pushed,
    Checkpoint,
    Block,
}

/// Something that is due again and again.
#[derive(Debug)]
struct Timer {
    interval: Option<Duration>,
    next: Option<Instant>,
    /// How often in a row a pass came before it was done.
    overtaken: u32,
}

impl Timer {
    fn new(interval: Option<Duration>) -> Self {
        Self { interval, next: interval.map(|interval| Instant::now() + interval), overtaken: 0 }
    }

    async fn due(&self) {
        match self.next {
            Some(next) => sleep_until(next).await,
            None => std::future::pending().await,
        }
    }

    /// It is done, or given up until the next time.
    fn again(&mut self) {
        self.next = self.interval.map(|interval| Instant::now() + interval);
        self.overtaken = 0;
    }
}

impl Outbox {
    /// Gets ready to send and to write as configured; tells of the run to go on with, where there is one.
    pub(super) fn open(config: &Config, may_go_on: bool) -> anyhow::Result<(Self, Option<Checkpoint>)> {
        match (Self::try_open(config, may_go_on), &config.spool) {
            // Nobody asked for this one.
            (Err(error), Some(SpoolConfig { is_default: true, .. })) => {
                debug!(error = format!("{error:#}"), "there is no spool");
                Self::try_open(&Config { spool: None, ..config.clone() }, may_go_on)
            }
            (opened, _) => opened,
        }
    }

    fn try_open(config: &Config, may_go_on: bool) -> anyhow::Result<(Self, Option<Checkpoint>)> {
        let spool = open_spool(config)?;
        let pusher = config.push.as_ref().map(Pusher::new);
        let mut outbox = Self::new(config, config.run.clone(), pusher, spool);
        let Some(spool) = outbox.spool.clone() else { return Ok((outbox, None)) };
        let boot_id = boot_id::read();
        let now = host::Instant::now().boot;
        let is_ours = |head: &Head| {
            let age = now.checked_sub(head.written);
            may_go_on
                && head.mode == "sidecar"
                && config.run.as_ref() == Some(&head.run)
                && boot_id.is_some()
                && head.boot_id == boot_id
                && age.is_some_and(|age| age <= RECOVERY_AGE)
        };
        let recovered = recover(&spool, is_ours).context("the spool directory cannot be read")?;
        let checkpoint = recovered.map(|Recovered { checkpoint, lock }| {
            let head = &checkpoint.head;
            info!(
                summary_id = head.summary_id,
                age_seconds = now.saturating_sub(head.written).as_secs_f64(),
                "going on with the run of a collector that was killed"
            );
            outbox.take_over(head, lock);
            checkpoint
        });
        if outbox.lock.is_none() {
            outbox.lock =
                spool.lock(&outbox.summary_id).context("the spool directory cannot be written to")?;
        }
        outbox.start_backlog(&spool);
        Ok((outbox, checkpoint))
    }

    fn new(config: &Config, run: Option<RunIdentity>, pusher: Option<Pusher>, spool: Option<Spool>) -> Self {
        Self {
            run,
            summary_id: Uuid::now_v7().to_string(),
            next_seq: 1,
            recovered: false,
            lock: None,
            push: Timer::new(config.push_interval.filter(|_| pusher.is_some())),
            draft: None,
            interim: Interim::default(),
            checkpoint: Timer::new(config.checkpoint_interval.filter(|_| spool.is_some())),
            writing: None,
            last_write: None,
            backlog: None,
            pusher,
            spool,
        }
    }

    /// Goes on with the run of a checkpoint.
    fn take_over(&mut self, head: &Head, lock: RunLock) {
        self.summary_id.clone_from(&head.summary_id);
        self.next_seq = head.next_seq + RECOVERY_STEP;
        self.recovered = true;
        self.lock = Some(lock);
    }

    /// Delivers what lies in the spool, beside everything else.
    fn start_backlog(&mut self, spool: &Spool) {
        let Some(pusher) = self.pusher.clone() else { return };
        let own = self.summary_id.clone();
        let mut backlog = Backlog::new(spool.clone(), pusher);
        self.backlog = Some(tokio::spawn(async move {
            loop {
                match backlog.deliver(|id| id == own).await {
                    Ok(Tally { kept: 0, .. }) => return,
                    Ok(_) => {}
                    Err(error) => warn!(%error, "the spool directory cannot be read"),
                }
                backlog.wait().await;
            }
        }));
    }

    /// Whether the run is whole as far as this collector knows.
    pub(super) fn is_whole(&self) -> bool {
        !self.recovered
    }

    /// Waits for the next thing to be done and does it, no longer than a millisecond at a time; empties the ring buffer of
    /// the eBPF program in between. Cancelling loses nothing.
    pub(super) async fn work(&mut self, measurement: &mut Measurement) {
        let job = tokio::select! {
            () = measurement.relieve() => return,
            job = self.next_job() => job,
        };
        self.work_on(job, measurement);
    }

    fn work_on(&mut self, job: Job, measurement: &impl Measured) {
        match job {
            Job::Push => self.begin_draft(measurement),
            Job::Draft => self.go_on_with_draft(measurement),
            Job::Pushed => self.interim.next(self.pusher.as_ref(), self.spool.as_ref()),
            Job::Checkpoint => self.begin_checkpoint(measurement),
            Job::Block => self.write_block(measurement),
        }
    }

    async fn next_job(&mut self) -> Job {
        let Self { draft, writing, interim, push, checkpoint, .. } = self;
        tokio::select! {
            () = checkpoint::room(writing.as_mut()) => Job::Block,
            () = checkpoint.due(), if writing.is_none() => Job::Checkpoint,
            () = tokio::task::yield_now(), if draft.is_some() => Job::Draft,
            () = push.due(), if draft.is_none() => Job::Push,
            () = interim.done() => Job::Pushed,
        }
    }

    fn begin_draft(&mut self, measurement: &impl Measured) {
        let passes = measurement.accumulator().passes();
        self.draft = Some((passes, measurement.with_run(false, |run| run.draft())));
    }

    fn go_on_with_draft(&mut self, measurement: &impl Measured) {
        let Some((passes, mut draft)) = self.draft.take() else { return };
        if passes != measurement.accumulator().passes() {
            self.push.overtaken += 1;
            if self.push.overtaken >= 3 {
                warn!("there is no time between two passes for an interim summary: use a longer --interval");
                self.push.again();
            }
            return;
        }
        let begin = StdInstant::now();
        let payload = measurement.with_run(false, |run| {
            while run.add_container(&mut draft) {
                if begin.elapsed() > SLICE {
                    self.draft = Some((passes, draft));
                    return None;
                }
            }
            Some(run.complete(draft))
        });
        if let Some(payload) = payload {
            self.push.again();
            self.push_interim(payload);
        }
    }

    fn push_interim(&mut self, payload: Payload) {
        let Some(run) = self.run.clone() else { return };
        let seq = self.take_seq();
        debug!(seq, "an interim summary is due");
        let submission = run.submission(self.summary_id.clone(), seq, false, payload);
        self.interim.offer(submission, self.push.interval.unwrap_or_default());
        self.interim.next(self.pusher.as_ref(), self.spool.as_ref());
    }

    fn take_seq(&mut self) -> u64 {
        let seq = self.next_seq;
        self.next_seq += 1;
        seq
    }

    fn begin_checkpoint(&mut self, measurement: &impl Measured) {
        let (Some(spool), Some(run)) = (&self.spool, self.run.clone()) else {
            return self.checkpoint.again();
        };
        let head = measurement.head(run, self.summary_id.clone(), self.next_seq, self.recovered);
        match Writing::begin(&head, measurement.accumulator(), spool.checkpoint_path(&self.summary_id)) {
            Ok(writing) => self.writing = Some(writing),
            Err(error) => {
                warn!(%error, "a checkpoint cannot be made");
                self.checkpoint.again();
            }
        }
    }

    fn write_block(&mut self, measurement: &impl Measured) {
        let Some(writing) = &mut self.writing else { return };
        match writing.go_on(measurement.accumulator()) {
            checkpoint::Progress::More => {}
            checkpoint::Progress::Done => {
                self.writing = None;
                self.checkpoint.again();
            }
            checkpoint::Progress::Overtaken => {
                self.writing = None;
                self.checkpoint.overtaken += 1;
                if self.checkpoint.overtaken >= 3 {
                    warn!("there is no time between two passes for a checkpoint, or the disk is slow");
                    self.checkpoint.again();
                }
            }
        }
    }

    /// Ends everything but the run: what is under way is given up, for the last summary is to come. Tells that
    /// summary's id and number.
    pub(super) fn close(&mut self) -> (String, u64) {
        if let Some(backlog) = self.backlog.take() {
            backlog.abort();
        }
        self.draft = None;
        self.interim.abort();
        self.last_write = self.writing.take().map(Writing::abort);
        (self.summary_id.clone(), self.take_seq())
    }

    /// The run is over, and its last summary is somewhere safe.
    pub(super) async fn forget_run(&mut self) {
        if let Some(write) = self.last_write.take()
            && tokio::time::timeout(LAST_WRITE, write).await.is_err()
        {
            // Delivered by the next start, what it holds is superseded by the last summary.
            warn!("the disk does not take the last checkpoint; what there is of it stays");
        }
        if let Some(spool) = &self.spool {
            spool.remove_checkpoint(&self.summary_id);
        }
        if let Some(lock) = self.lock.take() {
            lock.remove();
        }
    }
}

/// The spool, where there is one, without what has no place in it any more.
pub(super) fn open_spool(config: &Config) -> anyhow::Result<Option<Spool>> {
    let Some(spool_config) = &config.spool else { return Ok(None) };
    let directory = spool_config.directory.display();
    let spool = Spool::open(spool_config).with_context(|| {
        format!("--spool-dir {directory} cannot be used; a directory that this user can write to is accepted")
    })?;
    spool.tidy();
    Ok(Some(spool))
}
