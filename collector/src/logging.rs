//! The log of this program.

use program::log;
use tracing_subscriber::filter::LevelFilter;

use crate::config::Config;

/// Starts logging as configured.
pub fn init(config: &Config) {
    let level = config.log_level.map_or(LevelFilter::OFF, LevelFilter::from);
    let followed = if config.ebpf_log { LevelFilter::TRACE } else { level };
    log::init(config.log_level, config.log_format, &[("collector", level), ("collector_ebpf", followed)]);
}
