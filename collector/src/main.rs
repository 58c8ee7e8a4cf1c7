//! The collector: measures what a CI job uses, container by container. See `collector --help`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use collector::args::{Args, SECRET_VARIABLES};
use collector::config::{Config, Mode};
use collector::{logging, mode, secrets};

/// How long a thread that has nothing to do is kept: at the end there may be no memory for another.
const FOR_EVER: Duration = Duration::from_secs(u32::MAX as u64);

/// A name that is looked up takes some 100 KiB of it.
const STACK_BYTES: usize = 512 * 1024;

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
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime =
        match builder.enable_all().thread_keep_alive(FOR_EVER).thread_stack_size(STACK_BYTES).build() {
            Ok(runtime) => runtime,
            Err(error) => {
                if let Mode::Run { command } = &config.mode {
                    let open_files = rustix::process::getrlimit(rustix::process::Resource::Nofile);
                    return mode::run::alone(command, open_files, &format!("cannot start: {error}"));
                }
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
