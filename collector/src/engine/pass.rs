//! The figures of one pass, for everything in sight or for one pod.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::accumulate::shared_pages::LookedAt;
use crate::accumulate::steps::StepNames;
use crate::accumulate::{Exited, Present};
use crate::attribute::ContainerIndex;
use crate::attribute::containers::{Containers, Place};
use crate::attribute::cpu::{Charge, Source};
use crate::sample::process_table::ProcessKey;

/// One pass.
#[derive(Debug, Default, Clone)]
pub(crate) struct Pass {
    /// When it began, by the boot clock.
    pub(crate) at: Duration,
    /// Whether this is a look between two samples. Its figures become part of the next sample.
    pub(crate) between: bool,
    /// Seconds since the previous pass, without the time that the machine slept; 0 for the first.
    pub(crate) elapsed_seconds: f64,
    pub(crate) present: Vec<Present>,
    /// Processes that ended; `None` without the eBPF program.
    pub(crate) exited: Option<Vec<Exited>>,
    pub(crate) charges: Vec<Charge>,
    /// The first processes of containers, if the eBPF program reports their environments.
    pub(crate) begun: Vec<Beginning>,
    pub(crate) host_cpu_percent: Option<f64>,
    pub(crate) host_memory_bytes: Option<u64>,
    pub(crate) cost: Cost,
    /// The steps of jobs that processes name.
    pub(crate) steps: Rc<StepNames>,
    /// The memory of each container's processes, if passes follow it.
    pub(crate) memory: BTreeMap<ContainerIndex, LookedAt>,
    /// The age of each container in seconds, for a first pass that counts CPU time from before it.
    pub(crate) ages: BTreeMap<ContainerIndex, f64>,
}

/// A process that executed one of the first programs of its container. It may have ended by now.
#[derive(Debug, Clone)]
pub(crate) struct Beginning {
    pub(crate) key: ProcessKey,
    /// 0 if its parent is out of sight.
    pub(crate) parent_pid: u32,
    pub(crate) place: Place,
    /// As in `/proc/[pid]/environ`: it holds the job's secrets.
    pub(crate) environment: Vec<u8>,
}

/// The cost of measuring, and its losses.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) missed_samples: u64,
    pub(crate) lost_records: u64,
    pub(crate) collector_cpu: Duration,
}

impl std::ops::AddAssign for Cost {
    fn add_assign(&mut self, more: Self) {
        self.missed_samples += more.missed_samples;
        self.lost_records += more.lost_records;
        self.collector_cpu += more.collector_cpu;
    }
}

impl Pass {
    /// The same pass without its processes.
    pub(crate) fn without_processes(&self, cost: Cost) -> Self {
        Self {
            at: self.at,
            between: self.between,
            elapsed_seconds: self.elapsed_seconds,
            exited: self.exited.is_some().then(Vec::new),
            host_cpu_percent: self.host_cpu_percent,
            host_memory_bytes: self.host_memory_bytes,
            steps: Rc::clone(&self.steps),
            cost,
            ..Self::default()
        }
    }

    /// Merges the next pass into this one. The result has the processes of both, each with its larger RSS.
    pub(crate) fn absorb(&mut self, next: Self) {
        let Self { at, between, elapsed_seconds, present, exited, charges, steps, .. } = next;
        if self.steps.is_empty() {
            self.steps = steps;
        } else if !steps.is_empty() && !Rc::ptr_eq(&self.steps, &steps) {
            let all = self.steps.iter().chain(steps.iter());
            self.steps = Rc::new(all.map(|(key, step)| (*key, Rc::clone(step))).collect());
        }
        (self.at, self.between) = (at, between);
        self.elapsed_seconds += elapsed_seconds;
        let mut known: FxHashMap<ProcessKey, usize> =
            self.present.iter().enumerate().map(|(at, one)| (one.key, at)).collect();
        for process in present {
            match known.entry(process.key) {
                Entry::Occupied(at) => {
                    let before = &mut self.present[*at.get()];
                    *before = Present {
                        rss_bytes: process.rss_bytes.max(before.rss_bytes),
                        age_seconds: process.age_seconds + before.age_seconds,
                        container: process.container.or(before.container),
                        ..process
                    };
                }
                Entry::Vacant(entry) => {
                    entry.insert(self.present.len());
                    self.present.push(process);
                }
            }
        }
        if let Some(exited) = exited {
            self.exited.get_or_insert_default().extend(exited);
        }
        self.charges.extend(charges);
        self.host_cpu_percent = next.host_cpu_percent.or(self.host_cpu_percent);
        self.host_memory_bytes = next.host_memory_bytes.or(self.host_memory_bytes);
        self.cost += next.cost;
    }

    /// Applies the rules of a pod. The names of ended processes are evidence of what their containers are. CPU time of
    /// orphans returns to the containers that started them. `own` is the collector's container.
    pub(crate) fn apply_pod_rules(&mut self, containers: &mut Containers, own: Option<ContainerIndex>) {
        for process in self.exited.iter().flatten() {
            if let Some(container) = process.container {
                containers.ran(Place { container, nested: process.nested }, process.comm);
            }
        }
        self.give_orphans_back(containers, own);
    }

    /// Charges the CPU time of orphans that a sandbox reaped and that no pass saw. A sandbox starts nothing itself: it
    /// adopts orphans if containers share its PID namespace. If several containers may have started them, the time is
    /// charged to none. The collector's container starts none.
    fn give_orphans_back(&mut self, containers: &Containers, own: Option<ContainerIndex>) {
        let adopted = |charge: &Charge| {
            charge.source == Source::Reaped
                && charge.container.is_some_and(|index| containers.is_overhead(index))
        };
        if !self.charges.iter().any(adopted) {
            return;
        }
        let there = self.present.iter().filter_map(|process| process.container);
        let charged = self.charges.iter().filter_map(|charge| charge.container);
        let possible: BTreeSet<ContainerIndex> = there
            .chain(charged)
            .filter(|index| !containers.is_overhead(*index))
            .map(|index| containers.root(index))
            .filter(|index| Some(*index) != own.map(|own| containers.root(own)))
            .collect();
        let whose = possible.first().copied().filter(|_| possible.len() == 1);
        for charge in self.charges.iter_mut().filter(|charge| adopted(charge)) {
            charge.container = whose;
        }
    }

    /// Moves the figures of a restarted container to its first incarnation.
    pub(crate) fn unite_restarts(&mut self, containers: &Containers) {
        if !containers.has_restarts() {
            return;
        }
        let of_present = self.present.iter_mut().map(|one| &mut one.container);
        let of_charges = self.charges.iter_mut().map(|one| &mut one.container);
        let of_exited = self.exited.iter_mut().flatten().map(|one| &mut one.container);
        for container in of_present.chain(of_charges).chain(of_exited) {
            *container = container.map(|index| containers.root(index));
        }
    }
}
