use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Limits hardly ever change: they are read again every so many readings.
const READINGS_PER_LIMITS: u32 = 16;
/// v1 writes "no limit" as the largest multiple of the page size that fits 63 bits.
const V1_NO_LIMIT: u64 = 1 << 62;

/// Where a container's files are.
#[derive(Debug, Default)]
pub(super) struct Directories {
    pub(super) unified: Option<PathBuf>,
    pub(super) cpuacct: Option<PathBuf>,
    pub(super) cpu: Option<PathBuf>,
    pub(super) memory: Option<PathBuf>,
    pub(super) mount_points: Vec<PathBuf>,
}

/// What the kernel says of a cgroup; what it does not say is `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct CgroupReading {
    /// CPU time charged to it since it was made: v2 `cpu.stat` `usage_usec`, v1 `cpuacct.usage`.
    pub cpu_ns: Option<u64>,
    /// Time for which it was throttled: v2 `cpu.stat` `throttled_usec`, v1 `cpu.stat` `throttled_time`.
    pub throttled_ns: Option<u64>,
    /// Processes of it that were killed for want of memory: `oom_kill` of v2 `memory.events`, v1
    /// `memory.oom_control`.
    pub oom_kills: Option<u64>,
    /// Memory in use less `inactive_file` of `memory.stat`: v2 `memory.current`, v1 `memory.usage_in_bytes`.
    pub working_set_bytes: Option<u64>,
    /// Highest memory use, page cache included: v2 `memory.peak` (Linux 5.19), v1 `memory.max_usage_in_bytes`.
    pub memory_peak_bytes: Option<u64>,
    /// The tightest of its own limit and those above it: v2 `cpu.max`, v1 `cpu.cfs_quota_us`.
    pub cpu_limit_cores: Option<f64>,
    /// The tightest of its own limit and those above it: v2 `memory.max`, v1 `memory.limit_in_bytes`.
    pub memory_limit_bytes: Option<u64>,
    /// Enforcement periods, from `cpu.stat` where it tells of both kinds; a checkpoint keeps them elsewhere.
    #[serde(skip)]
    pub periods: Option<Periods>,
}

/// Enforcement periods of a CPU limit since the cgroup was made; none are counted while there is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Periods {
    /// Those in which it wanted CPU: `nr_periods`.
    pub all: u64,
    /// Those of them in which it was throttled: `nr_throttled`.
    pub throttled: u64,
}

/// Reads one container's cgroup files again and again; what is read every time is kept open.
#[derive(Debug)]
pub struct CgroupReader {
    directories: Directories,
    v1: bool,
    cpu_stat: Option<File>,
    cpuacct_usage: Option<File>,
    memory_usage: Option<File>,
    memory_stat: Option<File>,
    memory_events: Option<File>,
    memory_peak: Option<File>,
    readings: u32,
    limits: (Option<f64>, Option<u64>),
}

impl CgroupReader {
    /// `None` if there is nothing to read.
    pub(super) fn open(directories: Directories) -> Option<Self> {
        let open = |directory: &Option<PathBuf>, name: &str| File::open(directory.as_ref()?.join(name)).ok();
        // On a hybrid host controllers are in v1 hierarchies while the v2 one counts CPU time all the same.
        let v1 = directories.memory.is_some() || directories.cpuacct.is_some();
        let v2 = |name| open(&directories.unified, name);
        let reader = Self {
            cpu_stat: open(&directories.cpu, "cpu.stat").filter(|_| v1).or_else(|| v2("cpu.stat")),
            cpuacct_usage: open(&directories.cpuacct, "cpuacct.usage"),
            memory_usage: open(&directories.memory, "memory.usage_in_bytes").or_else(|| v2("memory.current")),
            memory_stat: open(&directories.memory, "memory.stat").or_else(|| v2("memory.stat")),
            memory_events: open(&directories.memory, "memory.oom_control").or_else(|| v2("memory.events")),
            memory_peak: open(&directories.memory, "memory.max_usage_in_bytes").or_else(|| v2("memory.peak")),
            directories,
            v1,
            readings: 0,
            limits: (None, None),
        };
        let any = [&reader.cpu_stat, &reader.cpuacct_usage, &reader.memory_usage, &reader.memory_stat];
        any.iter().any(|file| file.is_some()).then_some(reader)
    }

    /// Reads it; nothing at all once the cgroup is gone.
    pub fn read(&mut self) -> Option<CgroupReading> {
        if self.readings.is_multiple_of(READINGS_PER_LIMITS) {
            self.limits = (self.cpu_limit(), self.memory_limit());
        }
        self.readings = self.readings.wrapping_add(1);
        let cpu_stat = content(self.cpu_stat.as_ref());
        let cpu_stat = cpu_stat.as_deref();
        let usec = |name| Some(keyed(cpu_stat?, name)?.saturating_mul(1000));
        let cpuacct = content(self.cpuacct_usage.as_ref()).and_then(|text| text.trim().parse().ok());
        let memory_stat = content(self.memory_stat.as_ref());
        let inactive = memory_stat.as_deref().and_then(|text| {
            // v1 keeps the cgroup's own figure and that of the whole subtree apart.
            keyed(text, "total_inactive_file").or_else(|| keyed(text, "inactive_file"))
        });
        let usage: Option<u64> =
            content(self.memory_usage.as_ref()).and_then(|text| text.trim().parse().ok());
        let reading = CgroupReading {
            cpu_ns: cpuacct.or_else(|| usec("usage_usec")),
            throttled_ns: if self.v1 {
                keyed(cpu_stat.unwrap_or_default(), "throttled_time")
            } else {
                usec("throttled_usec")
            },
            oom_kills: content(self.memory_events.as_ref()).and_then(|text| keyed(&text, "oom_kill")),
            working_set_bytes: usage.zip(inactive).map(|(usage, inactive)| usage.saturating_sub(inactive)),
            memory_peak_bytes: content(self.memory_peak.as_ref()).and_then(|text| text.trim().parse().ok()),
            cpu_limit_cores: self.limits.0,
            memory_limit_bytes: self.limits.1,
            periods: cpu_stat.and_then(|text| {
                Some(Periods { all: keyed(text, "nr_periods")?, throttled: keyed(text, "nr_throttled")? })
            }),
        };
        (reading.cpu_ns.is_some() || reading.working_set_bytes.is_some()).then_some(reading)
    }

    fn cpu_limit(&self) -> Option<f64> {
        let v1 = self.levels(self.directories.cpu.as_deref()).filter_map(|directory| {
            let quota: f64 = number(&directory.join("cpu.cfs_quota_us"))?;
            let period: f64 = number(&directory.join("cpu.cfs_period_us"))?;
            (quota > 0.0 && period > 0.0).then_some(quota / period)
        });
        let v2 = self.levels(self.directories.unified.as_deref()).filter_map(|directory| {
            let text = std::fs::read_to_string(directory.join("cpu.max")).ok()?;
            let (quota, period) = text.trim().split_once(' ')?;
            let (quota, period): (f64, f64) = (quota.parse().ok()?, period.parse().ok()?);
            (period > 0.0).then_some(quota / period)
        });
        v1.chain(v2).min_by(f64::total_cmp)
    }

    fn memory_limit(&self) -> Option<u64> {
        let v1 = self.levels(self.directories.memory.as_deref()).filter_map(|directory| {
            number::<u64>(&directory.join("memory.limit_in_bytes")).filter(|limit| *limit < V1_NO_LIMIT)
        });
        // `max` is no number.
        let v2 = self
            .levels(self.directories.unified.as_deref())
            .filter_map(|directory| number(&directory.join("memory.max")));
        v1.chain(v2).min()
    }

    /// A cgroup and those above it, as far as they are mounted.
    fn levels<'a>(&'a self, directory: Option<&'a Path>) -> impl Iterator<Item = &'a Path> {
        let points = &self.directories.mount_points;
        let mut levels = directory.into_iter().flat_map(Path::ancestors);
        let mut above = false;
        std::iter::from_fn(move || {
            let level = levels.next().filter(|_| !above)?;
            above = points.iter().any(|point| point == level);
            Some(level)
        })
    }
}

fn content(file: Option<&File>) -> Option<String> {
    let mut buffer = [0; 8192];
    let length = file?.read_at(&mut buffer, 0).ok().filter(|length| *length > 0)?;
    Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

fn number<T: std::str::FromStr>(path: &Path) -> Option<T> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The value behind `name ` at the beginning of a line.
fn keyed(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}
