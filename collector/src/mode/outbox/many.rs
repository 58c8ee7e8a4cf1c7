//! What a collector needs that has many runs at once, each with an outbox of its own.

use std::io;

use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::Instant;
use tracing::warn;
use wire::Submission;

use super::{Job, Measured, Outbox};
use crate::config::{Config, RunIdentity};
use crate::deliver::checkpoint::{Encoder, Head};
use crate::deliver::push::Pusher;
use crate::deliver::spool::{AtomicFile, RunLock, Spool};

impl Outbox {
    /// For one of many runs; `recovered`: the checkpoint that is gone on with, and the run's lock.
    pub(in crate::mode) fn for_run(
        config: &Config,
        run: RunIdentity,
        pusher: Option<Pusher>,
        spool: Option<Spool>,
        recovered: Option<(&Head, RunLock)>,
    ) -> Self {
        let mut outbox = Self::new(config, Some(run), pusher, spool);
        if let Some((head, lock)) = recovered {
            outbox.take_over(head, lock);
        } else if let Some(spool) = &outbox.spool {
            // Without a lock another collector may deliver the run's checkpoint, which the last summary supersedes.
            match spool.lock(&outbox.summary_id) {
                Ok(lock) => outbox.lock = lock,
                Err(error) => warn!(%error, "the spool directory cannot be written to"),
            }
        }
        outbox
    }

    /// The beginning of the run was missed.
    pub(in crate::mode) fn is_not_whole(&mut self) {
        self.recovered = true;
    }

    /// What the run's row is called.
    pub(in crate::mode) fn summary_id(&self) -> &str {
        &self.summary_id
    }

    /// Whether something has been begun that [`Outbox::next_step`] goes on with.
    pub(in crate::mode) fn is_busy(&self) -> bool {
        self.draft.is_some() || self.writing.is_some()
    }

    /// When there is something to be done next, if ever.
    pub(in crate::mode) fn due(&self) -> Option<Instant> {
        [self.push.next, self.checkpoint.next].into_iter().flatten().min()
    }

    /// Waits for the next thing to be done. Cancelling loses nothing.
    pub(in crate::mode) async fn next_step(&mut self) -> Job {
        self.next_job().await
    }

    /// Does it, no longer than a millisecond.
    pub(in crate::mode) fn step(&mut self, job: Job, run: &impl Measured) {
        self.work_on(job, run);
    }

    /// Sends an interim summary that waited for the one before it.
    pub(in crate::mode) fn send_waiting(&mut self) {
        self.interim.next(self.pusher.as_ref(), self.spool.as_ref());
    }

    /// The collector ends and the run does not: the summary so far, and a checkpoint on its way to the disk, where there
    /// is a spool for the next collector to find it in. Without one the summary is the last.
    pub(in crate::mode) fn leave(
        &mut self,
        run: &impl Measured,
    ) -> (Option<Submission>, Option<JoinHandle<()>>) {
        self.draft = None;
        self.interim.abort();
        drop(self.writing.take());
        let Some(identity) = self.run.clone() else { return (None, None) };
        let seq = self.take_seq();
        let payload = run.with_run(false, |run| run.payload());
        let is_final = self.spool.is_none();
        let submission = identity.clone().submission(self.summary_id.clone(), seq, is_final, payload);
        let head = run.head(identity, self.summary_id.clone(), self.next_seq, self.recovered);
        let writing = self.spool.as_ref().map(|spool| {
            let path = spool.checkpoint_path(&self.summary_id);
            let encoded = encode(&head, run);
            spawn_blocking(move || {
                let written =
                    encoded.map_err(io::Error::other).and_then(|bytes| AtomicFile::write(&path, &bytes));
                if let Err(error) = written {
                    warn!(file = %path.display(), %error, "the last checkpoint of a run cannot be written");
                }
            })
        });
        (Some(submission), writing)
    }
}

fn encode(head: &Head, run: &impl Measured) -> postcard::Result<Vec<u8>> {
    let (mut encoder, mut bytes) = Encoder::begin(head, run.accumulator())?;
    while let Some(block) = encoder.next(run.accumulator())? {
        bytes.extend(block);
    }
    Ok(bytes)
}
