//! The memory of processes whose cgroup cannot be read, each page counted once as far as that can be known.
//!
//! A forked process has all pages of its parent in its RSS, but they are the same pages until one of the two writes to them.
//! Every page of its own came by a page fault, and these are counted. So the rest is its parent's. Mapped files do not count:
//! the kernel can drop their pages.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use crate::attribute::ContainerIndex;
use crate::sample::process_memory::ProcessMemory;
use crate::sample::process_table::ProcessKey;

/// The memory of one process at a look.
#[derive(Debug, Clone, Copy)]
pub struct Resident {
    /// Which process.
    pub key: ProcessKey,
    /// Its parent's PID.
    pub ppid: u32,
    /// Its container.
    pub container: ContainerIndex,
    /// Resident set size in bytes.
    pub rss_bytes: u64,
    /// The most that its page faults can have added, in bytes, if no page was huge.
    pub faulted_bytes: u64,
    /// The kinds of its memory, if they were read.
    pub kinds: Option<ProcessMemory>,
}

/// The memory of the machine at the same time.
#[derive(Debug, Clone, Copy, Default)]
pub struct MachineMemory {
    /// Shared memory, including the files of all tmpfs mounts.
    pub shared_bytes: u64,
    /// All huge pages that were ever made; `None` if that is unknown.
    pub huge_bytes: Option<u64>,
}

/// The memory of a container's processes at a look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LookedAt {
    /// Anonymous and shared memory, in bytes.
    pub bytes: u64,
    /// Growth of the machine's shared memory that no visible process has mapped: files of this container, or of others.
    pub unseen_bytes: u64,
}

/// Everything known from earlier looks.
#[derive(Debug, Default)]
pub struct SharedPages {
    known: FxHashMap<ProcessKey, KnownProcess>,
    looks: u64,
    /// Huge pages at the previous look.
    huge_bytes: Option<u64>,
    /// The least shared memory that no visible process had mapped.
    least_unmapped: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
struct KnownProcess {
    /// The process that it was forked from, if that was visible.
    parent: Option<ProcessKey>,
    /// Huge pages that existed before it did.
    huge_before: Option<u64>,
    /// Highest RSS that is accounted for.
    peak_rss_bytes: u64,
    /// Anonymous memory at the last look.
    anonymous_bytes: u64,
    look: u64,
}

#[derive(Debug, Default)]
struct ContainerSum {
    own: u64,
    shared: u64,
    /// By parent, the most that a child has of it beyond what the parent still has.
    inherited: BTreeMap<ProcessKey, u64>,
    /// The highest RSS of one process between two looks, beyond its RSS now.
    excess: u64,
}

impl SharedPages {
    /// Looks at all processes at once, parents before their children.
    pub fn look(
        &mut self,
        processes: &[Resident],
        machine: MachineMemory,
    ) -> BTreeMap<ContainerIndex, LookedAt> {
        self.looks += 1;
        let by_pid: FxHashMap<u32, ProcessKey> =
            processes.iter().map(|process| (process.key.pid, process.key)).collect();
        let mut sums: BTreeMap<ContainerIndex, ContainerSum> = BTreeMap::new();
        for process in processes {
            let excess = self.see(process, &by_pid);
            let sum = sums.entry(process.container).or_default();
            sum.excess = sum.excess.max(excess);
        }
        for process in processes {
            let known = self.known[&process.key];
            let huge = machine.huge_bytes.zip(known.huge_before).map(|(now, before)| now - before.min(now));
            let faulted = huge.map_or(u64::MAX, |huge| process.faulted_bytes.saturating_add(huge));
            let own = known.anonymous_bytes.min(faulted);
            let sum = sums.entry(process.container).or_default();
            sum.own += own;
            sum.shared += process.kinds.map_or(0, |kinds| kinds.shared_bytes);
            let parent = known.parent.and_then(|parent| self.known.get(&parent));
            let parent = parent.filter(|parent| parent.look == self.looks);
            let parents = parent.map_or(0, |parent| parent.anonymous_bytes);
            let beyond = (known.anonymous_bytes - own).saturating_sub(parents);
            let inherited = sum.inherited.entry(known.parent.unwrap_or(process.key)).or_default();
            *inherited = beyond.max(*inherited);
        }
        let looks = self.looks;
        self.known.retain(|_, known| known.look == looks);
        self.huge_bytes = machine.huge_bytes;
        let mapped: u64 = sums.values().map(|sum| sum.shared).sum();
        let unmapped = machine.shared_bytes.saturating_sub(mapped);
        let least = self.least_unmapped.map_or(unmapped, |least| least.min(unmapped));
        self.least_unmapped = Some(least);
        let looked_at = |sum: &ContainerSum| LookedAt {
            bytes: sum.own
                + sum.inherited.values().sum::<u64>()
                + sum.shared.min(machine.shared_bytes)
                + sum.excess,
            unseen_bytes: unmapped - least,
        };
        sums.iter().map(|(container, sum)| (*container, looked_at(sum))).collect()
    }

    /// Takes note of a process. Returns how much its RSS exceeded its present one since the last look.
    fn see(&mut self, process: &Resident, by_pid: &FxHashMap<u32, ProcessKey>) -> u64 {
        let parent = by_pid.get(&process.ppid).copied();
        let inherited_peak =
            parent.and_then(|parent| self.known.get(&parent)).map_or(0, |parent| parent.peak_rss_bytes);
        let (looks, huge_before) = (self.looks, self.huge_bytes);
        let known = self.known.entry(process.key).or_insert(KnownProcess {
            parent,
            huge_before,
            // A fork takes the peak over. The peak of its own is known once it is higher.
            peak_rss_bytes: inherited_peak,
            anonymous_bytes: 0,
            look: looks,
        });
        let kinds = process.kinds;
        known.look = looks;
        known.anonymous_bytes = kinds.map_or(process.rss_bytes, |kinds| kinds.anonymous_bytes);
        let peak = kinds.map_or(process.rss_bytes, |kinds| kinds.peak_rss_bytes.max(process.rss_bytes));
        let excess = if peak > known.peak_rss_bytes { peak - process.rss_bytes } else { 0 };
        known.peak_rss_bytes = known.peak_rss_bytes.max(peak);
        excess
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const BUILD: ContainerIndex = ContainerIndex(0);

    fn resident(pid: u32, ppid: u32, anonymous: u64, faulted: u64) -> Resident {
        Resident {
            key: ProcessKey { pid, start_ticks: u64::from(pid) },
            ppid,
            container: BUILD,
            rss_bytes: (anonymous + 3) * MIB,
            faulted_bytes: faulted * MIB,
            kinds: Some(ProcessMemory {
                anonymous_bytes: anonymous * MIB,
                shared_bytes: 0,
                peak_rss_bytes: (anonymous + 3) * MIB,
            }),
        }
    }

    const NO_HUGE: MachineMemory = MachineMemory { shared_bytes: 0, huge_bytes: Some(0) };

    fn mib(looked_at: &BTreeMap<ContainerIndex, LookedAt>) -> (u64, u64) {
        (looked_at[&BUILD].bytes / MIB, looked_at[&BUILD].unseen_bytes / MIB)
    }

    #[test]
    fn forked_processes_share_what_they_did_not_fault_in() {
        let mut pages = SharedPages::default();
        pages.look(&[resident(1, 0, 250, 260)], NO_HUGE);
        let mut all = vec![resident(1, 0, 250, 260)];
        all.extend((2..8).map(|pid| resident(pid, 1, 250, 2)));
        assert_eq!(mib(&pages.look(&all, NO_HUGE)), (262, 0));
        // Two of them write to all of it.
        (all[1].faulted_bytes, all[2].faulted_bytes) = (300 * MIB, 300 * MIB);
        assert_eq!(mib(&pages.look(&all, NO_HUGE)), (758, 0));
        // Their parent ends: the other four still share its pages.
        let others: Vec<_> = all[3..].iter().map(|one| Resident { ppid: 0, ..*one }).collect();
        assert_eq!(mib(&pages.look(&others, NO_HUGE)), (256, 0));
    }

    #[test]
    fn processes_of_an_unknown_origin_count_whole() {
        let mut pages = SharedPages::default();
        let orphans = [resident(5, 0, 100, 1), resident(6, 0, 100, 1)];
        assert_eq!(mib(&pages.look(&orphans, NO_HUGE)), (200, 0));
        let unknown = MachineMemory { huge_bytes: None, ..NO_HUGE };
        let mut pages = SharedPages::default();
        let all = [resident(1, 0, 100, 100), resident(2, 1, 100, 1)];
        assert_eq!(mib(&pages.look(&all, unknown)), (200, 0));
    }

    #[test]
    fn huge_pages_came_by_few_faults() {
        let mut pages = SharedPages::default();
        let huge = |mib: u64| MachineMemory { shared_bytes: 0, huge_bytes: Some(mib * MIB) };
        pages.look(&[resident(1, 0, 10, 10)], huge(1000));
        let both = [resident(1, 0, 10, 10), resident(2, 1, 80, 2)];
        assert_eq!(mib(&pages.look(&both, huge(1060))), (10 + 62 + 8, 0));
    }

    #[test]
    fn a_peak_between_two_looks_counts_once() {
        let mut pages = SharedPages::default();
        let one = resident(1, 0, 10, 10);
        pages.look(&[one], NO_HUGE);
        let kinds = ProcessMemory { peak_rss_bytes: 300 * MIB, ..one.kinds.unwrap() };
        let spiked = Resident { kinds: Some(kinds), ..one };
        assert_eq!(mib(&pages.look(&[spiked], NO_HUGE)), (297, 0));
        assert_eq!(mib(&pages.look(&[spiked], NO_HUGE)), (10, 0));
    }

    #[test]
    fn shared_memory_that_nobody_maps_may_be_anybodys() {
        let mut pages = SharedPages::default();
        let machine = |mib: u64| MachineMemory { shared_bytes: mib * MIB, ..NO_HUGE };
        let one = resident(1, 0, 10, 10);
        assert_eq!(mib(&pages.look(&[one], machine(500))), (10, 0));
        assert_eq!(mib(&pages.look(&[one], machine(700))), (10, 200));
        let kinds = ProcessMemory { shared_bytes: 150 * MIB, ..one.kinds.unwrap() };
        let maps = Resident { kinds: Some(kinds), ..one };
        assert_eq!(mib(&pages.look(&[maps], machine(700))), (160, 50));
        assert_eq!(mib(&pages.look(&[one], machine(490))), (10, 0));
    }
}
