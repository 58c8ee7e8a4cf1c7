//! The memory that a container needs: a lower and an upper bound.
//!
//! The kernel's count for a cgroup includes page cache, which it frees before it kills anything. The peak is exact, but too
//! high by the cache at that moment. Memory without cache is known only at each look. Together: if the peak has grown since
//! the last look, usage reached the new peak in between. There was at least as much cache then as at the look with less of
//! it, since cache only grows until it has to be given up. And memory without cache grows by page faults, which are
//! counted: there are few if files were read or written in between.

use serde::{Deserialize, Serialize};

/// One look at a cgroup's memory, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryLook {
    /// v2 `memory.current`, v1 `memory.usage_in_bytes`.
    pub usage: u64,
    /// The part of it that the kernel reclaims when memory is short: v2 `memory.stat` `file` less `shmem`, and
    /// `slab_reclaimable`; v1 `total_cache` less `total_shmem`.
    pub cache: u64,
    /// Highest usage so far: v2 `memory.peak` (Linux 5.19), v1 `memory.max_usage_in_bytes`.
    pub peak: Option<u64>,
    /// The most that page faults can have added so far; `None` if their pages can be of any size.
    pub faulted: Option<u64>,
    /// Shared memory, including files in `/dev/shm`; it can grow without faults. v2 `shmem`, v1 `total_shmem`.
    pub shmem: u64,
}

/// The result of all looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryNeed {
    /// Memory without cache of others in the cgroup at the start; it is not part of the need.
    others: u64,
    last: Option<MemoryLook>,
    at_least: Option<u64>,
    at_most: Option<u64>,
}

impl MemoryLook {
    fn without_cache(self) -> u64 {
        self.usage.saturating_sub(self.cache)
    }
}

impl MemoryNeed {
    /// Starts in a cgroup that others share: only its growth is the need, and a peak that does not move says nothing about
    /// it.
    pub fn beside_others(look: MemoryLook) -> Self {
        Self { others: look.without_cache(), last: Some(look), ..Self::default() }
    }

    /// Adds a look, which is later than all before.
    pub fn look(&mut self, look: MemoryLook) {
        let without_cache = look.without_cache().saturating_sub(self.others);
        let at_least = self.at_least.unwrap_or_default().max(without_cache);
        self.at_least = Some(at_least);
        let last = self.last.unwrap_or_default();
        if let Some(peak) = look.peak
            && (self.last.is_none() || Some(peak) > last.peak)
        {
            let cache = if self.last.is_none() { look.cache } else { look.cache.min(last.cache) };
            let then = peak.saturating_sub(cache).saturating_sub(self.others).min(self.by_faults(look));
            self.at_most = Some(self.at_most.unwrap_or_default().max(then));
        }
        self.at_most = self.at_most.map(|at_most| at_most.max(at_least));
        self.last = Some(look);
    }

    /// The most memory without cache since the last look: the amount then, plus all that faults and shared memory have
    /// added; at least the amount now.
    fn by_faults(&self, look: MemoryLook) -> u64 {
        let last = self.last.unwrap_or(MemoryLook { faulted: Some(0), ..MemoryLook::default() });
        let Some((now, before)) = look.faulted.zip(last.faulted) else { return u64::MAX };
        let came = now.saturating_sub(before) + look.shmem.saturating_sub(last.shmem);
        (last.without_cache().saturating_add(came)).max(look.without_cache()).saturating_sub(self.others)
    }

    /// From now on the looks are at another cgroup, whose peak starts anew.
    pub fn begin_again(&mut self) {
        self.last = None;
    }

    /// Whether the peak has grown since the last look, so that another look is worth its cost.
    pub fn has_moved(&self, peak: u64) -> bool {
        self.last.is_none_or(|last| last.peak.is_none_or(|before| peak > before))
    }

    /// The highest memory without cache that was seen, in bytes; `None` before the first look.
    pub fn at_least(&self) -> Option<u64> {
        self.at_least
    }

    /// The highest that memory without cache can have been, in bytes; `None` if the kernel reports no peak.
    pub fn at_most(&self) -> Option<u64> {
        self.at_most
    }

    /// The need of a container before and after a restart: enough for both.
    #[must_use]
    pub fn and(self, newer: Self) -> Self {
        Self {
            others: newer.others,
            last: newer.last,
            at_least: self.at_least.max(newer.at_least),
            // If one upper bound is unknown, so is the bound of both.
            at_most: if self.at_least.is_none() {
                newer.at_most
            } else {
                self.at_most.zip(newer.at_most).map(|(one, other)| one.max(other))
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn of(looks: &[(u64, u64, u64)]) -> (u64, u64) {
        let mut need = MemoryNeed::default();
        for (usage, cache, peak) in looks {
            let (usage, cache, peak) = (usage * MIB, cache * MIB, Some(peak * MIB));
            need.look(MemoryLook { usage, cache, peak, ..MemoryLook::default() });
        }
        (need.at_least().unwrap() / MIB, need.at_most().unwrap() / MIB)
    }

    #[test]
    fn what_was_there_between_two_looks_is_known_by_the_peak() {
        // 300 between the looks.
        assert_eq!(of(&[(5, 1, 5), (6, 2, 310)]), (4, 309));
        // Cache of written files: it stays, and only a part of it was there at the first look.
        assert_eq!(of(&[(50, 0, 50), (250, 200, 260)]), (50, 260));
        assert_eq!(of(&[(50, 0, 50), (250, 200, 250), (450, 400, 455)]), (50, 255));
    }

    #[test]
    fn cache_beneath_a_peak_that_does_not_move_is_no_need() {
        assert_eq!(of(&[(10, 5, 10), (500, 490, 500), (500, 495, 505), (100, 20, 505)]), (80, 495));
        // It began before the first look, and only the peak is known of that time.
        assert_eq!(of(&[(400, 390, 420)]), (10, 30));
    }

    #[test]
    fn cache_that_came_between_two_looks_is_told_by_how_few_faults_there_were() {
        let look = |usage, cache, peak, faulted| MemoryLook {
            usage: usage * MIB,
            cache: cache * MIB,
            peak: Some(peak * MIB),
            faulted: Some(faulted * MIB),
            shmem: 0,
        };
        let mut need = MemoryNeed::default();
        need.look(look(5, 1, 5, 6));
        need.look(look(405, 400, 405, 8));
        assert_eq!(need.at_most(), Some(6 * MIB), "400 that were read");
        need.look(look(420, 400, 720, 320));
        assert_eq!(need.at_most(), Some(317 * MIB), "300 for a moment");
        // 80 that stay, and 200 of written files: the memory there now came by those faults.
        let mut need = MemoryNeed::default();
        need.look(look(5, 1, 5, 6));
        need.look(look(287, 201, 287, 92));
        assert_eq!(need.at_most(), Some(90 * MIB));
        // 100 of shared memory came without faults, and for a moment there was more beside it.
        need.look(MemoryLook { shmem: 100 * MIB, ..look(387, 201, 500, 142) });
        assert_eq!(need.at_most(), Some(236 * MIB));
    }

    #[test]
    fn what_others_held_before_is_no_need() {
        let look = |usage, cache, peak| MemoryLook {
            usage: usage * MIB,
            cache: cache * MIB,
            peak: Some(peak * MIB),
            ..MemoryLook::default()
        };
        let mut need = MemoryNeed::beside_others(look(100, 40, 500));
        need.look(look(130, 40, 500));
        assert_eq!((need.at_least(), need.at_most()), (Some(30 * MIB), None), "the peak was another's");
        need.look(look(140, 40, 600));
        assert_eq!((need.at_least(), need.at_most()), (Some(40 * MIB), Some(500 * MIB)));
        need.look(look(50, 40, 600));
        assert_eq!(need.at_least(), Some(40 * MIB));
    }

    #[test]
    fn without_a_peak_only_what_was_seen_is_known() {
        let mut need = MemoryNeed::default();
        assert_eq!((need.at_least(), need.at_most()), (None, None));
        need.look(MemoryLook { usage: 7, cache: 2, ..MemoryLook::default() });
        assert_eq!((need.at_least(), need.at_most()), (Some(5), None));
        assert!(need.has_moved(1));
    }
}
