//! A collector in the PID namespace that a pod's containers share sees the pod and nothing else: what was used before it
//! came is the pod's, too.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use tracing::info;

use super::{Measurement, Whose};
use crate::attribute::ContainerIndex;
use crate::attribute::containers::Place;
use crate::sample::table::Observation;

impl Measurement {
    /// At the first pass: where everything in sight is of the collector's pod, moves the beginning of the run back to that of
    /// its first process and tells for how many seconds each container has been there. Else nothing.
    ///
    /// A run that is gone on with has its beginning, and what was used while nobody measured is not known to be its.
    pub(super) fn reach_back(
        &mut self,
        processes: &[Observation],
        places: &[Option<Place>],
    ) -> BTreeMap<ContainerIndex, f64> {
        let mut ages = BTreeMap::new();
        if self.resumed || !matches!(self.whose, Whose::All) || !self.sees_its_pod_alone(processes, places) {
            return ages;
        }
        let tick = 1.0 / self.host.ticks_per_second as f64;
        let began_ticks = self.began_ticks;
        for (process, place) in processes.iter().zip(places) {
            let Some(place) = place else { continue };
            let age = began_ticks.saturating_sub(process.key.start_ticks) as f64 * tick;
            let oldest: &mut f64 = ages.entry(place.container).or_default();
            *oldest = oldest.max(age);
        }
        let first = processes.iter().map(|process| process.key.start_ticks).min().unwrap_or(began_ticks);
        let before = Duration::from_secs_f64(began_ticks.saturating_sub(first) as f64 * tick);
        let before = before.min(self.started.boot);
        self.began_ticks = began_ticks.min(first);
        self.started.boot -= before;
        self.start_time = self.start_time.checked_sub(before).unwrap_or(self.start_time);
        self.conserved.count_from_nothing();
        self.cgroups.count_from_the_beginning();
        info!(
            seconds = before.as_secs_f64(),
            "everything in sight is this pod's: what it used before counts"
        );
        ages
    }

    /// Whether PID 1 is of another container than the collector's, and everything in sight of the same pod as it.
    ///
    /// On a machine's PID namespace there are kernel threads and what is in no container; in the collector's own it has PID 1
    /// itself, or what has it is in its container.
    fn sees_its_pod_alone(&self, processes: &[Observation], places: &[Option<Place>]) -> bool {
        let Some(own) = self.own else { return false };
        let other_first = |(process, place): (&Observation, &Option<Place>)| {
            process.key.pid == 1 && place.is_some_and(|place| place.container != own)
        };
        let of_pod = |place: &Option<Place>| {
            place.is_none_or(|place| self.containers.are_of_one_pod(place.container, own))
        };
        processes.iter().zip(places).any(other_first)
            && !processes.iter().any(|process| process.kernel_thread)
            && places.iter().all(of_pod)
    }
}

/// The collector's own PID in the proc tree that it reads, if it is there.
pub(super) fn own_pid(proc_path: &Path) -> Option<u32> {
    std::fs::read_link(proc_path.join("self")).ok()?.to_str()?.parse().ok()
}
