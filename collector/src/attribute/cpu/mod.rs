//! The CPU ledger: accounts for all CPU time without any privilege, including that of processes that no pass saw.
//!
//! A live process has its own CPU time and the CPU time of the children that it waited for (fields 14 to 17 of
//! `/proc/[pid]/stat`: utime and stime, cutime and cstime). When a parent waits for a child, the kernel adds all four of
//! the child's to the parent's cutime and cstime. So exits conserve the sum over all live processes. The growth of this sum
//! is the CPU time used, even by very short-lived processes.
//!
//! The growth of a parent's cutime and cstime, minus the CPU time of those children that was already counted, is the CPU
//! time that no pass saw: of processes that were never seen, or used after they were last seen.
//!
//! With the eBPF program, the exit record of each process is charged instead, to the nanosecond ([`exits`]). cutime and
//! cstime are used only for intervals in which records were lost.

pub mod exits;
mod reapers;

use rustc_hash::FxHashMap;

use self::exits::KernelEvents;
use self::reapers::Reaper;

use super::ContainerIndex;
use crate::sample::process_table::ProcessKey;

/// cutime and cstime are each rounded down to a tick, so their growth may be two ticks too small.
const ROUNDING_TICKS: u64 = 2;
/// For how many passes a vanished process is searched for in the growth of its reaper. One is enough for a process that
/// ended between the read of its parent and its own.
const PATIENCE: u8 = 1;
/// For how many passes, including looks, a vanished process is remembered for its exit record. The kernel frees a process
/// some milliseconds after it was reaped, on a busy machine up to seconds.
const RECORD_PATIENCE: u64 = 64;

/// One process as a pass saw it, with its container resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessTimes {
    /// Which process.
    pub key: ProcessKey,
    /// Its parent's PID, 0 if that is out of sight.
    pub ppid: u32,
    /// Whether it has ended: it reaps nothing any more, and its children were adopted.
    pub zombie: bool,
    /// Own CPU time so far, in nanoseconds.
    pub own_ns: u64,
    /// CPU time of reaped children so far, in nanoseconds.
    pub children_ns: u64,
    /// Its container; `None` if that is unknown.
    pub container: Option<ContainerIndex>,
}

/// CPU time used in an interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Charge {
    /// The container; `None` if that is unknown.
    pub container: Option<ContainerIndex>,
    /// The process that used it, or that reaped the processes that did.
    pub process: ProcessKey,
    /// In nanoseconds, more than 0.
    pub ns: u64,
    /// How the time is known.
    pub source: Source,
}

/// How CPU time is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// From the process while it lived.
    Living,
    /// From its exit record, less what was counted while it lived.
    Exit,
    /// From the growth of its cutime and cstime: children that no pass saw, or their last moments.
    Reaped,
}

/// Accounts for CPU time from pass to pass.
#[derive(Debug)]
pub struct CpuLedger {
    /// Ticks since boot at the first pass. The CPU time that older processes used before it is not part of the run.
    began_ticks: u64,
    tick_ns: u64,
    passes: u64,
    /// Whether all CPU time that the first pass sees is part of the run.
    from_nothing: bool,
    known: FxHashMap<ProcessKey, TrackedProcess>,
    /// PID 1 of the namespace: the last to adopt an orphan.
    init: Option<ProcessKey>,
    /// Vanished processes that no growth of a reaper has explained yet.
    pending: Vec<Vanished>,
}

#[derive(Debug, Clone, Copy)]
struct TrackedProcess {
    pass: u64,
    sights: u32,
    parent: Option<ProcessKey>,
    /// The parent at the previous pass: it may have adopted and reaped before it ended itself.
    former_parent: Option<ProcessKey>,
    zombie: bool,
    container: Option<ContainerIndex>,
    own_ns: u64,
    children_ns: u64,
    /// Its CPU time in the last interval in which it was seen.
    recent_ns: u64,
    /// How much of its CPU time was already searched for in the growth of its reaper.
    gone_ns: u64,
    /// The pass before which the eBPF program reported a move.
    moved: u64,
    /// The last pass at which it was reaped but not freed; 0: none.
    in_flight: u64,
    /// True if its CPU time was already charged as part of the growth of its reaper.
    covered: bool,
    /// Whether its exit record has come.
    ended: bool,
}

#[derive(Debug, Clone, Copy)]
struct Vanished {
    last: TrackedProcess,
    /// The CPU time to search for in the growth of its reaper.
    ns: u64,
    age: u8,
}

impl TrackedProcess {
    /// The growth of its reaper's cutime and cstime, as far as it was seen.
    fn seen_ns(&self) -> u64 {
        self.own_ns.saturating_add(self.children_ns)
    }
}

impl CpuLedger {
    /// `began_ticks`: now, in clock ticks since boot, each of `tick_ns` nanoseconds.
    pub fn new(began_ticks: u64, tick_ns: u64) -> Self {
        Self {
            began_ticks,
            tick_ns,
            passes: 0,
            from_nothing: false,
            known: FxHashMap::default(),
            init: None,
            pending: Vec::new(),
        }
    }

    /// Also counts the CPU time from before the first pass, because every process in sight is part of the run.
    pub fn count_from_nothing(&mut self) {
        self.from_nothing = true;
    }

    /// Returns the CPU time used between the previous pass and this one. `seen` has parents before their children. `traced`
    /// holds the events of the eBPF program in between, if it runs.
    pub fn advance(&mut self, seen: &[ProcessTimes], traced: Option<&KernelEvents>) -> Vec<Charge> {
        self.passes += 1;
        let mut charges = Vec::new();
        let mut reapers = FxHashMap::default();
        let mut by_pid: FxHashMap<u32, ProcessKey> =
            seen.iter().map(|process| (process.key.pid, process.key)).collect();
        self.init = by_pid.get(&1).copied();
        if self.passes == 1
            && self.from_nothing
            && let Some(traced) = traced
        {
            self.forget_ended(traced, &by_pid);
        }
        // The first pass is the baseline. A process that ended before it is not part of the run, or is in the cutime of its
        // parent.
        let traced = traced.filter(|_| self.passes > 1);
        for moved in traced.iter().flat_map(|traced| &traced.moves) {
            self.note_move(moved, &mut charges);
        }
        for process in seen {
            let parent = by_pid.get(&process.ppid).copied().filter(|parent| *parent != process.key);
            self.observe(process, parent, &mut charges, &mut reapers);
        }
        let complete = traced.is_some_and(|traced| traced.lost == 0 && !self.is_silent(traced));
        if let Some(traced) = traced {
            self.note_exits(traced, complete, &mut by_pid, &mut charges, &mut reapers);
        }
        self.settle_gone(&mut reapers, complete);
        if !complete {
            for reaper in reapers.into_values() {
                reaper.charge(&mut charges);
            }
        }
        self.forget(traced.is_some());
        // The order of a hash map must not show in the output.
        charges.sort_unstable_by_key(|charge| (charge.process, charge.source, charge.container));
        charges
    }

    /// Whether processes vanished without any event: the program does not run any more.
    fn is_silent(&self, traced: &KernelEvents) -> bool {
        let vanished =
            |known: &TrackedProcess| known.pass + 1 == self.passes && !known.zombie && !known.ended;
        let told = traced.ended > 0 || !traced.exits.is_empty() || !traced.in_flight.is_empty();
        !told && self.known.values().any(vanished)
    }

    /// Drops what is not needed any more. Vanished ancestors are needed as long as a descendant is pending.
    fn forget(&mut self, traced: bool) {
        let passes = self.passes;
        self.known.retain(|_, known| {
            let patience = if traced && !known.ended { RECORD_PATIENCE } else { u64::from(PATIENCE) };
            known.pass.max(known.in_flight) + patience >= passes
        });
    }

    /// Whether a pass has seen this process.
    pub fn knows(&self, key: ProcessKey) -> bool {
        self.known.contains_key(&key)
    }

    /// The container in which a process was last seen.
    pub fn container_of(&self, key: ProcessKey) -> Option<ContainerIndex> {
        self.known.get(&key)?.container
    }

    fn observe(
        &mut self,
        process: &ProcessTimes,
        parent: Option<ProcessKey>,
        charges: &mut Vec<Charge>,
        reapers: &mut FxHashMap<ProcessKey, Reaper>,
    ) {
        let ours =
            if self.passes > 1 { process.key.start_ticks >= self.began_ticks } else { self.from_nothing };
        let baseline = if ours { (0, 0) } else { (process.own_ns, process.children_ns) };
        let before = self.known.get(&process.key);
        let (own_before, reaped_before) = before.map_or(baseline, |known| (known.own_ns, known.children_ns));
        // A counter that fell is ignored: the highest value so far stays the baseline.
        let own = process.own_ns.saturating_sub(own_before);
        let reaped = process.children_ns.saturating_sub(reaped_before);
        let told = before.filter(|known| known.moved == self.passes);
        let sighted = told.and_then(|known| known.container).or(process.container);
        let container = sighted.or_else(|| before.and_then(|known| known.container));
        // A runtime moves a process right after its creation, so at the second sight all of its CPU time belongs to the new
        // container. Later moves come at any time between two passes, on average in the middle.
        let left = before.filter(|known| told.is_none() && known.sights > 1 && known.container != container);
        let behind = if left.is_some() { own / 2 } else { 0 };
        let mut charge = |container, ns| {
            if ns > 0 {
                charges.push(Charge { container, process: process.key, ns, source: Source::Living });
            }
        };
        charge(left.and_then(|known| known.container), behind);
        charge(container, own - behind);
        if reaped > 0 {
            reapers.insert(process.key, Reaper::new(process.key, container, reaped));
        }
        let known = TrackedProcess {
            pass: self.passes,
            sights: before.map_or(1, |known| known.sights.saturating_add(1)),
            parent,
            former_parent: before.and_then(|known| known.parent),
            zombie: process.zombie,
            container,
            own_ns: process.own_ns.max(own_before),
            children_ns: process.children_ns.max(reaped_before),
            recent_ns: own + reaped,
            gone_ns: before.map_or(0, |known| known.gone_ns),
            moved: before.map_or(0, |known| known.moved),
            in_flight: before.map_or(0, |known| known.in_flight),
            covered: before.is_some_and(|known| known.covered),
            ended: before.is_some_and(|known| known.ended),
        };
        self.known.insert(process.key, known);
    }
}

#[cfg(test)]
mod tests;
