//! What this process lets others see of it.

use std::panic;

use program::arguments::Sources;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use tracing::{error, warn};

/// Variables that hold secrets.
const SECRET_VARIABLES: [&str; 2] = ["RECEIVER_READ_TOKEN", "RECEIVER_HMAC_KEY"];
/// Arguments that do.
const SECRET_ARGUMENTS: [&str; 2] = ["read_token", "hmac_key"];

/// Makes `/proc/PID/environ`, `mem` and the like unreadable for processes of the same user, and cores impossible.
///
/// # Errors
/// If the kernel refuses.
pub fn hide() -> std::io::Result<()> {
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Has a write to a file that may not become so large (`RLIMIT_FSIZE`) fail as on a full disk, where the kernel would end
/// the process.
pub fn outlive_file_limits() {
    // SAFETY: no handler is installed. It cannot fail, as this signal may be ignored.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// Removes the secrets from the environment, where what is started next would inherit them. The kernel goes on showing
/// the environment that a process began with, but after [`hide`] only to who may trace it.
///
/// # Safety
/// No other thread may exist.
pub unsafe fn forget_variables() {
    for variable in SECRET_VARIABLES {
        // SAFETY: the caller promises that nobody else looks at the environment.
        unsafe { std::env::remove_var(variable) };
    }
}

/// Says that every user of this machine can read a secret that is an argument.
pub fn warn_of_arguments(sources: &Sources) {
    for argument in SECRET_ARGUMENTS {
        if sources.is_typed(argument) {
            let flag = format!("--{}", argument.replace('_', "-"));
            warn!(
                flag,
                "a secret on the command line can be read by every process of this machine; a file cannot"
            );
        }
    }
}

/// Has a panic told by the log, in its form, and not beside it.
pub fn log_panics() {
    panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        error!(
            place,
            panic = panic.payload_as_str().unwrap_or("(no text)"),
            "a mistake of the receiver: tell us"
        );
    }));
}
