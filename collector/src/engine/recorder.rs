//! The record of one run: samples, cgroup counters, and the other data of a checkpoint.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use wire::{CollectorInfo, Payload};

use super::cgroup_stats::CgroupStats;
use super::clock::Clock;
use super::pass::{Cost, Pass};
use crate::accumulate::shared_pages::LookedAt;
use crate::accumulate::steps::StepLook;
use crate::accumulate::{Accumulator, PassFacts, Used};
use crate::attribute::ContainerIndex;
use crate::attribute::containers::Containers;
use crate::config::Config;
use crate::config::limits::Limits;
use crate::deliver::checkpoint::{Checkpoint, Head};
use crate::host;
use crate::run_identity::RunIdentity;
use crate::sample::boot_id;
use crate::sample::process_table::ProcessKey;
use crate::summarise::Run;

/// Records one run.
#[derive(Debug)]
pub(crate) struct RunRecorder {
    interval_seconds: f64,
    accumulator: Accumulator,
    cgroups: CgroupStats,
    /// When the run began, by the wall clock.
    start_time: Timestamp,
    /// The same by the boot clock, and in ticks.
    started: Duration,
    began_ticks: u64,
    /// When the last pass was made, by the boot clock.
    last: Duration,
    cost: Cost,
    /// The looks since the last sample, merged into one pass, and the use of each container in them.
    pending: Option<Pass>,
    used: BTreeMap<ContainerIndex, Used>,
    accounts: BTreeMap<ContainerIndex, Account>,
    /// Whether the accounts belong to another run from now on.
    is_left: bool,
    /// RSS and working set of each container at the last pass, in bytes.
    memory: BTreeMap<ContainerIndex, (u64, Option<u64>)>,
}

/// The CPU time of a container since its account was opened, in nanoseconds.
#[derive(Debug, Default, Clone, Copy)]
struct Account {
    /// CPU time that the kernel counted.
    kernel: u64,
    /// CPU time of its processes, as far as passes saw them.
    processes: u64,
    /// The same at the last time that the kernel's count was known to be whole.
    processes_then: u64,
    /// CPU time recorded so far.
    recorded: u64,
}

impl Account {
    /// Counts the kernel's figures from here. They do not include the CPU time recorded so far.
    fn begin(&mut self) {
        self.kernel = self.recorded;
    }

    /// The kernel's figures count no longer: the usage of the processes continues from the recorded figure.
    fn end(&mut self) {
        self.processes = self.recorded;
    }

    /// Adds both figures of the same time and returns the CPU time to record. `kernel`: the kernel's figure, and whether it
    /// is whole. A whole figure counts alone. If the cgroup's end was missed, the processes tell the rest. Their sum can be too
    /// high, by what a runtime used before it came into the cgroup, and so can its growth, by what was counted before for
    /// processes that are only seen now.
    fn add(&mut self, kernel: Option<(u64, bool)>, processes: u64) -> u64 {
        self.processes += processes;
        let total = match kernel {
            // The kernel may have counted this CPU time before, for processes that are only seen now.
            None => self.processes.max(self.recorded),
            Some((ns, is_whole)) => {
                self.kernel += ns;
                if is_whole {
                    self.processes_then = self.processes;
                }
                let since = self.processes.saturating_sub(self.processes_then);
                self.kernel.max(self.processes.min(self.kernel + since))
            }
        };
        let more = total.saturating_sub(self.recorded);
        self.recorded += more;
        more
    }
}

/// The parts of a summary that are the same for all runs of a collector.
#[derive(Debug)]
pub(crate) struct RunContext {
    pub(crate) info: CollectorInfo,
    pub(crate) limits: BTreeMap<String, Limits>,
    pub(crate) top: usize,
}

impl RunContext {
    pub(crate) fn new(config: &Config, info: CollectorInfo) -> Self {
        Self { info, limits: config.limits.clone(), top: config.top }
    }
}

impl RunRecorder {
    /// Begins at the start of a process (`began_ticks`), at the latest at `now` by the boot clock.
    pub(crate) fn begin(
        config: &Config,
        cgroups: CgroupStats,
        clock: Clock,
        began_ticks: u64,
        now: Duration,
    ) -> Self {
        let interval_seconds = config.interval.as_secs_f64();
        let started = clock.boot_at(began_ticks, now);
        let ago = host::Moment::now().boot.saturating_sub(started);
        Self {
            interval_seconds,
            accumulator: Accumulator::new(interval_seconds, config.top),
            cgroups,
            start_time: Timestamp::now().checked_sub(ago).unwrap_or_else(|_| Timestamp::now()),
            started,
            began_ticks,
            last: started,
            cost: Cost::default(),
            pending: None,
            used: BTreeMap::new(),
            accounts: BTreeMap::new(),
            is_left: false,
            memory: BTreeMap::new(),
        }
    }

    /// Continues the run of a checkpoint. The caller restores its containers.
    pub(crate) fn resume(
        checkpoint: Checkpoint,
        mut cgroups: CgroupStats,
        interval: Duration,
        now: Duration,
    ) -> Self {
        let Checkpoint { head, accumulator, .. } = checkpoint;
        cgroups.restore(head.cgroups);
        let last = head.started + head.duration;
        let interval_seconds = interval.as_secs_f64();
        let missed = now.saturating_sub(last).as_secs_f64() / interval_seconds;
        Self {
            interval_seconds,
            accumulator,
            cgroups,
            start_time: head.start_time,
            started: head.started,
            began_ticks: head.began_ticks,
            last,
            cost: Cost {
                missed_samples: head.missed_samples + missed as u64,
                lost_records: head.lost_records,
                collector_cpu: head.collector_cpu,
            },
            pending: None,
            used: BTreeMap::new(),
            accounts: BTreeMap::new(),
            is_left: false,
            memory: BTreeMap::new(),
        }
    }

    /// Moves the beginning back by `before`, to the start of an earlier process.
    pub(crate) fn begin_earlier(&mut self, before: Duration, first_ticks: u64) {
        self.began_ticks = first_ticks;
        self.started -= before;
        self.last = self.started;
        self.start_time = self.start_time.checked_sub(before).unwrap_or(self.start_time);
        self.cgroups.count_from_the_beginning();
    }

    /// Adds a cost that is not part of any pass.
    pub(crate) fn add_cost(&mut self, cost: Cost) {
        self.cost += cost;
    }

    /// Adds a memory peak that no pass saw.
    pub(crate) fn add_memory_peak(&mut self, container: ContainerIndex, bytes: u64) {
        self.accumulator.add_memory_peak(container, bytes);
    }

    /// Merges containers that turned out to be the same. No summary or checkpoint may be in progress.
    pub(crate) fn unite_restarts(&mut self, containers: &Containers) {
        if !containers.has_restarts() {
            return;
        }
        let indexes: Vec<ContainerIndex> = self.accumulator.containers().map(|(index, _)| index).collect();
        for index in indexes {
            let root = containers.root(index);
            if root != index {
                self.accumulator.unite(index, root);
            }
        }
    }

    /// Adds a pass: a sample, or a look whose figures become part of the next sample.
    pub(crate) fn add(&mut self, mut pass: Pass, containers: &Containers) {
        self.unite_restarts(containers);
        // Each incarnation of a container has its own account.
        let there = pass.present.iter().filter_map(|process| Some((process.key, process.container?)));
        let there: Vec<_> = there.collect();
        pass.unite_restarts(containers);
        self.look(&pass, &there, containers);
        self.accumulator.count_at_once(&pass.present);
        self.accumulator.add_steps(&StepLook {
            at_seconds: pass.at.saturating_sub(self.started).as_secs_f64(),
            names: &pass.steps,
            present: &pass.present,
            exited: pass.exited.as_deref().unwrap_or_default(),
            charges: &pass.charges,
        });
        self.last = pass.at;
        self.cost += std::mem::take(&mut pass.cost);
        let between = pass.between;
        match &mut self.pending {
            Some(pending) => pending.absorb(pass),
            None => self.pending = Some(pass),
        }
        if !between {
            self.flush();
        }
    }

    /// Leaves the containers' accounts to another run. From now on this run records only the CPU time of its own processes.
    pub(crate) fn leave_containers(&mut self) {
        self.is_left = true;
    }

    /// Returns after it left them: the other run's usage in between is in their accounts, so that none counts any more.
    pub(crate) fn return_to_containers(&mut self, containers: &Containers) {
        if std::mem::take(&mut self.is_left) {
            self.disown(&(0..containers.len() as u32).map(ContainerIndex).collect(), containers);
        }
    }

    /// Other runs use these containers at the same time. From now on this run records there only the usage of its own
    /// processes.
    pub(crate) fn disown(&mut self, shared: &BTreeSet<ContainerIndex>, containers: &Containers) {
        for container in shared {
            if self.cgroups.disown(*container) {
                self.accounts.entry(containers.root(*container)).or_default().end();
            }
        }
    }

    /// Reads the accounts of all containers and adds up the use of each.
    fn look(&mut self, pass: &Pass, there: &[(ProcessKey, ContainerIndex)], containers: &Containers) {
        let mut processes_ns: BTreeMap<ContainerIndex, u64> = BTreeMap::new();
        let mut rss: BTreeMap<ContainerIndex, u64> = BTreeMap::new();
        for process in &pass.present {
            let Some(container) = process.container else { continue };
            *rss.entry(container).or_default() += process.rss_bytes;
        }
        for charge in &pass.charges {
            let Some(container) = charge.container else { continue };
            *processes_ns.entry(container).or_default() += charge.ns;
        }
        let mut kernel_ns: BTreeMap<ContainerIndex, (u64, bool)> = BTreeMap::new();
        let mut working_sets: BTreeMap<ContainerIndex, u64> = BTreeMap::new();
        let mut begun = BTreeSet::new();
        let looks =
            if self.is_left { Vec::new() } else { self.cgroups.look(containers, there, !pass.between) };
        for look in looks {
            let container = containers.root(look.container);
            if let Some(ns) = look.cpu_ns {
                let sum = kernel_ns.entry(container).or_insert((0, true));
                *sum = (sum.0 + ns, sum.1 && look.is_whole);
                if look.begins_here {
                    begun.insert(container);
                }
            }
            if let Some(bytes) = look.working_set_bytes {
                *working_sets.entry(container).or_default() += bytes;
            }
        }
        let elapsed = pass.elapsed_seconds;
        let active = rss
            .keys()
            .chain(processes_ns.keys())
            .chain(kernel_ns.iter().filter(|(_, used)| used.0 > 0).map(|(index, _)| index));
        let active: BTreeSet<ContainerIndex> = active.copied().collect();
        for container in active {
            let processes = processes_ns.get(&container).copied().unwrap_or_default();
            let used = self.used.entry(container).or_default();
            let account = kernel_ns.get(&container);
            used.is_account = account.is_some();
            let sums = self.accounts.entry(container).or_default();
            if begun.contains(&container) {
                // Only the processes' times include CPU time from before the account was opened.
                used.cpu_ns += sums.add(None, processes);
                sums.begin();
            } else {
                used.cpu_ns += sums.add(account.copied(), processes);
            }
            used.processes_ns += processes;
            used.seconds += elapsed;
            let rss = rss.get(&container).copied().unwrap_or_default();
            used.rss_byte_seconds += rss as f64 * elapsed;
            used.peak_rss_bytes = used.peak_rss_bytes.max(rss);
        }
        self.look_at_processes(pass, containers);
        self.memory =
            rss.into_iter().map(|(index, rss)| (index, (rss, working_sets.get(&index).copied()))).collect();
        let moment = if pass.ages.is_empty() { elapsed } else { elapsed.min(self.interval_seconds) };
        for (container, bytes) in working_sets {
            self.accumulator.add_working_set(container, bytes, if pass.between { 0.0 } else { moment });
        }
    }

    /// Adds the memory of processes, in containers whose cgroups do not tell theirs.
    fn look_at_processes(&mut self, pass: &Pass, containers: &Containers) {
        let mut sums: BTreeMap<ContainerIndex, LookedAt> = BTreeMap::new();
        for (index, looked_at) in &pass.memory {
            if self.cgroups.tells_memory(*index) {
                continue;
            }
            let sum = sums.entry(containers.root(*index)).or_default();
            sum.bytes += looked_at.bytes;
            sum.unseen_bytes = looked_at.unseen_bytes.max(sum.unseen_bytes);
        }
        for (container, sum) in sums {
            self.accumulator.add_processes_memory(container, sum);
        }
    }

    /// Whether the memory of some container is known only by its processes.
    pub(crate) fn lacks_memory(&self, containers: &Containers) -> bool {
        self.cgroups.lacks_memory(containers)
    }

    /// Makes a sample of the looks since the last one, if there were any.
    pub(crate) fn flush(&mut self) {
        let pass = match self.pending.take() {
            Some(pass) => pass,
            None if self.used.is_empty() => return,
            // An account was read after the last pass.
            None => Pass { at: self.last, ..Pass::default() },
        };
        let used = std::mem::take(&mut self.used);
        let since_start = pass.at.saturating_sub(self.started).as_secs_f64();
        let is_first = self.accumulator.passes() == 0;
        let elapsed = if is_first { pass.elapsed_seconds.min(since_start) } else { pass.elapsed_seconds };
        let facts = PassFacts {
            at_seconds: since_start,
            elapsed_seconds: elapsed,
            present: &pass.present,
            exited: pass.exited.as_deref(),
            charges: &pass.charges,
            used: Some(&used),
            host_cpu_percent: pass.host_cpu_percent,
            host_memory_bytes: pass.host_memory_bytes,
        };
        self.accumulator.add_since(&facts, &pass.ages);
    }

    /// Whether all cgroups of the run are gone; `None` if it had none that could be read.
    pub(crate) fn cgroups_are_gone(&mut self, containers: &Containers) -> Option<bool> {
        if self.is_left {
            return None;
        }
        self.look(&Pass { between: true, ..Pass::default() }, &[], containers);
        self.cgroups.are_gone()
    }

    /// When it began, by the boot clock.
    pub(crate) fn started(&self) -> Duration {
        self.started
    }

    /// From its beginning to the last pass.
    pub(crate) fn duration(&self) -> Duration {
        self.last.saturating_sub(self.started)
    }

    /// When it began, by the wall clock.
    pub(crate) fn start_time(&self) -> Timestamp {
        self.start_time
    }

    /// For each container: CPU nanoseconds so far, and RSS and working set in bytes at the last pass.
    pub(crate) fn live(&self) -> impl Iterator<Item = (ContainerIndex, u64, u64, Option<u64>)> {
        self.accumulator.containers().map(|(index, run)| {
            let (rss, working_set) = self.memory.get(&index).copied().unwrap_or_default();
            (index, run.cpu_ns, rss, working_set)
        })
    }
}

/// A run up to its last pass, for summaries and checkpoints.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RunSnapshot<'a> {
    pub(crate) recorder: &'a RunRecorder,
    pub(crate) containers: &'a Containers,
    pub(crate) context: &'a RunContext,
}

impl<'a> RunSnapshot<'a> {
    pub(crate) fn accumulator(self) -> &'a Accumulator {
        &self.recorder.accumulator
    }

    /// Returns the data of a summary. `complete`: the summary covers the whole run.
    pub(crate) fn run(self, complete: bool) -> Run<'a> {
        let Self { recorder, containers, context } = self;
        Run {
            accumulator: &recorder.accumulator,
            containers,
            cgroups: recorder.cgroups.figures(),
            limits: &context.limits,
            collector: CollectorInfo {
                account_reason: recorder.cgroups.reason(containers).map(|reason| reason.to_string()),
                ..context.info.clone()
            },
            start_time: recorder.start_time,
            duration: recorder.duration(),
            top: context.top,
            missed_samples: recorder.cost.missed_samples,
            lost_records: recorder.cost.lost_records,
            collector_cpu: recorder.cost.collector_cpu,
            complete,
        }
    }

    /// The summary.
    pub(crate) fn payload(self, complete: bool) -> Payload {
        self.run(complete).payload()
    }

    /// Returns the part of a checkpoint that is not samples.
    pub(crate) fn head(self, run: RunIdentity, summary_id: String, next_seq: u64, recovered: bool) -> Head {
        let Self { recorder, containers, context } = self;
        Head {
            run,
            mode: context.info.mode.clone(),
            boot_id: boot_id::read(),
            summary_id,
            next_seq,
            recovered,
            written: host::Moment::now().boot,
            start_time: recorder.start_time,
            started: recorder.started,
            began_ticks: recorder.began_ticks,
            duration: recorder.duration(),
            top: context.top,
            missed_samples: recorder.cost.missed_samples,
            lost_records: recorder.cost.lost_records,
            collector_cpu: recorder.cost.collector_cpu,
            limits: context.limits.clone(),
            // Numbers and strings can always be written as JSON.
            collector: serde_json::to_string(&context.info).unwrap_or_default(),
            containers: containers.save(),
            cgroups: recorder.cgroups.readings(),
        }
    }
}
