//! Keeping the push token from the job, which shares the PID namespace and may share the user.

use std::ffi::CString;

use rustix::process::{DumpableBehavior, set_dumpable_behavior};

/// Shuts `/proc/[pid]/environ`, `mem`, `fd` and the like to processes of the same user, and leaves no core file.
///
/// What is read from `/proc/self` here has to be readable for everybody from now on: it belongs to root.
pub fn shut() -> std::io::Result<()> {
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Takes variables out of the environment, their values out of the memory that `/proc/[pid]/environ` shows, too: a
/// command that is run does not inherit them.
///
/// # Safety
/// Nobody else may use the environment meanwhile: there must be no other thread yet.
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
