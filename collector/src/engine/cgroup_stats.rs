//! The counters of the containers' own cgroups: the one place that reads them.
//!
//! Each run has its own [`CgroupStats`]. It opens the cgroup of every container once and reads all of them at each pass.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tracing::debug;

use super::endings::Endings;
use super::first_process::FirstProcess;
use super::watched_cgroup::WatchedCgroup;

use crate::attribute::ContainerIndex;
use crate::attribute::containers::{CgroupKind, Containers};
use crate::attribute::identity::{Identity, identify};
use crate::sample::cgroup::{CgroupLines, has_own_namespace};
use crate::sample::cgroupfs::{
    CgroupReader, CgroupReading, Closed, Hierarchies, MemoryNeed, SavedReadings, Waits, is_settled, through,
};
use crate::sample::pid_stat::Comm;
use crate::sample::process_table::ProcessKey;
use crate::summarise::CgroupFigures;

/// The number of processes of a container that are tried before its account is given up.
const MAX_TRIES: u8 = 20;

/// After this time a container is assumed to be in all of its hierarchies. A process is moved into the v1 hierarchies one
/// after the other.
const SETTLING: Duration = Duration::from_millis(500);

/// After this time no hierarchy is waited for any more: a container that is made otherwise is in some of them only.
const SETTLING_AT_MOST: Duration = Duration::from_secs(30);

/// Access to the counters, shared by all runs.
#[derive(Debug)]
pub(crate) struct CgroupAccess {
    pub(crate) hierarchies: Hierarchies,
    pub(crate) proc_path: PathBuf,
    pub(crate) endings: Rc<Endings>,
}

/// The counters of every container whose cgroup can be read.
#[derive(Debug)]
pub(crate) struct CgroupStats {
    access: Rc<CgroupAccess>,
    /// Containers whose accounts could not be opened yet.
    closed: BTreeMap<ContainerIndex, Unopened>,
    /// The first process of each container, whether its account can be read or not.
    firsts: BTreeMap<ContainerIndex, FirstProcess>,
    /// Why the accounts of some containers cannot be read.
    reasons: BTreeMap<ContainerIndex, Closed>,
    /// The cgroups of containers below this index have been looked up.
    known: u32,
    /// Whether a look has been made. Containers found later began while the collector watched.
    has_baseline: bool,
    /// Whether the run includes what the cgroups counted before they were first read.
    from_the_beginning: bool,
    open: BTreeMap<ContainerIndex, OpenCgroup>,
    /// First and last readings from a checkpoint, with their memory need.
    before: BTreeMap<ContainerIndex, SavedReadings>,
    /// The cgroup that a command shares with other processes, until it is opened.
    shared: Option<(CgroupReader, Shared)>,
    /// Containers that other runs use, too.
    disowned: BTreeSet<ContainerIndex>,
}

/// A container whose account could not be opened yet.
#[derive(Debug, Clone, Copy)]
struct Unopened {
    /// When the search for it began.
    since: Instant,
    /// How many of its processes were tried.
    tries: u8,
    /// Whether everything that the account counts is part of the run.
    is_new: bool,
}

/// The kind of cgroup that the collector shares with the command that it measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shared {
    /// A container's cgroup. OOM kills in it and the growth of its memory are the command's.
    Container,
    /// The cgroup of a service or session in which other programs run, too. An OOM kill is the command's if the cgroup has
    /// a limit of its own, which was set for the programs in it, as for a runner's service.
    Machine,
    /// A container's cgroup in which several jobs run at once. It says nothing about the usage of one of them.
    Jobs,
}

impl Shared {
    /// Whether the growth of its memory is the run's.
    fn grows_by_us(self) -> bool {
        self == Self::Container
    }

    /// The part of a reading that applies to the command: limits and throttling. The use includes other processes.
    fn part(self, reading: &CgroupReading) -> CgroupReading {
        CgroupReading {
            cpu_ns: None,
            working_set_bytes: None,
            memory: None,
            memory_peak_bytes: None,
            waits: Waits::default(),
            oom_kills: reading
                .oom_kills
                .filter(|_| self != Self::Machine || reading.memory_limit_bytes.is_some()),
            ..*reading
        }
    }
}

#[derive(Debug)]
struct OpenCgroup {
    reader: WatchedCgroup,
    shared: Option<Shared>,
    first: CgroupReading,
    last: CgroupReading,
    /// The counts of the container's earlier cgroups: an engine that restarts a container makes another cgroup of the same
    /// name.
    earlier: CgroupReading,
    need: MemoryNeed,
    /// CPU time returned so far.
    returned_ns: u64,
    /// Whether it counts from the creation of the cgroup; `None` after the first look.
    new: Option<bool>,
    /// Whether the last reading was made at the end of its first process, after which there is nothing to add.
    is_whole: bool,
    /// Whether the last attempt to read it failed.
    gone: bool,
}

/// A container's account since the previous look.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AccountLook {
    pub(crate) container: ContainerIndex,
    /// CPU time since the previous look; `None` if the account is not the container's alone.
    pub(crate) cpu_ns: Option<u64>,
    /// Whether this is the first look at a container that began earlier. Its earlier CPU time is not in `cpu_ns`.
    pub(crate) begins_here: bool,
    /// Whether `cpu_ns` is everything until now: false once the cgroup is gone and was not read at its end.
    pub(crate) is_whole: bool,
    /// Working set in bytes, if it was read.
    pub(crate) working_set_bytes: Option<u64>,
}

impl CgroupStats {
    /// Has no containers yet.
    pub(crate) fn new(access: Rc<CgroupAccess>) -> Self {
        Self {
            access,
            closed: BTreeMap::new(),
            firsts: BTreeMap::new(),
            reasons: BTreeMap::new(),
            known: 0,
            has_baseline: false,
            from_the_beginning: false,
            open: BTreeMap::new(),
            before: BTreeMap::new(),
            shared: None,
            disowned: BTreeSet::new(),
        }
    }

    /// For a command: reads the cgroup that the collector itself runs in.
    pub(crate) fn share_own(&mut self, proc_path: &Path) {
        let content = std::fs::read(proc_path.join("self/cgroup")).unwrap_or_default();
        let lines = CgroupLines::parse(&content);
        let own_namespace = has_own_namespace(proc_path);
        let (reader, shared) = match identify(&lines) {
            Identity::Container(found) => {
                (self.access.hierarchies.container(lines, &found.id), Shared::Container)
            }
            Identity::Host { path } if !own_namespace || path.starts_with("/..") => {
                (self.access.hierarchies.cgroup(lines, &path), Shared::Machine)
            }
            _ => (self.access.hierarchies.own().filter(|_| own_namespace), Shared::Container),
        };
        self.shared = reader.map(|reader| (reader, shared));
    }

    /// Makes everything that the cgroups counted so far part of the run.
    pub(crate) fn count_from_the_beginning(&mut self) {
        self.from_the_beginning = true;
    }

    /// Reads the account of each container. `present` holds the processes of the pass with their containers. `all`: reads
    /// everything, not only the figures that change fast.
    pub(crate) fn look(
        &mut self,
        containers: &Containers,
        present: &[(ProcessKey, ContainerIndex)],
        all: bool,
    ) -> Vec<AccountLook> {
        let is_new = std::mem::replace(&mut self.has_baseline, true) || self.from_the_beginning;
        for index in (self.known..containers.len() as u32).map(ContainerIndex) {
            self.open(containers, index, is_new);
        }
        self.known = containers.len() as u32;
        self.find_made_again(present);
        self.open_closed(containers, present);
        self.hold_first(containers, present);
        let ended: Vec<ContainerIndex> =
            self.firsts.iter_mut().filter_map(|(index, first)| first.look().then_some(*index)).collect();
        let mut looks = Vec::with_capacity(self.open.len());
        for (index, open) in &mut self.open {
            let at_end = ended.contains(index);
            looks.push(open.look(*index, all || at_end, at_end));
        }
        looks
    }

    /// Finds containers that have processes again after their cgroup was gone.
    fn find_made_again(&mut self, present: &[(ProcessKey, ContainerIndex)]) {
        for (_, index) in present {
            let Some(open) = self.open.get_mut(index).filter(|open| open.gone && open.shared.is_none())
            else {
                continue;
            };
            open.is_whole = false;
            self.closed.entry(*index).or_insert(Unopened { since: Instant::now(), tries: 0, is_new: true });
        }
    }

    /// Opens the accounts that are still closed, through the containers' own processes if no mount shows them.
    fn open_closed(&mut self, containers: &Containers, present: &[(ProcessKey, ContainerIndex)]) {
        if self.closed.is_empty() {
            return;
        }
        let access = Rc::clone(&self.access);
        for (key, index) in present {
            let Some(unopened) = self.closed.get_mut(index) else { continue };
            let CgroupKind::Container(id) = containers[*index].cgroup() else { continue };
            let content =
                std::fs::read(access.proc_path.join(format!("{}/cgroup", key.pid))).unwrap_or_default();
            let lines = CgroupLines::parse(&content);
            let is_settled = is_settled(lines, id);
            // It was opened with what there was, and is opened again once the rest is there.
            let is_open = self.open.get(index).is_some_and(|open| !open.gone);
            if !is_settled && (is_open || unopened.since.elapsed() < SETTLING) {
                if unopened.since.elapsed() > SETTLING_AT_MOST {
                    self.closed.remove(index);
                }
                continue;
            }
            let mounted = access.hierarchies.container(lines, id);
            // The process may not be in all v1 hierarchies yet, and a collector without privileges cannot look through a
            // process of root.
            if !(is_settled && mounted.is_some()) && is_runtime(&access.proc_path, key.pid) {
                continue;
            }
            unopened.tries += 1;
            let Unopened { tries, is_new, .. } = *unopened;
            let is_mounted = mounted.is_some();
            match mounted.map_or_else(|| through(&access.proc_path, key.pid, lines, id), Ok) {
                Ok(reader) => {
                    if is_settled || !is_mounted || !is_new {
                        self.closed.remove(index);
                    }
                    self.reasons.remove(index);
                    if !is_mounted && !reader.tells_memory() {
                        self.reasons.insert(*index, Closed::WithoutMemory);
                    }
                    if is_open {
                        self.complete(*index, reader);
                    } else {
                        self.begin(*index, reader, None, is_new);
                    }
                }
                Err(reason) => {
                    debug!(id, pid = key.pid, %reason, "the cgroup of a container cannot be read");
                    if reason != Closed::Gone {
                        self.reasons.insert(*index, reason);
                    }
                    if tries >= MAX_TRIES {
                        self.closed.remove(index);
                    }
                }
            }
        }
    }

    /// Opens the account of a new container again, from which some files were missing.
    fn complete(&mut self, index: ContainerIndex, reader: CgroupReader) {
        let returned_ns = self.open.remove(&index).map(|open| open.returned_ns);
        self.begin(index, reader, None, true);
        if let Some((open, returned_ns)) = self.open.get_mut(&index).zip(returned_ns) {
            open.returned_ns = returned_ns;
        }
    }

    /// Holds the earliest process of each container that has no held process.
    fn hold_first(&mut self, containers: &Containers, present: &[(ProcessKey, ContainerIndex)]) {
        let mut earliest: BTreeMap<ContainerIndex, ProcessKey> = BTreeMap::new();
        for (key, index) in present {
            let is_command = self.open.get(index).is_some_and(|open| open.shared.is_some());
            let is_container = !matches!(containers[*index].cgroup(), CgroupKind::None) && !is_command;
            if is_container && self.firsts.get(index).is_none_or(|first| first.wants(*key)) {
                let earliest = earliest.entry(*index).or_insert(*key);
                if (key.start_ticks, key.pid) < (earliest.start_ticks, earliest.pid) {
                    *earliest = *key;
                }
            }
        }
        for (index, key) in earliest {
            // A runtime's process ends once it has prepared the container.
            let CgroupAccess { proc_path, endings, .. } = &*self.access;
            if !is_runtime(proc_path, key.pid) {
                self.firsts.entry(index).or_default().hold(key, proc_path, endings);
                self.read_at_end(index);
            }
        }
    }

    /// Has the account of a container read at the moment at which its first process ends, if both are known.
    fn read_at_end(&self, index: ContainerIndex) {
        let first = self.firsts.get(&index).and_then(FirstProcess::waited_for);
        if let Some((open, first)) = self.open.get(&index).zip(first) {
            self.access.endings.read_at_end(first, open.reader.end_reader());
        }
    }

    /// Why the account of some container cannot be read; `None` if all accounts can be read. Overhead containers do not
    /// count.
    pub(crate) fn reason(&self, containers: &Containers) -> Option<Closed> {
        self.reasons.iter().find(|(index, _)| !containers.is_overhead(**index)).map(|(_, reason)| *reason)
    }

    /// Whether the account of a container tells its memory, or that of the command in it.
    pub(crate) fn tells_memory(&self, index: ContainerIndex) -> bool {
        let tells =
            |open: &OpenCgroup| open.shared.is_none_or(Shared::grows_by_us) && open.reader.tells_memory();
        self.open.get(&index).is_some_and(tells)
    }

    /// Whether there is a container whose memory is not told. Overhead containers do not count.
    pub(crate) fn lacks_memory(&self, containers: &Containers) -> bool {
        let mut all = (0..containers.len() as u32).map(ContainerIndex);
        all.any(|index| !containers.is_overhead(index) && !self.tells_memory(index))
    }

    /// `is_new`: the container began while the collector watched, or everything that it counted is part of the run.
    fn open(&mut self, containers: &Containers, index: ContainerIndex, is_new: bool) {
        let container = &containers[index];
        let lines = CgroupLines::parse(&container.cgroup_content);
        let mut shared = None;
        let (reader, from_zero) = match container.cgroup() {
            CgroupKind::Container(id) if is_settled(lines, id) => {
                (self.access.hierarchies.container(lines, id), is_new)
            }
            CgroupKind::Container(_) => (None, is_new),
            CgroupKind::Path(path) => (self.access.hierarchies.cgroup(lines, path), false),
            CgroupKind::Own => (self.access.hierarchies.own(), self.from_the_beginning),
            CgroupKind::None => {
                let Some((reader, whose)) = self.shared.take() else { return };
                shared = Some(whose);
                (Some(reader), false)
            }
        };
        match reader {
            Some(reader) => self.begin(index, reader, shared, from_zero),
            None if matches!(container.cgroup(), CgroupKind::Container(_)) => {
                self.closed.insert(index, Unopened { since: Instant::now(), tries: 0, is_new });
            }
            None => {}
        }
    }

    fn begin(
        &mut self,
        index: ContainerIndex,
        reader: CgroupReader,
        shared: Option<Shared>,
        from_zero: bool,
    ) {
        let reader = WatchedCgroup::new(reader);
        let Some(reading) = reader.read() else { return };
        let look = reading.memory;
        let shared = shared.or(self.disowned.contains(&index).then_some(Shared::Jobs));
        let mut reading = shared.map_or(reading, |shared| shared.part(&reading));
        if let Some(open) = self.open.get_mut(&index) {
            open.begin_again(reader, &reading);
            if let Some(first) = self.firsts.get_mut(&index) {
                first.begin_again();
            }
            return;
        }
        let before = self.before.get(&index);
        let mut earlier = CgroupReading::default();
        if let Some(before) =
            before.filter(|before| reading.cpu_ns.is_some() && reading.cpu_ns < before.last.cpu_ns)
        {
            earlier = before.last;
            reading = reading.after(&earlier);
        }
        let first = match before {
            Some(before) => before.first,
            None if from_zero => reader.beginning(&reading),
            None => reading,
        };
        let since = before.map_or(first.cpu_ns, |before| before.last.cpu_ns);
        let mut need = before.map(|before| before.need).unwrap_or_default();
        match (shared, look) {
            (None, Some(look)) => need.look(look),
            (Some(Shared::Container), Some(look)) => need = MemoryNeed::beside_others(look),
            _ => {}
        }
        let open = OpenCgroup {
            reader,
            shared,
            first,
            last: reading,
            earlier,
            need,
            returned_ns: since.or(reading.cpu_ns).unwrap_or_default(),
            new: Some(from_zero),
            is_whole: false,
            gone: false,
        };
        self.open.insert(index, open);
        self.read_at_end(index);
    }

    /// Other runs use this container, too: nothing but its limits, and what they did, counts for this run. Returns whether
    /// that is new.
    pub(crate) fn disown(&mut self, index: ContainerIndex) -> bool {
        if !self.disowned.insert(index) {
            return false;
        }
        if let Some(open) = self.open.get_mut(&index) {
            open.shared = Some(Shared::Jobs);
            (open.first, open.last) = (Shared::Jobs.part(&open.first), Shared::Jobs.part(&open.last));
            open.need = MemoryNeed::default();
        }
        true
    }

    /// Whether all open cgroups are gone; `None` if none was open.
    pub(crate) fn are_gone(&self) -> Option<bool> {
        // One that is shared is not read at each look.
        let is_gone = |open: &OpenCgroup| open.gone || open.shared == Some(Shared::Jobs);
        (!self.open.is_empty()).then(|| self.open.values().all(is_gone))
    }

    /// The cgroup figures of each container.
    pub(crate) fn figures(&self) -> BTreeMap<ContainerIndex, CgroupFigures> {
        let mut figures: BTreeMap<ContainerIndex, CgroupFigures> =
            self.readings().into_iter().map(|(index, saved)| (index, CgroupFigures::of(&saved))).collect();
        for (index, first) in &self.firsts {
            if let Some(ending) = first.ending() {
                figures.entry(*index).or_default().ending = Some(ending);
            }
        }
        figures
    }

    /// The first and the last reading of each container, including those from a checkpoint.
    pub(crate) fn readings(&self) -> BTreeMap<ContainerIndex, SavedReadings> {
        let mut readings = self.before.clone();
        readings.extend(self.open.iter().map(|(index, open)| {
            (*index, SavedReadings { first: open.first, last: open.last, need: open.need })
        }));
        readings
    }

    /// Continues from the readings of a checkpoint. The use of a cgroup while no collector ran counts, too.
    pub(crate) fn restore(&mut self, before: BTreeMap<ContainerIndex, SavedReadings>) {
        self.before = before;
    }
}

/// Whether a process is still its container's runtime or is gone.
fn is_runtime(proc_path: &Path, pid: u32) -> bool {
    let comm = std::fs::read(proc_path.join(format!("{pid}/comm"))).unwrap_or_default();
    Comm::new(comm.trim_ascii_end()).is_runtimes()
}

impl OpenCgroup {
    /// Continues with another cgroup of the same container.
    fn begin_again(&mut self, reader: WatchedCgroup, reading: &CgroupReading) {
        self.reader = reader;
        self.earlier = self.last;
        self.last = reading.after(&self.earlier);
        self.need.begin_again();
        if let Some(look) = reading.memory {
            self.need.look(look);
        }
        (self.is_whole, self.gone) = (false, false);
    }

    /// Reads everything if `all` is set or the memory peak has moved, otherwise only the CPU time. `at_end`: its first
    /// process has just ended.
    fn look(&mut self, container: ContainerIndex, all: bool, at_end: bool) -> AccountLook {
        let is_ours = self.shared.is_none_or(Shared::grows_by_us);
        let moved = || is_ours && self.reader.memory_peak().is_some_and(|peak| self.need.has_moved(peak));
        let mut working_set_bytes = None;
        if all || moved() {
            let reading = if at_end { self.reader.read_at_end() } else { self.reader.read() };
            self.gone = reading.is_none();
            if let Some(reading) = reading {
                self.last = self.shared.map_or(reading, |shared| shared.part(&reading)).after(&self.earlier);
                if let Some(look) = reading.memory.filter(|_| is_ours) {
                    self.need.look(look);
                }
                working_set_bytes = self.last.working_set_bytes;
            }
        } else if self.shared.is_none() {
            let earlier = self.earlier.cpu_ns.unwrap_or_default();
            let cpu_ns = self.reader.cpu_ns().map(|ns| ns + earlier);
            self.gone = cpu_ns.is_none() && self.last.cpu_ns.is_some();
            self.last.cpu_ns = cpu_ns.or(self.last.cpu_ns);
        }
        self.is_whole = if self.gone { self.is_whole } else { at_end };
        let cpu_ns = self.last.cpu_ns.map(|now| {
            let since = now.saturating_sub(self.returned_ns);
            self.returned_ns += since;
            since
        });
        let begins_here = self.new.take() == Some(false);
        AccountLook {
            container,
            cpu_ns,
            begins_here,
            is_whole: !self.gone || self.is_whole,
            working_set_bytes,
        }
    }
}
