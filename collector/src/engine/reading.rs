//! The process table as a pass read it.

use std::time::Duration;

use crate::attribute::containers::Place;
use crate::host::Moment;
use crate::sample::process_table::Observation;

/// The processes that count, each with its place.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) at: Moment,
    /// Time since the previous reading.
    pub(super) elapsed: Duration,
    /// When measuring began, in clock ticks since boot.
    pub(super) began_ticks: u64,
    pub(crate) processes: Vec<Observation>,
    /// In the order of `processes`; `None` if the place is unknown.
    pub(super) places: Vec<Option<Place>>,
}

impl Reading {
    /// The processes with their places.
    pub(crate) fn located(&self) -> impl Iterator<Item = (&Observation, &Option<Place>)> {
        self.processes.iter().zip(&self.places)
    }

    /// Whether some container holds only runtime processes that started after these ticks. A runtime is then about to
    /// execute the container's program.
    pub(super) fn something_starts(&self, since_ticks: f64) -> bool {
        let living = || {
            let places = self.located().filter(|(process, _)| !process.zombie);
            places.filter_map(|(process, place)| Some((process, place.as_ref()?.container)))
        };
        let is_starting = |process: &Observation| {
            process.comm.is_runtimes() && process.key.start_ticks as f64 > since_ticks
        };
        let mut starting = living().filter(|(process, _)| is_starting(process));
        starting.any(|(_, container)| {
            living().filter(|(_, other)| *other == container).all(|(process, _)| is_starting(process))
        })
    }
}
