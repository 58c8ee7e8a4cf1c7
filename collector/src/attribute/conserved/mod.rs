//! The conserved sum: CPU time of processes that no pass ever saw, charged without any privilege.
//!
//! For a live process let `own` be its CPU time and `reaped` that of the children that it waited for (fields 14
//! to 17 of `/proc/[pid]/stat`). When a parent waits for a child, the kernel moves the child's `own + reaped`
//! into the parent's `reaped`. So exits conserve the sum over all live processes, and its growth is the CPU time
//! that was used, whoever used it and however briefly it lived.
//!
//! What a parent's `reaped` grew by, less what was already counted of the children that it waited for while
//! they were still seen, is the CPU time of processes that were not (or not lately) seen.

use rustc_hash::FxHashMap;

use super::ContainerIndex;
use crate::sample::table::ProcessKey;

/// `reaped` is printed as two numbers, each rounded down to a tick: its growth may show two ticks too little.
const ROUNDING_TICKS: u64 = 2;
/// So far up the ancestors of a process that vanished are looked at; a tree that is deeper was made to be.
const MAX_ANCESTORS: usize = 256;
/// How many passes a process that vanished waits for its reaper to show it. One is enough for a process that
/// ended between the read of its parent and its own.
const PATIENCE: u8 = 1;

/// One process as a pass saw it, with its container resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Which process.
    pub key: ProcessKey,
    /// Its parent's PID, 0 if that is out of sight.
    pub ppid: u32,
    /// Whether it has ended: it waits for nobody any more, and its children were adopted.
    pub zombie: bool,
    /// Own CPU time so far, in ticks.
    pub own_ticks: u64,
    /// CPU time of reaped children so far, in ticks.
    pub reaped_ticks: u64,
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
    /// In clock ticks, more than 0.
    pub ticks: u64,
    /// Whether it was used by children of `process` that no pass saw (or by their last moments).
    pub by_children: bool,
}

/// The growth of the conserved sum from pass to pass.
#[derive(Debug)]
pub struct ConservedSum {
    /// Ticks since boot at the first pass: what began earlier had used CPU time that is none of ours.
    began_ticks: u64,
    passes: u64,
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
    own_ticks: u64,
    reaped_ticks: u64,
    /// What it used in the last interval in which it was seen.
    recent_ticks: u64,
}

#[derive(Debug, Clone, Copy)]
struct Gone {
    last: Known,
    age: u8,
}

impl Known {
    /// What its reaper's `reaped` grows by, as far as it was seen.
    fn seen_ticks(&self) -> u64 {
        self.own_ticks.saturating_add(self.reaped_ticks)
    }
}

/// What a live process's `reaped` grew by and nobody has been named for yet.
struct Reaper {
    key: ProcessKey,
    container: Option<ContainerIndex>,
    unexplained_ticks: u64,
    /// Containers other than its own of processes that it waited for, with how busy they were.
    foreign: Vec<(ContainerIndex, u64)>,
}

impl ConservedSum {
    /// `began_ticks`: now, in clock ticks since boot.
    pub fn new(began_ticks: u64) -> Self {
        Self { began_ticks, passes: 0, known: FxHashMap::default(), init: None, pending: Vec::new() }
    }

    /// What was used between the previous pass and this one. `seen` has parents before their children.
    pub fn advance(&mut self, seen: &[Seen]) -> Vec<Charge> {
        self.passes += 1;
        let mut charges = Vec::new();
        let mut reapers = FxHashMap::default();
        let by_pid: FxHashMap<u32, ProcessKey> =
            seen.iter().map(|process| (process.key.pid, process.key)).collect();
        self.init = by_pid.get(&1).copied();
        for process in seen {
            let parent = by_pid.get(&process.ppid).copied().filter(|parent| *parent != process.key);
            self.observe(process, parent, &mut charges, &mut reapers);
        }
        self.settle_gone(&mut reapers);
        for reaper in reapers.into_values() {
            reaper.charge(&mut charges);
        }
        // The order of a hash map is not for output.
        charges.sort_unstable_by_key(|charge| (charge.process, charge.by_children, charge.container));
        charges
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
        let ours = process.key.start_ticks >= self.began_ticks && self.passes > 1;
        let baseline = if ours { (0, 0) } else { (process.own_ticks, process.reaped_ticks) };
        let before = self.known.get(&process.key);
        let (own_before, reaped_before) =
            before.map_or(baseline, |known| (known.own_ticks, known.reaped_ticks));
        // A counter that fell gives no reading: the highest value seen stays the one to count from.
        let own = process.own_ticks.saturating_sub(own_before);
        let reaped = process.reaped_ticks.saturating_sub(reaped_before);
        let container = process.container.or_else(|| before.and_then(|known| known.container));
        // A runtime moves a process right after it was made: what one that is seen for the second time used was used
        // where it is now. Later moves come at any time between two passes, on average in the middle.
        let left = before.filter(|known| known.sights > 1 && known.container != container);
        let behind = if left.is_some() { own / 2 } else { 0 };
        let mut charge = |container, ticks| {
            if ticks > 0 {
                charges.push(Charge { container, process: process.key, ticks, by_children: false });
            }
        };
        charge(left.and_then(|known| known.container), behind);
        charge(container, own - behind);
        if reaped > 0 {
            let reaper =
                Reaper { key: process.key, container, unexplained_ticks: reaped, foreign: Vec::new() };
            reapers.insert(process.key, reaper);
        }
        let known = Known {
            pass: self.passes,
            sights: before.map_or(1, |known| known.sights.saturating_add(1)),
            parent,
            former_parent: before.and_then(|known| known.parent),
            zombie: process.zombie,
            container,
            own_ticks: process.own_ticks.max(own_before),
            reaped_ticks: process.reaped_ticks.max(reaped_before),
            recent_ticks: own + reaped,
        };
        self.known.insert(process.key, known);
    }

    /// Finds for each process that vanished who waited for it, and takes what was already counted of it off what
    /// that one's `reaped` grew by.
    fn settle_gone(&mut self, reapers: &mut FxHashMap<ProcessKey, Reaper>) {
        let passes = self.passes;
        let mut gone: Vec<Gone> = std::mem::take(&mut self.pending);
        let vanished = self.known.values().filter(|known| known.pass + 1 == passes);
        gone.extend(vanished.map(|&last| Gone { last, age: 0 }));
        // Those with one possible reaper first, then the largest: what fits in one place only takes it first.
        gone.sort_by_cached_key(|gone| {
            let direct = gone.last.parent.is_some_and(|parent| self.only_reaper(parent));
            (!direct, std::cmp::Reverse(gone.last.seen_ticks()))
        });
        for mut one in gone {
            let candidates = self.candidates(&one.last);
            let settled = settle(reapers, &candidates, &one.last);
            if !settled && one.age < PATIENCE && one.last.seen_ticks() > 0 {
                one.age += 1;
                self.pending.push(one);
            }
        }
        // Ancestors that are gone are needed as long as a descendant is pending.
        self.known.retain(|_, known| known.pass + u64::from(PATIENCE) >= passes);
    }

    /// Who may have waited for a process: its parent and nobody else if that lives; otherwise every ancestor that
    /// can be seen, nearest first, those of the pass before included (any of them may be a subreaper), and at last
    /// PID 1.
    fn candidates(&self, gone: &Known) -> Vec<ProcessKey> {
        if let Some(parent) = gone.parent
            && self.only_reaper(parent)
        {
            return vec![parent];
        }
        let mut ancestors: Vec<ProcessKey> =
            [gone.parent, gone.former_parent].into_iter().flatten().collect();
        let mut at = 0;
        while let Some(known) = ancestors.get(at).map(|key| self.known.get(key)) {
            for above in known.into_iter().flat_map(|known| [known.parent, known.former_parent]).flatten() {
                if !ancestors.contains(&above) && ancestors.len() < MAX_ANCESTORS {
                    ancestors.push(above);
                }
            }
            at += 1;
        }
        let live = |key: &ProcessKey| self.known.get(key).is_some_and(|known| known.pass == self.passes);
        let mut candidates: Vec<ProcessKey> = ancestors.into_iter().filter(live).collect();
        candidates.extend(self.init.filter(|init| !candidates.contains(init)));
        candidates
    }

    /// Whether the children of this process can have been waited for by nobody else: it lives.
    fn only_reaper(&self, parent: ProcessKey) -> bool {
        self.known.get(&parent).is_some_and(|known| known.pass == self.passes && !known.zombie)
    }
}

impl Reaper {
    /// Charges what nobody was named for to the reaper's container; but if it waited for processes of other
    /// containers (a `pause` that adopts orphans, a runtime's shim), to theirs: such a reaper starts nothing
    /// that works itself.
    fn charge(self, charges: &mut Vec<Charge>) {
        let mut rest = self.unexplained_ticks;
        let weights: u64 = self.foreign.iter().map(|(_, weight)| weight).sum();
        let mut charge = |container, ticks| {
            if ticks > 0 {
                charges.push(Charge { container, process: self.key, ticks, by_children: true });
            }
        };
        for (at, (container, weight)) in self.foreign.iter().enumerate() {
            let share = if at + 1 == self.foreign.len() {
                rest
            } else {
                let share = u128::from(self.unexplained_ticks) * u128::from(*weight) / u128::from(weights);
                u64::try_from(share).unwrap_or(rest).min(rest)
            };
            rest -= share;
            charge(Some(*container), share);
        }
        charge(self.container, rest);
    }
}

/// Takes what was already counted of `gone` off what one of `candidates` grew by; false if it is in none of them.
fn settle(reapers: &mut FxHashMap<ProcessKey, Reaper>, candidates: &[ProcessKey], gone: &Known) -> bool {
    let ticks = gone.seen_ticks();
    let unexplained =
        |candidate: &ProcessKey| reapers.get(candidate).map_or(0, |reaper| reaper.unexplained_ticks);
    let takers = if let Some(one) = candidates.iter().position(|candidate| unexplained(candidate) >= ticks) {
        &candidates[one..=one]
    } else if candidates.iter().map(unexplained).sum::<u64>() >= ticks {
        // Which of several it was can be unclear when many vanish at once; their sum is not.
        candidates
    } else {
        let nearly =
            |candidate| unexplained(candidate) > 0 && unexplained(candidate) + ROUNDING_TICKS >= ticks;
        let Some(one) = candidates.iter().position(nearly) else { return ticks == 0 };
        &candidates[one..=one]
    };
    let mut left = ticks;
    for candidate in takers {
        let Some(reaper) = reapers.get_mut(candidate) else { continue };
        let taken = left.min(reaper.unexplained_ticks);
        reaper.unexplained_ticks -= taken;
        left -= taken;
        if let Some(container) = gone.container
            && reaper.container != Some(container)
            && taken > 0
        {
            reaper.foreign.push((container, gone.recent_ticks + 1));
        }
    }
    true
}

#[cfg(test)]
mod tests;
