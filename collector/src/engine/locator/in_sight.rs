//! A sidecar: every process in sight counts, in the container that its cgroup names.

use std::collections::{BTreeMap, BTreeSet};

use super::{Content, Earlier, Event, Locator, RunLocator};
use crate::attribute::ContainerIndex;
use crate::attribute::containers::{Containers, Place};
use crate::config::Config;
use crate::engine::reading::Reading;
use crate::sample::cgroup;
use crate::sample::process_table::{Observation, ProcessKey, ProcessTable};

/// Every process in sight.
#[derive(Debug)]
pub(crate) struct InSight {
    containers: Containers,
    /// The collector's own PID and container, if they are in sight.
    own_pid: Option<u32>,
    own: Option<ContainerIndex>,
}

impl InSight {
    pub(crate) fn new(config: &Config) -> Self {
        let own_namespace = cgroup::has_own_namespace(&config.proc_path);
        let own_pid = std::fs::read_link(config.proc_path.join("self")).ok();
        Self {
            containers: Containers::new(config.process_map.clone(), own_namespace),
            own_pid: own_pid.and_then(|pid| pid.to_str()?.parse().ok()),
            own: None,
        }
    }

    /// Whether PID 1 is in another container than the collector, and every process in sight is in the collector's pod.
    ///
    /// A machine's PID namespace has kernel threads and processes outside containers. In a PID namespace of its own, the
    /// collector or another process of its container is PID 1.
    fn sees_its_pod_alone(&self, reading: &Reading) -> bool {
        let Some(own) = self.own else { return false };
        let other_first = |(process, place): (&Observation, &Option<Place>)| {
            process.key.pid == 1 && place.is_some_and(|place| place.container != own)
        };
        let of_pod = |place: &Option<Place>| {
            place.is_none_or(|place| self.containers.are_of_one_pod(place.container, own))
        };
        reading.located().any(other_first)
            && !reading.processes.iter().any(|process| process.kernel_thread)
            && reading.places.iter().all(of_pod)
    }
}

impl Locator for InSight {
    fn locate(&mut self, processes: &mut Vec<Observation>, table: &ProcessTable) -> Vec<Option<Place>> {
        self.containers.places(processes, |cgroup| table.cgroup_content(cgroup))
    }

    fn locate_event(&mut self, event: Event, content: Content<'_>) -> Option<Place> {
        self.containers.place_of(event.cgroups, event.comm, event.parent, content)
    }

    fn learn(&mut self, reading: &Reading, seen_before: impl Fn(ProcessKey) -> bool, table: &ProcessTable) {
        let mut living = BTreeSet::new();
        let mut first = None;
        for (process, place) in reading.located() {
            let Some(place) = place.filter(|_| !process.zombie && !process.kernel_thread) else { continue };
            living.insert(place.container);
            if Some(process.key.pid) == self.own_pid {
                self.own = Some(place.container);
            }
            if process.key.pid == 1 {
                first = Some((place, process.comm));
            }
            self.containers.learn_from(process, place, seen_before(process.key), |key| {
                table.read_file(key, "mountinfo").unwrap_or_default()
            });
        }
        if let Some((place, comm)) = first {
            self.containers.holds_the_namespace(place, comm, self.own);
        }
        self.containers.unite(&living);
    }
}

impl RunLocator for InSight {
    const MODE: &'static str = "sidecar";

    fn root(&self) -> Option<u32> {
        None
    }

    fn containers(&self) -> &Containers {
        &self.containers
    }

    fn containers_mut(&mut self) -> &mut Containers {
        &mut self.containers
    }

    fn own_container(&self) -> Option<ContainerIndex> {
        self.own
    }

    /// A collector in the PID namespace that a pod's containers share sees only the pod. The CPU time that the pod used
    /// before the collector started is part of the run, because the run began with its first process.
    fn earlier_beginning(&self, reading: &Reading, tick_seconds: f64) -> Option<Earlier> {
        if !self.sees_its_pod_alone(reading) {
            return None;
        }
        let began_ticks = reading.began_ticks;
        let mut ages: BTreeMap<ContainerIndex, f64> = BTreeMap::new();
        for (process, place) in reading.located() {
            let Some(place) = place else { continue };
            let age = began_ticks.saturating_sub(process.key.start_ticks) as f64 * tick_seconds;
            let oldest = ages.entry(place.container).or_default();
            *oldest = oldest.max(age);
        }
        let first_ticks = reading.processes.iter().map(|process| process.key.start_ticks).min();
        Some(Earlier { first_ticks: first_ticks?.min(began_ticks), ages })
    }
}
