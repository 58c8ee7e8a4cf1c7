//! Finds the reaper of each vanished process, and charges the growth of reapers that no seen child explains.

use rustc_hash::FxHashMap;

use super::{Charge, CpuLedger, PATIENCE, ROUNDING_TICKS, Source, TrackedProcess, Vanished};
use crate::attribute::ContainerIndex;
use crate::sample::process_table::ProcessKey;

/// How many ancestors of a vanished process are searched for its reaper. Only a malicious tree is deeper.
const MAX_ANCESTORS: usize = 256;

/// Growth of a process's cutime and cstime that no seen child explains yet.
pub(super) struct Reaper {
    key: ProcessKey,
    container: Option<ContainerIndex>,
    pub(super) unexplained_ns: u64,
    /// Other containers whose processes it reaped, each with its approximate share of the rest.
    foreign: Vec<(ContainerIndex, u64)>,
}

impl CpuLedger {
    /// Finds the reaper of each vanished process and subtracts the process's counted CPU time from the reaper's growth.
    /// `complete`: the growth will not be charged, so nothing is subtracted.
    pub(super) fn settle_gone(&mut self, reapers: &mut FxHashMap<ProcessKey, Reaper>, complete: bool) {
        let passes = self.passes;
        let mut gone: Vec<Vanished> = std::mem::take(&mut self.pending);
        for known in self.known.values_mut() {
            let news = known.ended && known.seen_ns() > known.gone_ns;
            if known.pass < passes && (known.pass + 1 == passes || news) {
                let ns = known.seen_ns() - known.gone_ns;
                known.gone_ns += ns;
                gone.push(Vanished { last: *known, ns, age: 0 });
            }
        }
        if complete {
            return;
        }
        // Processes with one possible reaper come first, then the largest.
        gone.sort_by_cached_key(|gone| {
            let direct = gone.last.parent.is_some_and(|parent| self.only_reaper(parent));
            (!direct, std::cmp::Reverse(gone.ns))
        });
        for mut one in gone {
            let mut candidates = self.candidates(&one.last);
            if one.last.parent.is_none() && one.last.ended {
                // Its parent left no record. The reaper of the parent is most likely in the same container.
                candidates.extend(neighbours(reapers, &one.last));
            }
            let settled = settle(reapers, &candidates, &one, self.tick_ns);
            if !settled && one.age < PATIENCE && one.ns > 0 {
                one.age += 1;
                self.pending.push(one);
            }
        }
    }

    /// The processes that may have reaped a process. If its parent lives, this is only the parent. Otherwise it is every
    /// ancestor that is seen or has an exit record, nearest first, including those of the previous pass (any of them may be
    /// a subreaper), and finally PID 1.
    fn candidates(&self, gone: &TrackedProcess) -> Vec<ProcessKey> {
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
        let told = |known: &TrackedProcess| {
            known.pass == self.passes || known.in_flight == self.passes || known.ended
        };
        let live = |key: &ProcessKey| self.known.get(key).is_some_and(told);
        let mut candidates: Vec<ProcessKey> = ancestors.into_iter().filter(live).collect();
        candidates.extend(self.init.filter(|init| !candidates.contains(init)));
        candidates
    }

    /// Whether only this process can have reaped its children, because it lives.
    fn only_reaper(&self, parent: ProcessKey) -> bool {
        self.known.get(&parent).is_some_and(|known| known.pass == self.passes && !known.zombie)
    }
}

impl Reaper {
    pub(super) fn new(key: ProcessKey, container: Option<ContainerIndex>, grown_ns: u64) -> Self {
        Self { key, container, unexplained_ns: grown_ns, foreign: Vec::new() }
    }

    /// Charges the unexplained growth to the reaper's container. If it reaped processes of other containers (a `pause` that
    /// adopts orphans, a runtime's shim), the growth is charged to those: such a reaper runs no work of its own.
    pub(super) fn charge(self, charges: &mut Vec<Charge>) {
        let mut rest = self.unexplained_ns;
        let weights: u64 = self.foreign.iter().map(|(_, weight)| weight).sum();
        let mut charge = |container, ns| {
            if ns > 0 {
                charges.push(Charge { container, process: self.key, ns, source: Source::Reaped });
            }
        };
        for (at, (container, weight)) in self.foreign.iter().enumerate() {
            let share = if at + 1 == self.foreign.len() {
                rest
            } else {
                let share = u128::from(self.unexplained_ns) * u128::from(*weight) / u128::from(weights);
                u64::try_from(share).unwrap_or(rest).min(rest)
            };
            rest -= share;
            charge(Some(*container), share);
        }
        charge(self.container, rest);
    }
}

/// The reapers with growth in the container of a process, largest growth first.
fn neighbours(reapers: &FxHashMap<ProcessKey, Reaper>, gone: &TrackedProcess) -> Vec<ProcessKey> {
    let near = reapers.values().filter(|one| one.container == gone.container && one.unexplained_ns > 0);
    let mut near: Vec<_> = near.map(|one| (std::cmp::Reverse(one.unexplained_ns), one.key)).collect();
    near.sort_unstable();
    near.truncate(MAX_ANCESTORS);
    near.into_iter().map(|(_, key)| key).collect()
}

/// Estimates the unseen CPU time of a vanished process: as much as in the last interval in which it was seen, plus half a
/// tick for each counter that the kernel rounds down (two, or four if it had reaped children).
fn unseen_ns(gone: &TrackedProcess, tick_ns: u64) -> u64 {
    let rounded = if gone.children_ns > 0 { 2 * tick_ns } else { tick_ns };
    gone.recent_ns.saturating_add(rounded)
}

/// Subtracts the counted CPU time of `gone` from the growth of one of `candidates`, or of all of them together. Returns
/// false if they did not grow enough.
fn settle(
    reapers: &mut FxHashMap<ProcessKey, Reaper>,
    candidates: &[ProcessKey],
    gone: &Vanished,
    tick_ns: u64,
) -> bool {
    let ns = gone.ns;
    let rounding_ns = ROUNDING_TICKS * tick_ns;
    let unexplained =
        |candidate: &ProcessKey| reapers.get(candidate).map_or(0, |reaper| reaper.unexplained_ns);
    let takers = if let Some(one) = candidates.iter().position(|candidate| unexplained(candidate) >= ns) {
        &candidates[one..=one]
    } else if candidates.iter().map(unexplained).sum::<u64>() >= ns {
        // If many processes vanish at once, the reaper can be unclear, but the sum is not.
        candidates
    } else {
        let nearly = |candidate| unexplained(candidate) > 0 && unexplained(candidate) + rounding_ns >= ns;
        let Some(one) = candidates.iter().position(nearly) else { return ns == 0 };
        &candidates[one..=one]
    };
    let mut left = ns;
    for candidate in takers {
        let Some(reaper) = reapers.get_mut(candidate) else { continue };
        let taken = left.min(reaper.unexplained_ns);
        reaper.unexplained_ns -= taken;
        left -= taken;
        if let Some(container) = gone.last.container
            && reaper.container != Some(container)
            && taken > 0
        {
            reaper.foreign.push((container, unseen_ns(&gone.last, tick_ns)));
        }
    }
    true
}
