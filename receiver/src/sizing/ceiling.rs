//! What a container can get at the most: its own limit, which somebody set for it; a limit above it, which it shares with
//! others; the machine.
//!
//! Only the first is something to step down from, to come close to, or to save. The others bound what a run can show, and
//! what can be recommended.

use super::history::Facts;

/// A ceiling over one container in one run, in the unit of its resource.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Ceiling {
    pub(super) at: f64,
    pub(super) whose: Whose,
}

/// Whose a ceiling is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// The container's own limit.
    Own,
    /// A limit of a cgroup above it.
    Above,
    /// What the machine has.
    Machine,
}

impl Whose {
    /// Behind "the 4.0 GiB that".
    pub(super) fn allows(self) -> &'static str {
        match self {
            Self::Own => "its own limit allows",
            Self::Above => "its pod, slice or node allows",
            Self::Machine => "its machine has",
        }
    }
}

/// The lowest of them. A limit as high as the machine is large is never met; of a pod's limit and a container's that are
/// equal, the container's is the one that was set, since Kubernetes gives a pod the sum of its containers'.
fn lowest(own: Option<f64>, above: Option<f64>, machine: Option<f64>) -> Option<Ceiling> {
    let all = [(machine, Whose::Machine), (own, Whose::Own), (above, Whose::Above)];
    let all =
        all.into_iter().filter_map(|(at, whose)| Some(Ceiling { at: at.filter(|at| *at > 0.0)?, whose }));
    all.min_by(|one, other| one.at.total_cmp(&other.at))
}

impl Facts {
    /// The lowest ceiling of its CPU use, in cores.
    pub(super) fn cpu_ceiling(&self) -> Option<Ceiling> {
        lowest(self.cpu_limit_cores, self.cpu_bound_cores, self.machine_cpus.map(f64::from))
    }

    /// The lowest ceiling of its memory, in bytes.
    pub(super) fn memory_ceiling(&self) -> Option<Ceiling> {
        let bytes = |bytes: Option<u64>| bytes.map(|bytes| bytes as f64);
        lowest(
            bytes(self.memory_limit_bytes),
            bytes(self.memory_bound_bytes),
            bytes(self.machine_memory_bytes),
        )
    }

    /// What it could have got with another limit of its own, in cores.
    pub(super) fn cpu_allowed(&self) -> Option<Ceiling> {
        let above = self.cpu_bound_cores.filter(|above| self.cpu_limit_cores.is_none_or(|own| *above < own));
        lowest(None, above, self.machine_cpus.map(f64::from))
    }

    /// The same of memory, in bytes.
    pub(super) fn memory_allowed(&self) -> Option<Ceiling> {
        // Where it has a limit of its own, its pod's can be the sum of those, and goes with them.
        let above =
            self.memory_bound_bytes.filter(|above| self.memory_limit_bytes.is_none_or(|own| *above < own));
        let bytes = |bytes: Option<u64>| bytes.map(|bytes| bytes as f64);
        lowest(None, bytes(above), bytes(self.machine_memory_bytes))
    }
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
