//! Runs what the arguments ask for: configuration, log and runtime, then one of the modes.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use program::arguments::Parsed;
use program::stream::tell;
use rustix::process::{Resource, getrlimit};
use tokio::runtime::{Builder, Runtime};
use tracing::warn;

use crate::args::Args;
use crate::config::{Config, Mode};
use crate::{logging, mode};

/// Idle threads are kept forever: at the end there may be no memory to start another one.
const THREAD_KEEP_ALIVE: Duration = Duration::from_secs(u32::MAX as u64);
/// Stack of each thread. A DNS lookup needs about 100 KiB.
const THREAD_STACK_BYTES: usize = 512 * 1024;

/// Runs what the arguments ask for. `shut` is the result of [`shut`](crate::hardening::shut).
pub fn run(parsed: Parsed<Args>, shut: io::Result<()>) -> ExitCode {
    let Parsed { mut args, sources, left_out } = parsed;
    args.options.sources = sources;
    let config = match Config::from_args(args) {
        Ok(config) => config,
        Err(error) => return failed(&error, mode::EXIT_CONFIG),
    };
    logging::init(&config);
    for wrong in left_out.iter().chain(&config.warnings) {
        warn!("{wrong}");
    }
    if let Err(error) = shut {
        warn!(%error, "other processes of this user can read the memory of the collector, the token included");
    }
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return without_runtime(&config, &error),
    };
    let code = runtime.block_on(mode::run(config)).unwrap_or_else(|error| failed(&error, mode::EXIT_FAILURE));
    // Do not wait for a thread that is still in a DNS lookup, or whose reader does not read.
    runtime.shutdown_timeout(Duration::ZERO);
    code
}

fn runtime() -> io::Result<Runtime> {
    let mut builder = Builder::new_current_thread();
    builder.enable_all().thread_keep_alive(THREAD_KEEP_ALIVE).thread_stack_size(THREAD_STACK_BYTES);
    builder.build()
}

/// A command still runs; nothing else can.
fn without_runtime(config: &Config, error: &io::Error) -> ExitCode {
    let reason = format!("cannot start: {error}");
    match &config.mode {
        Mode::Run { command } => mode::run::unmeasured(config, command, getrlimit(Resource::Nofile), &reason),
        _ => failed(&anyhow::Error::msg(reason), mode::EXIT_FAILURE),
    }
}

fn failed(error: &anyhow::Error, code: u8) -> ExitCode {
    tell(&format!("collector: {error:#}"));
    ExitCode::from(code)
}
