//! The distribution of one quantity over the run, in bounded memory: exact while it is small, then a histogram.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use wire::{CpuHistogram, QuantileMethod, Stats};

/// Percentiles are exact up to this number of samples: 64 KiB, about the size of the histogram that follows.
pub const EXACT_SAMPLES: usize = 16_384;
/// How often a sample of the usual weight counts in a histogram, so that a shorter one can count less.
const WEIGHT_UNITS: f64 = 16.0;
/// A rate covers at least this time, even if it was measured exactly: the clock and the account are read at two moments.
const SHORTEST_SECONDS: f64 = 0.02;
/// Weights that differ by less than this share count as the same: ticks are never exactly on time.
const SAME_WEIGHT: f64 = 0.01;

/// Samples of one quantity, each weighted by the time that it stands for.
///
/// Values are stored in whole units of the caller's choice (bytes as KiB, cores as millionths). Peak and mean are stored
/// separately and are exact.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Distribution {
    /// How many units of a stored value make one unit of the statistics.
    scale: f64,
    usual_weight: f64,
    peak: f64,
    weighted_sum: f64,
    weight: f64,
    samples: Samples,
}

/// Returns `amount` per second, over at least half an `interval`. The last interval of a run may be a few milliseconds
/// long, and a clock tick in it is not a peak.
pub(super) fn rate(amount: f64, seconds: f64, interval: f64) -> f64 {
    if seconds > 0.0 { amount / seconds.max(interval / 2.0) } else { 0.0 }
}

#[derive(Debug, Clone)]
pub(super) enum Samples {
    /// Values, and by index the weights that are unusual.
    Exact(Vec<u32>, Vec<(u32, f32)>),
    Histogram(Box<Histogram<u32>>),
}

impl Distribution {
    /// An empty distribution that stores values in units of `1 / scale`; `usual_weight` is the interval in seconds.
    pub fn new(scale: f64, usual_weight: f64) -> Self {
        let samples = Samples::Exact(Vec::new(), Vec::new());
        Self { scale, usual_weight, peak: 0.0, weighted_sum: 0.0, weight: 0.0, samples }
    }

    /// The weight of a sample of the usual length, in seconds.
    pub(super) fn usual_weight(&self) -> f64 {
        self.usual_weight
    }

    /// Adds a sample that stands for `seconds`. A sample that stands for no time counts only for the peak.
    pub fn add(&mut self, value: f64, seconds: f64) {
        self.add_shown(value, value, seconds);
    }

    /// Adds the amount used in `seconds`, as a rate. An interval that is cut short makes no peak.
    pub fn add_used(&mut self, amount: f64, seconds: f64) {
        let mean = if seconds > 0.0 { amount / seconds } else { 0.0 };
        self.add_shown(mean, rate(amount, seconds, self.usual_weight), seconds);
    }

    /// Like [`Self::add_used`], for an amount that a nanosecond clock measured: a short time is just as accurate.
    pub fn add_measured(&mut self, amount: f64, seconds: f64) {
        if seconds > 0.0 {
            self.add_shown(amount / seconds, amount / seconds.max(SHORTEST_SECONDS), seconds);
        }
    }

    fn add_shown(&mut self, mean: f64, value: f64, seconds: f64) {
        self.peak = self.peak.max(value);
        if seconds <= 0.0 {
            return;
        }
        self.weighted_sum += mean * seconds;
        self.weight += seconds;
        let kept = (value * self.scale).round().clamp(0.0, f64::from(u32::MAX)) as u32;
        let weight = seconds / self.usual_weight;
        if matches!(&self.samples, Samples::Exact(values, _) if values.len() == EXACT_SAMPLES) {
            self.pour();
        }
        match &mut self.samples {
            Samples::Exact(values, unusual) => {
                if (weight - 1.0).abs() > SAME_WEIGHT {
                    unusual.push((values.len() as u32, weight as f32));
                }
                values.push(kept);
            }
            Samples::Histogram(histogram) => record(histogram, kept, weight),
        }
    }

    /// Adds another distribution of the same quantity, as if its samples came after these.
    pub fn absorb(&mut self, other: &Self) {
        self.peak = self.peak.max(other.peak);
        self.weighted_sum += other.weighted_sum;
        self.weight += other.weight;
        let fits = match (&self.samples, &other.samples) {
            (Samples::Exact(one, _), Samples::Exact(two, _)) => one.len() + two.len() <= EXACT_SAMPLES,
            _ => false,
        };
        if !fits {
            self.pour();
        }
        match (&mut self.samples, &other.samples) {
            (Samples::Exact(values, unusual), Samples::Exact(more, more_unusual)) => {
                let behind = values.len() as u32;
                unusual.extend(more_unusual.iter().map(|(index, weight)| (behind + index, *weight)));
                values.extend(more);
            }
            (Samples::Histogram(histogram), Samples::Exact(more, more_unusual)) => {
                weighted(more, more_unusual)
                    .for_each(|(value, weight)| record(histogram, value, f64::from(weight)));
            }
            (Samples::Histogram(histogram), Samples::Histogram(more)) => {
                for cell in more.iter_recorded() {
                    let count = f64::from(cell.count_at_value()) / WEIGHT_UNITS;
                    record(histogram, u32::try_from(cell.value_iterated_to()).unwrap_or(u32::MAX), count);
                }
            }
            (Samples::Exact(..), Samples::Histogram(_)) => {}
        }
    }

    /// Converts exact samples to a histogram of 3 significant digits.
    fn pour(&mut self) {
        let Samples::Exact(values, unusual) = &self.samples else { return };
        // It is as large as it must be now, because growing step by step would leave it up to twice as large. The bounds
        // are within what the crate accepts.
        let highest = values.iter().copied().max().unwrap_or_default().max(2);
        let Ok(mut histogram) = Histogram::new_with_max(u64::from(highest), 3) else { return };
        histogram.auto(true);
        for (value, weight) in weighted(values, unusual) {
            record(&mut histogram, value, f64::from(weight));
        }
        self.samples = Samples::Histogram(Box::new(histogram));
    }

    /// Whether a distribution from a checkpoint is possible.
    pub(super) fn is_sound(&self) -> bool {
        let values = [self.scale, self.usual_weight, self.peak, self.weighted_sum, self.weight];
        values.iter().all(|value| value.is_finite() && *value >= 0.0)
            && self.scale > 0.0
            && self.usual_weight > 0.0
    }

    /// The statistics; all zero if there were no samples.
    pub fn stats(&self) -> Stats {
        let avg = if self.weight > 0.0 { self.weighted_sum / self.weight } else { self.peak };
        let percentiles = self.percentiles([0.99, 0.95, 0.75, 0.5]);
        let [p99, p95, p75, p50] = percentiles.map(|value| Some(value.min(self.peak)));
        Stats { peak: self.peak, p99, p95, p75, p50, avg: avg.min(self.peak) }
    }

    /// The wire form of a distribution of cores: its samples by size, each with the seconds that it stands for.
    pub fn cpu_histogram(&self) -> CpuHistogram {
        // The ends of the buckets in stored values. A logarithm of each sample would take many times as long, and there is
        // little time at the end of a run.
        let ends: Vec<u32> = (0..=CpuHistogram::LAST_BUCKET)
            .map(|bucket| (CpuHistogram::end_of(bucket) * self.scale + 1e-6) as u32)
            .collect();
        let mut seconds = vec![0.0; ends.len()];
        let mut add = |kept: u32, weight: f64| {
            let bucket = ends.partition_point(|end| *end < kept).min(ends.len() - 1);
            seconds[bucket] += weight * self.usual_weight;
        };
        match &self.samples {
            Samples::Exact(values, unusual) => {
                weighted(values, unusual).for_each(|(value, weight)| add(value, f64::from(weight)));
            }
            Samples::Histogram(cells) => {
                for cell in cells.iter_recorded() {
                    let middle = cells.median_equivalent(cell.value_iterated_to());
                    let weight = f64::from(cell.count_at_value()) / WEIGHT_UNITS;
                    add(u32::try_from(middle).unwrap_or(u32::MAX), weight);
                }
            }
        }
        let mut histogram = CpuHistogram::default();
        for (bucket, seconds) in (0..).zip(seconds).filter(|(_, seconds)| *seconds > 0.0) {
            histogram.add(CpuHistogram::end_of(bucket), seconds);
        }
        histogram.rounded()
    }

    /// How its percentiles are computed.
    pub fn method(&self) -> QuantileMethod {
        match self.samples {
            Samples::Exact(..) => QuantileMethod::Exact,
            Samples::Histogram(_) => QuantileMethod::Hdr3,
        }
    }

    /// Nearest rank: the smallest value that at least the share `q` of all weight does not exceed.
    fn percentiles<const N: usize>(&self, quantiles: [f64; N]) -> [f64; N] {
        match &self.samples {
            Samples::Histogram(histogram) => {
                quantiles.map(|q| histogram.value_at_quantile(q) as f64 / self.scale)
            }
            Samples::Exact(values, unusual) => {
                if values.is_empty() {
                    return [self.peak; N];
                }
                let buckets = Buckets::new(values, unusual);
                quantiles.map(|q| {
                    // Sums of weights are not exact, so a millionth of a sample must not decide.
                    let rank = q * buckets.total - 1e-6;
                    buckets.value_at(rank).map_or(self.peak, |value| f64::from(value) / self.scale)
                })
            }
        }
    }
}

/// Samples counted by their leading bits: sorting all of them would take ten times as long, and there is little time at
/// the end of a run.
struct Buckets<'a> {
    values: &'a [u32],
    unusual: &'a [(u32, f32)],
    shift: u32,
    weights: Vec<f64>,
    total: f64,
}

impl<'a> Buckets<'a> {
    /// The number of leading bits that select a bucket.
    const BITS: u32 = 10;

    fn new(values: &'a [u32], unusual: &'a [(u32, f32)]) -> Self {
        let highest = values.iter().copied().max().unwrap_or_default();
        let shift = (u32::BITS - highest.leading_zeros()).saturating_sub(Self::BITS);
        let mut weights = vec![0.0; 1 << Self::BITS];
        for (value, weight) in weighted(values, unusual) {
            weights[(value >> shift) as usize] += f64::from(weight);
        }
        let total = weights.iter().sum();
        Self { values, unusual, shift, weights, total }
    }

    /// The smallest value up to which the weights add up to at least `rank`.
    fn value_at(&self, rank: f64) -> Option<u32> {
        let mut passed = 0.0;
        let within = self.weights.iter().position(|weight| {
            let found = *weight > 0.0 && passed + weight >= rank;
            if !found {
                passed += weight;
            }
            found
        });
        let Some(bucket) = within else { return self.values.iter().copied().max() };
        let samples = weighted(self.values, self.unusual);
        let mut inside: Vec<_> =
            samples.filter(|(value, _)| (value >> self.shift) as usize == bucket).collect();
        inside.sort_unstable_by_key(|(value, _)| *value);
        let found = inside.iter().find(|(_, weight)| {
            passed += f64::from(*weight);
            passed >= rank
        });
        found.or(inside.last()).map(|(value, _)| *value)
    }
}

fn record(histogram: &mut Histogram<u32>, value: u32, weight: f64) {
    let count = (weight * WEIGHT_UNITS).round().clamp(1.0, f64::from(u32::MAX)) as u32;
    // The histogram resizes itself. If it ever refuses a value, its largest value stands in.
    if histogram.record_n(u64::from(value), count).is_err() {
        histogram.saturating_record_n(u64::from(value), count);
    }
}

fn weighted<'a>(values: &'a [u32], unusual: &'a [(u32, f32)]) -> impl Iterator<Item = (u32, f32)> + 'a {
    let mut unusual = unusual.iter().peekable();
    values.iter().enumerate().map(move |(index, &value)| {
        let weight = unusual.next_if(|(at, _)| *at as usize == index).map_or(1.0, |(_, weight)| *weight);
        (value, weight)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(samples: &[(f64, f64)]) -> Distribution {
        let mut series = Distribution::new(1.0, 2.0);
        for &(value, seconds) in samples {
            series.add(value, seconds);
        }
        series
    }

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let samples: Vec<_> = (1..=100).rev().map(|value| (f64::from(value), 2.0)).collect();
        let stats = series(&samples).stats();
        let [p99, p95, p75, p50] = [99.0, 95.0, 75.0, 50.0].map(Some);
        let expected = Stats { peak: 100.0, p99, p95, p75, p50, avg: 50.5 };
        assert_eq!(stats, expected);
        let stats = series(&[(15.0, 2.0), (20.0, 2.0), (35.0, 2.0), (40.0, 2.0), (50.0, 2.0)]).stats();
        assert_eq!((stats.p50, stats.p75, stats.p95), (Some(35.0), Some(40.0), Some(50.0)));
    }

    #[test]
    fn a_late_sample_weighs_as_much_as_the_time_it_stands_for() {
        let late = series(&[(1.0, 2.0), (5.0, 6.0)]).stats();
        let on_time = series(&[(1.0, 2.0), (5.0, 2.0), (5.0, 2.0), (5.0, 2.0)]).stats();
        assert_eq!(late, on_time);
        assert_eq!((late.avg, late.p50), (4.0, Some(5.0)));
    }

    proptest::proptest! {
        #[test]
        fn percentiles_are_those_of_the_sorted_samples(
            samples in proptest::collection::vec((0..3_000_000u32, 0usize..3), 1..300),
        ) {
            let samples: Vec<_> =
                samples.iter().map(|(value, weight)| (f64::from(*value), [1.0, 2.0, 4.0][*weight])).collect();
            let stats = series(&samples).stats();
            let mut sorted = samples.clone();
            sorted.sort_by(|one, other| one.0.total_cmp(&other.0));
            let total: f64 = samples.iter().map(|(_, seconds)| seconds).sum();
            for (q, found) in [(0.99, stats.p99), (0.95, stats.p95), (0.75, stats.p75), (0.5, stats.p50)] {
                let mut passed = 0.0;
                let expected = sorted.iter().find(|(_, seconds)| {
                    passed += seconds;
                    passed >= q * total - 1e-6
                });
                proptest::prop_assert_eq!(found, expected.map(|(value, _)| *value));
            }
        }
    }

    #[test]
    fn what_two_had_is_as_if_one_had_had_it() {
        let lengths = [7, EXACT_SAMPLES - 100, EXACT_SAMPLES + 1];
        for (first, second) in lengths.into_iter().flat_map(|one| lengths.map(|two| (one, two))) {
            let add = |series: &mut Distribution, from: usize, to: usize| {
                for sample in from..to {
                    series.add((sample % 977) as f64, if sample % 3 == 0 { 1.0 } else { 2.0 });
                }
            };
            let [mut whole, mut one, mut two] = [(); 3].map(|()| Distribution::new(1.0, 2.0));
            add(&mut whole, 0, first + second);
            add(&mut one, 0, first);
            add(&mut two, first, first + second);
            one.absorb(&two);
            let (one, whole) = (one.stats(), whole.stats());
            assert_eq!((one.peak, one.avg), (whole.peak, whole.avg), "{first} and {second}");
            for (one, whole) in
                [(one.p50, whole.p50), (one.p75, whole.p75), (one.p95, whole.p95), (one.p99, whole.p99)]
            {
                let (one, whole) = (one.unwrap(), whole.unwrap());
                assert!((one - whole).abs() <= 0.003 * whole, "{first} and {second}: {one}, {whole}");
            }
        }
    }

    #[test]
    fn a_sample_of_no_time_counts_for_the_peak_only() {
        let stats = series(&[(9.0, 0.0), (1.0, 2.0)]).stats();
        assert_eq!((stats.peak, stats.p99, stats.avg), (9.0, Some(1.0), 1.0));
        let only = series(&[(9.0, 0.0)]).stats();
        assert_eq!((only.peak, only.p50, only.avg), (9.0, Some(9.0), 9.0));
    }

    #[test]
    fn one_sample_more_than_is_kept_exactly_makes_it_a_histogram() {
        let mut series = Distribution::new(1.0, 1.0);
        for value in 0..EXACT_SAMPLES {
            series.add(value as f64, 1.0);
        }
        assert_eq!(series.method(), QuantileMethod::Exact);
        let exact = series.stats();
        assert_eq!(exact.p50, Some((EXACT_SAMPLES / 2 - 1) as f64));
        series.add(0.0, 1.0);
        assert_eq!(series.method(), QuantileMethod::Hdr3);
        let stats = series.stats();
        assert_eq!(stats.peak, exact.peak);
        for (exact, poured) in [(exact.p50, stats.p50), (exact.p75, stats.p75), (exact.p99, stats.p99)] {
            let (exact, poured) = (exact.unwrap(), poured.unwrap());
            assert!((exact - poured).abs() / exact < 0.002, "{exact} became {poured}");
        }
    }

    #[test]
    fn the_histogram_has_all_the_time_where_the_percentiles_have_it() {
        for samples in [1_000, EXACT_SAMPLES, 3 * EXACT_SAMPLES] {
            let mut series = Distribution::new(1e6, 2.0);
            let mut seconds = 0.0;
            for sample in 0..samples {
                let length = if sample % 10 == 0 { 3.0 } else { 2.0 };
                series.add((sample % 997) as f64 * 0.0031, length);
                seconds += length;
            }
            let histogram = series.cpu_histogram();
            assert!(histogram.is_sound());
            assert!((histogram.seconds() / seconds - 1.0).abs() < 1e-6, "{}", histogram.seconds());
            let stats = series.stats();
            for (q, exact) in [(0.5, stats.p50), (0.75, stats.p75), (0.95, stats.p95), (0.99, stats.p99)] {
                let (found, exact) = (histogram.quantile(q).unwrap(), exact.unwrap());
                assert!(
                    (exact * 0.998..exact * 1.052 + 0.01).contains(&found),
                    "{samples}: {exact}, {found}"
                );
            }
        }
        assert_eq!(Distribution::new(1e6, 2.0).cpu_histogram(), CpuHistogram::default());
    }

    #[test]
    fn a_sample_is_in_the_bucket_of_its_value() {
        for bucket in 0..=140u16 {
            let end = (CpuHistogram::end_of(bucket) * 1e6).floor();
            for kept in [end - 1.0, end, end + 1.0] {
                let mut series = Distribution::new(1e6, 2.0);
                series.add(kept / 1e6, 2.0);
                let expected = CpuHistogram::bucket(kept / 1e6);
                assert_eq!(series.cpu_histogram().buckets(), [(expected, 2.0)], "{kept}");
            }
        }
    }
}
