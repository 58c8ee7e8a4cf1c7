//! The log, on standard error.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{LevelFilter, Targets};

use crate::stream;

/// Least severe level that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Level {
    /// Everything.
    Debug,
    /// What happens.
    Info,
    /// What limits the result, or went wrong for somebody.
    Warn,
    /// What failed.
    Error,
}

impl From<Level> for LevelFilter {
    fn from(level: Level) -> Self {
        match level {
            Level::Debug => Self::DEBUG,
            Level::Info => Self::INFO,
            Level::Warn => Self::WARN,
            Level::Error => Self::ERROR,
        }
    }
}

/// Form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A line to read.
    Text,
    /// A line of JSON.
    Json,
}

/// Lines that nobody took.
static LOST: AtomicU64 = AtomicU64::new(0);

/// How many lines of the log could not be written so far.
pub fn lost() -> u64 {
    LOST.load(Ordering::Relaxed)
}

/// Starts logging. Only what is ours, as `own` says, is logged below the level `info`.
pub fn init(level: Level, format: Format, own: &[(&str, LevelFilter)]) {
    let level = LevelFilter::from(level);
    let targets = Targets::new().with_default(level.min(LevelFilter::INFO)).with_targets(own.iter().copied());
    // Its own complaint about a line that cannot be written would be a panic.
    let builder = tracing_subscriber::fmt()
        .with_writer(|| Lines)
        .log_internal_errors(false)
        .with_env_filter(EnvFilter::new(targets.to_string()));
    match format {
        Format::Text => builder.with_ansi(io::stderr().is_terminal()).with_target(false).init(),
        Format::Json => builder.json().flatten_event(true).init(),
    }
}

/// Standard error, a line of the log at a time.
struct Lines;

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if stream::write(&mut io::stderr(), line).is_err() {
            LOST.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
