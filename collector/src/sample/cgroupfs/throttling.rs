//! Throttling, read from the cgroup with the tightest CPU limit: a cgroup's `cpu.stat` counts only the throttling by its
//! own limit, not by limits above or below it.

use std::fs::File;

use serde::{Deserialize, Serialize};

use super::directory::Directory;
use super::files::content;
use super::levels::Quota;
use crate::sample::keyed::keyed;

/// Enforcement periods of a CPU limit since the cgroup was created; the kernel counts none while there is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Periods {
    /// Periods in which it wanted CPU: `nr_periods`.
    pub all: u64,
    /// Periods of these in which it was throttled: `nr_throttled`.
    pub throttled: u64,
}

/// The cgroup that it is read from, and the counts so far.
#[derive(Debug, Default)]
pub(super) struct Throttling {
    /// The limit's cgroup and its `cpu.stat`, if everything else is read from another cgroup.
    elsewhere: Option<(Directory, Option<File>)>,
    above: bool,
    /// Whether the tightest limit has moved to another cgroup since the last reading.
    moved: bool,
    was_read: bool,
    last: ThrottlingCounts,
    /// Added to each reading, so that the counts continue from the previous cgroup's.
    added: ThrottlingCounts,
}

#[derive(Debug, Clone, Copy, Default)]
struct ThrottlingCounts {
    ns: u64,
    periods: Periods,
}

impl ThrottlingCounts {
    fn zip(self, other: Self, with: fn(u64, u64) -> u64) -> Self {
        let (one, two) = (self.periods, other.periods);
        Self {
            ns: with(self.ns, other.ns),
            periods: Periods { all: with(one.all, two.all), throttled: with(one.throttled, two.throttled) },
        }
    }
}

impl Throttling {
    /// Takes its own tightest limit and the tightest above it; everything else is read from `cgroup`.
    pub(super) fn choose(&mut self, own: Option<Quota>, above: Option<Quota>, cgroup: Option<&Directory>) {
        let (chosen, is_above) = match (own, above) {
            (Some(own), Some(above)) if above.cores < own.cores => (Some(above), true),
            (None, Some(above)) => (Some(above), true),
            (own, _) => (own, false),
        };
        let directory = chosen.map(|quota| quota.directory).filter(|directory| Some(directory) != cgroup);
        if directory.as_ref() == self.elsewhere.as_ref().map(|(directory, _)| directory) {
            return;
        }
        self.above = is_above;
        self.moved = true;
        self.elsewhere = directory.map(|directory| {
            let file = directory.open("cpu.stat");
            (directory, file)
        });
    }

    /// Whether it is read from a cgroup above its own, which counted before its own existed.
    pub(super) fn is_above(&self) -> bool {
        self.above
    }

    /// Time for which it was throttled, and periods; `cpu_stat` is its own cgroup's.
    pub(super) fn read(&mut self, cpu_stat: Option<&str>) -> (Option<u64>, Option<Periods>) {
        let elsewhere = self.elsewhere.as_ref().map(|(_, file)| content(file.as_ref()).unwrap_or_default());
        let Some(text) = elsewhere.as_deref().or(cpu_stat) else { return (None, None) };
        let usec = || keyed(text, "throttled_usec").map(|usec| usec.saturating_mul(1000));
        let ns = keyed(text, "throttled_time").or_else(usec);
        let periods = keyed(text, "nr_periods").zip(keyed(text, "nr_throttled"));
        let periods = periods.map(|(all, throttled)| Periods { all, throttled });
        let counts = ThrottlingCounts { ns: ns.unwrap_or_default(), periods: periods.unwrap_or_default() };
        if std::mem::take(&mut self.moved) && self.was_read {
            self.added = self.last.zip(counts, u64::wrapping_sub);
        }
        self.was_read = true;
        self.last = counts.zip(self.added, u64::wrapping_add);
        (ns.map(|_| self.last.ns), periods.map(|_| self.last.periods))
    }
}
