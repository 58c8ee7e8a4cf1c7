//! The log, on standard error.

use tracing_subscriber::filter::LevelFilter;

use crate::args::{LogFormat, LogLevel};
use crate::config::Config;

/// Starts logging as configured. Only what is ours is logged at the debug level.
pub fn init(config: &Config) {
    let level = match config.log_level {
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Error => LevelFilter::ERROR,
    };
    let filter = tracing_subscriber::filter::Targets::new()
        .with_default(level.min(LevelFilter::INFO))
        .with_target("collector", level)
        .with_target("collector_ebpf", if config.ebpf_log { LevelFilter::TRACE } else { level });
    let filter = tracing_subscriber::EnvFilter::new(filter.to_string());
    let builder = tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter);
    match config.log_format {
        LogFormat::Text => {
            let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
            builder.with_ansi(terminal).with_target(false).init();
        }
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
}
