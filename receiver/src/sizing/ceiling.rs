//! What a container could have got at the most, whatever its own limit.
//!
//! Only its own limit is something to step down from, to come close to, or to save. A limit above it and the size of the
//! machine bound what a run can show, and what can be recommended.

use wire::ContainerSummary;
use wire::rules::Ceiling;

/// What it could have got with another limit of its own, in cores.
pub(super) fn cpu_allowed(container: &ContainerSummary) -> Option<Ceiling> {
    let above =
        container.cpu_bound_cores.filter(|above| container.cpu_limit_cores.is_none_or(|own| *above < own));
    Ceiling::lowest(None, above, container.machine_cpus.map(f64::from))
}

/// The same of memory, in bytes.
pub(super) fn memory_allowed(container: &ContainerSummary) -> Option<Ceiling> {
    // Where it has a limit of its own, its pod's can be the sum of those, and goes with them.
    let above = container
        .memory_bound_bytes
        .filter(|above| container.memory_limit_bytes.is_none_or(|own| *above < own));
    let bytes = |bytes: Option<u64>| bytes.map(|bytes| bytes as f64);
    Ceiling::lowest(None, bytes(above), bytes(container.machine_memory_bytes))
}

/// What several runs could have got at the most: where one of them ran, there is as much. `None` if that is not known of
/// each of them.
pub(super) fn allowed(all: impl Iterator<Item = Option<Ceiling>>) -> Option<Ceiling> {
    highest(all.collect::<Option<Vec<_>>>()?.into_iter())
}

/// The highest of several.
pub(super) fn highest(all: impl Iterator<Item = Ceiling>) -> Option<Ceiling> {
    all.max_by(|one, other| one.at.total_cmp(&other.at))
}
