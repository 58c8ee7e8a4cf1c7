//! Collects samples over the run, in bounded memory. Pure: no clock and no file.

mod checkpoint_codec;
pub mod distribution;
pub mod processes;
pub mod shared_pages;
pub mod steps;
pub mod time_series;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;

use serde::{Deserialize, Serialize};

use self::distribution::Distribution;
use self::processes::Processes;
use self::shared_pages::LookedAt;
use self::steps::{StepLook, Steps};
use self::time_series::TimeSeries;
use crate::attribute::ContainerIndex;
use crate::attribute::cpu::{Charge, Source};
use crate::sample::pid_stat::Comm;
use crate::sample::process_table::ProcessKey;

/// For how many samples a vanished process is kept for its exit record.
const RECORD_PATIENCE: u64 = 16;
/// Kept memory values are whole KiB: 4 TiB fit in 32 bits, and RSS is in pages anyway.
const MEMORY_SCALE: f64 = 1.0 / 1024.0;
/// Kept CPU values are millionths of a core.
const CPU_SCALE: f64 = 1e6;
/// Kept percentages are ten-thousandths.
const PERCENT_SCALE: f64 = 1e4;

/// One process in one pass, as far as the run's statistics need it.
#[derive(Debug, Clone, Copy)]
pub struct Present {
    /// Which process.
    pub key: ProcessKey,
    /// Its parent's PID; 0 if that is not visible.
    pub parent_pid: u32,
    /// Command name now.
    pub comm: Comm,
    /// Its container; `None` if it is unknown.
    pub container: Option<ContainerIndex>,
    /// The container inside that container, if there is one.
    pub nested: Option<u32>,
    /// Resident set size in bytes.
    pub rss_bytes: u64,
    /// How long it existed in this interval, in seconds.
    pub age_seconds: f64,
}

/// A process that ended, as the eBPF program reports it.
#[derive(Debug, Clone, Copy)]
pub struct Exited {
    /// Which process.
    pub key: ProcessKey,
    /// Command name at its end.
    pub comm: Comm,
    /// Its container; `None` if it is unknown.
    pub container: Option<ContainerIndex>,
    /// The container inside that container, if there is one.
    pub nested: Option<u32>,
    /// PID of its parent when it ended.
    pub parent_pid: u32,
    /// Highest resident set size in bytes.
    pub peak_rss_bytes: u64,
    /// Seconds from its start to its end, without the time before measuring began.
    pub lived_seconds: f64,
    /// Its start and its end, in nanoseconds since boot.
    pub from_ns: u64,
    /// See `from_ns`.
    pub until_ns: u64,
    /// Bytes that it caused to be read from disks.
    pub disk_read_bytes: u64,
    /// Bytes that it caused to be written to disks.
    pub disk_written_bytes: u64,
    /// Whether this is its final record: the kernel has freed it.
    pub last: bool,
}

/// One pass.
#[derive(Debug, Clone, Copy)]
pub struct PassFacts<'a> {
    /// Seconds from the start of the run.
    pub at_seconds: f64,
    /// Seconds since the previous pass, without the time that the machine slept; 0 for the first.
    pub elapsed_seconds: f64,
    /// The processes seen.
    pub present: &'a [Present],
    /// Records of ended processes, if the eBPF program runs.
    pub exited: Option<&'a [Exited]>,
    /// CPU time used since the previous pass.
    pub charges: &'a [Charge],
    /// The use of each container, including looks in between. It replaces the use that follows from the processes.
    pub used: Option<&'a BTreeMap<ContainerIndex, Used>>,
    /// CPU use of the whole host.
    pub host_cpu_percent: Option<f64>,
    /// Memory use of the whole host.
    pub host_memory_bytes: Option<u64>,
}

/// The use of one container from one sample to the next, added up over the looks in between.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub struct Used {
    /// CPU time: the kernel's account if it can be read, otherwise the CPU time of its processes.
    pub cpu_ns: u64,
    /// CPU time of its processes, as far as they were seen.
    pub processes_ns: u64,
    /// Whether `cpu_ns` is the kernel's account.
    pub is_account: bool,
    /// How long it was active, in seconds.
    pub seconds: f64,
    /// RSS of its processes × seconds, in bytes.
    pub rss_byte_seconds: f64,
    /// Highest sum of their RSS, in bytes.
    pub peak_rss_bytes: u64,
}

/// The run so far.
///
/// A checkpoint keeps the containers separately, one by one: see [`Accumulator::restore`].
#[derive(Debug, Serialize, Deserialize)]
pub struct Accumulator {
    interval_seconds: f64,
    passes: u64,
    host_cpu: Option<Distribution>,
    host_memory: Option<Distribution>,
    #[serde(skip)]
    containers: BTreeMap<ContainerIndex, ContainerRun>,
    /// All containers at the same time, once there are several.
    together: Option<Together>,
    processes: Processes,
    steps: Steps,
    unattributed_ns: u64,
    exited_ns: u64,
}

/// One container over the run.
#[derive(Debug, Serialize, Deserialize)]
pub struct ContainerRun {
    /// CPU use in cores.
    pub cpu: Distribution,
    /// Sum of RSS in bytes.
    pub memory: Distribution,
    /// Working set in bytes, if its cgroup could be read.
    pub working_set: Option<Distribution>,
    /// Highest memory of its processes, if only they tell it.
    pub processes_memory: Option<ProcessesMemory>,
    /// Its use over the time of the run.
    pub time_series: TimeSeries,
    /// CPU time charged to it.
    pub cpu_ns: u64,
    /// CPU time that is known to be of a process, or of the children that a process waited for.
    pub processes_ns: u64,
    /// Containers inside it.
    pub nested: BTreeMap<u32, NestedRun>,
}

/// The highest memory of a container's processes, without mapped files and with each page counted once.
#[derive(Debug, Default, Clone, Copy, Serialize, Deserialize)]
pub struct ProcessesMemory {
    /// Seen, in bytes.
    pub seen_bytes: u64,
    /// The same with shared memory of the machine that may be the container's.
    pub at_most_bytes: u64,
}

/// The use of all containers at the same time.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Together {
    /// CPU use in cores.
    pub cpu: Distribution,
    /// Sum of RSS in bytes.
    pub memory: Distribution,
}

/// A container inside another.
#[derive(Debug, Default, Clone, Copy, Serialize, Deserialize)]
pub struct NestedRun {
    /// CPU time charged to it.
    pub cpu_ns: u64,
    /// Highest sum of RSS in bytes.
    pub peak_rss_bytes: u64,
}

/// The figures of one container in one pass.
#[derive(Debug, Default)]
struct Interval {
    cpu_ns: u64,
    processes_ns: u64,
    rss_bytes: u64,
    /// Highest RSS of several looks.
    peak_rss_bytes: u64,
    /// Whether the CPU time is the kernel's own figure, to the nanosecond.
    is_account: bool,
    nested: BTreeMap<u32, (u64, u64)>,
}

impl Accumulator {
    /// An empty run with passes `interval_seconds` apart that keeps the `top` processes of each kind.
    pub fn new(interval_seconds: f64, top: usize) -> Self {
        Self {
            interval_seconds,
            passes: 0,
            host_cpu: None,
            host_memory: None,
            containers: BTreeMap::new(),
            together: None,
            processes: Processes::new(top),
            steps: Steps::default(),
            unattributed_ns: 0,
            exited_ns: 0,
        }
    }

    /// Adds one pass.
    pub fn add(&mut self, pass: &PassFacts<'_>) {
        self.add_since(pass, &BTreeMap::new());
    }

    /// Adds the first pass of a run that began earlier. `ages` has the age of its containers in seconds: each spread its
    /// CPU time over its age. A figure that is read at one moment stands for at most one interval.
    pub fn add_since(&mut self, pass: &PassFacts<'_>, ages: &BTreeMap<ContainerIndex, f64>) {
        self.passes += 1;
        let elapsed = pass.elapsed_seconds;
        let interval = self.interval_seconds;
        let moment = if ages.is_empty() { elapsed } else { elapsed.min(interval) };
        let distribution = |scale| move || Distribution::new(scale, interval);
        if let Some(percent) = pass.host_cpu_percent {
            self.host_cpu.get_or_insert_with(distribution(PERCENT_SCALE)).add(percent, elapsed);
        }
        if let Some(bytes) = pass.host_memory_bytes {
            self.host_memory.get_or_insert_with(distribution(MEMORY_SCALE)).add(bytes as f64, moment);
        }

        let mut intervals: BTreeMap<ContainerIndex, Interval> = BTreeMap::new();
        for process in pass.present {
            self.processes.see(process, elapsed);
            let Some(container) = process.container else { continue };
            let interval = intervals.entry(container).or_default();
            interval.rss_bytes += process.rss_bytes;
            if let Some(nested) = process.nested {
                interval.nested.entry(nested).or_default().1 += process.rss_bytes;
            }
        }
        self.processes.end_all(pass.exited.unwrap_or_default());
        for charge in pass.charges {
            let ns = charge.ns;
            let nested = self.processes.charge(charge);
            if charge.source != Source::Living {
                self.exited_ns += ns;
            }
            let Some(container) = charge.container else {
                self.unattributed_ns += ns;
                continue;
            };
            let interval = intervals.entry(container).or_default();
            interval.cpu_ns += ns;
            interval.processes_ns += ns;
            if let Some(nested) = nested {
                interval.nested.entry(nested).or_default().0 += ns;
            }
        }
        for (container, used) in pass.used.into_iter().flatten() {
            intervals.entry(*container).or_default().take(used);
        }
        // The kernel reports the peak RSS of a process at its end, even if no look saw it. The container had at least as
        // much.
        let mut ended: BTreeMap<ContainerIndex, u64> = BTreeMap::new();
        for process in pass.exited.unwrap_or_default() {
            let Some(container) = process.container else { continue };
            let peak = ended.entry(container).or_default();
            *peak = process.peak_rss_bytes.max(*peak);
        }
        for (container, bytes) in ended {
            intervals.entry(container).or_default().see_peak(bytes);
        }
        self.add_together(&intervals, elapsed, moment);
        for (container, used) in intervals {
            let looked_at = pass.used.and_then(|all| all.get(&container)).map(|used| used.seconds);
            let elapsed = ages.get(&container).copied().or(looked_at).map_or(elapsed, |age| age.min(elapsed));
            self.container(container).add(&used, pass.at_seconds, elapsed, elapsed.min(moment));
        }
        self.processes.end_pass(elapsed, interval, if pass.exited.is_some() { RECORD_PATIENCE } else { 0 });
    }

    /// Adds the sum over the containers. As long as there is only one, its figures are the sum.
    fn add_together(&mut self, intervals: &BTreeMap<ContainerIndex, Interval>, elapsed: f64, moment: f64) {
        let interval = self.interval_seconds;
        let is_new = |index: &&ContainerIndex| !self.containers.contains_key(index);
        if self.together.is_none() && self.containers.len() + intervals.keys().filter(is_new).count() < 2 {
            return;
        }
        let only = self.containers.values().next();
        let together = self.together.get_or_insert_with(|| match only {
            Some(only) => Together { cpu: only.cpu.clone(), memory: only.memory.clone() },
            None => Together {
                cpu: Distribution::new(CPU_SCALE, interval),
                memory: Distribution::new(MEMORY_SCALE, interval),
            },
        });
        let core_seconds = intervals.values().map(|used| seconds(used.cpu_ns)).sum();
        if intervals.values().all(|used| used.is_account) {
            together.cpu.add_measured(core_seconds, elapsed);
        } else {
            together.cpu.add_used(core_seconds, elapsed);
        }
        let bytes: u64 = intervals.values().map(|used| used.rss_bytes).sum();
        together.memory.add(bytes as f64, moment);
        // The peaks of several containers may come at different moments of the interval.
        let above = intervals.values().map(|used| used.peak_rss_bytes.saturating_sub(used.rss_bytes)).max();
        together.memory.add((bytes + above.unwrap_or_default()) as f64, 0.0);
    }

    /// Adds a reading of a container's working set.
    pub fn add_working_set(&mut self, container: ContainerIndex, bytes: u64, elapsed_seconds: f64) {
        let interval = self.interval_seconds;
        let series = self
            .container(container)
            .working_set
            .get_or_insert_with(|| Distribution::new(MEMORY_SCALE, interval));
        series.add(bytes as f64, elapsed_seconds);
    }

    /// Adds a look at the memory of a container's processes.
    pub fn add_processes_memory(&mut self, container: ContainerIndex, looked_at: LookedAt) {
        let LookedAt { bytes, unseen_bytes } = looked_at;
        let memory = self.container(container).processes_memory.get_or_insert_default();
        memory.take(ProcessesMemory { seen_bytes: bytes, at_most_bytes: bytes + unseen_bytes });
    }

    /// Adds what a look says about the steps of the job.
    pub fn add_steps(&mut self, look: &StepLook<'_>) {
        self.steps.look(look);
    }

    /// The steps seen.
    pub fn steps(&self) -> &Steps {
        &self.steps
    }

    /// Counts the processes that are present at the same time. Looks between samples count them, too.
    pub fn count_at_once(&mut self, present: &[Present]) {
        self.processes.count_at_once(present);
    }

    /// Adds a memory peak of a container, whether or not a pass saw it.
    pub fn add_memory_peak(&mut self, container: ContainerIndex, bytes: u64) {
        self.container(container).memory.add(bytes as f64, 0.0);
    }

    /// Merges one container into another, because both are the same.
    pub fn unite(&mut self, from: ContainerIndex, into: ContainerIndex) {
        let Some(run) = self.containers.remove(&from) else { return };
        self.processes.relabel(from, into);
        match self.containers.entry(into) {
            Entry::Vacant(entry) => drop(entry.insert(run)),
            Entry::Occupied(mut entry) => entry.get_mut().absorb(&run),
        }
    }

    fn container(&mut self, container: ContainerIndex) -> &mut ContainerRun {
        let interval = self.interval_seconds;
        self.containers.entry(container).or_insert_with(|| ContainerRun {
            cpu: Distribution::new(CPU_SCALE, interval),
            memory: Distribution::new(MEMORY_SCALE, interval),
            working_set: None,
            processes_memory: None,
            time_series: TimeSeries::new(interval),
            cpu_ns: 0,
            processes_ns: 0,
            nested: BTreeMap::new(),
        })
    }

    /// Restores one container from a checkpoint. Returns false if its data is impossible.
    #[must_use]
    pub fn restore(&mut self, index: ContainerIndex, run: ContainerRun) -> bool {
        let series = [Some(&run.cpu), Some(&run.memory), run.working_set.as_ref()];
        let sound = run.time_series.is_sound() && series.into_iter().flatten().all(Distribution::is_sound);
        self.containers.insert(index, run).is_none() && sound
    }

    /// Whether a checkpoint fits a run with these numbers of containers and nested containers.
    pub fn is_sound(&self, containers: u32, nested: u32) -> bool {
        let inside = |(index, run): (&ContainerIndex, &ContainerRun)| {
            index.0 < containers && run.nested.keys().all(|inner| *inner < nested)
        };
        let host = [&self.host_cpu, &self.host_memory];
        let together = self.together.iter().flat_map(|both| [&both.cpu, &both.memory]);
        let charged = self.containers.values().map(|run| run.cpu_ns).chain([self.unattributed_ns]);
        self.interval_seconds.is_finite()
            && self.interval_seconds > 0.0
            && host.into_iter().flatten().chain(together).all(Distribution::is_sound)
            && adds_up(charged)
            && self.containers.iter().all(inside)
            && self.processes.is_sound(containers, nested)
            && self.steps.is_sound()
    }

    /// The container after this one in the order of [`Self::containers`]; the first one for `None`.
    pub fn container_after(&self, index: Option<ContainerIndex>) -> Option<(ContainerIndex, &ContainerRun)> {
        let after = (index.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        self.containers.range(after).next().map(|(index, run)| (*index, run))
    }

    /// Passes so far.
    pub fn passes(&self) -> u64 {
        self.passes
    }

    /// CPU use of the whole host in percent, if known.
    pub fn host_cpu(&self) -> Option<&Distribution> {
        self.host_cpu.as_ref()
    }

    /// Memory use of the whole host in bytes, if known.
    pub fn host_memory(&self) -> Option<&Distribution> {
        self.host_memory.as_ref()
    }

    /// The containers seen.
    pub fn containers(&self) -> impl Iterator<Item = (ContainerIndex, &ContainerRun)> {
        self.containers.iter().map(|(index, run)| (*index, run))
    }

    /// All containers at the same time, if there were several.
    pub fn together(&self) -> Option<&Together> {
        self.together.as_ref()
    }

    /// The processes seen.
    pub fn processes(&self) -> &Processes {
        &self.processes
    }

    /// CPU time whose container is unknown.
    pub fn unattributed_ns(&self) -> u64 {
        self.unattributed_ns
    }

    /// CPU time that no pass saw: of processes, or of the last moments of processes, that had ended by the next one.
    pub fn exited_ns(&self) -> u64 {
        self.exited_ns
    }
}

impl ProcessesMemory {
    fn take(&mut self, other: Self) {
        self.seen_bytes = self.seen_bytes.max(other.seen_bytes);
        self.at_most_bytes = self.at_most_bytes.max(other.at_most_bytes);
    }
}

impl Interval {
    fn see_peak(&mut self, bytes: u64) {
        self.peak_rss_bytes = self.peak_rss_bytes.max(bytes);
    }

    fn take(&mut self, used: &Used) {
        self.cpu_ns = used.cpu_ns;
        self.processes_ns = used.processes_ns;
        self.is_account = used.is_account;
        self.peak_rss_bytes = used.peak_rss_bytes;
        if used.seconds > 0.0 {
            self.rss_bytes = (used.rss_byte_seconds / used.seconds) as u64;
        }
    }
}

impl ContainerRun {
    /// Adds the use in `elapsed` seconds. The memory at their end stands for `moment` seconds.
    fn add(&mut self, used: &Interval, at: f64, elapsed: f64, moment: f64) {
        let core_seconds = seconds(used.cpu_ns);
        if used.is_account {
            self.cpu.add_measured(core_seconds, elapsed);
        } else {
            self.cpu.add_used(core_seconds, elapsed);
        }
        self.memory.add(used.rss_bytes as f64, moment);
        self.memory.add(used.peak_rss_bytes as f64, 0.0);
        self.time_series.add(
            (at - elapsed).max(0.0),
            at,
            core_seconds,
            used.rss_bytes.max(used.peak_rss_bytes),
        );
        self.cpu_ns += used.cpu_ns;
        self.processes_ns += used.processes_ns;
        for (nested, (cpu_ns, rss_bytes)) in &used.nested {
            let run = self.nested.entry(*nested).or_default();
            run.cpu_ns += cpu_ns;
            run.peak_rss_bytes = run.peak_rss_bytes.max(*rss_bytes);
        }
    }
}

impl ContainerRun {
    /// Adds another container, which turned out to be the same.
    pub fn absorb(&mut self, other: &Self) {
        self.cpu.absorb(&other.cpu);
        self.memory.absorb(&other.memory);
        if let Some(more) = &other.working_set {
            let new = || Distribution::new(MEMORY_SCALE, self.cpu.usual_weight());
            self.working_set.get_or_insert_with(new).absorb(more);
        }
        if let Some(more) = other.processes_memory {
            self.processes_memory.get_or_insert_default().take(more);
        }
        self.time_series.absorb(&other.time_series);
        self.cpu_ns += other.cpu_ns;
        self.processes_ns += other.processes_ns;
        for (nested, more) in &other.nested {
            let run = self.nested.entry(*nested).or_default();
            run.cpu_ns += more.cpu_ns;
            run.peak_rss_bytes = run.peak_rss_bytes.max(more.peak_rss_bytes);
        }
    }
}

/// Whether these counts are possible: their sum is far below the limit of 64 bits.
fn adds_up(mut counts: impl Iterator<Item = u64>) -> bool {
    let total = counts.try_fold(0, u64::checked_add);
    total.is_some_and(|total| total < 1 << 62)
}

/// Nanoseconds as seconds.
pub fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

#[cfg(test)]
mod tests;
