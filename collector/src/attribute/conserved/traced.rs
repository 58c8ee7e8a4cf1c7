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
    /// How many processes the program saw end, those of which it could not tell included.
    pub ended: u64,
    /// Processes of which it could not tell.
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

    /// What processes used that the passes did not see. `complete`: no record was lost, so that nobody's growth need
    /// be explained.
    pub(super) fn note_exits(
        &mut self,
        exits: &[Ended],
        complete: bool,
        by_pid: &mut FxHashMap<u32, ProcessKey>,
        charges: &mut Vec<Charge>,
        reapers: &mut FxHashMap<ProcessKey, Reaper>,
    ) {
        let passes = self.passes;
        if !complete {
            for exit in exits {
                by_pid.entry(exit.key.pid).or_insert(exit.key);
            }
        }
        for exit in exits {
            if !self.known.contains_key(&exit.key) {
                if !self.is_new(exit.key) {
                    continue;
                }
                if complete {
                    charge(charges, exit, exit.container, exit.own_ns);
                    continue;
                }
            }
            // Its children's time is in its `reaped`, as its own is in that of who waited for it.
            let known = self.known.entry(exit.key).or_insert_with(|| Known {
                parent: by_pid.get(&exit.parent_pid).copied().filter(|parent| *parent != exit.key),
                zombie: true,
                ..Known::new(passes - 1)
            });
            if known.ended {
                continue;
            }
            let container = exit.container.or(known.container);
            let (own, reaped) =
                (exit.own_ns.saturating_sub(known.own_ns), exit.reaped_ns.saturating_sub(known.reaped_ns));
            charge(charges, exit, container, own);
            known.own_ns += own;
            known.reaped_ns += reaped;
            known.recent_ns += own + reaped;
            known.container = container;
            known.ended = true;
            if !complete && reaped > 0 {
                let reaper = reapers.entry(exit.key).or_insert_with(|| Reaper::new(exit.key, container, 0));
                reaper.unexplained_ns += reaped;
            }
        }
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
            ended: false,
        }
    }
}

fn charge(charges: &mut Vec<Charge>, exit: &Ended, container: Option<ContainerIndex>, ns: u64) {
    if ns > 0 {
        charges.push(Charge { container, process: exit.key, ns, source: Source::Exit });
    }
}
