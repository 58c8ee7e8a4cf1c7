//! What leaves a node's collector: the summaries of runs that are over, and those of runs that go on, one after another.

use std::collections::HashSet;
use std::future::Future;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use program::stream::tell;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::{error, info, warn};
use wire::Submission;

use super::follow::Follower;
use super::group::{End, Group, JobRun};
use super::groups::GroupNumber;
use super::samples::{Facts, View};
use crate::config::{Config, Output};
use crate::deliver::backlog::Backlog;
use crate::deliver::push::{Counts, Pusher};
use crate::deliver::spool::Spool;
use crate::mode::finish::{Report, hand_over};
use crate::mode::outbox::Measured;

/// So long the last summary of a run is tried at once; in a spool it is tried again and again after that.
const PATIENCE: Duration = Duration::from_secs(30);
/// Without a spool there is no after that.
const PATIENCE_WITHOUT_SPOOL: Duration = Duration::from_mins(5);
/// So many summaries are pushed at once when the collector ends.
const PUSHES_AT_ONCE: usize = 16;
/// What is kept of the time to stop for writing what could not be pushed.
const RESERVE: Duration = Duration::from_secs(2);

/// The runs that somebody takes care of, by their ids: what lies in the spool of them is left alone.
type Living = Arc<Mutex<HashSet<String>>>;

/// Sends everything.
#[derive(Debug)]
pub(super) struct Sender {
    config: Rc<Config>,
    pusher: Option<Pusher>,
    spool: Option<Spool>,
    living: Living,
    backlog: Option<JoinHandle<()>>,
    /// Last summaries on their way.
    last: JoinSet<anyhow::Result<bool>>,
    /// Says that there is no more time.
    hurry: watch::Sender<bool>,
    /// Last summaries that were neither pushed nor put into a spool.
    undelivered: u64,
}

impl Sender {
    pub(super) fn new(config: Rc<Config>, pusher: Option<Pusher>, spool: Option<Spool>) -> Self {
        let living = Living::default();
        let backlog = pusher.clone().zip(spool.clone()).map(|(pusher, spool)| {
            let living = Arc::clone(&living);
            tokio::spawn(deliver_backlog(Backlog::new(spool, pusher), living))
        });
        let (hurry, _) = watch::channel(false);
        Self { config, pusher, spool, living, backlog, last: JoinSet::new(), hurry, undelivered: 0 }
    }

    /// What was pushed.
    pub(super) fn counts(&self) -> Option<Counts> {
        self.pusher.as_ref().map(Pusher::counts)
    }

    /// A run is over: its summary goes out, beside everything else.
    pub(super) fn finish(&mut self, job: JobRun, end: End, group: &Group, facts: &Facts) {
        let JobRun { run, samples, mut outbox, .. } = job;
        let view = View { samples: &samples, containers: &group.containers, facts };
        let payload = view.with_run(outbox.is_whole(), |run| run.payload());
        info!(
            repository = run.repository,
            workflow = run.workflow,
            job = run.job,
            run_id = run.run_id,
            pod = group.facts().pod,
            summary_id = outbox.summary_id(),
            end = end.name(),
            cpu_seconds = payload.attribution.as_ref().map(|attribution| attribution.cpu_seconds),
            duration_seconds = payload.duration_seconds,
            "a job is over"
        );
        let report = Report::new(&self.config, Some(&run), &payload);
        let summary = outbox.close();
        let patience = if self.spool.is_some() { PATIENCE } else { PATIENCE_WITHOUT_SPOOL };
        let deadline = Instant::now() + patience;
        let mut hurry = self.hurry.subscribe();
        let (living, id) = (Arc::clone(&self.living), summary.0.clone());
        self.last.spawn(async move {
            let again = async move {
                // Whoever says so lives longer than this.
                let _ = hurry.wait_for(|hurry| *hurry).await;
            };
            let result = hand_over(report, summary, payload, outbox, deadline, again).await;
            lock(&living).remove(&id);
            result
        });
    }

    /// Takes note of the runs that there are now, and of what became of those that are over.
    pub(super) fn after_pass(&mut self, follower: &mut Follower) {
        while let Some(done) = self.last.try_join_next() {
            self.note(done);
        }
        for (_, group) in follower.groups.iter_mut() {
            let Some(job) = &mut group.job else { continue };
            job.outbox.send_waiting();
            let mut living = lock(&self.living);
            if !living.contains(job.outbox.summary_id()) {
                living.insert(job.outbox.summary_id().to_owned());
            }
        }
    }

    fn note(&mut self, done: Result<anyhow::Result<bool>, tokio::task::JoinError>) -> bool {
        match done {
            Ok(Ok(true)) => true,
            Ok(Ok(false)) => {
                self.undelivered += 1;
                false
            }
            Ok(Err(error)) => {
                error!(error = format!("{error:#}"), "the last summary of a run is lost");
                self.undelivered += 1;
                false
            }
            Err(error) => {
                error!(%error, "the last summary of a run is lost");
                self.undelivered += 1;
                false
            }
        }
    }

    /// Does the next thing that is due for one of the runs, no longer than a millisecond; empties the ring buffer of the
    /// eBPF program in between. Cancelling loses nothing.
    pub(super) async fn work(&mut self, follower: &mut Follower) {
        let Follower { groups, trace, facts, .. } = follower;
        let next = next(groups.iter_mut());
        let step = async {
            let Some((number, due)) = next else { return std::future::pending().await };
            if let Some(due) = due {
                sleep_until(due).await;
            }
            number
        };
        let number = tokio::select! {
            () = Follower::relieve(trace.as_mut()) => return,
            number = step => number,
        };
        let Some(group) = groups.get_mut(number) else { return };
        let Some(job) = &mut group.job else { return };
        let step = tokio::select! {
            () = Follower::relieve(trace.as_mut()) => return,
            step = job.outbox.next_step() => step,
        };
        let view = View { samples: &job.samples, containers: &group.containers, facts };
        job.outbox.step(step, &view);
    }

    /// The collector ends and the jobs do not: the next one goes on with them from their checkpoints. False: something
    /// is neither at the receiver nor in a spool.
    pub(super) async fn leave(
        mut self,
        follower: &mut Follower,
        deadline: Instant,
        again: impl Future<Output = ()>,
    ) -> bool {
        if let Some(backlog) = self.backlog.take() {
            backlog.abort();
        }
        tokio::pin!(again);
        let in_time = deadline - RESERVE.min(self.config.shutdown_timeout / 2);
        let mut pushes = JoinSet::new();
        let mut whole = true;
        let mut left = 0;
        let Follower { groups, facts, .. } = follower;
        for (_, group) in groups.iter_mut() {
            let Some(mut job) = group.job.take() else { continue };
            left += 1;
            let view = View { samples: &job.samples, containers: &group.containers, facts };
            let (submission, writing) = job.outbox.leave(&view);
            if let Some(writing) = writing
                && timeout_at(deadline, writing).await.is_err()
            {
                warn!("the disk does not take the last checkpoint of a run");
            }
            let Some(submission) = submission else { continue };
            if self.pusher.is_none() && self.spool.is_none() && self.config.output != Output::None {
                whole &= report(&self.config, &submission).await;
            }
            if let Some(pusher) = self.pusher.clone() {
                while pushes.len() >= PUSHES_AT_ONCE {
                    whole &= matches!(pushes.join_next().await, Some(Ok(true)));
                }
                pushes.spawn(push(pusher, submission, in_time, self.spool.is_some()));
            }
        }
        info!(jobs = left, "the jobs are left to the next collector");
        let hurry = self.hurry.clone();
        let all = async {
            let mut all = whole;
            while let Some(done) = pushes.join_next().await {
                all &= matches!(done, Ok(true));
            }
            while let Some(done) = self.last.join_next().await {
                all &= self.note(done);
            }
            all
        };
        tokio::pin!(all);
        tokio::select! {
            whole = &mut all => whole,
            () = async { tokio::select! { () = sleep_until(in_time) => {}, () = &mut again => {} } } => {
                // What is not pushed by now goes to the spool or to standard error.
                let _ = hurry.send(true);
                let whole = timeout_at(deadline.max(Instant::now() + RESERVE), &mut all).await;
                whole.unwrap_or_else(|_| {
                    warn!("not everything could be pushed or written in time");
                    false
                })
            }
        }
    }
}

/// The run to work on next: one that is busy, or the first to be due and when.
fn next<'a>(
    groups: impl Iterator<Item = (GroupNumber, &'a mut Group)>,
) -> Option<(GroupNumber, Option<Instant>)> {
    let mut first: Option<(GroupNumber, Instant)> = None;
    for (number, group) in groups {
        let Some(job) = &group.job else { continue };
        if job.outbox.is_busy() {
            return Some((number, None));
        }
        if let Some(due) = job.outbox.due()
            && first.is_none_or(|(_, earliest)| due < earliest)
        {
            first = Some((number, due));
        }
    }
    first.map(|(number, due)| (number, Some(due)))
}

/// Pushes the summary so far of a run that goes on. False: it is nowhere.
async fn push(pusher: Pusher, submission: Submission, deadline: Instant, is_kept: bool) -> bool {
    let run_id = submission.run_id.clone();
    let body = match serde_json::to_vec(&submission) {
        Ok(body) => Bytes::from(body),
        Err(error) => {
            error!(run_id, %error, "a summary cannot be written as JSON");
            return false;
        }
    };
    match pusher.push(body.clone(), deadline).await {
        Ok(stored) => {
            info!(run_id, id = stored.id, "the receiver has the summary so far of a run");
            true
        }
        Err(error) if is_kept => {
            warn!(run_id, %error, "the summary so far of a run could not be pushed; its checkpoint is in the spool");
            true
        }
        Err(error) => {
            error!(run_id, %error, "the summary so far of a run could not be pushed; it follows on standard error");
            tell(&String::from_utf8_lossy(&body));
            false
        }
    }
}

/// Prints what there is of a run that is pushed nowhere.
async fn report(config: &Config, submission: &Submission) -> bool {
    let run = crate::config::RunIdentity {
        organization: submission.organization.clone(),
        repository: submission.repository.clone(),
        workflow: submission.workflow.clone(),
        job: submission.job.clone(),
        run_id: submission.run_id.clone(),
        run_attempt: submission.run_attempt,
    };
    let report = Report::new(config, Some(&run), &submission.payload);
    matches!(report.write().await, Ok(Ok(())))
}

/// Delivers what lies in the spool, again and again.
async fn deliver_backlog(mut backlog: Backlog, living: Living) {
    loop {
        if let Err(error) = backlog.deliver(|id| lock(&living).contains(id)).await {
            warn!(%error, "the spool directory cannot be read");
        }
        backlog.wait().await;
    }
}

fn lock(living: &Living) -> std::sync::MutexGuard<'_, HashSet<String>> {
    living.lock().unwrap_or_else(PoisonError::into_inner)
}
