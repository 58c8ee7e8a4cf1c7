//! The end of a run: report and push.

use std::future::Future;
use std::io::{IsTerminal, Write};

use anyhow::Context;
use tracing::{error, info};
use uuid::Uuid;
use wire::{Payload, Submission};

use super::measurement::Measurement;
use crate::config::{Config, Mode, Output};
use crate::deliver::push::push;
use crate::output::text;

/// Reports the run and pushes its summary where that is asked for. False: it could not be pushed.
///
/// `again` is a second wish to stop: the push is given up then.
pub async fn finish(
    config: &Config,
    measurement: &Measurement,
    again: impl Future<Output = ()>,
) -> anyhow::Result<bool> {
    let payload = measurement.payload(true);
    report(config, &payload)?;
    let (Some(target), Some(run)) = (&config.push, &config.run) else { return Ok(true) };
    let submission = Submission {
        organization: run.organization.clone(),
        repository: run.repository.clone(),
        workflow: run.workflow.clone(),
        job: run.job.clone(),
        run_id: run.run_id.clone(),
        run_attempt: run.run_attempt,
        summary_id: Some(Uuid::now_v7().to_string()),
        seq: Some(1),
        is_final: Some(true),
        payload,
    };
    let deadline = tokio::time::Instant::now() + config.shutdown_timeout;
    let result = tokio::select! {
        result = push(&submission, target, deadline) => result.map_err(|error| error.to_string()),
        () = again => Err("given up at a second signal".to_owned()),
    };
    match result {
        Ok(stored) => {
            info!(id = stored.id, "the receiver has the summary");
            Ok(true)
        }
        Err(error) => {
            error!(endpoint = %target.endpoint, error, "the summary could not be pushed; it follows on standard error");
            // The only copy must not be lost with this process.
            let line = serde_json::to_string(&submission).context("cannot write the summary as JSON")?;
            writeln!(std::io::stderr(), "{line}").context("cannot write the summary")?;
            Ok(false)
        }
    }
}

fn report(config: &Config, payload: &Payload) -> anyhow::Result<()> {
    let render = |colour| -> anyhow::Result<String> {
        Ok(match config.output {
            Output::Text => text::render(payload, config.run.as_ref(), colour),
            Output::Json => {
                serde_json::to_string_pretty(payload).context("cannot write the report as JSON")? + "\n"
            }
            Output::None => String::new(),
        })
    };
    if let Some(path) = &config.output_file {
        return std::fs::write(path, render(false)?)
            .with_context(|| format!("cannot write the report to {}", path.display()));
    }
    // A job's own output is not for us to add to: in front of a command the report goes to standard error.
    let written = match config.mode {
        Mode::Sidecar => {
            let mut out = std::io::stdout();
            out.write_all(render(out.is_terminal())?.as_bytes())
        }
        Mode::Run { .. } => {
            let mut out = std::io::stderr();
            out.write_all(render(out.is_terminal())?.as_bytes())
        }
    };
    match written {
        // Whoever read the report has gone; the push is still to come.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("cannot write the report"),
    }
}
