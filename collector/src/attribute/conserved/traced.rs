//! What the eBPF program tells of processes, merged with what the passes saw of them.

use rustc_hash::FxHashMap;

use super::settle::Reaper;
use super::{Charge, ConservedSum, Known, Source};
use crate::attribute::ContainerIndex;
use crate::sample::table::ProcessKey;

/// What was told since the pass before.
#[derive(Debug, Default)]
pub struct Traced {
    /// Processes that were moved, in the order of the moves.
    pub moves: Vec<Moved>,
    /// Processes that ended.
    pub exits: Vec<Ended>,
    /// Processes that ended before the pass began and were waited for, but that the kernel has not freed yet: what it
    /// told of them when they ended, which can lack what they used last. Each is here at every pass until it is told.
    pub in_flight: Vec<Ended>,
    /// How many processes the program saw end, those of which it could not tell included.
    pub ended: u64,
    /// Processes of which not all was told, and that were waited for in this interval.
    pub lost: u64,
}

/// The last word on a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Which process.
    pub key: ProcessKey,
    /// Its parent's PID when it ended, 0 if that is out of sight.
    pub parent_pid: u32,
    /// Where it was; `None` if that could not be told.
    pub container: Option<ContainerIndex>,
    /// All that it used, in nanoseconds.
    pub own_ns: u64,
    /// All that the children used that it waited for, in nanoseconds.
    pub reaped_ns: u64,
}

/// A process was moved to another cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    /// Which process.
    pub key: ProcessKey,
    /// Where a process that no pass has seen was before: where its parent is.
    pub from: Option<ContainerIndex>,
    /// Where it is now; `None` if that could not be told.
    pub to: Option<ContainerIndex>,
    /// What it had used by then, in nanoseconds.
    pub own_ns: u64,
}

impl ConservedSum {
    /// What had ended by the first pass is in the sums of who waited for it, which count from nothing.
    pub(super) fn forget_ended(&mut self, traced: &Traced, seen: &FxHashMap<u32, ProcessKey>) {
        let unseen = |exit: &&Ended| seen.get(&exit.key.pid) != Some(&exit.key);
        for exit in traced.exits.iter().chain(&traced.in_flight).filter(unseen) {
            let known = Known {
                ended: true,
                own_ns: exit.own_ns,
                reaped_ns: exit.reaped_ns,
                ..Known::new(self.passes)
            };
            let gone_ns = known.seen_ns();
            self.known.insert(exit.key, Known { gone_ns, ..known });
        }
    }

    /// What a process used before it was moved counts for where it was.
    pub(super) fn note_move(&mut self, moved: &Moved, charges: &mut Vec<Charge>) {
        let passes = self.passes;
        if !self.known.contains_key(&moved.key) && !self.is_new(moved.key) {
            return;
        }
        let unseen = Known { container: moved.from, ..Known::new(passes - 1) };
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

    /// What processes used that the passes did not see. `complete`: all was told, so that nobody's growth need be
    /// explained.
    pub(super) fn note_exits(
        &mut self,
        traced: &Traced,
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
                    // Who waited for it has grown by it before, and it was taken off then.
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
                // Its reaper's growth, which is charged now, has all of it.
                known.covered = !complete;
                if !complete {
                    grow(reapers, exit.key, known.container, reaped);
                }
            }
            known.in_flight = passes;
        }
    }

    /// What is known of a process that ended, and that the last word was not told of before; `None` if it is none of ours.
    fn ending(&mut self, exit: &Ended, by_pid: &FxHashMap<u32, ProcessKey>) -> Option<&mut Known> {
        if !self.known.contains_key(&exit.key) && !self.is_new(exit.key) {
            return None;
        }
        let unseen = || Known {
            // Its children's time is in its `reaped`, as its own is in that of who waited for it.
            parent: by_pid.get(&exit.parent_pid).copied().filter(|parent| *parent != exit.key),
            zombie: true,
            ..Known::new(self.passes - 1)
        };
        Some(self.known.entry(exit.key).or_insert_with(unseen)).filter(|known| !known.ended)
    }

    /// Whether a process that is not known cannot have been there before.
    fn is_new(&self, key: ProcessKey) -> bool {
        key.start_ticks >= self.began_ticks
    }
}

impl Known {
    /// Nothing is known yet; as if a pass had seen it.
    fn new(pass: u64) -> Self {
        Self {
            pass,
            sights: 0,
            parent: None,
            former_parent: None,
            zombie: false,
            container: None,
            own_ns: 0,
            reaped_ns: 0,
            recent_ns: 0,
            gone_ns: 0,
            moved: 0,
            in_flight: 0,
            covered: false,
            ended: false,
        }
    }

    /// Takes what was told of its end and charges what is new; returns by how much its `reaped` grew.
    fn learn(&mut self, exit: &Ended, charges: &mut Vec<Charge>) -> u64 {
        let own = exit.own_ns.saturating_sub(self.own_ns);
        let reaped = exit.reaped_ns.saturating_sub(self.reaped_ns);
        self.container = exit.container.or(self.container);
        if !self.covered {
            charge(charges, exit, self.container, own);
        }
        self.own_ns += own;
        self.reaped_ns += reaped;
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

fn charge(charges: &mut Vec<Charge>, exit: &Ended, container: Option<ContainerIndex>, ns: u64) {
    if ns > 0 {
        charges.push(Charge { container, process: exit.key, ns, source: Source::Exit });
    }
}
