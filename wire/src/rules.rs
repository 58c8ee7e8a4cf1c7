//! Rules that the collector's report, the receiver's page and its recommendations share: what a container needed, what it could
//! get, when it was near that, and when it was throttled.

use serde::{Deserialize, Serialize};

use crate::ContainerSummary;

/// Use is near a limit from this share of it.
pub const NEAR_LIMIT: f64 = 0.95;

/// A container counts as throttled above this share of its enforcement periods.
pub const THROTTLED: f64 = 0.05;

/// A container was short of CPU if it was stalled for more than this share of the run.
pub const STALLED: f64 = 0.1;

/// How a shell reports a program that SIGKILL ended, as the OOM killer does.
const KILLED: u16 = 128 + 9;

/// Whether a container was throttled enough to matter, by the share that [`ContainerSummary::throttled_share`] returns.
pub fn is_throttled(share: f64) -> bool {
    share > THROTTLED
}

/// The figure that a memory value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum MemoryFigure {
    /// Upper bound of the use without page cache, by the kernel's account.
    Needed,
    /// Highest working set of the cgroup: use minus inactive page cache.
    WorkingSet,
    /// Highest memory of its processes, each page counted once as far as that is known.
    Processes,
    /// Highest sum of resident set sizes.
    Rss,
    /// The cgroup's own peak, if the sum of resident set sizes is higher because it counts shared pages twice.
    CgroupPeak,
}

/// The lowest bound on a container's use of a resource, in the unit of the resource.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ceiling {
    /// How high it is.
    pub at: f64,
    /// Where it comes from.
    pub whose: Whose,
}

/// Where a ceiling comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// The container's own limit.
    Own,
    /// A limit of a cgroup above it.
    Above,
    /// The size of the machine.
    Machine,
}

impl Whose {
    /// In words, to follow "the 4.0 GiB that".
    pub fn allows(self) -> &'static str {
        match self {
            Self::Own => "its own limit allows",
            Self::Above => "its pod, slice or node allows",
            Self::Machine => "its machine has",
        }
    }
}

impl Ceiling {
    /// The lowest of a container's own limit, the tightest limit above it and the size of its machine.
    ///
    /// A limit above the machine's size is never met. If the limits of a pod and a container are equal, the container's counts:
    /// Kubernetes gives a pod the sum of its containers' limits.
    pub fn lowest(own: Option<f64>, above: Option<f64>, machine: Option<f64>) -> Option<Self> {
        let all = [(machine, Whose::Machine), (own, Whose::Own), (above, Whose::Above)];
        let all =
            all.into_iter().filter_map(|(at, whose)| Some(Self { at: at.filter(|at| *at > 0.0)?, whose }));
        all.min_by(|one, other| one.at.total_cmp(&other.at))
    }

    /// Whether use came near it.
    pub fn is_near(self, used: f64) -> bool {
        self.is_within(used, NEAR_LIMIT)
    }

    /// Whether use reached this share of it.
    pub fn is_within(self, used: f64, share: f64) -> bool {
        used >= self.at * share
    }
}

impl ContainerSummary {
    /// The memory that it needed, in bytes, and which figure that is.
    ///
    /// It is the upper bound from the kernel's account, if there is one. Else it is the working set: the kernel could not have
    /// reclaimed it without harm, and counts each of its pages once. Else it is the memory of its processes without mapped files.
    /// Else it is the sum of resident set sizes, which counts a shared page once for each process that has it, but at most what
    /// the kernel ever charged to the cgroup.
    pub fn memory_needed(&self) -> (f64, MemoryFigure) {
        if let Some(needed) = self.memory_needed_bytes {
            return (needed as f64, MemoryFigure::Needed);
        }
        if let Some(working_set) = self.working_set_peak_bytes {
            return (working_set, MemoryFigure::WorkingSet);
        }
        if let Some(processes) = self.processes_memory_bytes {
            return (processes as f64, MemoryFigure::Processes);
        }
        match self.cgroup_memory_peak_bytes {
            Some(peak) if (peak as f64) < self.memory_peak_bytes => (peak as f64, MemoryFigure::CgroupPeak),
            _ => (self.memory_peak_bytes, MemoryFigure::Rss),
        }
    }

    /// The share of its enforcement periods in which it was throttled; of the run's duration if the periods are unknown.
    pub fn throttled_share(&self, duration_seconds: f64) -> Option<f64> {
        if let (Some(throttled), Some(periods)) = (self.cpu_throttled_periods, self.cpu_periods) {
            return (periods > 0).then(|| throttled as f64 / periods as f64);
        }
        let seconds = self.cpu_throttled_seconds?;
        (duration_seconds > 0.0).then(|| seconds / duration_seconds)
    }

    /// Whether it had to wait for CPU for so long that it would have used more: neighbours, or a limit, had the CPUs.
    pub fn is_short_of_cpu(&self, duration_seconds: f64) -> bool {
        self.cpu_stalled_seconds.is_some_and(|stalled| stalled > STALLED * duration_seconds)
    }

    /// Whether it may have been killed for want of memory: SIGKILL ended its first process, or one that it reports, and the kills
    /// of its cgroup are not known.
    pub fn may_be_oom_killed(&self) -> bool {
        self.oom_kills.is_none() && self.exit_status == Some(KILLED)
    }

    /// The lowest ceiling of its CPU use, in cores.
    pub fn cpu_ceiling(&self) -> Option<Ceiling> {
        Ceiling::lowest(self.cpu_limit_cores, self.cpu_bound_cores, self.machine_cpus.map(f64::from))
    }

    /// The lowest ceiling of its memory, in bytes.
    pub fn memory_ceiling(&self) -> Option<Ceiling> {
        let bytes = |bytes: Option<u64>| bytes.map(|bytes| bytes as f64);
        Ceiling::lowest(
            bytes(self.memory_limit_bytes),
            bytes(self.memory_bound_bytes),
            bytes(self.machine_memory_bytes),
        )
    }

    /// The memory ceiling that it came near without an OOM kill.
    pub fn memory_near(&self) -> Option<Ceiling> {
        let spared = self.oom_kills.unwrap_or(0) == 0;
        self.memory_ceiling().filter(|ceiling| spared && ceiling.is_near(self.memory_needed().0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_is_from_95_percent_of_the_lowest_ceiling_on() {
        let near = |needed: f64, own: Option<u64>, above: Option<u64>| {
            let summary = ContainerSummary {
                working_set_peak_bytes: Some(needed),
                memory_limit_bytes: own,
                memory_bound_bytes: above,
                ..ContainerSummary::default()
            };
            summary.memory_near().map(|ceiling| ceiling.whose)
        };
        assert_eq!(near(949.0, Some(1000), None), None);
        assert_eq!(near(950.0, Some(1000), None), Some(Whose::Own));
        assert_eq!(near(950.0, Some(1000), Some(1000)), Some(Whose::Own));
        assert_eq!(near(950.0, Some(2000), Some(1000)), Some(Whose::Above));
        assert_eq!(near(950.0, None, None), None);
    }

    #[test]
    fn throttling_counts_beyond_5_percent_of_the_periods() {
        let share = |throttled, periods| {
            let summary = ContainerSummary {
                cpu_throttled_periods: Some(throttled),
                cpu_periods: Some(periods),
                cpu_throttled_seconds: Some(9.0),
                ..ContainerSummary::default()
            };
            summary.throttled_share(10.0)
        };
        assert_eq!(share(5, 100).map(is_throttled), Some(false));
        assert_eq!(share(6, 100).map(is_throttled), Some(true));
        assert_eq!(share(0, 0), None);
        let by_time = ContainerSummary { cpu_throttled_seconds: Some(1.0), ..ContainerSummary::default() };
        assert_eq!((by_time.throttled_share(10.0), by_time.throttled_share(0.0)), (Some(0.1), None));
    }
}
