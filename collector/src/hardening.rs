//! Protects the push token from the job, which shares the PID namespace and may share the user.

use std::ffi::CString;

use rustix::process::{DumpableBehavior, set_dumpable_behavior};

/// Closes `/proc/[pid]/environ`, `mem`, `fd` and the like to processes of the same user, and prevents core files.
///
/// Files in `/proc/self` belong to root from now on: this process can read only those that everybody can.
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
            let value = nix::libc::getenv(variable.as_ptr());
            if !value.is_null() {
                std::ptr::write_bytes(value, 0, nix::libc::strlen(value));
            }
            std::env::remove_var(name);
        }
    }
}
