//! What the collector is attached to.

pub mod finish;
pub mod measurement;
pub mod run;
pub mod sidecar;
pub mod ticker;
mod trace;
mod watch;

use std::process::ExitCode;

use crate::config::{Config, Mode};

/// The summary was made, printed and, where asked for, delivered.
pub const EXIT_OK: u8 = 0;
/// Something went wrong that is neither the configuration nor the push.
pub const EXIT_FAILURE: u8 = 1;
/// The configuration is wrong; nothing was measured.
pub const EXIT_CONFIG: u8 = 2;
/// The summary was printed but could not be pushed.
pub const EXIT_PUSH: u8 = 3;

/// Measures until told to stop, or until the command has ended; the exit code tells how that went.
pub async fn run(config: Config) -> anyhow::Result<ExitCode> {
    match &config.mode {
        Mode::Sidecar => sidecar::run(&config).await,
        Mode::Run { command } => run::run(&config, command).await,
    }
}
