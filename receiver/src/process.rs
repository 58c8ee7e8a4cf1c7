//! What this process lets others see of it.

use clap::ArgMatches;
use clap::parser::ValueSource;
use tracing::warn;

/// Variables that hold secrets.
const SECRET_VARIABLES: [&str; 2] = ["RECEIVER_READ_TOKEN", "RECEIVER_HMAC_KEY"];
/// Arguments that do.
const SECRET_ARGUMENTS: [&str; 2] = ["read_token", "hmac_key"];

/// Makes `/proc/PID/environ`, `mem` and the like unreadable for processes of the same user, and cores impossible.
///
/// # Errors
/// If the kernel refuses.
pub fn hide() -> std::io::Result<()> {
    Ok(nix::sys::prctl::set_dumpable(false)?)
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
pub fn warn_of_arguments(matches: &ArgMatches) {
    for argument in SECRET_ARGUMENTS {
        if matches.value_source(argument) == Some(ValueSource::CommandLine) {
            let flag = format!("--{}", argument.replace('_', "-"));
            warn!(
                flag,
                "a secret on the command line can be read by every process of this machine; a file cannot"
            );
        }
    }
}
