//! Publishes the jobs of a node: interim summaries and checkpoints one after the other, final summaries in parallel.

use std::collections::HashSet;
use std::future::Future;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use program::stream::tell;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::{error, info, warn};
use wire::Submission;

use super::job_run::{JobEnd, JobRun};
use super::measurement::NodeMeasurement;
use super::membership::JobId;
use super::pod::Pod;
use super::pods::{PodNumber, Pods};
use crate::config::{Config, Output};
use crate::deliver::backlog::Backlog;
use crate::deliver::push::{PushCounts, Pusher};
use crate::deliver::spool::Spool;
use crate::engine::publisher::PublishStep;
use crate::engine::recorder::{RunContext, RunSnapshot};
use crate::output::report::Report;
use crate::run_identity::RunIdentity;

/// How long the push of a final summary is tried before it is left to the spool.
const PATIENCE: Duration = Duration::from_secs(30);
/// The same without a spool, when nothing retries it later.
const PATIENCE_WITHOUT_SPOOL: Duration = Duration::from_mins(5);
/// How many summaries are pushed at once when the collector ends.
const PUSHES_AT_ONCE: usize = 16;
/// The part of the shutdown time that is reserved for writing summaries that could not be pushed.
const RESERVE: Duration = Duration::from_secs(2);

/// Ids of runs that have a publisher: the backlog leaves their files in the spool alone.
type ActiveRuns = Arc<Mutex<HashSet<String>>>;

/// A job: its pod, and its number there.
type JobNumber = (PodNumber, JobId);

/// Publishes the summaries and checkpoints of all jobs.
#[derive(Debug)]
pub(super) struct NodePublisher {
    config: Rc<Config>,
    pusher: Option<Pusher>,
    spool: Option<Spool>,
    active: ActiveRuns,
    backlog: Option<JoinHandle<()>>,
    /// Final deliveries in progress.
    last: JoinSet<anyhow::Result<bool>>,
    /// True once there is no time left for pushes.
    hurry: watch::Sender<bool>,
}

impl NodePublisher {
    pub(super) fn new(config: Rc<Config>, pusher: Option<Pusher>, spool: Option<Spool>) -> Self {
        let active = ActiveRuns::default();
        let backlog = pusher.clone().zip(spool.clone()).map(|(pusher, spool)| {
            let active = Arc::clone(&active);
            let is_active = move |id: &str| lock(&active).contains(id);
            tokio::spawn(Backlog::new(spool, pusher).deliver_repeatedly(is_active, false))
        });
        let (hurry, _) = watch::channel(false);
        Self { config, pusher, spool, active, backlog, last: JoinSet::new(), hurry }
    }

    /// How many pushes there were.
    pub(super) fn counts(&self) -> Option<PushCounts> {
        self.pusher.as_ref().map(Pusher::counts)
    }

    /// A job is over: starts the delivery of its final summary.
    fn finish(&mut self, job: JobRun, end: JobEnd, pod: &Pod, context: &RunContext) {
        let mut payload = pod.snapshot(&job, context).payload(job.publisher.is_whole());
        let JobRun { run, mut publisher, .. } = job;
        payload.ci = Some(run.ci.clone()).filter(|ci| !ci.is_empty());
        info!(
            repository = run.repository,
            workflow = run.workflow,
            job = run.job,
            run_id = run.run_id,
            pod = pod.facts().pod,
            summary_id = publisher.summary_id(),
            end = end.name(),
            cpu_seconds = payload.attribution.as_ref().map(|attribution| attribution.cpu_seconds),
            duration_seconds = payload.duration_seconds,
            "a job is over"
        );
        let report = Report::new(&self.config, Some(&run), &payload);
        let summary = publisher.close();
        let patience = if self.spool.is_some() { PATIENCE } else { PATIENCE_WITHOUT_SPOOL };
        let deadline = Instant::now() + patience;
        let mut hurry = self.hurry.subscribe();
        let (active, id) = (Arc::clone(&self.active), summary.0.clone());
        self.last.spawn(async move {
            let again = async move {
                // The sender outlives this task.
                let _ = hurry.wait_for(|hurry| *hurry).await;
            };
            let result = publisher.deliver(report, summary, payload, deadline, again).await;
            lock(&active).remove(&id);
            result
        });
    }

    /// Publishes after a pass: finishes the jobs that are over and registers the new ones.
    pub(super) fn after_pass(
        &mut self,
        measurement: &mut NodeMeasurement,
        ended: Vec<(PodNumber, JobRun, JobEnd)>,
    ) {
        let NodeMeasurement { pods, context, .. } = measurement;
        for (number, job, end) in ended {
            if let Some(pod) = pods.get(number) {
                self.finish(job, end, pod, context);
            }
        }
        pods.remove_ended();
        while let Some(done) = self.last.try_join_next() {
            note(done);
        }
        for job in pods.iter_mut().flat_map(|(_, pod)| &mut pod.jobs) {
            job.publisher.push_next();
            let mut active = lock(&self.active);
            if !active.contains(job.publisher.summary_id()) {
                active.insert(job.publisher.summary_id().to_owned());
            }
        }
    }

    /// Leaves the jobs to the next collector, which continues them from their checkpoints. Returns false if a summary is
    /// neither at the receiver nor in a spool.
    pub(super) async fn leave(
        mut self,
        measurement: &mut NodeMeasurement,
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
        let NodeMeasurement { pods, context, .. } = measurement;
        let mut jobs = Vec::new();
        for (number, pod) in pods.iter_mut() {
            jobs.extend(std::mem::take(&mut pod.jobs).into_iter().map(|job| (number, job)));
        }
        for (number, JobRun { mut publisher, recorder, .. }) in jobs {
            left += 1;
            let Some(pod) = pods.get(number) else { continue };
            let run = RunSnapshot { recorder: &recorder, containers: &pod.containers, context };
            let Some((submission, writing)) = publisher.leave(run) else { continue };
            if let Some(writing) = writing
                && timeout_at(deadline, writing).await.is_err()
            {
                warn!("the disk does not take the last checkpoint of a run");
            }
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
                all &= note(done);
            }
            all
        };
        tokio::pin!(all);
        tokio::select! {
            whole = &mut all => whole,
            () = async { tokio::select! { () = sleep_until(in_time) => {}, () = &mut again => {} } } => {
                // Summaries that are not pushed by now go to the spool or to standard error.
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

/// Waits for the next step of any job: one with a summary or checkpoint in progress, otherwise the one that is due first.
/// Cancel-safe.
pub(super) async fn next_step(pods: &mut Pods) -> (JobNumber, PublishStep) {
    let Some((number, due)) = next_job(pods.iter()) else { return std::future::pending().await };
    if let Some(due) = due {
        sleep_until(due).await;
    }
    match pods.get_mut(number.0).and_then(|pod| pod.job_mut(number.1)) {
        Some(job) => (number, job.publisher.next_step().await),
        None => std::future::pending().await,
    }
}

/// Performs the step.
pub(super) fn step(measurement: &mut NodeMeasurement, (pod, job): JobNumber, step: PublishStep) {
    let NodeMeasurement { pods, context, .. } = measurement;
    let Some(Pod { jobs, containers, .. }) = pods.get_mut(pod) else { return };
    let Some(job) = jobs.iter_mut().find(|one| one.id == job) else { return };
    let run = RunSnapshot { recorder: &job.recorder, containers, context };
    job.publisher.step(step, run);
}

/// A job whose publisher is busy, or the job that is due first and when.
fn next_job<'a>(pods: impl Iterator<Item = (PodNumber, &'a Pod)>) -> Option<(JobNumber, Option<Instant>)> {
    let mut first: Option<(JobNumber, Instant)> = None;
    for (number, job) in pods.flat_map(|(number, pod)| pod.jobs.iter().map(move |job| (number, job))) {
        let number = (number, job.id);
        if job.publisher.is_busy() {
            return Some((number, None));
        }
        if let Some(due) = job.publisher.due()
            && first.is_none_or(|(_, earliest)| due < earliest)
        {
            first = Some((number, due));
        }
    }
    first.map(|(number, due)| (number, Some(due)))
}

/// Logs the failure of a final delivery. Returns whether the summary is safe.
fn note(done: Result<anyhow::Result<bool>, tokio::task::JoinError>) -> bool {
    match done {
        Ok(Ok(delivered)) => return delivered,
        Ok(Err(error)) => error!(error = format!("{error:#}"), "the last summary of a run is lost"),
        Err(error) => error!(%error, "the last summary of a run is lost"),
    }
    false
}

/// Pushes the summary so far of a run that continues. Returns false if it is neither at the receiver nor in a spool.
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

/// Prints the summary so far of a run that is not pushed.
async fn report(config: &Config, submission: &Submission) -> bool {
    let run = RunIdentity {
        organization: submission.organization.clone(),
        repository: submission.repository.clone(),
        workflow: submission.workflow.clone(),
        job: submission.job.clone(),
        run_id: submission.run_id.clone(),
        run_attempt: submission.run_attempt,
        ci: submission.payload.ci.clone().unwrap_or_default(),
    };
    let report = Report::new(config, Some(&run), &submission.payload);
    matches!(report.write().await, Ok(Ok(())))
}

fn lock(active: &ActiveRuns) -> MutexGuard<'_, HashSet<String>> {
    active.lock().unwrap_or_else(PoisonError::into_inner)
}
