//! The capabilities and limits that the program needs, and how they are given up once it runs.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};
use tracing::{debug, info};

use super::Unavailable;

/// What lets a program be loaded that reads the kernel's memory (capabilities(7)).
const LOADING: CapabilitySet =
    CapabilitySet::BPF.union(CapabilitySet::PERFMON).union(CapabilitySet::SYS_ADMIN);

/// Both are asked for by name: without either the kernel only answers that it is not permitted.
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

/// Does something with no limit to locked memory, as far as that is allowed: before Linux 5.11 maps count against it.
pub(super) fn with_locked_memory<T>(work: impl FnOnce() -> T) -> T {
    let before = getrlimit(Resource::Memlock);
    let without = Rlimit { current: None, maximum: None };
    let upto = Rlimit { current: before.maximum, maximum: before.maximum };
    let _ = setrlimit(Resource::Memlock, without).or_else(|_| setrlimit(Resource::Memlock, upto));
    let done = work();
    // A command that is run has the limit that it would have had.
    let _ = setrlimit(Resource::Memlock, before);
    done
}

/// Does something while no file can be opened. That is so for the whole process: it is for the start, when the only other
/// thread is that of the files, which waits.
pub(super) fn without_opening<T>(work: impl FnOnce() -> T) -> T {
    let before = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(0), maximum: before.maximum });
    let done = work();
    // Up to the hard limit everybody may raise it.
    let _ = setrlimit(Resource::Nofile, before);
    done
}

/// Gives up for good what only loading needs. `works`: whether the maps can still be read; kernels before 6.0 that
/// keep `bpf(2)` from users want `CAP_BPF` for that, too (`kernel.unprivileged_bpf_disabled`), and it is kept there.
pub(super) fn shed(works: impl Fn() -> bool) {
    let Ok(before) = capabilities(None) else { return };
    let without = |dropped: CapabilitySet| CapabilitySets {
        effective: before.effective.difference(dropped),
        permitted: before.permitted.difference(dropped),
        inheritable: before.inheritable.difference(dropped),
    };
    // Not yet for good: what is still permitted can be had back.
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
