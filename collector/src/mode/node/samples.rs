//! What is measured of one run: samples, its cgroups' figures, and what a checkpoint needs.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use jiff::Timestamp;
use wire::CollectorInfo;

use super::clock::Clock;
use crate::accumulate::{Accumulator, Exited, PassFacts, Present};
use crate::attribute::ContainerIndex;
use crate::attribute::conserved::Charge;
use crate::attribute::containers::Containers;
use crate::config::RunIdentity;
use crate::config::limits::Limits;
use crate::deliver::checkpoint::{Checkpoint, Head};
use crate::mode::outbox::Measured;
use crate::mode::pods;
use crate::mode::watch::CgroupWatches;
use crate::sample::boot_id;
use crate::sample::cgroupfs::Hierarchies;
use crate::summarise::Run;

/// What a pass brought for one group.
#[derive(Debug, Default, Clone)]
pub(super) struct GroupPass {
    /// When, by the boot clock.
    pub(super) at: Duration,
    /// Since the pass before, in seconds.
    pub(super) elapsed: f64,
    pub(super) present: Vec<Present>,
    /// Only where the eBPF program runs.
    pub(super) exited: Option<Vec<Exited>>,
    pub(super) charges: Vec<Charge>,
    pub(super) host_cpu_percent: Option<f64>,
    pub(super) host_memory_bytes: Option<u64>,
    pub(super) cost: Cost,
}

/// What a pass cost, as far as it is this group's.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Cost {
    pub(super) missed_samples: u64,
    pub(super) lost_records: u64,
    pub(super) collector_cpu: Duration,
}

impl GroupPass {
    /// What processes did that started before these ticks, and what the others did.
    pub(super) fn split(self, ticks: u64) -> (Self, Self) {
        let later = |start: u64| start >= ticks;
        let (second, first) = self.present.into_iter().partition(|one: &Present| later(one.key.start_ticks));
        let (later_charges, charges) =
            self.charges.into_iter().partition(|one: &Charge| later(one.process.start_ticks));
        let exits = self.exited.map(|exited| {
            exited.into_iter().partition::<Vec<_>, _>(|one: &Exited| later(one.key.start_ticks))
        });
        let (later_exits, exits) = exits.map_or((None, None), |(second, first)| (Some(second), Some(first)));
        let before = Self { present: first, charges, exited: exits, ..self };
        let after = Self {
            present: second,
            charges: later_charges,
            exited: later_exits,
            // Counted once.
            cost: Cost::default(),
            ..before
        };
        (before, after)
    }
}

/// The samples of one run.
#[derive(Debug)]
pub(super) struct Samples {
    accumulator: Accumulator,
    pub(super) cgroups: CgroupWatches,
    /// Whether its cgroups began with it, so that all that they count is its.
    from_the_beginning: bool,
    /// When it began, by the wall clock.
    start_time: Timestamp,
    /// The same by the boot clock, and in ticks.
    started: Duration,
    began_ticks: u64,
    /// The last pass that counts.
    last: Duration,
    cost: Cost,
    /// Sum of RSS in bytes and working set of its containers in that pass.
    memory: BTreeMap<ContainerIndex, (u64, Option<u64>)>,
}

impl Samples {
    /// Begins with the start of a process, `now` at the latest.
    pub(super) fn begin(
        new: Accumulator,
        hierarchies: &Rc<Hierarchies>,
        clock: Clock,
        began_ticks: u64,
        now: Duration,
        from_the_beginning: bool,
    ) -> Self {
        let started = clock.boot_at(began_ticks, now);
        let start_time = Timestamp::now().checked_sub(now.saturating_sub(started));
        Self {
            accumulator: new,
            cgroups: CgroupWatches::below(Rc::clone(hierarchies)),
            from_the_beginning,
            start_time: start_time.unwrap_or_else(|_| Timestamp::now()),
            started,
            began_ticks,
            last: started,
            cost: Cost::default(),
            memory: BTreeMap::new(),
        }
    }

    /// Goes on from a checkpoint; its containers are restored elsewhere.
    pub(super) fn resume(
        checkpoint: Checkpoint,
        hierarchies: &Rc<Hierarchies>,
        now: Duration,
        interval_seconds: f64,
    ) -> Self {
        let Checkpoint { head, accumulator, .. } = checkpoint;
        let mut cgroups = CgroupWatches::below(Rc::clone(hierarchies));
        cgroups.restore(head.cgroups);
        let gap = now.saturating_sub(head.started + head.duration);
        Self {
            accumulator,
            cgroups,
            from_the_beginning: false,
            start_time: head.start_time,
            started: head.started,
            began_ticks: head.began_ticks,
            last: head.started + head.duration,
            cost: Cost {
                missed_samples: head.missed_samples + (gap.as_secs_f64() / interval_seconds) as u64,
                lost_records: head.lost_records,
                collector_cpu: head.collector_cpu,
            },
            memory: BTreeMap::new(),
        }
    }

    /// Puts together what was counted of containers that turned out to be the same. Only where nothing is being made of it.
    pub(super) fn unite(&mut self, containers: &Containers) {
        pods::unite(containers, &mut self.accumulator);
    }

    /// Adds a pass.
    pub(super) fn add(&mut self, pass: &GroupPass, containers: &Containers) {
        self.unite(containers);
        let mut of_roots;
        let pass = if containers.has_restarts() {
            of_roots = pass.clone();
            let GroupPass { present, charges, exited, .. } = &mut of_roots;
            pods::by_root(containers, present, charges, exited.as_deref_mut().unwrap_or_default());
            &of_roots
        } else {
            pass
        };
        let first = self.accumulator.passes() == 0;
        let since_start = pass.at.saturating_sub(self.started).as_secs_f64();
        let elapsed = if first { pass.elapsed.min(since_start) } else { pass.elapsed };
        self.accumulator.add(&PassFacts {
            at_seconds: since_start,
            elapsed_seconds: elapsed,
            present: &pass.present,
            exited: pass.exited.as_deref(),
            charges: &pass.charges,
            host_cpu_percent: pass.host_cpu_percent,
            host_memory_bytes: pass.host_memory_bytes,
        });
        self.memory.clear();
        for process in &pass.present {
            let Some(container) = process.container else { continue };
            self.memory.entry(container).or_default().0 += process.rss_bytes;
        }
        for (container, bytes) in self.cgroups.read(containers, first && !self.from_the_beginning) {
            let container = containers.root(container);
            self.accumulator.add_working_set(container, bytes, elapsed);
            self.memory.entry(container).or_default().1 = Some(bytes);
        }
        self.last = pass.at;
        self.cost.missed_samples += pass.cost.missed_samples;
        self.cost.lost_records += pass.cost.lost_records;
        self.cost.collector_cpu += pass.cost.collector_cpu;
    }

    /// When it began, by the boot clock.
    pub(super) fn started(&self) -> Duration {
        self.started
    }

    /// The same by the wall clock.
    pub(super) fn start_time(&self) -> Timestamp {
        self.start_time
    }

    /// CPU nanoseconds so far, and the sum of RSS and the working set in the last pass, of each container.
    pub(super) fn live(&self) -> impl Iterator<Item = (ContainerIndex, u64, u64, Option<u64>)> {
        self.accumulator.containers().map(|(index, run)| {
            let (rss, working_set) = self.memory.get(&index).copied().unwrap_or_default();
            (index, run.cpu_ns, rss, working_set)
        })
    }
}

/// What is the same for all runs of a node.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) info: CollectorInfo,
    pub(super) limits: BTreeMap<String, Limits>,
    pub(super) top: usize,
}

/// A run and all that its summary is made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) samples: &'a Samples,
    pub(super) containers: &'a Containers,
    pub(super) facts: &'a Facts,
}

impl Measured for View<'_> {
    fn head(&self, run: RunIdentity, summary_id: String, next_seq: u64, recovered: bool) -> Head {
        let Samples { start_time, started, began_ticks, cost, last, .. } = self.samples;
        Head {
            run,
            mode: self.facts.info.mode.clone(),
            boot_id: boot_id::read(),
            summary_id,
            next_seq,
            recovered,
            written: crate::host::Instant::now().boot,
            start_time: *start_time,
            started: *started,
            began_ticks: *began_ticks,
            duration: last.saturating_sub(*started),
            top: self.facts.top,
            missed_samples: cost.missed_samples,
            lost_records: cost.lost_records,
            collector_cpu: cost.collector_cpu,
            limits: self.facts.limits.clone(),
            // Numbers and texts: nothing in it can fail to be JSON.
            collector: serde_json::to_string(&self.facts.info).unwrap_or_default(),
            containers: self.containers.keep(),
            cgroups: self.samples.cgroups.readings(),
        }
    }

    fn accumulator(&self) -> &Accumulator {
        &self.samples.accumulator
    }

    fn with_run<T>(&self, complete: bool, work: impl FnOnce(Run<'_>) -> T) -> T {
        let figures = self.samples.cgroups.figures();
        work(Run {
            accumulator: &self.samples.accumulator,
            containers: self.containers,
            cgroups: &figures,
            limits: &self.facts.limits,
            collector: self.facts.info.clone(),
            start_time: self.samples.start_time,
            duration: self.samples.last.saturating_sub(self.samples.started),
            top: self.facts.top,
            missed_samples: self.samples.cost.missed_samples,
            lost_records: self.samples.cost.lost_records,
            collector_cpu: self.samples.cost.collector_cpu,
            complete,
        })
    }
}
