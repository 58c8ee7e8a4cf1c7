//! Who a limit belongs to: the container itself or a cgroup above it.

use std::path::{Path, PathBuf};

use super::directory::Directory;

/// v1 writes "no limit" as the largest multiple of the page size that fits 63 bits.
const V1_NO_LIMIT: u64 = 1 << 62;

/// How far above the cgroup with its counters a cgroup's own limits can be set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Own {
    /// A container: its cgroup and the `container` cgroup inside its scope, where crun puts the processes. Runtimes and
    /// systemd write the limits to either.
    Container,
    /// A process in no container: its cgroup and those up to the systemd service or scope that it was delegated to.
    Unit,
    /// Only this cgroup.
    #[default]
    Exact,
}

/// A cgroup and those above it in one hierarchy, as far as they are mounted.
#[derive(Debug, Default)]
pub(super) struct Levels {
    /// Cgroups with its own limits, innermost first.
    own: Vec<Directory>,
    /// Cgroups whose limits it shares with others: its pod, slices, the node; innermost first.
    above: Vec<Directory>,
}

/// A CPU limit and the cgroup that has it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Quota {
    pub(super) cores: f64,
    pub(super) directory: Directory,
}

impl Levels {
    pub(super) fn of(directory: Option<&Directory>, own: Own, mount_points: &[PathBuf]) -> Self {
        let path = match directory {
            None => return Self::default(),
            // The cgroups above it are not visible from there.
            Some(held @ Directory::Held(_)) => return Self { own: vec![held.clone()], above: Vec::new() },
            Some(Directory::Mounted(path)) => path,
        };
        let mut mounted: Vec<PathBuf> = Vec::new();
        for level in path.ancestors() {
            mounted.push(level.to_owned());
            if mount_points.iter().any(|point| point == level) {
                break;
            }
        }
        let above = mounted.split_off(own.levels(&mounted).min(mounted.len()));
        if own == Own::Container && has_suffix(path, &["scope"]) {
            let inner = path.join("container");
            if inner.is_dir() {
                mounted.insert(0, inner);
            }
        }
        let [own, above] =
            [mounted, above].map(|levels| levels.into_iter().map(Directory::Mounted).collect());
        Self { own, above }
    }

    /// The tightest of its own CPU limits and of those above it.
    pub(super) fn quotas(&self, read: fn(&Directory) -> Option<f64>) -> (Option<Quota>, Option<Quota>) {
        let tightest = |levels: &[Directory]| {
            let quotas = levels
                .iter()
                .filter_map(|level| Some(Quota { cores: read(level)?, directory: level.clone() }));
            quotas.min_by(|one, other| one.cores.total_cmp(&other.cores))
        };
        (tightest(&self.own), tightest(&self.above))
    }

    /// The same for memory, in bytes.
    pub(super) fn memory(&self, read: fn(&Directory) -> Option<u64>) -> (Option<u64>, Option<u64>) {
        let tightest = |levels: &[Directory]| levels.iter().filter_map(read).min();
        (tightest(&self.own), tightest(&self.above))
    }
}

/// The tighter of two limits from different hierarchies.
pub(super) fn tighter(one: Option<Quota>, other: Option<Quota>) -> Option<Quota> {
    one.into_iter().chain(other).min_by(|one, other| one.cores.total_cmp(&other.cores))
}

impl Own {
    /// How many of these levels, innermost first, are its own.
    fn levels(self, mounted: &[PathBuf]) -> usize {
        if self != Self::Unit {
            return 1;
        }
        // systemd did not create a cgroup that is below a slice but in no unit.
        let unit = mounted.iter().position(|level| has_suffix(level, &["service", "scope", "slice"]));
        unit.filter(|at| !has_suffix(&mounted[*at], &["slice"])).map_or(1, |at| at + 1)
    }
}

fn has_suffix(directory: &Path, suffixes: &[&str]) -> bool {
    directory.extension().is_some_and(|found| suffixes.iter().any(|suffix| found == *suffix))
}

/// v1 `cpu.cfs_quota_us`; −1 means no limit.
pub(super) fn v1_cores(directory: &Directory) -> Option<f64> {
    let quota: f64 = number(directory, "cpu.cfs_quota_us")?;
    let period: f64 = number(directory, "cpu.cfs_period_us")?;
    (quota > 0.0 && period > 0.0).then_some(quota / period)
}

/// v2 `cpu.max`; `None` if it is `max`.
pub(super) fn v2_cores(directory: &Directory) -> Option<f64> {
    let text = directory.read("cpu.max")?;
    let (quota, period) = text.trim().split_once(' ')?;
    let (quota, period): (f64, f64) = (quota.parse().ok()?, period.parse().ok()?);
    (period > 0.0).then_some(quota / period)
}

/// v1 `memory.limit_in_bytes`.
pub(super) fn v1_memory(directory: &Directory) -> Option<u64> {
    number(directory, "memory.limit_in_bytes").and_then(v1_limit)
}

/// A v1 limit; `None` if it stands for "no limit".
pub(super) fn v1_limit(bytes: u64) -> Option<u64> {
    (bytes < V1_NO_LIMIT).then_some(bytes)
}

/// v2 `memory.max`; `None` if it is `max`.
pub(super) fn v2_memory(directory: &Directory) -> Option<u64> {
    number(directory, "memory.max")
}

fn number<T: std::str::FromStr>(directory: &Directory, name: &str) -> Option<T> {
    directory.read(name)?.trim().parse().ok()
}
