//! The collector: measures what a CI job uses, container by container. See `collector --help`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use collector::args::{Args, SECRET_VARIABLES};
use collector::config::Config;
use collector::{logging, mode, secrets};

fn main() -> ExitCode {
    let shut = secrets::shut();
    let args = Args::parse();
    // SAFETY: this is the only thread until the runtime is there.
    unsafe { secrets::forget_variables(&SECRET_VARIABLES) };
    let config = match Config::from_args(args) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("collector: {error:#}");
            return ExitCode::from(mode::EXIT_CONFIG);
        }
    };
    logging::init(&config);
    if let Err(error) = shut {
        tracing::warn!(%error, "other processes of this user can read the memory of the collector, the token included");
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("collector: cannot start: {error}");
            return ExitCode::from(mode::EXIT_FAILURE);
        }
    };
    let code = runtime.block_on(mode::run(config)).unwrap_or_else(|error| {
        eprintln!("collector: {error:#}");
        ExitCode::from(mode::EXIT_FAILURE)
    });
    // A thread that still looks up a name, or writes for somebody who does not read, is not waited for.
    runtime.shutdown_timeout(Duration::ZERO);
    code
}
