//! The capabilities and limits that the program needs, and how they are dropped once it runs.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};
use tracing::{debug, info};

use super::Unavailable;

/// Capabilities for loading a program that reads the kernel's memory (capabilities(7)).
const LOADING: CapabilitySet =
    CapabilitySet::BPF.union(CapabilitySet::PERFMON).union(CapabilitySet::SYS_ADMIN);

/// Checks both by name: without either, the kernel only answers that it is not permitted.
pub(super) fn check() -> Result<(), Unavailable> {
    let Ok(sets) = capabilities(None) else { return Ok(()) };
    let have = |one| sets.effective.contains(one) || sets.effective.contains(CapabilitySet::SYS_ADMIN);
    match (have(CapabilitySet::BPF), have(CapabilitySet::PERFMON)) {
        (true, true) => Ok(()),
        (false, true) => Err(Unavailable::Capability("CAP_BPF")),
        (true, false) => Err(Unavailable::Capability("CAP_PERFMON")),
        (false, false) => Err(Unavailable::Capability("CAP_BPF and no CAP_PERFMON")),
    }
}

/// Runs `work` without a limit on locked memory, as far as allowed: before Linux 5.11, maps count against it.
pub(super) fn with_locked_memory<T>(work: impl FnOnce() -> T) -> T {
    let before = getrlimit(Resource::Memlock);
    let without = Rlimit { current: None, maximum: None };
    let upto = Rlimit { current: before.maximum, maximum: before.maximum };
    let _ = setrlimit(Resource::Memlock, without).or_else(|_| setrlimit(Resource::Memlock, upto));
    let done = work();
    // A command that runs later gets its usual limit.
    let _ = setrlimit(Resource::Memlock, before);
    done
}

/// Runs `work` while no file can be opened. This affects the whole process: it is for the start, when the only other thread
/// is the one for files, which waits.
pub(super) fn without_opening<T>(work: impl FnOnce() -> T) -> T {
    let before = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(0), maximum: before.maximum });
    let done = work();
    // Any process may raise it up to the hard limit.
    let _ = setrlimit(Resource::Nofile, before);
    done
}

/// Permanently drops the capabilities that only loading needs. `works` reports whether the maps can still be read: kernels
/// before 6.0 that deny `bpf(2)` to users (`kernel.unprivileged_bpf_disabled`) need `CAP_BPF` for that, too, and it is kept
/// there.
pub(super) fn shed(works: impl Fn() -> bool) {
    let Ok(before) = capabilities(None) else { return };
    let without = |dropped: CapabilitySet| CapabilitySets {
        effective: before.effective.difference(dropped),
        permitted: before.permitted.difference(dropped),
        inheritable: before.inheritable.difference(dropped),
    };
    // Not permanent yet: a capability that is still permitted can be regained.
    let trial = CapabilitySets { permitted: before.permitted, ..without(LOADING) };
    let kept = match set_capabilities(None, trial) {
        Ok(()) if works() => CapabilitySet::empty(),
        _ => CapabilitySet::BPF,
    };
    let dropped = LOADING.difference(kept).intersection(before.permitted);
    match set_capabilities(None, without(LOADING.difference(kept))) {
        Ok(()) => info!(dropped = ?dropped, "capabilities that only loading needs are given up"),
        Err(error) => debug!(%error, "capabilities cannot be given up"),
    }
}
