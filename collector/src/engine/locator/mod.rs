//! Where a process is: the part of a pass in which the modes differ.

mod command;
mod in_sight;

use std::collections::BTreeMap;

pub(crate) use self::command::CommandTree;
pub(crate) use self::in_sight::InSight;
use super::reading::Reading;
use crate::attribute::ContainerIndex;
use crate::attribute::containers::{Containers, Place};
use crate::sample::bpf::CgroupIds;
use crate::sample::pid_stat::Comm;
use crate::sample::process_table::{Observation, ProcessKey, ProcessTable};

/// A process that the eBPF program reported.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Event {
    pub(crate) cgroups: CgroupIds,
    pub(crate) comm: Comm,
    /// The place of its parent.
    pub(crate) parent: Option<Place>,
}

/// Looks up the content of `/proc/[pid]/cgroup` for the cgroups of an event; `None` if their names were lost.
pub(crate) type Content<'a> = &'a mut dyn FnMut(CgroupIds) -> Option<Vec<u8>>;

/// Selects the processes that count and places each of them in a container.
pub(crate) trait Locator {
    /// Removes the processes that do not count and returns the places of the others, in their order; `None` if a place is
    /// unknown.
    fn locate(&mut self, processes: &mut Vec<Observation>, table: &ProcessTable) -> Vec<Option<Place>>;

    /// Returns the place of a process that the eBPF program reported; `None` if it is unknown.
    ///
    /// `content` returns what `/proc/[pid]/cgroup` would hold for its cgroups.
    fn locate_event(&mut self, event: Event, content: Content<'_>) -> Option<Place>;

    /// Whether places come from cgroups. If so, a process that was already ending when a pass first saw it is misplaced.
    fn uses_cgroups(&self) -> bool {
        true
    }

    /// Whether the process's own use is part of the run. The CPU time of children that it waited for always counts.
    fn counts(&self, _process: &Observation) -> bool {
        true
    }

    /// Learns the parts and names of containers from the processes in them. `seen_before`: an earlier pass saw the process,
    /// and it is no longer starting.
    fn learn(
        &mut self,
        _reading: &Reading,
        _seen_before: impl Fn(ProcessKey) -> bool,
        _table: &ProcessTable,
    ) {
    }
}

/// A locator whose processes all belong to one run.
pub(crate) trait RunLocator: Locator {
    /// The mode as summaries name it.
    const MODE: &'static str;

    /// The process whose descendants are measured; `None` if every process in sight is.
    fn root(&self) -> Option<u32>;

    fn containers(&self) -> &Containers;

    fn containers_mut(&mut self) -> &mut Containers;

    /// The collector's own container, if it is in sight.
    fn own_container(&self) -> Option<ContainerIndex> {
        None
    }

    /// Returns the beginning of the run if it is before the first pass, which is this reading.
    fn earlier_beginning(&self, _reading: &Reading, _tick_seconds: f64) -> Option<Earlier> {
        None
    }
}

/// The beginning of a run that is older than its collector.
#[derive(Debug)]
pub(crate) struct Earlier {
    /// The start of its first process.
    pub(crate) first_ticks: u64,
    /// The age of each container at the first pass, in seconds.
    pub(crate) ages: BTreeMap<ContainerIndex, f64>,
}
