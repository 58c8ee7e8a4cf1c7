//! The receiver: stores what CI jobs used and answers questions about it. See `receiver --help`.

use std::process::ExitCode;

use program::{arguments, stream};
use receiver::args::Args;
use receiver::{commands, hardening};

fn main() -> ExitCode {
    let hidden = hardening::hide();
    hardening::outlive_file_limits();
    let parsed = arguments::parse::<Args>(|_| false);
    // SAFETY: no thread was started yet.
    unsafe { hardening::forget_variables() };
    match commands::run(&parsed, hidden) {
        Ok(()) => ExitCode::SUCCESS,
        Err((error, code)) => {
            stream::tell(&format!("receiver: {error:#}"));
            ExitCode::from(code)
        }
    }
}
