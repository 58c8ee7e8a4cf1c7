//! Protects the push token from the job, which shares the PID namespace and may share the user.

use std::ffi::CString;
use std::sync::OnceLock;

use rustix::process::{DumpableBehavior, set_dumpable_behavior};

/// Variables of libraries that take an empty value for a path.
const OF_LIBRARIES: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];
/// Those of them that were empty.
static EMPTY: OnceLock<Vec<&str>> = OnceLock::new();

/// Unsets empty variables that libraries read. Our own variables count as unset when they are empty.
///
/// # Safety
/// There must be no other thread: nothing else may use the environment meanwhile.
pub unsafe fn unset_empty_variables() {
    let is_empty = |name: &&str| std::env::var_os(name).is_some_and(|value| value.is_empty());
    let empty: Vec<&str> = OF_LIBRARIES.into_iter().filter(is_empty).collect();
    for name in &empty {
        // SAFETY: there is no other thread, as the caller has made sure.
        unsafe { std::env::remove_var(name) };
    }
    let _ = EMPTY.set(empty);
}

/// The variables that were unset because they were empty. A command inherits them empty, as they were.
pub fn empty_variables() -> &'static [&'static str] {
    EMPTY.get().map_or(&[], Vec::as_slice)
}

/// Closes `/proc/[pid]/environ`, `mem`, `fd` and the like to processes of the same user, and prevents core files.
///
/// Files in `/proc/self` belong to root from now on: this process can read only those that every user can.
pub fn shut() -> std::io::Result<()> {
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Removes variables from the environment, and their values from the memory that `/proc/[pid]/environ` shows. A command
/// does not inherit them.
///
/// # Safety
/// There must be no other thread: nothing else may use the environment meanwhile.
pub unsafe fn forget_variables(names: &[&str]) {
    for name in names {
        let Ok(variable) = CString::new(*name) else { continue };
        // SAFETY: `getenv` returns a NUL-terminated string that belongs to the environment, or nothing; writing zeros
        // over it up to its end leaves it one. There is no other thread, as the caller has made sure.
        unsafe {
            let value = libc::getenv(variable.as_ptr());
            if !value.is_null() {
                std::ptr::write_bytes(value, 0, libc::strlen(value));
            }
            std::env::remove_var(name);
        }
    }
}
