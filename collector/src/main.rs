//! The collector: measures what a CI job uses, container by container. See `collector --help`.

use std::process::ExitCode;

use clap::Parser;
use collector::args::Args;
use collector::config::Config;
use collector::{logging, mode};

fn main() -> ExitCode {
    let config = match Config::from_args(Args::parse()) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("collector: {error:#}");
            return ExitCode::from(mode::EXIT_CONFIG);
        }
    };
    logging::init(&config);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("collector: cannot start: {error}");
            return ExitCode::from(mode::EXIT_FAILURE);
        }
    };
    runtime.block_on(mode::run(config)).unwrap_or_else(|error| {
        eprintln!("collector: {error:#}");
        ExitCode::from(mode::EXIT_FAILURE)
    })
}
