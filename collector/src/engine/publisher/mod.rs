//! Publishes a run: interim summaries and checkpoints while it is measured, the final summary at its end.
//!
//! Nothing here delays a pass. A summary and a checkpoint are made container by container between two passes and given
//! up if a pass comes first; other tasks and threads push and write files.

mod checkpoint_writer;
mod final_delivery;
mod interim_push;
mod opening;

use std::io;
use std::time::{Duration, Instant as StdInstant};

use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, warn};
use uuid::Uuid;
use wire::{CiContext, Payload, RunResult, Submission};

use self::checkpoint_writer::{CheckpointWriter, Progress};
use self::interim_push::InterimPush;
pub(crate) use self::opening::{open_spool, resumable};
use super::recorder::RunSnapshot;
use crate::accumulate::Accumulator;
use crate::config::Config;
use crate::deliver::checkpoint::{Encoder, Head};
use crate::deliver::push::Pusher;
use crate::deliver::spool::{AtomicFile, RunLock, Spool};
use crate::run_identity::RunIdentity;
use crate::summarise::Draft;

/// How long one step of a summary may take.
const SLICE: Duration = Duration::from_millis(1);
/// How long the end of a run waits for a slow disk.
const LAST_WRITE: Duration = Duration::from_secs(2);

/// Sends and writes the results of one run.
#[derive(Debug)]
pub(crate) struct RunPublisher {
    run: Option<RunIdentity>,
    /// What the CI system says about the collector's only run.
    ci: CiContext,
    pusher: Option<Pusher>,
    spool: Option<Spool>,
    summary_id: String,
    next_seq: u64,
    /// Whether a part of the run was not measured.
    recovered: bool,
    lock: Option<RunLock>,
    push: Timer,
    draft: Option<(u64, Draft)>,
    interim: InterimPush,
    checkpoint: Timer,
    writer: Option<CheckpointWriter>,
    last_write: Option<JoinHandle<()>>,
    backlog: Option<JoinHandle<()>>,
}

/// The next thing to do.
#[derive(Debug, Clone, Copy)]
pub(crate) enum PublishStep {
    BeginDraft,
    ContinueDraft,
    PushNext,
    BeginCheckpoint,
    WriteBlock,
}

/// A recurring deadline.
#[derive(Debug)]
struct Timer {
    interval: Option<Duration>,
    next: Option<Instant>,
    /// How many times in a row a pass came first.
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

    /// Starts the next interval.
    fn again(&mut self) {
        self.next = self.interval.map(|interval| Instant::now() + interval);
        self.overtaken = 0;
    }

    /// Notes that a pass came first. After the third time in a row, leaves the work until the next interval and returns
    /// true.
    fn overtaken(&mut self) -> bool {
        self.overtaken += 1;
        let is_left = self.overtaken >= 3;
        if is_left {
            self.again();
        }
        is_left
    }
}

impl RunPublisher {
    fn new(config: &Config, run: Option<RunIdentity>, pusher: Option<Pusher>, spool: Option<Spool>) -> Self {
        Self {
            run,
            ci: config.ci.clone(),
            summary_id: Uuid::now_v7().to_string(),
            next_seq: 1,
            recovered: false,
            lock: None,
            push: Timer::new(config.push_interval.filter(|_| pusher.is_some())),
            draft: None,
            interim: InterimPush::default(),
            checkpoint: Timer::new(config.checkpoint_interval.filter(|_| spool.is_some())),
            writer: None,
            last_write: None,
            backlog: None,
            pusher,
            spool,
        }
    }

    /// Notes how the run ended.
    pub(crate) fn ended(&mut self, result: RunResult) {
        self.ci.result = Some(result);
    }

    /// The run, and the pusher of its summaries.
    pub(crate) fn target(&self) -> Option<(Pusher, RunIdentity)> {
        self.pusher.clone().zip(self.run.clone())
    }

    /// The identifier of all summaries of this run.
    pub(crate) fn summary_id(&self) -> &str {
        &self.summary_id
    }

    /// Whether anything of this run has left the process: a summary or a lock file.
    pub(crate) fn has_begun(&self) -> bool {
        self.next_seq > 1 || self.lock.is_some()
    }

    /// Whether all of the run was measured, as far as this collector knows.
    pub(crate) fn is_whole(&self) -> bool {
        !self.recovered
    }

    /// Notes that the beginning of the run was not measured.
    pub(crate) fn is_not_whole(&mut self) {
        self.recovered = true;
    }

    /// Whether a summary or checkpoint is in progress.
    pub(crate) fn is_busy(&self) -> bool {
        self.draft.is_some() || self.writer.is_some()
    }

    /// When the next summary or checkpoint is due, if ever.
    pub(crate) fn due(&self) -> Option<Instant> {
        [self.push.next, self.checkpoint.next].into_iter().flatten().min()
    }

    /// Waits for the next step. Cancel-safe.
    pub(crate) async fn next_step(&mut self) -> PublishStep {
        let Self { draft, writer, interim, push, checkpoint, .. } = self;
        let (has_writer, has_draft) = (writer.is_some(), draft.is_some());
        let ready = async {
            match writer {
                Some(writer) => writer.ready().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = ready => PublishStep::WriteBlock,
            () = checkpoint.due(), if !has_writer => PublishStep::BeginCheckpoint,
            () = tokio::task::yield_now(), if has_draft => PublishStep::ContinueDraft,
            () = push.due(), if !has_draft => PublishStep::BeginDraft,
            () = interim.done() => PublishStep::PushNext,
        }
    }

    /// Takes a step, which lasts at most a millisecond.
    pub(crate) fn step(&mut self, step: PublishStep, run: RunSnapshot<'_>) {
        match step {
            PublishStep::BeginDraft => {
                self.draft = Some((run.accumulator().passes(), run.run(false).draft()));
            }
            PublishStep::ContinueDraft => self.continue_draft(run),
            PublishStep::PushNext => self.push_next(),
            PublishStep::BeginCheckpoint => self.begin_checkpoint(run),
            PublishStep::WriteBlock => self.write_block(run.accumulator()),
        }
    }

    /// Pushes an interim summary that waited for the previous one.
    pub(crate) fn push_next(&mut self) {
        self.interim.next(self.pusher.as_ref(), self.spool.as_ref());
    }

    fn continue_draft(&mut self, snapshot: RunSnapshot<'_>) {
        let Some((passes, mut draft)) = self.draft.take() else { return };
        if passes != snapshot.accumulator().passes() {
            if self.push.overtaken() {
                warn!("there is no time between two passes for an interim summary: use a longer --interval");
            }
            return;
        }
        let begin = StdInstant::now();
        let run = snapshot.run(false);
        while run.add_container(&mut draft) {
            if begin.elapsed() > SLICE {
                self.draft = Some((passes, draft));
                return;
            }
        }
        self.push.again();
        self.push_interim(run.complete(draft));
    }

    fn push_interim(&mut self, payload: Payload) {
        let Some(run) = self.run.clone() else { return };
        let seq = self.take_seq();
        debug!(seq, "an interim summary is due");
        let submission = run.submission(self.summary_id.clone(), seq, false, payload);
        self.interim.offer(submission, self.push.interval.unwrap_or_default());
        self.push_next();
    }

    fn take_seq(&mut self) -> u64 {
        let seq = self.next_seq;
        self.next_seq += 1;
        seq
    }

    fn begin_checkpoint(&mut self, snapshot: RunSnapshot<'_>) {
        let (Some(spool), Some(run)) = (&self.spool, self.run.clone()) else {
            return self.checkpoint.again();
        };
        let head = snapshot.head(run, self.summary_id.clone(), self.next_seq, self.recovered);
        let path = spool.checkpoint_path(&self.summary_id);
        match CheckpointWriter::begin(&head, snapshot.accumulator(), path) {
            Ok(writer) => self.writer = Some(writer),
            Err(error) => {
                warn!(%error, "a checkpoint cannot be made");
                self.checkpoint.again();
            }
        }
    }

    fn write_block(&mut self, accumulator: &Accumulator) {
        let Some(writer) = &mut self.writer else { return };
        match writer.step(accumulator) {
            Progress::More => {}
            Progress::Done => {
                self.writer = None;
                self.checkpoint.again();
            }
            Progress::Overtaken => {
                self.writer = None;
                if self.checkpoint.overtaken() {
                    warn!("there is no time between two passes for a checkpoint, or the disk is slow");
                }
            }
        }
    }

    /// Cancels everything in progress before the final summary. Returns the id and number of that summary.
    pub(crate) fn close(&mut self) -> (String, u64) {
        if let Some(backlog) = self.backlog.take() {
            backlog.abort();
        }
        self.draft = None;
        self.interim.abort();
        self.last_write = self.writer.take().map(CheckpointWriter::abort);
        (self.summary_id.clone(), self.take_seq())
    }

    /// Leaves a run that outlives the collector. Returns the summary so far and, if there is a spool, the handle of a
    /// checkpoint that is being written for the next collector. Without a spool that summary is final.
    pub(crate) fn leave(&mut self, run: RunSnapshot<'_>) -> Option<(Submission, Option<JoinHandle<()>>)> {
        let (summary_id, seq) = self.close();
        let identity = self.run.clone()?;
        let is_final = self.spool.is_none();
        let submission = identity.clone().submission(summary_id.clone(), seq, is_final, run.payload(false));
        let head = run.head(identity, summary_id, self.next_seq, self.recovered);
        let writing = self.spool.as_ref().map(|spool| {
            let path = spool.checkpoint_path(&self.summary_id);
            let encoded = encode(&head, run.accumulator());
            spawn_blocking(move || {
                let written =
                    encoded.map_err(io::Error::other).and_then(|bytes| AtomicFile::write(&path, &bytes));
                if let Err(error) = written {
                    warn!(file = %path.display(), %error, "the last checkpoint of a run cannot be written");
                }
            })
        });
        Some((submission, writing))
    }

    /// Removes the checkpoint and the lock of a run that is over and whose final summary is safe.
    pub(crate) async fn forget_run(&mut self) {
        if let Some(write) = self.last_write.take()
            && tokio::time::timeout(LAST_WRITE, write).await.is_err()
        {
            // The next collector delivers that checkpoint, which the final summary supersedes.
            warn!("the last checkpoint could not be written in time; its incomplete file stays");
        }
        if let Some(spool) = &self.spool {
            spool.remove_checkpoint(&self.summary_id);
        }
        if let Some(lock) = self.lock.take() {
            lock.remove();
        }
    }
}

fn encode(head: &Head, accumulator: &Accumulator) -> postcard::Result<Vec<u8>> {
    let (mut encoder, mut bytes) = Encoder::begin(head, accumulator)?;
    while let Some(block) = encoder.next(accumulator)? {
        bytes.extend(block);
    }
    Ok(bytes)
}
