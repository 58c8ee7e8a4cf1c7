//! The collector: measures what a CI job uses, container by container. See `collector --help`.

use std::process::ExitCode;

use collector::args::{Args, Command, SECRET_VARIABLES};
use collector::mode::step;
use collector::{commands, hardening, inherited};
use program::arguments;

/// The C library calls it before Rust's runtime starts.
// SAFETY: the section holds pointers to functions that need no arguments, and this is one.
#[used]
#[unsafe(link_section = ".init_array")]
static FIRST: extern "C" fn() = inherited::remember;

fn main() -> ExitCode {
    let shut = hardening::shut();
    inherited::outlive_file_limits();
    let parsed = arguments::parse(Args::is_tolerant);
    if let Some(Command::Step { name, command }) = &parsed.args.command {
        return step::run(name, command);
    }
    // SAFETY: there is no other thread yet.
    unsafe {
        hardening::forget_variables(&SECRET_VARIABLES);
        hardening::unset_empty_variables();
    }
    commands::run(parsed, shut)
}
