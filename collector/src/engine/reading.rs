//! The process table as a pass read it.

use std::time::Duration;

use crate::attribute::containers::Place;
use crate::host::Moment;
use crate::sample::process_table::Observation;

/// The processes that count, with the place of each.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) at: Moment,
    /// Since the reading before.
    pub(super) elapsed: Duration,
    /// When measuring began, in clock ticks since boot.
    pub(super) began_ticks: u64,
    pub(crate) processes: Vec<Observation>,
    /// In the order of `processes`; `None` where a place is unknown.
    pub(super) places: Vec<Option<Place>>,
}

impl Reading {
    /// The processes with their places.
    pub(crate) fn located(&self) -> impl Iterator<Item = (&Observation, &Option<Place>)> {
        self.processes.iter().zip(&self.places)
    }
}
