//! The collector: measures what a CI job uses, container by container. See `collector --help`.

use std::process::ExitCode;
use std::time::Duration;

use collector::args::{Args, SECRET_VARIABLES};
use collector::config::{Config, Mode};
use collector::{hardening, inherited, logging, mode};
use program::arguments::{self, Parsed};
use program::stream::tell;

/// How long a thread that has nothing to do is kept: at the end there may be no memory for another.
const FOR_EVER: Duration = Duration::from_secs(u32::MAX as u64);

/// A name that is looked up takes some 100 KiB of it.
const STACK_BYTES: usize = 512 * 1024;

/// Called by the C library before anything of Rust's.
// SAFETY: the section holds pointers to functions that take nothing they need, and this is one.
#[used]
#[unsafe(link_section = ".init_array")]
static FIRST: extern "C" fn() = inherited::remember;

fn main() -> ExitCode {
    let shut = hardening::shut();
    inherited::outlive_file_limits();
    let Parsed { mut args, sources, left_out } = arguments::parse(Args::is_tolerant);
    args.options.sources = sources;
    // SAFETY: this is the only thread until the runtime is there.
    unsafe {
        hardening::forget_variables(&SECRET_VARIABLES);
        hardening::unset_empty_variables();
    }
    let config = match Config::from_args(args) {
        Ok(config) => config,
        Err(error) => {
            tell(&format!("collector: {error:#}"));
            return ExitCode::from(mode::EXIT_CONFIG);
        }
    };
    logging::init(&config);
    for wrong in left_out.iter().chain(&config.warnings) {
        tracing::warn!("{wrong}");
    }
    if let Err(error) = shut {
        tracing::warn!(%error, "other processes of this user can read the memory of the collector, the token included");
    }
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime =
        match builder.enable_all().thread_keep_alive(FOR_EVER).thread_stack_size(STACK_BYTES).build() {
            Ok(runtime) => runtime,
            Err(error) => {
                let reason = format!("cannot start: {error}");
                if let Mode::Run { command } = &config.mode {
                    let open_files = rustix::process::getrlimit(rustix::process::Resource::Nofile);
                    return mode::run::unmeasured(&config, command, open_files, &reason);
                }
                tell(&format!("collector: {reason}"));
                return ExitCode::from(mode::EXIT_FAILURE);
            }
        };
    let code = runtime.block_on(mode::run(config)).unwrap_or_else(|error| {
        tell(&format!("collector: {error:#}"));
        ExitCode::from(mode::EXIT_FAILURE)
    });
    // A thread that still looks up a name, or writes for somebody who does not read, is not waited for.
    runtime.shutdown_timeout(Duration::ZERO);
    code
}
