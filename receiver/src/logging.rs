//! The log, on standard error.

use tracing_subscriber::EnvFilter;

use crate::args::{LogFormat, LogLevel};

/// Starts logging.
pub fn init(level: LogLevel, format: LogFormat) {
    let filter = EnvFilter::new(match level {
        LogLevel::Debug => "info,receiver=debug",
        LogLevel::Info => "info",
        LogLevel::Warn => "warn",
        LogLevel::Error => "error",
    });
    let builder = tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter);
    match format {
        LogFormat::Text => {
            let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
            builder.with_ansi(terminal).with_target(false).init();
        }
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
}
