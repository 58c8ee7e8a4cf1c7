use serde::{Deserialize, Serialize};

/// Width of the first bucket, in cores.
const FIRST_CORES: f64 = 0.01;
/// Each bucket is wider than the one before by this factor.
const GROWTH: f64 = 1.05;

/// Histogram of CPU samples. Each sample counts with the seconds that it stands for. Histograms of several runs add up to the
/// histogram of all their samples; percentiles do not.
///
/// On the wire it is a list of `[bucket, seconds]` in ascending order, without empty buckets. Bucket 0 is from 0 to 0.01 cores,
/// and each bucket is 5 % wider than the one before, as in the Vertical Pod Autoscaler's recommender
/// (`NewExponentialHistogramOptions`): bucket `n` ends at `0.01 × (1.05ⁿ⁺¹ − 1) / 0.05` cores.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CpuHistogram(Vec<(u16, f64)>);

impl CpuHistogram {
    /// The highest bucket; it ends beyond a million cores.
    pub const LAST_BUCKET: u16 = 316;

    /// The bucket for this many cores.
    pub fn bucket(cores: f64) -> u16 {
        let exponent = (cores.max(0.0) * (GROWTH - 1.0) / FIRST_CORES + 1.0).ln() / GROWTH.ln();
        // The end of a bucket belongs to it. A rounding error must not move it to the next one.
        (exponent - 1e-9).ceil().clamp(1.0, f64::from(Self::LAST_BUCKET) + 1.0) as u16 - 1
    }

    /// The end of a bucket, in cores.
    pub fn end_of(bucket: u16) -> f64 {
        FIRST_CORES * (GROWTH.powi(i32::from(bucket) + 1) - 1.0) / (GROWTH - 1.0)
    }

    /// Adds a sample that stands for this many seconds.
    pub fn add(&mut self, cores: f64, seconds: f64) {
        self.add_to(Self::bucket(cores), seconds);
    }

    /// Adds all samples of another histogram.
    pub fn merge(&mut self, other: &Self) {
        for &(bucket, seconds) in &other.0 {
            self.add_to(bucket, seconds);
        }
    }

    fn add_to(&mut self, bucket: u16, seconds: f64) {
        match self.0.binary_search_by_key(&bucket, |(bucket, _)| *bucket) {
            Ok(at) => self.0[at].1 += seconds,
            Err(at) => self.0.insert(at, (bucket, seconds)),
        }
    }

    /// Rounds to whole milliseconds, for the wire.
    #[must_use]
    pub fn rounded(mut self) -> Self {
        for (_, seconds) in &mut self.0 {
            *seconds = (*seconds * 1e3).round() / 1e3;
        }
        self.0.retain(|(_, seconds)| *seconds > 0.0);
        self
    }

    /// Total seconds.
    pub fn seconds(&self) -> f64 {
        self.0.iter().map(|(_, seconds)| seconds).sum()
    }

    /// Buckets and their seconds.
    pub fn buckets(&self) -> &[(u16, f64)] {
        &self.0
    }

    /// The quantile `q` over time: the end of its bucket, in cores. `None` if the histogram is empty.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let rank = q * self.seconds() - 1e-6;
        let mut passed = 0.0;
        let found = self.0.iter().find(|(_, seconds)| {
            passed += seconds;
            passed >= rank
        });
        found.or(self.0.last()).map(|(bucket, _)| Self::end_of(*bucket))
    }

    /// Whether its buckets exist and are in order, and their seconds are valid.
    pub fn is_sound(&self) -> bool {
        self.0.windows(2).all(|pair| pair[0].0 < pair[1].0)
            && self.0.iter().all(|(bucket, seconds)| {
                *bucket <= Self::LAST_BUCKET && seconds.is_finite() && *seconds >= 0.0
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_within_its_bucket() {
        for step in 0..100_000 {
            let cores = f64::from(step) * 0.0037;
            let bucket = CpuHistogram::bucket(cores);
            let begin = bucket.checked_sub(1).map_or(-1.0, CpuHistogram::end_of);
            let end = CpuHistogram::end_of(bucket);
            assert!(cores > begin - 1e-6 && cores <= end + 1e-6, "{cores} in {bucket}: {begin} to {end}");
        }
        for bucket in 0..=CpuHistogram::LAST_BUCKET {
            assert_eq!(CpuHistogram::bucket(CpuHistogram::end_of(bucket)), bucket);
        }
        assert_eq!(CpuHistogram::bucket(f64::MAX), CpuHistogram::LAST_BUCKET);
        assert!(CpuHistogram::end_of(CpuHistogram::LAST_BUCKET) > 1e6);
        assert_eq!((CpuHistogram::bucket(0.0), CpuHistogram::bucket(-1.0)), (0, 0));
    }

    #[test]
    fn the_percentile_of_two_runs_is_that_of_all_their_samples() {
        let (mut short, mut long) = (CpuHistogram::default(), CpuHistogram::default());
        short.add(4.0, 10.0);
        long.add(1.0, 990.0);
        let mean = f64::midpoint(short.quantile(0.95).unwrap(), long.quantile(0.95).unwrap());
        short.merge(&long);
        let merged = short.quantile(0.95).unwrap();
        assert!((1.0..1.06).contains(&merged) && mean > 2.0, "{merged}, {mean}");
        assert!((4.0..4.21).contains(&short.quantile(0.999).unwrap()));
        assert_eq!(short.seconds(), 1000.0);
        assert_eq!(CpuHistogram::default().quantile(0.5), None);
    }

    #[test]
    fn it_is_a_list_of_pairs() {
        let mut histogram = CpuHistogram::default();
        histogram.add(0.0, 1.000_4);
        histogram.add(1.0, 2.0);
        histogram.add(0.5, 0.0);
        let text = serde_json::to_string(&histogram.rounded()).unwrap();
        assert_eq!(text, "[[0,1.0],[36,2.0]]");
        let read = |text: &str| serde_json::from_str::<CpuHistogram>(text).unwrap().is_sound();
        assert!(read(&text) && read("[]"));
        assert!(!read("[[3,1],[3,1]]") && !read("[[4,1],[3,1]]") && !read("[[400,1]]") && !read("[[1,-1]]"));
    }
}
