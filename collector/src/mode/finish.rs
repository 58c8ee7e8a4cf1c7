//! The end of a run: push, spool and report, all at the same time.

use std::future::Future;
use std::io::{ErrorKind, IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{error, info, warn};
use wire::Payload;

use super::measurement::Measurement;
use super::outbox::Outbox;
use super::summary_file;
use crate::config::{Config, Mode, Output, RunIdentity};
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
    let payload = measurement.payload(outbox.is_whole());
    let report = Report::new(config, config.run.as_ref(), &payload)?;
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
    let reporting = report.write();
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
    let delivered = settle(&mut outbox, &summary_id, pushed, spooled, &body).await?;
    // Nobody may be reading it.
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
    body: &[u8],
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
            error!(endpoint, error, "the summary could not be pushed; it follows on standard error");
            // The only copy must not be lost with this process.
            let mut line = body.to_vec();
            line.push(b'\n');
            std::io::stderr().write_all(&line).context("cannot write the summary")?;
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

/// The report, and where it goes.
pub(super) struct Report {
    text: String,
    file: Option<PathBuf>,
    mode: Mode,
    /// The same for the page of the run, and the file that it is appended to.
    summary: Option<(String, PathBuf)>,
}

impl Report {
    pub(super) fn new(config: &Config, run: Option<&RunIdentity>, payload: &Payload) -> anyhow::Result<Self> {
        let terminal = match config.mode {
            _ if config.output_file.is_some() => false,
            Mode::Run { .. } => std::io::stderr().is_terminal(),
            Mode::Sidecar | Mode::Deliver | Mode::Node(_) => std::io::stdout().is_terminal(),
        };
        let text = match config.output {
            Output::Text => text::render(payload, run, terminal),
            Output::Json => {
                serde_json::to_string_pretty(payload).context("cannot write the report as JSON")? + "\n"
            }
            Output::None => String::new(),
        };
        let summary = config.summary_file.clone();
        let summary = summary.map(|path| (markdown::render(payload, run), path));
        Ok(Self { text, file: config.output_file.clone(), mode: config.mode.clone(), summary })
    }

    /// Writes it; on a thread, for nobody may be reading.
    pub(super) fn write(self) -> JoinHandle<anyhow::Result<()>> {
        spawn_blocking(move || {
            let Self { text, file, mode, summary } = self;
            if let Some((markdown, path)) = summary
                && let Err(error) = summary_file::append(&path, &markdown)
            {
                warn!(file = %path.display(), %error, "the summary for the page of the run cannot be written");
            }
            if let Some(path) = file {
                return std::fs::write(&path, text)
                    .with_context(|| format!("cannot write the report to {}", path.display()));
            }
            // A job's own output is not for us to add to: in front of a command the report goes to standard error.
            let written = match mode {
                Mode::Run { .. } => std::io::stderr().write_all(text.as_bytes()),
                Mode::Sidecar | Mode::Deliver | Mode::Node(_) => {
                    let mut out = std::io::stdout();
                    out.write_all(text.as_bytes()).and_then(|()| out.flush())
                }
            };
            match written {
                // Whoever read the report has gone; the push matters all the same.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
                result => result.context("cannot write the report"),
            }
        })
    }
}
