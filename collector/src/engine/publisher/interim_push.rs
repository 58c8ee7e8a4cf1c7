//! Pushes interim summaries one at a time. Only the latest summary waits.

use std::time::Duration;

use bytes::Bytes;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::Instant;
use tracing::{debug, info, warn};
use wire::Submission;

use crate::deliver::push::Pusher;
use crate::deliver::spool::{Kind, Spool};

/// A push may take at least this long, even if the interval is shorter.
const LEAST_PATIENCE: Duration = Duration::from_secs(5);

/// The push in progress, and the summary that waits for it.
#[derive(Debug, Default)]
pub(super) struct InterimPush {
    in_progress: Option<JoinHandle<()>>,
    waiting: Option<(Submission, Duration)>,
}

impl InterimPush {
    /// Queues this summary, in place of one that already waits.
    pub(super) fn offer(&mut self, submission: Submission, interval: Duration) {
        if let Some((replaced, _)) = self.waiting.replace((submission, interval.max(LEAST_PATIENCE))) {
            info!(seq = replaced.seq, "an interim summary was not sent: a later one replaces it");
        }
    }

    /// Starts to push the waiting summary, unless a push is in progress.
    pub(super) fn next(&mut self, pusher: Option<&Pusher>, spool: Option<&Spool>) {
        if self.in_progress.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        self.in_progress = None;
        if let (Some((submission, patience)), Some(pusher)) = (self.waiting.take(), pusher) {
            let task = send(submission, patience, pusher.clone(), spool.cloned());
            self.in_progress = Some(tokio::spawn(task));
        }
    }

    /// Waits for the push in progress to end, forever if there is none. Cancel-safe.
    pub(super) async fn done(&mut self) {
        match &mut self.in_progress {
            Some(task) => {
                let _ = task.await;
                self.in_progress = None;
            }
            None => std::future::pending().await,
        }
    }

    /// Cancels the push in progress and drops the waiting summary.
    pub(super) fn abort(&mut self) {
        self.waiting = None;
        if let Some(task) = self.in_progress.take() {
            task.abort();
        }
    }
}

async fn send(submission: Submission, patience: Duration, pusher: Pusher, spool: Option<Spool>) {
    let (seq, id) = (submission.seq, submission.summary_id.clone().unwrap_or_default());
    let organization = submission.organization.clone();
    // Writing a megabyte of JSON takes longer than a pass should wait.
    let body = spawn_blocking(move || serde_json::to_vec(&submission)).await;
    let Ok(Ok(body)) = body else {
        warn!(seq, "an interim summary cannot be written as JSON");
        return;
    };
    let body = Bytes::from(body);
    let result = pusher.push_unless_held(body.clone(), Instant::now() + patience).await;
    let mut logged = true;
    match &result {
        Ok(stored) => {
            pusher.is_over(&id);
            info!(seq, id = stored.id, "the receiver has an interim summary");
        }
        // A token that does not fit this run does not fit others of its organization either.
        Err(error)
            if error.is_of_token() && pusher.tells(&format!("interim summaries of {organization}")) =>
        {
            warn!(seq, organization, %error, "an interim summary could not be pushed");
        }
        Err(error) if !error.is_of_token() && pusher.tells(&id) => {
            warn!(seq, %error, "an interim summary could not be pushed");
        }
        Err(error) => {
            logged = false;
            debug!(seq, %error, "an interim summary could not be pushed");
        }
    }
    let Some(spool) = spool else { return };
    let delivered = result.is_ok();
    let kept = spawn_blocking(move || {
        if delivered {
            spool.remove(&id);
            return Ok(None);
        }
        spool.put(&id, Kind::Interim, &body).map(Some)
    });
    match kept.await {
        Ok(Ok(Some(path))) if logged => {
            info!(seq, file = %path.display(), "the interim summary is in the spool");
        }
        Ok(Err(error)) => warn!(seq, %error, "an interim summary cannot be put into the spool"),
        Ok(Ok(_)) | Err(_) => {}
    }
}
