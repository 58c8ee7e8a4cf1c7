//! Interim summaries on their way: one at a time, and the latest in place of those that wait.

use std::time::Duration;

use bytes::Bytes;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::Instant;
use tracing::{debug, info, warn};
use wire::Submission;

use crate::deliver::push::Pusher;
use crate::deliver::spool::{Kind, Spool};

/// The least time that a push is given, however short the interval.
const LEAST_PATIENCE: Duration = Duration::from_secs(5);

/// The summary under way, and the one that waits.
#[derive(Debug, Default)]
pub(super) struct Interim {
    under_way: Option<JoinHandle<()>>,
    waiting: Option<(Submission, Duration)>,
}

impl Interim {
    /// Has this one wait, in place of one that does.
    pub(super) fn offer(&mut self, submission: Submission, interval: Duration) {
        if let Some((replaced, _)) = self.waiting.replace((submission, interval.max(LEAST_PATIENCE))) {
            info!(seq = replaced.seq, "an interim summary was not sent: a later one takes its place");
        }
    }

    /// Sends what waits, if nothing is under way.
    pub(super) fn next(&mut self, pusher: Option<&Pusher>, spool: Option<&Spool>) {
        if self.under_way.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        self.under_way = None;
        if let (Some((submission, patience)), Some(pusher)) = (self.waiting.take(), pusher) {
            let task = send(submission, patience, pusher.clone(), spool.cloned());
            self.under_way = Some(tokio::spawn(task));
        }
    }

    /// Waits until nothing is under way any more, which nothing never is. Cancelling loses nothing.
    pub(super) async fn done(&mut self) {
        match &mut self.under_way {
            Some(task) => {
                // Whether it ended or panicked: it is over.
                let _ = task.await;
                self.under_way = None;
            }
            None => std::future::pending().await,
        }
    }

    /// Gives up what is under way.
    pub(super) fn abort(&mut self) {
        self.waiting = None;
        if let Some(task) = self.under_way.take() {
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
    let mut told = true;
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
            told = false;
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
        Ok(Ok(Some(path))) if told => {
            info!(seq, file = %path.display(), "the interim summary is in the spool");
        }
        Ok(Err(error)) => warn!(seq, %error, "an interim summary cannot be put into the spool"),
        Ok(Ok(_)) | Err(_) => {}
    }
}
