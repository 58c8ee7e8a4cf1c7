//! The end of a run: push, spool and report, all at the same time.

use std::future::Future;
use std::io::{ErrorKind, IsTerminal};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use program::stream;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{error, info, warn};
use wire::Payload;

use super::measurement::Measurement;
use super::outbox::Outbox;
use super::summary_file;
use crate::config::{Config, Mode, Output, OutputTo, RunIdentity};
use crate::deliver::push::shown;
use crate::deliver::spool::{Kind, Spool};
use crate::output::{markdown, text};

/// A disk that takes longer is not waited for once there is no time left.
const LAST_WRITE: Duration = Duration::from_secs(2);

/// What became of the push.
enum Push {
    /// The receiver has it.
    Stored,
    /// It may take it another time.
    Failed(String),
    /// It will never take it.
    Refused(String),
}

/// Reports the run, and pushes its summary or leaves it in the spool where that is asked for. False: it was to be pushed
/// and could not be.
///
/// `again` is a second wish to stop: the push is given up then.
pub(super) async fn finish(
    config: &Config,
    measurement: &Measurement,
    mut outbox: Outbox,
    deadline: Instant,
    again: impl Future<Output = ()>,
) -> anyhow::Result<bool> {
    let summary = outbox.close();
    let mut payload = measurement.payload(outbox.is_whole());
    note_warnings(&mut payload);
    let report = Report::new(config, config.run.as_ref(), &payload);
    hand_over(report, summary, payload, outbox, deadline, again).await
}

/// The same for a run whose outbox is closed: `summary` is what that told.
pub(super) async fn hand_over(
    report: Report,
    summary: (String, u64),
    payload: Payload,
    mut outbox: Outbox,
    deadline: Instant,
    again: impl Future<Output = ()>,
) -> anyhow::Result<bool> {
    let (summary_id, seq) = summary;
    let Some(run) = outbox.run.clone().filter(|_| outbox.pusher.is_some() || outbox.spool.is_some()) else {
        return report.write().await?.map(|()| true);
    };
    let body = serde_json::to_vec(&run.submission(summary_id.clone(), seq, true, payload));
    let body = Bytes::from(body.context("cannot write the summary as JSON")?);
    // Should this process be killed while it pushes, the summary lies there all the same.
    let spooling = outbox.spool.clone().map(|spool| spooled(spool, summary_id.clone(), body.clone()));
    let mut hurry = false;
    tokio::pin!(again);
    let pushed = tokio::select! {
        pushed = push(&outbox, body.clone(), deadline) => pushed,
        () = &mut again => {
            hurry = true;
            outbox.pusher.as_ref().map(|_| Push::Failed("given up at a second signal".to_owned()))
        }
    };
    let spooled = match spooling {
        Some(spooling) => settled(spooling).await,
        None => None,
    };
    let is_last_resort = report.may_hold_summary();
    let delivered =
        settle(&mut outbox, &summary_id, pushed, spooled, is_last_resort.then_some(&body)).await?;
    // Behind the push, since it tells what became of that. Nobody may be reading it.
    let reporting = report.write();
    let now = Instant::now();
    let until = if hurry { now + LAST_WRITE } else { deadline.max(now + LAST_WRITE) };
    let written = tokio::select! {
        written = timeout_at(until, reporting) => written,
        () = &mut again, if !hurry => Ok(Ok(Ok(()))),
    };
    if let Ok(written) = written {
        written??;
    } else {
        warn!("the report could not be written in time");
    }
    Ok(delivered)
}

/// What went wrong so far belongs to what is told of the run.
fn note_warnings(payload: &mut Payload) {
    if let Some(collector) = &mut payload.collector {
        collector.warnings = program::log::warnings();
    }
}

/// Pushes as far as that is asked for.
async fn push(outbox: &Outbox, body: Bytes, deadline: Instant) -> Option<Push> {
    Some(match outbox.pusher.as_ref()?.push(body, deadline).await {
        Ok(stored) => {
            info!(id = stored.id, superseded = stored.superseded, "the receiver has the summary");
            Push::Stored
        }
        Err(error) if error.is_final() => Push::Refused(error.to_string()),
        Err(error) => Push::Failed(error.to_string()),
    })
}

/// Draws the balance: where the summary is, and what is not needed any more. False: it could not be pushed.
async fn settle(
    outbox: &mut Outbox,
    summary_id: &str,
    pushed: Option<Push>,
    spooled: Option<PathBuf>,
    last_resort: Option<&Bytes>,
) -> anyhow::Result<bool> {
    let endpoint = outbox.pusher.as_ref().map(|pusher| shown(pusher.endpoint())).unwrap_or_default();
    match (pushed, spooled, outbox.spool.clone()) {
        (Some(Push::Stored), _, spool) => {
            if let Some(spool) = spool {
                spool.remove(summary_id);
            }
            outbox.forget_run().await;
            Ok(true)
        }
        (None, Some(path), _) => {
            info!(file = %path.display(), "the summary is in the spool");
            outbox.forget_run().await;
            Ok(true)
        }
        (Some(Push::Refused(error)), Some(_), Some(spool)) => {
            let entry = spool
                .entries()?
                .into_iter()
                .find(|entry| entry.id == summary_id && entry.kind == Kind::Final);
            let aside = entry.context("the summary is not in the spool any more")?;
            let aside = spool.refuse(&aside, &error)?;
            error!(endpoint, error, file = %aside.display(), "the summary will never be accepted and is set aside");
            outbox.forget_run().await;
            Ok(false)
        }
        (Some(Push::Failed(error)), Some(path), _) => {
            error!(endpoint, error, file = %path.display(), "the summary could not be pushed; it is in the spool");
            outbox.forget_run().await;
            Ok(false)
        }
        (pushed, _, _) => {
            let error = match pushed {
                Some(Push::Refused(error) | Push::Failed(error)) => error,
                _ => "the spool does not take it".to_owned(),
            };
            let Some(body) = last_resort else {
                error!(
                    endpoint,
                    error, "the summary could not be pushed, and there is no spool (--spool-dir): it is lost"
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

fn spooled(spool: Spool, id: String, body: Bytes) -> JoinHandle<std::io::Result<PathBuf>> {
    spawn_blocking(move || spool.put(&id, Kind::Final, &body))
}

/// Where the summary lies, if it does.
async fn settled(spooling: JoinHandle<std::io::Result<PathBuf>>) -> Option<PathBuf> {
    match timeout(LAST_WRITE, spooling).await {
        Ok(Ok(Ok(path))) => return Some(path),
        Ok(Ok(Err(error))) => warn!(%error, "the summary cannot be put into the spool"),
        Ok(Err(error)) => warn!(%error, "the summary cannot be put into the spool"),
        Err(_) => warn!("the disk does not take the summary"),
    }
    None
}

/// Something failed that was told of.
#[derive(Debug, thiserror::Error)]
#[error("the report went to standard error")]
pub(super) struct Told;

/// The report, and where it goes.
pub(super) struct Report {
    payload: Box<Payload>,
    run: Option<RunIdentity>,
    output: Output,
    to: OutputTo,
    mode: Mode,
    /// The file that it is appended to as Markdown, for the page of the run.
    summary_file: Option<PathBuf>,
}

impl Report {
    pub(super) fn new(config: &Config, run: Option<&RunIdentity>, payload: &Payload) -> Self {
        Self {
            payload: Box::new(payload.clone()),
            run: run.cloned(),
            output: config.output,
            to: config.output_to.clone(),
            mode: config.mode.clone(),
            summary_file: config.summary_file.clone(),
        }
    }

    /// Whether a summary that can be put nowhere else may go to standard error: that is no build's log.
    fn may_hold_summary(&self) -> bool {
        !matches!(self.mode, Mode::Run { .. })
    }

    /// Writes it; on a thread, for nobody may be reading.
    pub(super) fn write(mut self) -> JoinHandle<anyhow::Result<()>> {
        spawn_blocking(move || {
            // Elsewhere the report is what was pushed, and others read it.
            let is_run = matches!(self.mode, Mode::Run { .. });
            if is_run {
                note_warnings(&mut self.payload);
            }
            if let Some(path) = &self.summary_file {
                let markdown = markdown::render(&self.payload, self.run.as_ref());
                if let Err(error) = summary_file::append(path, &markdown) {
                    warn!(file = %path.display(), %error, "the summary for the page of the run cannot be written");
                    if is_run {
                        note_warnings(&mut self.payload);
                    }
                }
            }
            let OutputTo::File(path) = &self.to else { return self.write_to_stream() };
            let written = self.render(false).and_then(|text| Ok(std::fs::write(path, text)?));
            let written = written.with_context(|| format!("cannot write the report to {}", path.display()));
            match written {
                Err(error) if is_run => {
                    warn!("{error:#}: it goes to standard error");
                    note_warnings(&mut self.payload);
                    self.to = OutputTo::Stderr;
                    self.write_to_stream()?;
                    Err(Told.into())
                }
                written => written,
            }
        })
    }

    fn render(&self, colour: bool) -> anyhow::Result<String> {
        Ok(match self.output {
            Output::Text => text::render(&self.payload, self.run.as_ref(), colour),
            Output::Json => {
                let json = serde_json::to_string_pretty(&self.payload);
                json.context("cannot write the report as JSON")? + "\n"
            }
            Output::None => String::new(),
        })
    }

    fn write_to_stream(&self) -> anyhow::Result<()> {
        let written = if self.to == OutputTo::Stderr {
            let mut text = self.render(std::io::stderr().is_terminal())?;
            if self.output == Output::Text {
                // The last line of the command may have no end.
                text.insert(0, '\n');
            }
            stream::write(&mut std::io::stderr(), text.as_bytes())
        } else {
            let text = self.render(std::io::stdout().is_terminal())?;
            stream::write(&mut std::io::stdout(), text.as_bytes())
        };
        match written {
            // Whoever read the report has gone; the push matters all the same.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            result => result.context("cannot write the report"),
        }
    }
}
