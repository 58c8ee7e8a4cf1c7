//! Turns accumulated samples into the summary on the wire. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use wire::{
    Attribution, Certainty, CollectorInfo, CommandUsage, ContainerUsage, NestedUsage, Payload, PodOverhead,
    PodUsage, ProcessCpu, ProcessMemory, QuantileMethod, StepUsage,
};

use crate::accumulate::distribution::Distribution;
use crate::accumulate::processes::{CommandKey, CommandRun, ProcessReport, ProcessRun};
use crate::accumulate::steps::StepRun;
use crate::accumulate::{Accumulator, ContainerRun, seconds};
use crate::attribute::ContainerIndex;
use crate::attribute::containers::Containers;
use crate::config::limits::Limits;
use crate::sample::cgroupfs::{Bounds, CgroupReading, MemoryNeed, SavedReadings, Waits};
use crate::sample::pidfd::Ending;

/// A run's figures from a container's own cgroup; `None` if the cgroup has no such figure.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct CgroupFigures {
    /// CPU time that the kernel charged to it while it was watched.
    pub cpu_seconds: Option<f64>,
    /// Time for which it was throttled while it was watched.
    pub throttled_seconds: Option<f64>,
    /// Enforcement periods in which it wanted CPU while it was watched.
    pub periods: Option<u64>,
    /// Enforcement periods in which it was throttled.
    pub throttled_periods: Option<u64>,
    /// Processes that the OOM killer killed while it was watched.
    pub oom_kills: Option<u64>,
    /// Peak of its memory, page cache included.
    pub memory_peak_bytes: Option<u64>,
    /// Its own CPU limit.
    pub cpu_limit_cores: Option<f64>,
    /// Its own memory limit.
    pub memory_limit_bytes: Option<u64>,
    /// The tightest limits above it.
    pub bounds: Bounds,
    /// The memory that it needed.
    pub need: MemoryNeed,
    /// Its disk I/O and stalls.
    pub waits: Waits,
    /// How its first process ended.
    pub ending: Option<Ending>,
}

impl CgroupFigures {
    /// The growth of its counters from the first reading to the last, and the memory need from all readings.
    pub fn of(saved: &SavedReadings) -> Self {
        let SavedReadings { first, last, need } = saved;
        // A counter that is unknown at the beginning is unknown for the run.
        let grown = |counter: fn(&CgroupReading) -> Option<u64>| counter(last)?.checked_sub(counter(first)?);
        Self {
            cpu_seconds: grown(|reading| reading.cpu_ns).map(seconds),
            throttled_seconds: grown(|reading| reading.throttled_ns).map(seconds),
            periods: grown(|reading| Some(reading.periods?.all)),
            throttled_periods: grown(|reading| Some(reading.periods?.throttled)),
            oom_kills: grown(|reading| reading.oom_kills),
            memory_peak_bytes: last.memory_peak_bytes,
            cpu_limit_cores: last.cpu_limit_cores,
            memory_limit_bytes: last.memory_limit_bytes,
            bounds: last.bounds,
            need: *need,
            waits: last.waits.since(first.waits),
            ending: None,
        }
    }

    /// The figures of a restarted container: the counters of both added up, and the newer limits.
    fn and_then(self, newer: Self) -> Self {
        fn sum<T: std::ops::Add<Output = T>>(one: Option<T>, other: Option<T>) -> Option<T> {
            match (one, other) {
                (Some(one), Some(other)) => Some(one + other),
                (one, other) => one.or(other),
            }
        }
        Self {
            cpu_seconds: sum(self.cpu_seconds, newer.cpu_seconds),
            throttled_seconds: sum(self.throttled_seconds, newer.throttled_seconds),
            periods: sum(self.periods, newer.periods),
            throttled_periods: sum(self.throttled_periods, newer.throttled_periods),
            oom_kills: sum(self.oom_kills, newer.oom_kills),
            memory_peak_bytes: self.memory_peak_bytes.max(newer.memory_peak_bytes),
            cpu_limit_cores: newer.cpu_limit_cores,
            memory_limit_bytes: newer.memory_limit_bytes,
            bounds: newer.bounds,
            need: self.need.and(newer.need),
            waits: self.waits.and(newer.waits),
            ending: newer.ending,
        }
    }
}

/// Everything that a summary is made of.
#[derive(Debug)]
pub struct Run<'a> {
    /// Samples.
    pub accumulator: &'a Accumulator,
    /// The containers.
    pub containers: &'a Containers,
    /// Figures from their cgroups.
    pub cgroups: BTreeMap<ContainerIndex, CgroupFigures>,
    /// `CGROUP_LIMITS`, by container name.
    pub limits: &'a BTreeMap<String, Limits>,
    /// The collector.
    pub collector: CollectorInfo,
    /// When measuring began.
    pub start_time: Timestamp,
    /// Duration so far.
    pub duration: Duration,
    /// Number of commands to report.
    pub top: usize,
    /// Passes that were due and did not happen.
    pub missed_samples: u64,
    /// Records that were lost.
    pub lost_records: u64,
    /// CPU time of the collector itself.
    pub collector_cpu: Duration,
    /// Whether the summary covers the whole run.
    pub complete: bool,
}

/// A summary in the making. It is made container by container, so that the caller can do other work in between.
#[derive(Debug)]
pub struct Draft {
    processes: ProcessReport,
    counts: BTreeMap<Option<ContainerIndex>, u64>,
    containers: Vec<ContainerUsage>,
    last: Option<ContainerIndex>,
}

impl Run<'_> {
    /// Makes the whole summary.
    pub fn payload(&self) -> Payload {
        let mut draft = self.draft();
        while self.add_container(&mut draft) {}
        self.complete(draft)
    }

    /// Begins a summary; the run must not change until it is complete.
    pub fn draft(&self) -> Draft {
        let processes = self.accumulator.processes().report();
        let counts = process_counts(&processes);
        Draft { processes, counts, containers: Vec::new(), last: None }
    }

    /// Adds the next container. Returns false if none is left.
    pub fn add_container(&self, draft: &mut Draft) -> bool {
        let Some((index, run)) = self.accumulator.container_after(draft.last) else { return false };
        draft.last = Some(index);
        if self.containers.is_overhead(index) {
            return true;
        }
        let count = draft.counts.get(&Some(index)).copied().unwrap_or_default();
        draft.containers.push(self.container(index, run, &draft.processes, count));
        true
    }

    /// Completes a draft that has every container.
    pub fn complete(&self, draft: Draft) -> Payload {
        let Draft { processes, counts, mut containers, .. } = draft;
        containers.sort_by(|one, other| {
            other.cpu_seconds.partial_cmp(&one.cpu_seconds).unwrap_or(std::cmp::Ordering::Equal)
        });
        let attributed_ns: u64 = self.accumulator.containers().map(|(_, run)| run.cpu_ns).sum();
        // Unattributed time may be in a container's account already, as time of no known process. Do not count it twice.
        let unnamed_ns: u64 =
            self.accumulator.containers().map(|(_, run)| run.cpu_ns.saturating_sub(run.processes_ns)).sum();
        let unattributed_ns = self.accumulator.unattributed_ns().saturating_sub(unnamed_ns);
        // Timestamps on the wire have milliseconds. Both are cut separately, so that they stay in order.
        let start_time = milliseconds(self.start_time);
        let end_time = start_time.checked_add(self.duration).map_or(start_time, milliseconds);
        Payload {
            schema_version: Some(wire::SCHEMA_VERSION),
            start_time,
            end_time,
            duration_seconds: rounded(self.duration.as_secs_f64()),
            sample_count: self.accumulator.passes(),
            cpu_total_percent: self.accumulator.host_cpu().map(Distribution::stats),
            mem_used_bytes: self.accumulator.host_memory().map(Distribution::stats),
            pod: self.pod().filter(|_| containers.len() > 1),
            containers,
            pod_overhead: self.pod_overhead(),
            top_cpu_processes: processes
                .by_cpu
                .iter()
                .filter(|run| !self.is_overhead(run.container))
                .map(|run| self.process_cpu(run))
                .collect(),
            top_mem_processes: processes
                .by_memory
                .iter()
                .filter(|run| !self.is_overhead(run.container))
                .map(|run| self.process_memory(run))
                .collect(),
            top_commands: processes
                .commands
                .iter()
                .filter(|((container, _), _)| !self.is_overhead(*container))
                .take(self.top)
                .map(|(key, run)| self.command(key, run))
                .collect(),
            steps: self.accumulator.steps().all().into_iter().map(step).collect(),
            ci: None,
            collector: Some(self.collector.clone()),
            attribution: Some(Attribution {
                cpu_seconds: seconds(attributed_ns + unattributed_ns),
                exited_cpu_seconds: seconds(self.accumulator.exited_ns()),
                unattributed_cpu_seconds: seconds(unattributed_ns),
                process_count: counts.values().sum(),
                missed_samples: self.missed_samples,
                lost_records: self.lost_records,
                collector_cpu_seconds: rounded(self.collector_cpu.as_secs_f64()),
            }),
            quantile_method: Some(self.quantile_method()),
            complete: Some(self.complete),
        }
    }

    /// Whether it is the pod's overhead, which only `pod_overhead` reports.
    fn is_overhead(&self, index: Option<ContainerIndex>) -> bool {
        index.is_some_and(|index| self.containers.is_overhead(index))
    }

    /// Use of all containers at the same time, if there is nothing else.
    fn pod(&self) -> Option<PodUsage> {
        let together = self.accumulator.together()?;
        let mut all = self.accumulator.containers();
        let pod = PodUsage { cpu_cores: together.cpu.stats(), memory_bytes: together.memory.stats() };
        all.all(|(index, _)| self.containers[index].is_in_container() || self.is_overhead(Some(index)))
            .then_some(pod)
    }

    /// Use of the pod outside of its containers.
    fn pod_overhead(&self) -> Option<PodOverhead> {
        let mut runs = self.accumulator.containers().filter(|(index, _)| self.containers.is_overhead(*index));
        let (_, first) = runs.next()?;
        let (mut cpu_ns, mut memory) = (first.cpu_ns, first.memory.clone());
        for (_, more) in runs {
            cpu_ns += more.cpu_ns;
            memory.absorb(&more.memory);
        }
        Some(PodOverhead { cpu_seconds: seconds(cpu_ns), memory_bytes: memory.stats() })
    }

    fn container_name(&self, index: Option<ContainerIndex>) -> Option<String> {
        index.map(|index| self.containers[index].name().to_owned())
    }

    fn container(
        &self,
        index: ContainerIndex,
        run: &ContainerRun,
        processes: &ProcessReport,
        process_count: u64,
    ) -> ContainerUsage {
        let name = self.containers[index].name().to_owned();
        let container = self.containers.newest(index);
        let all = self.containers.incarnations(index);
        let mut all: Vec<_> = all.filter_map(|(one, which)| Some((which, self.cgroups.get(&one)?))).collect();
        // The newest comes last: its limits are the current ones.
        all.sort_by_key(|(which, _)| std::ptr::eq(*which, container));
        let figures = all.into_iter().map(|(_, figures)| *figures).reduce(CgroupFigures::and_then);
        let figures = figures.unwrap_or_default();
        let restarts = Some(self.containers.restarts(index)).filter(|restarts| *restarts > 0);
        let limits = self.limits.get(&name);
        let nested = run.nested.iter().map(|(nested, run)| NestedUsage {
            id: self.containers.nested_id(*nested).to_owned(),
            cpu_seconds: seconds(run.cpu_ns),
            process_count: processes.nested.get(&(index, *nested)).copied().unwrap_or_default(),
            peak_mem_bytes: run.peak_rss_bytes,
        });
        let (exit_code, exit_signal) = match figures.ending {
            Some(Ending::Exited(code)) => (Some(code), None),
            Some(Ending::Killed(signal)) => (None, Some(signal)),
            None => (None, None),
        };
        let untold = run.processes_memory.filter(|_| figures.need.at_least().is_none());
        let stalled = |us: Option<u64>| us.map(|us| us as f64 / 1e6);
        let cpu_seconds = seconds(run.cpu_ns);
        let unnamed_ns = run.cpu_ns.saturating_sub(run.processes_ns);
        ContainerUsage {
            id: container.id().map(ToOwned::to_owned),
            restarts,
            runtime: container.runtime.map(|runtime| runtime.to_string()),
            pod_uid: container.pod_uid.clone(),
            cpu_cores: run.cpu.stats(),
            memory_bytes: run.memory.stats(),
            cpu_seconds: Some(cpu_seconds),
            unnamed_cpu_seconds: Some(seconds(unnamed_ns)).filter(|_| unnamed_ns > 0),
            cpu_certainty: Some(cpu_certainty(cpu_seconds, figures.cpu_seconds)),
            process_count: Some(process_count),
            cpu_limit_cores: limits.and_then(|limits| limits.cpu_cores).or(figures.cpu_limit_cores),
            memory_limit_bytes: limits.and_then(|limits| limits.memory_bytes).or(figures.memory_limit_bytes),
            cpu_bound_cores: figures.bounds.cpu_cores,
            memory_bound_bytes: figures.bounds.memory_bytes,
            cgroup_cpu_seconds: figures.cpu_seconds,
            cpu_request_cores: limits.and_then(|limits| limits.requests.cpu_cores),
            memory_request_bytes: limits.and_then(|limits| limits.requests.memory_bytes),
            cpu_throttled_seconds: figures.throttled_seconds,
            cpu_periods: figures.periods,
            cpu_throttled_periods: figures.throttled_periods,
            cpu_cores_histogram: Some(run.cpu.cpu_histogram()),
            oom_kills: figures.oom_kills,
            cpu_stalled_seconds: stalled(figures.waits.cpu_stalled_us),
            memory_stalled_seconds: stalled(figures.waits.memory_stalled_us),
            io_stalled_seconds: stalled(figures.waits.io_stalled_us),
            disk_read_bytes: figures.waits.disk_read_bytes,
            disk_written_bytes: figures.waits.disk_written_bytes,
            memory_peak_bytes: figures.memory_peak_bytes,
            memory_needed_at_least_bytes: figures.need.at_least(),
            memory_needed_at_most_bytes: figures.need.at_most(),
            memory_certainty: Some(memory_certainty(&figures.need)),
            processes_memory_bytes: untold.map(|memory| memory.seen_bytes),
            processes_memory_at_most_bytes: untold.map(|memory| memory.at_most_bytes),
            exit_code,
            exit_signal,
            working_set_bytes: run.working_set.as_ref().map(Distribution::stats),
            series: Some(run.time_series.to_wire(self.duration.as_secs_f64())),
            nested: nested.collect(),
            name,
        }
    }

    fn process_cpu(&self, run: &ProcessRun) -> ProcessCpu {
        let avg = (run.seen_seconds > 0.0).then(|| 100.0 * seconds(run.cpu_ns) / run.seen_seconds);
        // A process that lived for less than an interval used it all in less than one.
        let peak = (100.0 * run.peak_cores).max(avg.unwrap_or_default());
        ProcessCpu {
            pid: run.key.pid,
            name: run.comm.to_string(),
            container: self.container_name(run.container),
            peak_cpu_percent: rounded(peak),
            avg_cpu_percent: avg.map(rounded),
            cpu_seconds: Some(seconds(run.cpu_ns)),
        }
    }

    fn process_memory(&self, run: &ProcessRun) -> ProcessMemory {
        ProcessMemory {
            pid: run.key.pid,
            name: run.comm.to_string(),
            container: self.container_name(run.container),
            peak_mem_bytes: run.peak_rss_bytes,
        }
    }

    fn command(&self, (container, comm): &CommandKey, run: &CommandRun) -> CommandUsage {
        let disk = Some(run.disk_bytes).filter(|[read, written]| read | written > 0);
        CommandUsage {
            name: comm.to_string(),
            container: self.container_name(*container),
            process_count: run.processes,
            cpu_seconds: seconds(run.cpu_ns),
            unseen_children_cpu_seconds: (run.children_ns > 0).then(|| seconds(run.children_ns)),
            peak_mem_bytes: run.peak_rss_bytes,
            peak_process_count: Some(run.at_once).filter(|count| *count > 0),
            disk_read_bytes: disk.map(|[read, _]| read),
            disk_written_bytes: disk.map(|[_, written]| written),
        }
    }

    fn quantile_method(&self) -> QuantileMethod {
        let host = [self.accumulator.host_cpu(), self.accumulator.host_memory()].into_iter().flatten();
        let containers = self.accumulator.containers().flat_map(|(_, run)| [&run.cpu, &run.memory]);
        let together = self.accumulator.together().into_iter().flat_map(|both| [&both.cpu, &both.memory]);
        host.chain(containers)
            .chain(together)
            .map(Distribution::method)
            .max()
            .unwrap_or(QuantileMethod::Exact)
    }
}

fn step(run: &StepRun) -> StepUsage {
    StepUsage {
        name: run.name.clone(),
        begin_seconds: rounded(run.began_seconds),
        end_seconds: rounded(run.ended_seconds),
        cpu_seconds: seconds(run.cpu_ns),
        peak_mem_bytes: run.peak_rss_bytes,
        process_count: run.processes,
    }
}

/// Exact if the figure agrees with the kernel's own account.
fn cpu_certainty(ours: f64, account: Option<f64>) -> Certainty {
    let agrees = |account: f64| (ours - account).abs() <= account * 0.005 + 0.005;
    if account.is_some_and(agrees) { Certainty::Exact } else { Certainty::Sampled }
}

/// Exact if the two bounds are within 5 %.
fn memory_certainty(need: &MemoryNeed) -> Certainty {
    match (need.at_least(), need.at_most()) {
        (Some(least), Some(most)) if most - least <= most / 20 => Certainty::Exact,
        (_, Some(_)) => Certainty::Bounded,
        _ => Certainty::Sampled,
    }
}

fn process_counts(report: &ProcessReport) -> BTreeMap<Option<ContainerIndex>, u64> {
    let mut counts = BTreeMap::new();
    for ((container, _), run) in &report.commands {
        *counts.entry(*container).or_default() += run.processes;
    }
    counts
}

fn milliseconds(time: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(time.as_millisecond()).unwrap_or(time)
}

/// Rounds to three decimal places, as precise as a clock tick. The rest is noise.
fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}
