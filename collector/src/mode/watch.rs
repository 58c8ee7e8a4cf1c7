//! The containers' own cgroups, watched from pass to pass.

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use crate::attribute::ContainerIndex;
use crate::attribute::containers::{CgroupKind, Containers};
use crate::attribute::identity::{Identity, identify};
use crate::sample::cgroup::{CgroupLines, has_own_namespace};
use crate::sample::cgroupfs::{CgroupReader, CgroupReading, Hierarchies};
use crate::summarise::CgroupFigures;

/// Every container's cgroup that can be read.
#[derive(Debug)]
pub(super) struct CgroupWatches {
    hierarchies: Rc<Hierarchies>,
    /// Containers up to this one have been looked for.
    known: u32,
    /// Whether all that they count is of the run, also what was before it was measured.
    from_the_beginning: bool,
    watches: BTreeMap<ContainerIndex, Watch>,
    /// First and last readings of a collector that was killed.
    before: BTreeMap<ContainerIndex, (CgroupReading, CgroupReading)>,
    /// That of a command, which it shares with others.
    shared: Option<(CgroupReader, Shared)>,
}

/// Whose the cgroup is in which the collector runs, and with it the command that it measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shared {
    /// That of a container: what is killed in it is killed for the command's sake.
    Container,
    /// That of a service or session, in which others do what they like.
    Machine,
}

impl Shared {
    /// What is told of the command as well: what all in it may use, and how they were throttled. What was used is others',
    /// too.
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
struct Watch {
    reader: CgroupReader,
    shared: Option<Shared>,
    first: CgroupReading,
    last: CgroupReading,
    /// Whether it could not be read any more.
    gone: bool,
}

impl CgroupWatches {
    /// The hierarchies below `cgroup_path`, or those that are mounted.
    pub(super) fn find(proc_path: &Path, cgroup_path: Option<&Path>) -> Self {
        let hierarchies = cgroup_path.map_or_else(|| Hierarchies::mounted(proc_path), Hierarchies::below);
        Self::below(Rc::new(hierarchies))
    }

    /// Nothing watched yet, in hierarchies that others share.
    pub(super) fn below(hierarchies: Rc<Hierarchies>) -> Self {
        Self {
            hierarchies,
            known: 0,
            from_the_beginning: false,
            watches: BTreeMap::new(),
            before: BTreeMap::new(),
            shared: None,
        }
    }

    /// For a command, which is in no container that is told apart: looks into the cgroup that the collector itself runs in.
    pub(super) fn share_own(&mut self, proc_path: &Path) {
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

    /// The hierarchies, for others to share.
    pub(super) fn hierarchies(&self) -> Rc<Hierarchies> {
        Rc::clone(&self.hierarchies)
    }

    /// The inodes of the roots of the mounted hierarchies; see [`Hierarchies::root_ids`].
    pub(super) fn root_ids(&self) -> (u64, u64) {
        self.hierarchies.root_ids()
    }

    /// What those that are there already have counted so far is of the run.
    pub(super) fn count_from_the_beginning(&mut self) {
        self.from_the_beginning = true;
    }

    /// Reads them all; tells their working sets.
    pub(super) fn read(&mut self, containers: &Containers, first_pass: bool) -> Vec<(ContainerIndex, u64)> {
        if self.hierarchies.is_empty() {
            return Vec::new();
        }
        for index in (self.known..containers.len() as u32).map(ContainerIndex) {
            self.open(containers, index, first_pass);
        }
        self.known = containers.len() as u32;
        let mut working_sets = Vec::new();
        for (index, watch) in &mut self.watches {
            let reading = watch.reader.read();
            watch.gone = reading.is_none();
            let Some(mut reading) = reading else { continue };
            if let Some(shared) = watch.shared {
                reading = shared.part(reading);
            }
            watch.last = reading;
            working_sets.extend(reading.working_set_bytes.map(|bytes| (*index, bytes)));
        }
        working_sets
    }

    fn open(&mut self, containers: &Containers, index: ContainerIndex, first_pass: bool) {
        let container = &containers[index];
        let lines = CgroupLines::parse(&container.cgroup_content);
        let mut shared = None;
        let (reader, began_with_us) = match container.cgroup() {
            CgroupKind::Container(id) => {
                (self.hierarchies.container(lines, id), !first_pass || self.from_the_beginning)
            }
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
        // All that a container used that came while we watched was used while we watched.
        let first = match self.before.get(&index) {
            Some((first, _)) => *first,
            None if began_with_us => reader.beginning(&reading),
            None => reading,
        };
        self.watches.insert(index, Watch { reader, shared, first, last: reading, gone: false });
    }

    /// Whether cgroups were watched and none of them is there any more; `None`: none was.
    pub(super) fn are_gone(&self) -> Option<bool> {
        (!self.watches.is_empty()).then(|| self.watches.values().all(|watch| watch.gone))
    }

    /// What they told of the run.
    pub(super) fn figures(&self) -> BTreeMap<ContainerIndex, CgroupFigures> {
        let figures = |(index, (first, last))| (index, CgroupFigures::between(&first, &last));
        self.readings().into_iter().map(figures).collect()
    }

    /// The first and the last reading of each, those before a restart included.
    pub(super) fn readings(&self) -> BTreeMap<ContainerIndex, (CgroupReading, CgroupReading)> {
        let mut readings = self.before.clone();
        readings.extend(self.watches.iter().map(|(index, watch)| (*index, (watch.first, watch.last))));
        readings
    }

    /// Goes on from what a checkpoint kept: what a cgroup used while nobody looked counts, too.
    pub(super) fn restore(&mut self, before: BTreeMap<ContainerIndex, (CgroupReading, CgroupReading)>) {
        self.before = before;
    }
}
