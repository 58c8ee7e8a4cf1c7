//! The most that a container could have got, regardless of its own limit.
//!
//! Only its own limit is stepped down from, counted as savings, or counted as risk if use comes close to it. A limit above
//! it and the size of the machine bound what a run can show and what can be recommended.

use wire::ContainerSummary;
use wire::rules::Ceiling;

/// The most that it could have got with another limit of its own, in cores.
pub(super) fn cpu_allowed(container: &ContainerSummary) -> Option<Ceiling> {
    let above =
        container.cpu_bound_cores.filter(|above| container.cpu_limit_cores.is_none_or(|own| *above < own));
    Ceiling::lowest(None, above, container.machine_cpus.map(f64::from))
}

/// The same for memory, in bytes.
pub(super) fn memory_allowed(container: &ContainerSummary) -> Option<Ceiling> {
    // If it has its own limit, its pod's limit can be the sum of the containers' limits, and then changes with them.
    let above = container
        .memory_bound_bytes
        .filter(|above| container.memory_limit_bytes.is_none_or(|own| *above < own));
    let bytes = |bytes: Option<u64>| bytes.map(|bytes| bytes as f64);
    Ceiling::lowest(None, bytes(above), bytes(container.machine_memory_bytes))
}

/// The most that any of several runs could have got, because the place where it ran offers that much. `None` if it is unknown
/// for one of them.
pub(super) fn allowed(all: impl Iterator<Item = Option<Ceiling>>) -> Option<Ceiling> {
    highest(all.collect::<Option<Vec<_>>>()?.into_iter())
}

/// The highest of several ceilings.
pub(super) fn highest(all: impl Iterator<Item = Ceiling>) -> Option<Ceiling> {
    all.max_by(|one, other| one.at.total_cmp(&other.at))
}
