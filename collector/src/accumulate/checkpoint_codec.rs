//! The form of samples in a checkpoint: differences, which are short, and only the occupied cells of a histogram.

use hdrhistogram::Histogram;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::distribution::{EXACT_SAMPLES, Samples};

/// The most cells that a histogram of 32-bit values with 3 significant digits can have.
const MAX_CELLS: usize = 32 * 1024;

/// Samples to be written.
#[derive(Serialize)]
enum Written<'a> {
    Exact(Differences<'a>, &'a [(u32, f32)]),
    Histogram(Vec<(u64, u32)>),
}

/// Samples as they are read.
#[derive(Deserialize)]
enum Read {
    Exact(Vec<i32>, Vec<(u32, f32)>),
    Histogram(Vec<(u64, u32)>),
}

/// Each value minus the previous one, modulo 2³².
struct Differences<'a>(&'a [u32]);

impl Serialize for Differences<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let before = std::iter::once(&0).chain(self.0);
        // The length must be known beforehand. The iterator of a slice knows it.
        serializer.collect_seq(
            self.0.iter().zip(before).map(|(value, before)| value.wrapping_sub(*before).cast_signed()),
        )
    }
}

impl Serialize for Samples {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let written = match self {
            Self::Exact(values, unusual) => Written::Exact(Differences(values), unusual),
            Self::Histogram(histogram) => {
                let cells = histogram.iter_recorded();
                Written::Histogram(
                    cells.map(|cell| (cell.value_iterated_to(), cell.count_at_value())).collect(),
                )
            }
        };
        written.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Samples {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let samples = match Read::deserialize(deserializer)? {
            Read::Exact(differences, unusual) => exact(&differences, unusual),
            Read::Histogram(cells) => histogram(&cells),
        };
        samples.ok_or_else(|| serde::de::Error::custom("these are not the samples of a series"))
    }
}

fn exact(differences: &[i32], unusual: Vec<(u32, f32)>) -> Option<Samples> {
    let in_order = unusual.windows(2).all(|pair| pair[0].0 < pair[1].0);
    let within = unusual.last().is_none_or(|(index, _)| (*index as usize) < differences.len());
    let weights = unusual.iter().all(|(_, weight)| weight.is_finite() && *weight > 0.0);
    if differences.len() > EXACT_SAMPLES || !in_order || !within || !weights {
        return None;
    }
    let mut value = 0u32;
    let values = differences.iter().map(|difference| {
        value = value.wrapping_add_signed(*difference);
        value
    });
    Some(Samples::Exact(values.collect(), unusual))
}

fn histogram(cells: &[(u64, u32)]) -> Option<Samples> {
    let highest = cells.iter().map(|(value, _)| *value).max()?;
    // The highest value of the last cell is up to a thousandth more than the values recorded in it.
    if cells.len() > MAX_CELLS || highest > u64::from(u32::MAX) + (1 << 23) {
        return None;
    }
    let mut histogram = Histogram::new_with_max(highest.max(2), 3).ok()?;
    histogram.auto(true);
    cells.iter().try_for_each(|(value, count)| histogram.record_n(*value, *count)).ok()?;
    Some(Samples::Histogram(Box::new(histogram)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::accumulate::distribution::{Distribution, EXACT_SAMPLES};

    fn kept(series: &Distribution) -> Distribution {
        postcard::from_bytes(&postcard::to_stdvec(series).unwrap()).unwrap()
    }

    proptest! {
        #[test]
        fn a_series_comes_back_and_goes_on_as_if_nothing_had_been(
            before in prop::collection::vec((0.0..5e6f64, 0.5..3.0f64), 0..200),
            after in prop::collection::vec((0.0..5e6f64, 0.5..3.0f64), 0..200),
        ) {
            let mut series = Distribution::new(1.0, 1.0);
            for (value, seconds) in before {
                series.add(value, seconds);
            }
            let mut restored = kept(&series);
            for (value, seconds) in after {
                series.add(value, seconds);
                restored.add(value, seconds);
            }
            prop_assert_eq!(series.stats(), restored.stats());
        }
    }

    #[test]
    fn so_does_a_histogram() {
        let mut series = Distribution::new(1e3, 1.0);
        for sample in 0..2 * EXACT_SAMPLES {
            series.add((sample % 977) as f64 * 13.7, 1.0 + (sample % 3) as f64);
        }
        let mut restored = kept(&series);
        assert_eq!(series.method(), restored.method());
        for value in 0..5_000 {
            series.add(f64::from(value) * 7.0, 1.0);
            restored.add(f64::from(value) * 7.0, 1.0);
        }
        assert_eq!(series.stats(), restored.stats());
    }

    #[test]
    fn what_cannot_be_is_not_read() {
        let samples = |bytes: &[u8]| postcard::from_bytes::<super::Samples>(bytes).map(|_| ());
        // Exact: one value, no weight.
        assert!(samples(&[0, 1, 2, 0]).is_ok());
        // A weight for a sample that does not exist; a weight that is not a number; an empty histogram.
        assert!(samples(&[0, 1, 2, 1, 1, 0, 0, 0x80, 0x3f]).is_err());
        assert!(samples(&[0, 1, 2, 1, 0, 0, 0, 0xc0, 0x7f]).is_err());
        assert!(samples(&[1, 0]).is_err());
    }
}
