//! The collector's modes: a loop over the engine for each.

mod deliver;
mod node;
pub mod run;
mod sidecar;
pub mod step;
mod stop_signals;

use std::process::ExitCode;
use std::rc::Rc;

use tracing::warn;

use crate::config::{Config, Mode};

/// The summary was made, printed and, if requested, delivered.
pub const EXIT_OK: u8 = 0;
/// An error that is neither the configuration's nor the push's.
pub const EXIT_FAILURE: u8 = 1;
/// The configuration is wrong; nothing was measured.
pub const EXIT_CONFIG: u8 = 2;
/// The summary could not be pushed: it was printed, or is in the spool.
pub const EXIT_PUSH: u8 = 3;

/// Measures until a signal, or until the command has ended. Returns the exit code.
pub async fn run(config: Config) -> anyhow::Result<ExitCode> {
    warn_of_exposure(&config);
    match &config.mode {
        Mode::Sidecar => Box::pin(sidecar::run(&config)).await,
        Mode::Run { command } => run::run(&config, command).await,
        Mode::Deliver => deliver::run(&config).await,
        Mode::Node(node) => {
            let node = node.clone();
            node::run(Rc::new(config), &node).await
        }
    }
}

/// `delivered`: whether every push that was due succeeded.
fn exit_code(delivered: bool) -> ExitCode {
    ExitCode::from(if delivered { EXIT_OK } else { EXIT_PUSH })
}

/// Warns if other processes or hosts can read the push token.
fn warn_of_exposure(config: &Config) {
    let Some(target) = &config.push else { return };
    if target.token_is_argument {
        warn!(
            "--push-token on the command line can be read by every visible process, including the job: use --push-token-file, or the variable COLLECTOR_PUSH_TOKEN"
        );
    }
    if target.is_exposed() {
        warn!(
            host = target.endpoint.host_str(),
            "the push token goes over plain http to a host outside the cluster: use https"
        );
    }
}
