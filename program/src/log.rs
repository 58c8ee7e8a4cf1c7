//! The log on standard error, and the warnings that a report repeats.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use clap::ValueEnum;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::stream;

/// At most this many warnings are kept, each cut to `MAX_WARNING_CHARS`.
const MAX_WARNINGS: usize = 20;
const MAX_WARNING_CHARS: usize = 400;

/// Least severe level that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Level {
    /// Everything.
    Debug,
    /// Normal events.
    Info,
    /// What limits the result, or went wrong for a user.
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

/// Format of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Lines of text.
    Text,
    /// Lines of JSON.
    Json,
}

/// At most this many lines wait for a slow reader.
const QUEUE: usize = 4096;

/// Lines that could not be written.
static LOST: AtomicU64 = AtomicU64::new(0);
/// Lines that did not fit into the queue.
static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();

/// Number of log lines lost so far.
pub fn lost() -> u64 {
    LOST.load(Ordering::Relaxed) + DROPPED.get().map_or(0, |dropped| dropped.dropped_lines() as u64)
}

/// The thread that writes the log. When this is dropped, the thread has a second to write the rest.
#[must_use = "without it nothing is logged"]
#[derive(Debug)]
pub struct Queue {
    _writer: WorkerGuard,
}

/// Like [`init`], but a thread of its own writes the log, so that no other thread waits for its reader. Lines that do not fit
/// into the queue are [lost].
pub fn init_queued(level: Level, format: Format, own: &[(&str, LevelFilter)]) -> Queue {
    let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(QUEUE).thread_name("log");
    let (queue, writer) = builder.finish(Lines);
    let _ = DROPPED.set(queue.error_counter());
    init_with(queue, Some(level), format, own);
    Queue { _writer: writer }
}

/// Starts logging on standard error, if a level is given. `own` has the program's own targets and their levels. Their warnings
/// and errors are kept for [`warnings`] at every level. Messages of libraries are for debugging: they are logged only with the
/// level `debug`, and then from `info` on.
pub fn init(level: Option<Level>, format: Format, own: &[(&str, LevelFilter)]) {
    init_with(|| Lines, level, format, own);
}

fn init_with<W>(writer: W, level: Option<Level>, format: Format, own: &[(&str, LevelFilter)])
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = level.map(|level| {
        let others = if level == Level::Debug { LevelFilter::INFO } else { LevelFilter::OFF };
        Targets::new().with_default(others).with_targets(own.iter().copied())
    });
    let kept = Targets::new().with_targets(own.iter().map(|(target, _)| (*target, LevelFilter::WARN)));
    // The layer's own message about a line that cannot be written would be a panic.
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).log_internal_errors(false);
    let lines = match format {
        Format::Text => lines.with_ansi(io::stderr().is_terminal()).with_target(false).boxed(),
        Format::Json => lines.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry()
        .with(filter.map(|filter| lines.with_filter(filter)))
        .with(Warnings.with_filter(kept))
        .init();
}

/// The warnings and errors so far, each once, in their order; at most the first 20.
pub fn warnings() -> Vec<String> {
    KEPT.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

static KEPT: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Keeps warnings and errors.
struct Warnings;

impl<S: Subscriber> Layer<S> for Warnings {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = Line::default();
        event.record(&mut line);
        let Line { message, values } = line;
        let text: String = format!("{message}{values}").chars().take(MAX_WARNING_CHARS).collect();
        let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < MAX_WARNINGS && !kept.contains(&text) {
            kept.push(text);
        }
    }
}

/// An event as one line: its message, then its values.
#[derive(Default)]
struct Line {
    message: String,
    values: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        // Writing to a string cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.values, "; {name}: {value:?}"),
        };
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}

/// Standard error, one line of the log at a time.
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
