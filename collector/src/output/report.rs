//! Writes the report of a run.

use std::io::{ErrorKind, IsTerminal};
use std::path::PathBuf;

use anyhow::Context;
use program::{given_file, stream};
use tokio::task::{JoinHandle, spawn_blocking};
use tracing::warn;
use wire::Payload;

use super::{markdown, summary_file, text};
use crate::config::{Config, Mode, Output, OutputTo};
use crate::run_identity::RunIdentity;

/// The report could not be written to its file and went to standard error; a warning says why.
#[derive(Debug, thiserror::Error)]
#[error("the report went to standard error")]
pub(crate) struct Redirected;

/// The report and its destination.
pub(crate) struct Report {
    payload: Box<Payload>,
    run: Option<RunIdentity>,
    output: Output,
    to: OutputTo,
    mode: Mode,
    /// The file that it is appended to as Markdown, for the page of the run.
    summary_file: Option<PathBuf>,
}

impl Report {
    pub(crate) fn new(config: &Config, run: Option<&RunIdentity>, payload: &Payload) -> Self {
        Self {
            payload: Box::new(payload.clone()),
            run: run.cloned(),
            output: config.output,
            to: config.output_to.clone(),
            mode: config.mode.clone(),
            summary_file: config.summary_file.clone(),
        }
    }

    /// Whether a summary that cannot be stored anywhere may go to standard error. With a command, standard error is the build's
    /// log.
    pub(crate) fn may_hold_summary(&self) -> bool {
        !matches!(self.mode, Mode::Run { .. })
    }

    /// Writes it on a thread, because its reader may have stopped reading.
    pub(crate) fn write(mut self) -> JoinHandle<anyhow::Result<()>> {
        spawn_blocking(move || {
            // In the other modes the report is exactly what was pushed.
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
            let written = self.render(false).and_then(|text| Ok(given_file::write(path, text.as_bytes())?));
            let written = written.with_context(|| format!("cannot write the report to {}", path.display()));
            match written {
                Err(error) if is_run => {
                    warn!("{error:#}: it goes to standard error");
                    note_warnings(&mut self.payload);
                    self.to = OutputTo::Stderr;
                    self.write_to_stream()?;
                    Err(Redirected.into())
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
                // The last line of the command may be incomplete.
                text.insert(0, '\n');
            }
            stream::write(&mut std::io::stderr(), text.as_bytes())
        } else {
            let text = self.render(std::io::stdout().is_terminal())?;
            stream::write(&mut std::io::stdout(), text.as_bytes())
        };
        match written {
            // The reader has closed its end. The push still matters.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            result => result.context("cannot write the report"),
        }
    }
}

/// Adds the warnings so far to the collector's part of the summary.
pub(crate) fn note_warnings(payload: &mut Payload) {
    if let Some(collector) = &mut payload.collector {
        collector.warnings = program::log::warnings();
    }
}
