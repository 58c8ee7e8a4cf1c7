//! A command: its descendants are one container, wherever they are.

use std::collections::HashSet;
use std::path::Path;

use super::{Content, Event, Locator, RunLocator};
use crate::attribute::ContainerIndex;
use crate::attribute::containers::{Containers, Place};
use crate::attribute::descendants::descendants;
use crate::sample::process_table::{Observation, ProcessKey, ProcessTable, own_pid};

const ONLY: Place = Place { container: ContainerIndex(0), nested: None };

/// The descendants of one process.
#[derive(Debug)]
pub(crate) struct CommandTree {
    root: u32,
    /// Descendants seen so far that still exist.
    members: HashSet<ProcessKey>,
    containers: Containers,
}

impl CommandTree {
    /// The descendants of the collector itself, which starts the command and adopts its orphans.
    /// `None` if the proc tree does not show it.
    pub(crate) fn of_collector(proc_path: &Path) -> Option<Self> {
        let root = own_pid(proc_path)?;
        Some(Self { root, members: HashSet::new(), containers: Containers::single("run") })
    }
}

impl Locator for CommandTree {
    fn locate(&mut self, processes: &mut Vec<Observation>, _table: &ProcessTable) -> Vec<Option<Place>> {
        *processes = descendants(std::mem::take(processes), self.root, &mut self.members);
        vec![Some(ONLY); processes.len()]
    }

    fn locate_event(&mut self, _event: Event, _content: Content<'_>) -> Option<Place> {
        Some(ONLY)
    }

    fn uses_cgroups(&self) -> bool {
        false
    }

    fn counts(&self, process: &Observation) -> bool {
        process.key.pid != self.root
    }
}

impl RunLocator for CommandTree {
    const MODE: &'static str = "run";

    fn root(&self) -> Option<u32> {
        Some(self.root)
    }

    fn containers(&self) -> &Containers {
        &self.containers
    }

    fn containers_mut(&mut self) -> &mut Containers {
        &mut self.containers
    }
}
