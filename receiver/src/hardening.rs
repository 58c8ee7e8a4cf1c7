//! What other processes can see of this one.

use std::panic;

use program::arguments::Sources;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use tracing::{error, warn};

/// Variables that hold secrets.
const SECRET_VARIABLES: [&str; 2] = ["RECEIVER_READ_TOKEN", "RECEIVER_HMAC_KEY"];
/// Arguments that hold secrets.
const SECRET_ARGUMENTS: [&str; 2] = ["read_token", "hmac_key"];

/// Makes `/proc/PID/environ`, `/proc/PID/mem` and similar files unreadable to processes of the same user, and disables
/// core dumps.
///
/// # Errors
/// If the kernel refuses.
pub fn hide() -> std::io::Result<()> {
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Makes a write beyond `RLIMIT_FSIZE` fail with an error, as on a full disk. By default the kernel would kill the
/// process.
pub fn outlive_file_limits() {
    // SAFETY: no handler is installed. It cannot fail, as this signal may be ignored.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// Removes the secrets from the environment, so that no child inherits them. `/proc/PID/environ` still shows the
/// initial environment, but after [`hide`] only to processes that may trace this one.
///
/// # Safety
/// No other thread may exist.
pub unsafe fn forget_variables() {
    for variable in SECRET_VARIABLES {
        // SAFETY: the caller guarantees that no other thread accesses the environment.
        unsafe { std::env::remove_var(variable) };
    }
}

/// Warns that every user of this machine can read a secret in the arguments.
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

/// Logs panics like everything else, instead of printing them to standard error.
pub fn log_panics() {
    panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        error!(
            place,
            panic = panic.payload_as_str().unwrap_or("(no text)"),
            "bug in the receiver: please report it"
        );
    }));
}
