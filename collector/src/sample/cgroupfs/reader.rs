use std::fs::File;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::directory::Directory;
use super::files::content;
use super::levels::{Levels, Own, tighter, v1_cores, v1_limit, v1_memory, v2_cores, v2_memory};
use super::need::{MemoryLook, MemoryNeed};
use super::throttling::{Periods, Throttling};
use super::waits::Waits;
use crate::sample::fault_pages::FaultPages;
use crate::sample::keyed::keyed;

/// Limits rarely change: they are read again after this many readings, and at each of the first ones, because a runtime
/// sets them after it has put the first process into the cgroup.
const READINGS_PER_LIMITS: u32 = 16;

/// The directories of a container's files.
#[derive(Debug, Default)]
pub(super) struct Directories {
    pub(super) unified: Option<Directory>,
    pub(super) cpuacct: Option<Directory>,
    pub(super) cpu: Option<Directory>,
    pub(super) memory: Option<Directory>,
    pub(super) blkio: Option<Directory>,
    pub(super) mount_points: Vec<PathBuf>,
    /// Which limits are its own.
    pub(super) own: Own,
}

/// The kernel's figures for a cgroup; `None` for each that it does not report.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct CgroupReading {
    /// CPU time charged to it since it was created: v2 `cpu.stat` `usage_usec`, v1 `cpuacct.usage`.
    pub cpu_ns: Option<u64>,
    /// Time for which it was throttled: v2 `cpu.stat` `throttled_usec`, v1 `cpu.stat` `throttled_time`, from the cgroup
    /// with the tightest CPU limit: its own or one above it.
    pub throttled_ns: Option<u64>,
    /// Its processes that the kernel killed for lack of memory: `oom_kill` of v2 `memory.events`, v1 `memory.oom_control`.
    pub oom_kills: Option<u64>,
    /// Memory in use less `inactive_file` of `memory.stat`: v2 `memory.current`, v1 `memory.usage_in_bytes`.
    pub working_set_bytes: Option<u64>,
    /// Highest memory use, page cache included: v2 `memory.peak` (Linux 5.19), v1 `memory.max_usage_in_bytes`.
    pub memory_peak_bytes: Option<u64>,
    /// All of its memory, and how much of it is cache.
    pub memory: Option<MemoryLook>,
    /// Its own limit: v2 `cpu.max`, v1 `cpu.cfs_quota_us`.
    pub cpu_limit_cores: Option<f64>,
    /// Its own limit: v2 `memory.max`, v1 `memory.limit_in_bytes`.
    pub memory_limit_bytes: Option<u64>,
    /// Enforcement periods, from the same `cpu.stat` as `throttled_ns`; `None` unless it has both counts.
    pub periods: Option<Periods>,
    /// Limits that apply to it but are not its own.
    pub bounds: Bounds,
    /// Its disk I/O and stalls.
    pub waits: Waits,
}

impl CgroupReading {
    /// Takes what it lacks from an earlier reading: when a container ends, its files disappear one after the other.
    fn or_counts_of(self, earlier: &Self) -> Self {
        Self {
            cpu_ns: self.cpu_ns.or(earlier.cpu_ns),
            throttled_ns: self.throttled_ns.or(earlier.throttled_ns),
            oom_kills: self.oom_kills.or(earlier.oom_kills),
            memory_peak_bytes: self.memory_peak_bytes.or(earlier.memory_peak_bytes),
            periods: self.periods.or(earlier.periods),
            waits: self.waits.or(earlier.waits),
            ..self
        }
    }

    /// Adds the counts of an earlier cgroup of the same container, so that its counters continue.
    #[must_use]
    pub fn after(self, earlier: &Self) -> Self {
        let sum = |one: Option<u64>, other: Option<u64>| one.map(|one| one + other.unwrap_or_default());
        let periods = self.periods.map(|periods| {
            let before = earlier.periods.unwrap_or_default();
            Periods { all: periods.all + before.all, throttled: periods.throttled + before.throttled }
        });
        Self {
            cpu_ns: sum(self.cpu_ns, earlier.cpu_ns),
            throttled_ns: sum(self.throttled_ns, earlier.throttled_ns),
            oom_kills: sum(self.oom_kills, earlier.oom_kills),
            periods,
            memory_peak_bytes: self.memory_peak_bytes.max(earlier.memory_peak_bytes),
            waits: self.waits.after(earlier.waits),
            ..self
        }
    }
}

/// The tightest limits of the cgroups above a container, as far as they can be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Bounds {
    /// v2 `cpu.max`, v1 `cpu.cfs_quota_us`.
    pub cpu_cores: Option<f64>,
    /// v2 `memory.max`, v1 `memory.limit_in_bytes` and `hierarchical_memory_limit` of `memory.stat`.
    pub memory_bytes: Option<u64>,
}

/// The readings of one container, as a checkpoint keeps them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct SavedReadings {
    /// The reading that the run's figures count from.
    pub first: CgroupReading,
    /// The last reading.
    pub last: CgroupReading,
    /// The memory need from all readings.
    pub need: MemoryNeed,
}

/// Reads one container's cgroup files repeatedly; the files that every reading needs stay open.
#[derive(Debug)]
pub struct CgroupReader {
    directories: Directories,
    cpu_stat: Option<File>,
    cpu_stat_is_v1: bool,
    cpuacct_usage: Option<File>,
    memory_usage: Option<File>,
    memory_stat: Option<File>,
    memory_events: Option<File>,
    memory_peak: Option<File>,
    readings: u32,
    limits: (Option<f64>, Option<u64>),
    /// Which of the files with its own limits have been there.
    limit_files: [bool; 4],
    bounds: Bounds,
    throttling: Throttling,
    fault_pages: FaultPages,
    /// The counts of the previous reading.
    last: CgroupReading,
}

impl CgroupReader {
    /// `None` if there is nothing to read.
    pub(super) fn open(directories: Directories) -> Option<Self> {
        let open = |directory: &Option<Directory>, name: &str| directory.as_ref()?.open(name);
        // On a hybrid host the controllers are in v1 hierarchies, but the v2 hierarchy still counts CPU time.
        let v1 = directories.memory.is_some() || directories.cpuacct.is_some();
        let v2 = |name| open(&directories.unified, name);
        let v1_cpu_stat = open(&directories.cpu, "cpu.stat").filter(|_| v1);
        let reader = Self {
            cpu_stat_is_v1: v1_cpu_stat.is_some(),
            cpu_stat: v1_cpu_stat.or_else(|| v2("cpu.stat")),
            cpuacct_usage: open(&directories.cpuacct, "cpuacct.usage"),
            memory_usage: open(&directories.memory, "memory.usage_in_bytes").or_else(|| v2("memory.current")),
            memory_stat: open(&directories.memory, "memory.stat").or_else(|| v2("memory.stat")),
            memory_events: open(&directories.memory, "memory.oom_control").or_else(|| v2("memory.events")),
            memory_peak: open(&directories.memory, "memory.max_usage_in_bytes").or_else(|| v2("memory.peak")),
            directories,
            readings: 0,
            limits: (None, None),
            limit_files: [false; 4],
            bounds: Bounds::default(),
            throttling: Throttling::default(),
            fault_pages: FaultPages::read(Path::new("/sys")),
            last: CgroupReading::default(),
        };
        let any = [&reader.cpu_stat, &reader.cpuacct_usage, &reader.memory_usage, &reader.memory_stat];
        any.iter().any(|file| file.is_some()).then_some(reader)
    }

    /// Reads it; `None` once the cgroup is gone.
    pub fn read(&mut self) -> Option<CgroupReading> {
        if self.readings < READINGS_PER_LIMITS || self.readings.is_multiple_of(READINGS_PER_LIMITS) {
            self.read_limits();
        }
        self.readings = self.readings.wrapping_add(1);
        let cpu_stat = content(self.cpu_stat.as_ref());
        let cpu_stat = cpu_stat.as_deref();
        let usec = |name| Some(keyed(cpu_stat?, name)?.saturating_mul(1000));
        let cpuacct = content(self.cpuacct_usage.as_ref()).and_then(|text| text.trim().parse().ok());
        // Memory that comes or goes while the rest is read would be counted as need.
        let usage = || content(self.memory_usage.as_ref()).and_then(|text| text.trim().parse::<u64>().ok());
        let usage_before = usage();
        let memory_stat = content(self.memory_stat.as_ref());
        let usage = usage().zip(usage_before).map(|(after, before)| after.min(before));
        // v1 reports the cgroup's own figure and the whole subtree's separately.
        let stat =
            |v1, v2| memory_stat.as_deref().and_then(|text| keyed(text, v1).or_else(|| keyed(text, v2)));
        let inactive = stat("total_inactive_file", "inactive_file");
        let shmem = stat("total_shmem", "shmem").unwrap_or(0);
        let files = stat("total_cache", "file").map(|all| all.saturating_sub(shmem));
        let cache = files.map(|files| files + stat("slab_reclaimable", "slab_reclaimable").unwrap_or(0));
        let faulted = memory_stat.as_deref().and_then(|text| self.fault_pages.faulted(text));
        let (throttled_ns, periods) = self.throttling.read(cpu_stat);
        let peak = self.memory_peak();
        let Directories { unified, blkio, .. } = &self.directories;
        let reading = CgroupReading {
            cpu_ns: cpuacct.or_else(|| usec("usage_usec")),
            throttled_ns,
            oom_kills: content(self.memory_events.as_ref()).and_then(|text| keyed(&text, "oom_kill")),
            working_set_bytes: usage.zip(inactive).map(|(usage, inactive)| usage.saturating_sub(inactive)),
            memory_peak_bytes: peak,
            memory: usage.zip(cache).map(|(usage, cache)| MemoryLook { usage, cache, peak, faulted, shmem }),
            cpu_limit_cores: self.limits.0,
            memory_limit_bytes: self.limits.1,
            periods,
            bounds: self.bounds,
            waits: Waits::read(unified.as_ref(), blkio.as_ref()),
        };
        if reading.cpu_ns.is_none() && reading.working_set_bytes.is_none() {
            return None;
        }
        self.last = reading.or_counts_of(&self.last);
        Some(self.last)
    }

    /// Whether it can read memory use.
    pub fn tells_memory(&self) -> bool {
        self.memory_usage.is_some() && self.memory_stat.is_some()
    }

    /// CPU time charged to it so far, in nanoseconds; `None` once the cgroup is gone.
    pub fn cpu_ns(&self) -> Option<u64> {
        match content(self.cpuacct_usage.as_ref()) {
            Some(text) => text.trim().parse().ok(),
            None => {
                keyed(&content(self.cpu_stat.as_ref())?, "usage_usec").map(|usec| usec.saturating_mul(1000))
            }
        }
    }

    /// Highest memory use so far. It is cheaper than a whole reading and shows whether one is worth it.
    pub fn memory_peak(&self) -> Option<u64> {
        content(self.memory_peak.as_ref()).and_then(|text| text.trim().parse().ok())
    }

    /// The reading to count from if the cgroup began during the measurement: zero, except for a cgroup above it, which had
    /// counted before.
    pub fn beginning(&self, first: &CgroupReading) -> CgroupReading {
        let periods = if self.throttling.is_above() { first.periods } else { Some(Periods::default()) };
        let throttled_ns = if self.throttling.is_above() { first.throttled_ns } else { Some(0) };
        CgroupReading {
            cpu_ns: Some(0),
            throttled_ns,
            oom_kills: Some(0),
            periods,
            waits: Waits::NOTHING,
            ..CgroupReading::default()
        }
    }

    /// The files with its own limits that are there.
    fn limit_files(&self) -> [bool; 4] {
        let Directories { unified, cpu, memory, .. } = &self.directories;
        let is_there = |directory: &Option<Directory>, name| {
            directory.as_ref().is_some_and(|one| one.read(name).is_some())
        };
        [
            is_there(cpu, "cpu.cfs_quota_us"),
            is_there(memory, "memory.limit_in_bytes"),
            is_there(unified, "cpu.max"),
            is_there(unified, "memory.max"),
        ]
    }

    fn read_limits(&mut self) {
        let Directories { unified, cpu, memory, mount_points, own, .. } = &self.directories;
        let levels = |directory: &Option<Directory>| Levels::of(directory.as_ref(), *own, mount_points);
        let (v2, v1_cpu, v1_memory_levels) = (levels(unified), levels(cpu), levels(memory));

        let (own_v1, above_v1) = v1_cpu.quotas(v1_cores);
        let (own_v2, above_v2) = v2.quotas(v2_cores);
        let (own_quota, above) = (tighter(own_v1, own_v2), tighter(above_v1, above_v2));
        let (own_v1, above_v1) = v1_memory_levels.memory(v1_memory);
        let (own_v2, above_v2) = v2.memory(v2_memory);
        // When a container ends, its files disappear one after the other, and a missing file is not a missing limit.
        let limit_files = self.limit_files();
        if self.limit_files.iter().zip(limit_files).any(|(before, now)| *before && !now) {
            return;
        }
        self.limit_files = limit_files;
        self.limits.0 = own_quota.as_ref().map(|quota| quota.cores);
        self.bounds.cpu_cores = above.as_ref().map(|quota| quota.cores);
        let everything_else = if self.cpu_stat_is_v1 { cpu } else { unified };
        self.throttling.choose(own_quota, above, everything_else.as_ref());

        self.limits.1 = own_v1.into_iter().chain(own_v2).min();
        // v1 reports the limit that applies with all cgroups above it, even if they are not mounted.
        let holds = content(self.memory_stat.as_ref())
            .and_then(|text| keyed(&text, "hierarchical_memory_limit"))
            .and_then(v1_limit)
            .filter(|holds| self.limits.1.is_none_or(|own| *holds < own));
        self.bounds.memory_bytes = above_v1.into_iter().chain(above_v2).chain(holds).min();
    }
}
