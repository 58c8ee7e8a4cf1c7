//! Events of the eBPF program, merged with what the passes saw.

use rustc_hash::FxHashMap;

use super::reapers::Reaper;
use super::{Charge, CpuLedger, Source, TrackedProcess};
use crate::attribute::ContainerIndex;
use crate::sample::process_table::ProcessKey;

/// The events since the pass before.
#[derive(Debug, Default)]
pub struct KernelEvents {
    /// Processes that were moved to another cgroup, in the order of the moves.
    pub moves: Vec<CgroupMove>,
    /// Processes that ended.
    pub exits: Vec<ProcessExit>,
    /// Processes that ended before the pass began and were reaped, but not freed yet. Their records are from when they
    /// ended and can lack their last moments. Each is here at every pass until its exit record comes.
    pub in_flight: Vec<ProcessExit>,
    /// The number of processes that the program saw end, including those without a record.
    pub ended: u64,
    /// Processes reaped in this interval whose record was lost or incomplete.
    pub lost: u64,
}

/// The exit record of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessExit {
    /// Which process.
    pub key: ProcessKey,
    /// Its parent's PID when it ended, 0 if that is out of sight.
    pub parent_pid: u32,
    /// Its container; `None` if that is unknown.
    pub container: Option<ContainerIndex>,
    /// All its CPU time, in nanoseconds.
    pub own_ns: u64,
    /// All CPU time of the children that it reaped, in nanoseconds.
    pub children_ns: u64,
}

/// A process was moved to another cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CgroupMove {
    /// Which process.
    pub key: ProcessKey,
    /// The container before the move, for a process that no pass has seen: the container of its parent.
    pub from: Option<ContainerIndex>,
    /// The container after the move; `None` if that is unknown.
    pub to: Option<ContainerIndex>,
    /// Its CPU time up to the move, in nanoseconds.
    pub own_ns: u64,
}

impl CpuLedger {
    /// Ignores processes that had ended by the first pass: their CPU time is part of their reapers', which counts from 0.
    pub(super) fn forget_ended(&mut self, traced: &KernelEvents, seen: &FxHashMap<u32, ProcessKey>) {
        let unseen = |exit: &&ProcessExit| seen.get(&exit.key.pid) != Some(&exit.key);
        for exit in traced.exits.iter().chain(&traced.in_flight).filter(unseen) {
            let known = TrackedProcess {
                ended: true,
                own_ns: exit.own_ns,
                children_ns: exit.children_ns,
                ..TrackedProcess::new(self.passes)
            };
            let gone_ns = known.seen_ns();
            self.known.insert(exit.key, TrackedProcess { gone_ns, ..known });
        }
    }

    /// Charges the CPU time that a process used before a move to its earlier container.
    pub(super) fn note_move(&mut self, moved: &CgroupMove, charges: &mut Vec<Charge>) {
        let passes = self.passes;
        if !self.known.contains_key(&moved.key) && !self.is_new(moved.key) {
            return;
        }
        let unseen = TrackedProcess { container: moved.from, ..TrackedProcess::new(passes - 1) };
        let known = self.known.entry(moved.key).or_insert(unseen);
        let ns = moved.own_ns.saturating_sub(known.own_ns);
        if ns > 0 {
            charges.push(Charge {
                container: known.container,
                process: moved.key,
                ns,
                source: Source::Living,
            });
        }
        known.own_ns += ns;
        known.container = moved.to.or(known.container);
        known.moved = passes;
    }

    /// Charges the CPU time of ended processes that no pass saw. `complete`: no record is missing, so no growth needs an
    /// explanation.
    pub(super) fn note_exits(
        &mut self,
        traced: &KernelEvents,
        complete: bool,
        by_pid: &mut FxHashMap<u32, ProcessKey>,
        charges: &mut Vec<Charge>,
        reapers: &mut FxHashMap<ProcessKey, Reaper>,
    ) {
        if !complete {
            for exit in traced.exits.iter().chain(&traced.in_flight) {
                by_pid.entry(exit.key.pid).or_insert(exit.key);
            }
        }
        for exit in &traced.exits {
            if complete && !self.known.contains_key(&exit.key) && self.is_new(exit.key) {
                charge(charges, exit, exit.container, exit.own_ns);
            } else if let Some(known) = self.ending(exit, by_pid) {
                let reaped = known.learn(exit, charges);
                known.ended = true;
                if known.in_flight > 0 {
                    // It was already subtracted from the growth of its reaper.
                    known.gone_ns = known.seen_ns();
                } else if !complete {
                    grow(reapers, exit.key, known.container, reaped);
                }
            }
        }
        let passes = self.passes;
        for exit in &traced.in_flight {
            let Some(known) = self.ending(exit, by_pid) else { continue };
            if known.in_flight == 0 {
                let reaped = known.learn(exit, charges);
                // The growth of its reaper, which is charged now, holds all of its CPU time.
                known.covered = !complete;
                if !complete {
                    grow(reapers, exit.key, known.container, reaped);
                }
            }
            known.in_flight = passes;
        }
    }

    /// The entry of a process that ended; `None` if its exit record came before, or if it is not part of the run.
    fn ending(
        &mut self,
        exit: &ProcessExit,
        by_pid: &FxHashMap<u32, ProcessKey>,
    ) -> Option<&mut TrackedProcess> {
        if !self.known.contains_key(&exit.key) && !self.is_new(exit.key) {
            return None;
        }
        let unseen = || TrackedProcess {
            // Its children's time is in its cutime, and its own in the cutime of its reaper.
            parent: by_pid.get(&exit.parent_pid).copied().filter(|parent| *parent != exit.key),
            zombie: true,
            ..TrackedProcess::new(self.passes - 1)
        };
        Some(self.known.entry(exit.key).or_insert_with(unseen)).filter(|known| !known.ended)
    }

    /// Whether an unknown process started after measuring began.
    fn is_new(&self, key: ProcessKey) -> bool {
        key.start_ticks >= self.began_ticks
    }
}

impl TrackedProcess {
    /// An entry without figures, as if a pass had seen the process.
    fn new(pass: u64) -> Self {
        Self {
            pass,
            sights: 0,
            parent: None,
            former_parent: None,
            zombie: false,
            container: None,
            own_ns: 0,
            children_ns: 0,
            recent_ns: 0,
            gone_ns: 0,
            moved: 0,
            in_flight: 0,
            covered: false,
            ended: false,
        }
    }

    /// Takes an exit record and charges the new CPU time. Returns the growth of its children's time.
    fn learn(&mut self, exit: &ProcessExit, charges: &mut Vec<Charge>) -> u64 {
        let own = exit.own_ns.saturating_sub(self.own_ns);
        let reaped = exit.children_ns.saturating_sub(self.children_ns);
        self.container = exit.container.or(self.container);
        if !self.covered {
            charge(charges, exit, self.container, own);
        }
        self.own_ns += own;
        self.children_ns += reaped;
        self.recent_ns += own + reaped;
        reaped
    }
}

fn grow(
    reapers: &mut FxHashMap<ProcessKey, Reaper>,
    key: ProcessKey,
    container: Option<ContainerIndex>,
    ns: u64,
) {
    if ns > 0 {
        reapers.entry(key).or_insert_with(|| Reaper::new(key, container, 0)).unexplained_ns += ns;
    }
}

fn charge(charges: &mut Vec<Charge>, exit: &ProcessExit, container: Option<ContainerIndex>, ns: u64) {
    if ns > 0 {
        charges.push(Charge { container, process: exit.key, ns, source: Source::Exit });
    }
}
