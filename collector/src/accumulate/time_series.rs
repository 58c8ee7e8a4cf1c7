//! A time series of the run: at most 240 points for a run of any length.

use serde::{Deserialize, Serialize};

/// The maximum number of points. At the limit, neighbours are merged and the steps double.
pub const MAX_POINTS: usize = 240;

/// Length of the steps that a run of `seconds` is cut into, beginning with steps of `interval`.
pub fn step_seconds(interval: f64, seconds: f64) -> f64 {
    let mut step = interval;
    while seconds / step > MAX_POINTS as f64 {
        step *= 2.0;
    }
    step
}

/// The use of one container over time.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct TimeSeries {
    step: f64,
    points: Vec<Point>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Point {
    core_seconds: f32,
    memory_bytes: u64,
}

impl TimeSeries {
    /// An empty series with steps of `interval` seconds to begin with.
    pub fn new(interval: f64) -> Self {
        Self { step: interval, points: Vec::new() }
    }

    /// Adds the use between two moments of the run, in seconds from its start.
    pub fn add(&mut self, from: f64, to: f64, core_seconds: f64, memory_bytes: u64) {
        while self.step < step_seconds(self.step, to) {
            self.halve();
        }
        let last = ((to / self.step).ceil() as usize).clamp(1, MAX_POINTS) - 1;
        if self.points.len() <= last {
            self.points.resize(last + 1, Point::default());
        }
        let first = ((from / self.step) as usize).min(last);
        for (index, point) in self.points.iter_mut().enumerate().take(last + 1).skip(first) {
            let start = (index as f64 * self.step).max(from);
            let end = ((index + 1) as f64 * self.step).min(to);
            let share = if to > from { ((end - start) / (to - from)).clamp(0.0, 1.0) } else { 1.0 };
            point.core_seconds += (core_seconds * share) as f32;
            point.memory_bytes = point.memory_bytes.max(memory_bytes);
        }
    }

    /// Adds another series of the same run. Cores are added up; the larger memory counts.
    pub(super) fn absorb(&mut self, other: &Self) {
        let mut other = Self { step: other.step, points: other.points.clone() };
        // Both began with the same step, which only doubles.
        while self.step < other.step {
            self.halve();
        }
        while other.step < self.step {
            other.halve();
        }
        if self.points.len() < other.points.len() {
            self.points.resize(other.points.len(), Point::default());
        }
        for (point, more) in self.points.iter_mut().zip(&other.points) {
            point.core_seconds += more.core_seconds;
            point.memory_bytes = point.memory_bytes.max(more.memory_bytes);
        }
    }

    /// Whether a series from a checkpoint is possible.
    pub(super) fn is_sound(&self) -> bool {
        self.step.is_finite() && self.step > 0.0 && self.points.len() <= MAX_POINTS
    }

    fn halve(&mut self) {
        self.step *= 2.0;
        let pairs = self.points.chunks(2).map(|pair| Point {
            core_seconds: pair.iter().map(|point| point.core_seconds).sum(),
            memory_bytes: pair.iter().map(|point| point.memory_bytes).max().unwrap_or_default(),
        });
        self.points = pairs.collect();
    }

    /// The series of a run of `seconds` for the wire: mean cores and highest memory of each step.
    pub fn to_wire(&self, seconds: f64) -> wire::Series {
        let mut series = Self { step: self.step, points: self.points.clone() };
        while series.step < step_seconds(series.step, seconds) {
            series.halve();
        }
        let count = ((seconds / series.step).ceil() as usize).clamp(1, MAX_POINTS);
        series.points.resize(count, Point::default());
        let length = |index: usize| (seconds - index as f64 * series.step).min(series.step);
        let cores = series.points.iter().enumerate().map(|(index, point)| {
            let length = length(index);
            if length > 0.0 { round(f64::from(point.core_seconds) / length) } else { 0.0 }
        });
        wire::Series {
            step_seconds: series.step,
            cpu_cores: cores.collect(),
            memory_bytes: series.points.iter().map(|point| point.memory_bytes).collect(),
        }
    }
}

/// Rounds to thousandths of a core: a chart shows no more, and the payload stays small.
fn round(cores: f64) -> f64 {
    (cores * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_run_has_few_points_and_loses_nothing() {
        let mut series = TimeSeries::new(2.0);
        for pass in 0..10_000u32 {
            let from = f64::from(pass) * 2.0;
            series.add(from, from + 2.0, 3.0, u64::from(pass));
        }
        let series = series.to_wire(20_000.0);
        assert_eq!(series.step_seconds, 128.0);
        assert_eq!(series.cpu_cores.len(), 157);
        assert!(series.cpu_cores.iter().all(|cores| (cores - 1.5).abs() < 1e-3), "{:?}", series.cpu_cores);
        assert_eq!(series.memory_bytes[..2], [63, 127]);
        assert_eq!(series.memory_bytes[156], 9_999);
    }

    #[test]
    fn a_late_pass_is_spread_over_the_steps_that_it_covers() {
        let mut series = TimeSeries::new(1.0);
        series.add(0.0, 1.0, 1.0, 10);
        series.add(1.0, 4.0, 6.0, 20);
        let series = series.to_wire(4.0);
        assert_eq!(series.cpu_cores, [1.0, 2.0, 2.0, 2.0]);
        assert_eq!(series.memory_bytes, [10, 20, 20, 20]);
    }

    #[test]
    fn two_courses_of_a_run_are_one() {
        let (mut one, mut two) = (TimeSeries::new(1.0), TimeSeries::new(1.0));
        one.add(0.0, 2.0, 2.0, 10);
        two.add(1.0, 4.0, 3.0, 20);
        two.add(4.0, 500.0, 0.0, 5);
        one.absorb(&two);
        let series = one.to_wire(500.0);
        assert_eq!(series.step_seconds, 4.0);
        assert_eq!((series.cpu_cores[0], series.memory_bytes[0], series.memory_bytes[1]), (1.25, 20, 5));
        two.absorb(&one);
        assert_eq!(two.to_wire(500.0).cpu_cores[0], 2.0);
    }

    #[test]
    fn a_container_that_ended_is_padded_to_the_run() {
        let mut series = TimeSeries::new(1.0);
        series.add(2.0, 3.0, 1.0, 5);
        let series = series.to_wire(5.5);
        assert_eq!(series.cpu_cores, [0.0, 0.0, 1.0, 0.0, 0.0, 0.0]);
        assert_eq!(series.memory_bytes, [0, 0, 5, 0, 0, 0]);
    }
}
