//! The counters of the containers' own cgroups: the one place that reads them.
//!
//! Each run has its own [`CgroupStats`]. It opens the cgroup of every container once and reads all of them at each pass.

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use crate::attribute::ContainerIndex;
use crate::attribute::containers::{CgroupKind, Containers};
use crate::attribute::identity::{Identity, identify};
use crate::sample::cgroup::{CgroupLines, has_own_namespace};
use crate::sample::cgroupfs::{CgroupReader, CgroupReading, Hierarchies};
use crate::summarise::CgroupFigures;

/// The counters of every container whose cgroup can be read.
#[derive(Debug)]
pub(crate) struct CgroupStats {
    hierarchies: Rc<Hierarchies>,
    /// Containers below this index have been looked for.
    known: u32,
    /// Whether they have been read before: containers found later began while they were watched.
    has_baseline: bool,
    /// Whether the run includes what the cgroups counted before they were first read.
    from_the_beginning: bool,
    open: BTreeMap<ContainerIndex, OpenCgroup>,
    /// First and last readings from a checkpoint.
    before: BTreeMap<ContainerIndex, (CgroupReading, CgroupReading)>,
    /// The cgroup of a command, which it shares with others, until it is opened.
    shared: Option<(CgroupReader, Shared)>,
}

/// What the cgroup is that the collector shares with the command that it measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shared {
    /// A container's: an OOM kill in it is the command's.
    Container,
    /// A service's or session's, in which other programs run, too.
    Machine,
}

impl Shared {
    /// The part of a reading that holds for the command: limits and throttling. The use includes that of others.
    fn part(self, reading: CgroupReading) -> CgroupReading {
        CgroupReading {
            cpu_ns: None,
            working_set_bytes: None,
            memory_peak_bytes: None,
            oom_kills: reading.oom_kills.filter(|_| self == Self::Container),
            ..reading
        }
    }
}

#[derive(Debug)]
struct OpenCgroup {
    reader: CgroupReader,
    shared: Option<Shared>,
    first: CgroupReading,
    last: CgroupReading,
    /// Whether the last attempt to read it failed.
    gone: bool,
}

impl CgroupStats {
    /// No container yet, in these hierarchies.
    pub(crate) fn new(hierarchies: Rc<Hierarchies>) -> Self {
        Self {
            hierarchies,
            known: 0,
            has_baseline: false,
            from_the_beginning: false,
            open: BTreeMap::new(),
            before: BTreeMap::new(),
            shared: None,
        }
    }

    /// For a command: reads the cgroup that the collector itself runs in.
    pub(crate) fn share_own(&mut self, proc_path: &Path) {
        let content = std::fs::read(proc_path.join("self/cgroup")).unwrap_or_default();
        let lines = CgroupLines::parse(&content);
        let own_namespace = has_own_namespace(proc_path);
        let (reader, shared) = match identify(&lines) {
            Identity::Container(found) => (self.hierarchies.container(lines, &found.id), Shared::Container),
            Identity::Host { path } if !own_namespace || path.starts_with("/..") => {
                (self.hierarchies.cgroup(lines, &path), Shared::Machine)
            }
            _ => (self.hierarchies.own().filter(|_| own_namespace), Shared::Container),
        };
        self.shared = reader.map(|reader| (reader, shared));
    }

    /// Makes everything that the cgroups counted so far part of the run.
    pub(crate) fn count_from_the_beginning(&mut self) {
        self.from_the_beginning = true;
    }

    /// Reads the counters of all containers and returns their working sets in bytes.
    pub(crate) fn read(&mut self, containers: &Containers) -> Vec<(ContainerIndex, u64)> {
        if self.hierarchies.is_empty() {
            return Vec::new();
        }
        let is_new = std::mem::replace(&mut self.has_baseline, true) || self.from_the_beginning;
        for index in (self.known..containers.len() as u32).map(ContainerIndex) {
            self.open(containers, index, is_new);
        }
        self.known = containers.len() as u32;
        let mut working_sets = Vec::new();
        for (index, open) in &mut self.open {
            let reading = open.reader.read();
            open.gone = reading.is_none();
            let Some(mut reading) = reading else { continue };
            if let Some(shared) = open.shared {
                reading = shared.part(reading);
            }
            open.last = reading;
            working_sets.extend(reading.working_set_bytes.map(|bytes| (*index, bytes)));
        }
        working_sets
    }

    /// `is_new`: the container came while it was watched, or all that it counted is part of the run.
    fn open(&mut self, containers: &Containers, index: ContainerIndex, is_new: bool) {
        let container = &containers[index];
        let lines = CgroupLines::parse(&container.cgroup_content);
        let mut shared = None;
        let (reader, from_zero) = match container.cgroup() {
            CgroupKind::Container(id) => (self.hierarchies.container(lines, id), is_new),
            CgroupKind::Path(path) => (self.hierarchies.cgroup(lines, path), false),
            CgroupKind::Own => (self.hierarchies.own(), self.from_the_beginning),
            CgroupKind::None => {
                let Some((reader, whose)) = self.shared.take() else { return };
                shared = Some(whose);
                (Some(reader), false)
            }
        };
        let Some(mut reader) = reader else { return };
        let Some(reading) = reader.read() else { return };
        let reading = shared.map_or(reading, |shared| shared.part(reading));
        let first = match self.before.get(&index) {
            Some((first, _)) => *first,
            None if from_zero => reader.beginning(&reading),
            None => reading,
        };
        self.open.insert(index, OpenCgroup { reader, shared, first, last: reading, gone: false });
    }

    /// Whether cgroups were open and none of them exists any more; `None`: none was open.
    pub(crate) fn are_gone(&self) -> Option<bool> {
        (!self.open.is_empty()).then(|| self.open.values().all(|open| open.gone))
    }

    /// What the containers used in the run.
    pub(crate) fn figures(&self) -> BTreeMap<ContainerIndex, CgroupFigures> {
        let figures = |(index, (first, last))| (index, CgroupFigures::between(&first, &last));
        self.readings().into_iter().map(figures).collect()
    }

    /// The first and the last reading of each container, those from a checkpoint included.
    pub(crate) fn readings(&self) -> BTreeMap<ContainerIndex, (CgroupReading, CgroupReading)> {
        let mut readings = self.before.clone();
        readings.extend(self.open.iter().map(|(index, open)| (*index, (open.first, open.last))));
        readings
    }

    /// Continues from the readings of a checkpoint: what a cgroup used while no collector ran counts, too.
    pub(crate) fn restore(&mut self, before: BTreeMap<ContainerIndex, (CgroupReading, CgroupReading)>) {
        self.before = before;
    }
}
