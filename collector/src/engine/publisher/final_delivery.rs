//! The end of a run: push, spool and report at the same time.

use std::future::Future;
use std::path::PathBuf;

use anyhow::Context;
use bytes::Bytes;
use program::stream;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{error, info, warn};
use wire::Payload;

use super::{LAST_WRITE, RunPublisher};
use crate::config::Config;
use crate::deliver::push::shown;
use crate::deliver::spool::{Kind, Spool};
use crate::engine::recorder::RunSnapshot;
use crate::output::report::{Report, note_warnings};

/// The outcome of the push.
enum Push {
    /// The receiver has the summary.
    Stored,
    /// The receiver may accept it later.
    Failed(String),
    /// The receiver will never accept it.
    Refused(String),
}

impl RunPublisher {
    /// Ends the only run of a collector; see [`RunPublisher::deliver`].
    pub(crate) async fn finish(
        mut self,
        config: &Config,
        run: RunSnapshot<'_>,
        deadline: Instant,
        again: impl Future<Output = ()>,
    ) -> anyhow::Result<bool> {
        let summary = self.close();
        let mut payload = run.payload(self.is_whole());
        payload.ci = Some(self.ci.clone()).filter(|ci| !ci.is_empty());
        note_warnings(&mut payload);
        let report = Report::new(config, config.run.as_ref(), &payload);
        self.deliver(report, summary, payload, deadline, again).await
    }

    /// Ends the run: pushes the final summary, or leaves it in the spool if one is configured, and writes the report.
    /// `summary` is the return value of [`RunPublisher::close`]. Returns false if the push, or without a receiver the
    /// spool, failed.
    ///
    /// `again` is a second request to stop, which cancels the push.
    pub(crate) async fn deliver(
        mut self,
        report: Report,
        summary: (String, u64),
        payload: Payload,
        deadline: Instant,
        again: impl Future<Output = ()>,
    ) -> anyhow::Result<bool> {
        let (summary_id, seq) = summary;
        let Some(run) = self.run.clone().filter(|_| self.pusher.is_some() || self.spool.is_some()) else {
            return write(report, deadline, false, again).await.map(|()| true);
        };
        let body = serde_json::to_vec(&run.submission(summary_id.clone(), seq, true, payload));
        let body = Bytes::from(body.context("cannot write the summary as JSON")?);
        // The spool is written during the push, so that the summary is not lost if this process is killed.
        let spooling = self.spool.clone().map(|spool| put(spool, summary_id.clone(), body.clone()));
        let mut hurry = false;
        tokio::pin!(again);
        let pushed = tokio::select! {
            pushed = self.push(body.clone(), deadline) => pushed,
            () = &mut again => {
                hurry = true;
                self.pusher.as_ref().map(|_| Push::Failed("cancelled by a second signal".to_owned()))
            }
        };
        let spooled = match spooling {
            Some(spooling) => spooled(spooling).await,
            None => None,
        };
        let last_resort = report.may_hold_summary().then_some(&body);
        let delivered = self.conclude(&summary_id, pushed, spooled, last_resort).await?;
        // The report holds the warnings of the push, so it is written after the push.
        write(report, deadline, hurry, &mut again).await?;
        Ok(delivered)
    }

    /// Pushes the summary; `None` if no receiver is configured.
    async fn push(&self, body: Bytes, deadline: Instant) -> Option<Push> {
        Some(match self.pusher.as_ref()?.push(body, deadline).await {
            Ok(stored) => {
                info!(id = stored.id, superseded = stored.superseded, "the receiver has the summary");
                Push::Stored
            }
            Err(error) if error.is_final() => Push::Refused(error.to_string()),
            Err(error) => Push::Failed(error.to_string()),
        })
    }

    /// Decides the outcome from the results of push and spool, and removes what is no longer needed. Returns false if the
    /// push, or without a receiver the spool, failed.
    async fn conclude(
        &mut self,
        summary_id: &str,
        pushed: Option<Push>,
        spooled: Option<PathBuf>,
        last_resort: Option<&Bytes>,
    ) -> anyhow::Result<bool> {
        let endpoint = self.pusher.as_ref().map(|pusher| shown(pusher.endpoint())).unwrap_or_default();
        match (pushed, spooled, self.spool.clone()) {
            (Some(Push::Stored), _, spool) => {
                if let Some(spool) = spool {
                    spool.remove(summary_id);
                }
                self.forget_run().await;
                Ok(true)
            }
            (None, Some(path), _) => {
                info!(file = %path.display(), "the summary is in the spool");
                self.forget_run().await;
                Ok(true)
            }
            (Some(Push::Refused(error)), Some(_), Some(spool)) => {
                let entry = spool
                    .entries()?
                    .into_iter()
                    .find(|entry| entry.id == summary_id && entry.kind == Kind::Final);
                let aside = entry.context("the summary is no longer in the spool")?;
                let aside = spool.refuse(&aside, &error)?;
                error!(endpoint, error, file = %aside.display(), "the summary will never be accepted and is set aside");
                self.forget_run().await;
                Ok(false)
            }
            (Some(Push::Failed(error)), Some(path), _) => {
                error!(endpoint, error, file = %path.display(), "the summary could not be pushed; it is in the spool");
                self.forget_run().await;
                Ok(false)
            }
            (pushed, _, _) => {
                let error = match pushed {
                    Some(Push::Refused(error) | Push::Failed(error)) => error,
                    _ => "it cannot be put into the spool".to_owned(),
                };
                let Some(body) = last_resort else {
                    error!(
                        endpoint,
                        error,
                        "the summary could not be pushed, and there is no spool (--spool-dir): it is lost"
                    );
                    return Ok(false);
                };
                error!(endpoint, error, "the summary could not be pushed; it follows on standard error");
                // The only copy must not be lost with this process.
                let line = [body, &b"\n"[..]].concat();
                stream::write(&mut std::io::stderr(), &line).context("cannot write the summary")?;
                Ok(false)
            }
        }
    }
}

/// Writes the report, whose reader may have stopped reading. `hurry`: a second request to stop has already come.
async fn write(
    report: Report,
    deadline: Instant,
    hurry: bool,
    again: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let now = Instant::now();
    let until = if hurry { now + LAST_WRITE } else { deadline.max(now + LAST_WRITE) };
    tokio::select! {
        written = timeout_at(until, report.write()) => if let Ok(written) = written {
            return written?;
        },
        () = again, if !hurry => {}
    }
    warn!("the report could not be written in time");
    Ok(())
}

fn put(spool: Spool, id: String, body: Bytes) -> JoinHandle<std::io::Result<PathBuf>> {
    spawn_blocking(move || spool.put(&id, Kind::Final, &body))
}

/// Returns the path of the summary in the spool, if it was written.
async fn spooled(spooling: JoinHandle<std::io::Result<PathBuf>>) -> Option<PathBuf> {
    match timeout(LAST_WRITE, spooling).await {
        Ok(Ok(Ok(path))) => return Some(path),
        Ok(Ok(Err(error))) => warn!(%error, "the summary cannot be put into the spool"),
        Ok(Err(error)) => warn!(%error, "the summary cannot be put into the spool"),
        Err(_) => warn!("the summary could not be put into the spool in time"),
    }
    None
}
