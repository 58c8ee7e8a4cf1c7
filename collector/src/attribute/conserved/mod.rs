//! The conserved sum: CPU time of processes that no pass ever saw, charged without any privilege.
//!
//! For a live process let `own` be its CPU time and `reaped` that of the children that it waited for (fields 14
//! to 17 of `/proc/[pid]/stat`). When a parent waits for a child, the kernel moves the child's `own + reaped`
//! into the parent's `reaped`. So exits conserve the sum over all live processes, and its growth is the CPU time
//! that was used, whoever used it and however briefly it lived.
//!
//! What a parent's `reaped` grew by, less what was already counted of the children that it waited for while
//! they were still seen, is the CPU time of processes that were not (or not lately) seen.
//!
//! Where the eBPF program tells the last word on each process ([`traced`]), that is charged instead, to the
//! nanosecond, and nothing is concluded from `reaped`; but for intervals in which records were lost.

mod settle;
pub mod traced;

use rustc_hash::FxHashMap;

use self::settle::Reaper;
use self::traced::Traced;

use super::ContainerIndex;
use crate::sample::table::ProcessKey;

/// `reaped` is printed as two numbers, each rounded down to a tick: its growth may show two ticks too little.
const ROUNDING_TICKS: u64 = 2;
/// How many passes a process that vanished waits for its reaper to show it. One is enough for a process that
/// ended between the read of its parent and its own.
const PATIENCE: u8 = 1;
/// How many passes what was counted of a process that vanished is kept for its record. The kernel frees a process
/// some milliseconds after it was waited for.
pub const RECORD_PATIENCE: u64 = 16;

/// One process as a pass saw it, with its container resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Which process.
    pub key: ProcessKey,
    /// Its parent's PID, 0 if that is out of sight.
    pub ppid: u32,
    /// Whether it has ended: it waits for nobody any more, and its children were adopted.
    pub zombie: bool,
    /// Own CPU time so far, in nanoseconds.
    pub own_ns: u64,
    /// CPU time of reaped children so far, in nanoseconds.
    pub reaped_ns: u64,
    /// Where it is; `None` if that could not be told.
    pub container: Option<ContainerIndex>,
}

/// CPU time that was used in an interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Charge {
    /// To which container; `None`: it cannot be told.
    pub container: Option<ContainerIndex>,
    /// The process that used it itself, or that waited for those that did.
    pub process: ProcessKey,
    /// In nanoseconds, more than 0.
    pub ns: u64,
    /// How it is known.
    pub source: Source,
}

/// How CPU time is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// From the process while it lived.
    Living,
    /// The record of its exit tells so much more than was counted while it lived.
    Exit,
    /// Its reaper's growth: children of the process that no pass saw, or their last moments.
    Reaped,
}

/// The growth of the conserved sum from pass to pass.
#[derive(Debug)]
pub struct ConservedSum {
    /// Ticks since boot at the first pass: what began earlier had used CPU time that is none of ours.
    began_ticks: u64,
    tick_ns: u64,
    passes: u64,
    /// Whether what the first pass sees was all used by the run.
    from_nothing: bool,
    known: FxHashMap<ProcessKey, Known>,
    /// PID 1 of the namespace: the last to adopt an orphan.
    init: Option<ProcessKey>,
    /// Processes that vanished and whose reaper has not shown them yet.
    pending: Vec<Gone>,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    pass: u64,
    sights: u32,
    parent: Option<ProcessKey>,
    /// The parent that the pass before saw: it may have adopted, and reaped, before it ended itself.
    former_parent: Option<ProcessKey>,
    zombie: bool,
    container: Option<ContainerIndex>,
    own_ns: u64,
    reaped_ns: u64,
    /// What it used in the last interval in which it was seen.
    recent_ns: u64,
    /// How much of it its reaper's growth has been searched for already.
    gone_ns: u64,
    /// The pass before which the kernel told where it was moved to.
    moved: u64,
    /// The last pass at which it had ended and was waited for, but not freed; 0: none.
    in_flight: u64,
    /// Whether its reaper's growth was charged, in which all of it is.
    covered: bool,
    /// Whether the last word on it has been told.
    ended: bool,
}

#[derive(Debug, Clone, Copy)]
struct Gone {
    last: Known,
    /// What to look for in its reaper's growth.
    ns: u64,
    age: u8,
}

impl Known {
    /// What its reaper's `reaped` grows by, as far as it was seen.
    fn seen_ns(&self) -> u64 {
        self.own_ns.saturating_add(self.reaped_ns)
    }
}

impl ConservedSum {
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

    /// What processes used before the first pass counts: everything in sight is the run's.
    pub fn count_from_nothing(&mut self) {
        self.from_nothing = true;
    }

    /// What was used between the previous pass and this one. `seen` has parents before their children; `traced` is
    /// what the eBPF program told in the meantime, where there is one.
    pub fn advance(&mut self, seen: &[Seen], traced: Option<&Traced>) -> Vec<Charge> {
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
        // What the first pass sees is the baseline, and all that ended before it is none of ours, or in its parents' sums.
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
        // The order of a hash map is not for output.
        charges.sort_unstable_by_key(|charge| (charge.process, charge.source, charge.container));
        charges
    }

    /// Whether processes ended and the program saw none: it does not run any more.
    fn is_silent(&self, traced: &Traced) -> bool {
        let vanished = |known: &Known| known.pass + 1 == self.passes && !known.zombie && !known.ended;
        let told = traced.ended > 0 || !traced.exits.is_empty() || !traced.in_flight.is_empty();
        !told && self.known.values().any(vanished)
    }

    /// Drops what is needed no more: ancestors that are gone are needed as long as a descendant is pending.
    fn forget(&mut self, traced: bool) {
        let passes = self.passes;
        self.known.retain(|_, known| {
            let patience = if traced && !known.ended { RECORD_PATIENCE } else { u64::from(PATIENCE) };
            known.pass.max(known.in_flight) + patience >= passes
        });
    }

    /// Whether this process has been seen.
    pub fn knows(&self, key: ProcessKey) -> bool {
        self.known.contains_key(&key)
    }

    /// The container in which a process was last seen.
    pub fn container_of(&self, key: ProcessKey) -> Option<ContainerIndex> {
        self.known.get(&key)?.container
    }

    fn observe(
        &mut self,
        process: &Seen,
        parent: Option<ProcessKey>,
        charges: &mut Vec<Charge>,
        reapers: &mut FxHashMap<ProcessKey, Reaper>,
    ) {
        let ours =
            if self.passes > 1 { process.key.start_ticks >= self.began_ticks } else { self.from_nothing };
        let baseline = if ours { (0, 0) } else { (process.own_ns, process.reaped_ns) };
        let before = self.known.get(&process.key);
        let (own_before, reaped_before) = before.map_or(baseline, |known| (known.own_ns, known.reaped_ns));
        // A counter that fell gives no reading: the highest value seen stays the one to count from.
        let own = process.own_ns.saturating_sub(own_before);
        let reaped = process.reaped_ns.saturating_sub(reaped_before);
        let told = before.filter(|known| known.moved == self.passes);
        let sighted = told.and_then(|known| known.container).or(process.container);
        let container = sighted.or_else(|| before.and_then(|known| known.container));
        // A runtime moves a process right after it was made: what one that is seen for the second time used was used
        // where it is now. Later moves come at any time between two passes, on average in the middle.
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
        let known = Known {
            pass: self.passes,
            sights: before.map_or(1, |known| known.sights.saturating_add(1)),
            parent,
            former_parent: before.and_then(|known| known.parent),
            zombie: process.zombie,
            container,
            own_ns: process.own_ns.max(own_before),
            reaped_ns: process.reaped_ns.max(reaped_before),
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
