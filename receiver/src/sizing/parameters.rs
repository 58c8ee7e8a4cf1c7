//! Parameters of the rules, as a query gives them. `docs/sizing.md` explains each default.

use std::ops::RangeInclusive;

use jiff::Timestamp;
use program::quantity;
use serde::{Deserialize, Deserializer, Serialize, de};
use utoipa::{IntoParams, ToSchema};
use wire::rules::{NEAR_LIMIT, THROTTLED};

use super::quantity::MIB;

/// A parameter with an invalid value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidParameter {
    /// Its name.
    pub name: String,
    /// What is wrong and what would be accepted.
    pub detail: String,
}

impl InvalidParameter {
    /// Makes an error from a parameter's name and what is wrong with its value.
    pub fn new(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { name: name.into(), detail: detail.into() }
    }
}

/// No machine has more memory than this, in bytes.
const MOST_BYTES: u64 = 1 << 50;

/// CPU such as `500m`, `0.5`, `2` or `1e3`.
pub(crate) const CPU: &str = "^([1-9][0-9]{0,8}m|[1-9][0-9]{0,11}u|[1-9][0-9]{0,14}n|[1-9][0-9]{0,4}(\\.[0-9]{1,20})?|0?\\.[0-9]{0,8}[1-9]|[1-9]([eE][0-5]|k))$";
/// Memory such as `512Mi`, plain bytes or `1e9`.
pub(crate) const MEMORY: &str = "^((0?\\.[0-9]{0,19}[1-9]|[1-9][0-9]{0,4}(\\.[0-9]{1,20})?)(Ki|Mi|Gi|k|K|M|G)|[1-9][0-9]{0,14}|[1-9][0-9]{0,2}(Ti|T|[eE]([0-9]|1[0-2])))$";
/// Parameters of the rules.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, IntoParams, ToSchema)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct SizingParameters {
    /// Number of complete runs that are considered per job, the newest ones; 20 by default.
    #[serde(deserialize_with = "count")]
    #[param(minimum = 1, maximum = 1000)]
    pub runs: u32,
    /// Only runs whose summary was received at this time or later.
    #[serde(deserialize_with = "time", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    #[param(value_type = Option<String>, format = DateTime)]
    pub since: Option<Timestamp>,
    /// Only runs of this variant. If they are too few, all runs of the job count; `basis.level` says which.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Only runs of this branch or tag, such as `refs/heads/main`.
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    pub git_ref: Option<String>,
    /// Only runs that this event started, such as `push`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// Minimum number of runs for a recommendation; 3 by default, at most `runs`.
    #[serde(deserialize_with = "count")]
    #[param(minimum = 1, maximum = 1000)]
    pub min_runs: u32,
    /// Percentile of the CPU samples that the request is based on; 95 by default.
    #[serde(deserialize_with = "percentile")]
    #[param(minimum = 1, maximum = 100)]
    pub cpu_percentile: f64,
    /// Added to that percentile, in percent; 15 by default.
    #[serde(deserialize_with = "margin")]
    #[param(minimum = 0, maximum = 1000)]
    pub cpu_margin: f64,
    /// Percentile of the CPU samples for a CPU limit, at least `cpu_percentile`; no limit by default.
    #[serde(deserialize_with = "limit_percentile", skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 100)]
    pub cpu_limit_percentile: Option<f64>,
    /// Added to the highest memory peak, in percent; 15 by default.
    #[serde(deserialize_with = "margin")]
    #[param(minimum = 0, maximum = 1000)]
    pub memory_margin: f64,
    /// If the peak grew in each of the last runs, its largest step is added this many times; 2 by default.
    #[serde(deserialize_with = "steps")]
    #[param(minimum = 0, maximum = 100)]
    pub growth_steps: f64,
    /// After an OOM kill, the request is at least the limit times this; 1.2 by default.
    #[serde(deserialize_with = "factor")]
    #[param(minimum = 1, maximum = 100)]
    pub oom_factor: f64,
    /// After an OOM kill, the request is at least the limit plus this, in bytes; 100Mi by default.
    #[serde(deserialize_with = "bytes")]
    #[param(value_type = String)]
    pub oom_bytes: u64,
    /// Lowest CPU request, in cores; 10m by default.
    #[serde(deserialize_with = "cores")]
    #[param(value_type = String)]
    pub cpu_floor: f64,
    /// Lowest memory request, in bytes; 32Mi by default.
    #[serde(deserialize_with = "bytes")]
    #[param(value_type = String)]
    pub memory_floor: u64,
    /// Highest CPU request, in cores, at least `cpu_floor`.
    #[serde(deserialize_with = "cpu_cap", skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub cpu_cap: Option<f64>,
    /// Highest memory request, in bytes, at least `memory_floor`.
    #[serde(deserialize_with = "memory_cap", skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub memory_cap: Option<u64>,
    /// Largest step down from the current request, in percent. By default 25, or down to the upper bound at once if `min_runs`
    /// runs that nothing held back prove it, each with the kernel's own figure.
    #[serde(deserialize_with = "step", skip_serializing_if = "Option::is_none")]
    #[param(minimum = 0, maximum = 100)]
    pub max_step_down: Option<f64>,
    /// Changes smaller than this are ignored, in percent of the current request; 10 by default.
    #[serde(deserialize_with = "percent")]
    #[param(minimum = 0, maximum = 100)]
    pub ignore_below: f64,
    /// A run that was throttled in more than this percentage of its periods is censored; 5 by default.
    #[serde(deserialize_with = "percent")]
    #[param(minimum = 0, maximum = 100)]
    pub throttled_above: f64,
    /// A run that used at least this percentage of a limit is censored; 95 by default.
    #[serde(deserialize_with = "limit_share")]
    #[param(minimum = 1, maximum = 100)]
    pub at_limit: f64,
    /// Price of a core for an hour.
    #[serde(deserialize_with = "price", skip_serializing_if = "Option::is_none")]
    #[param(minimum = 0, maximum = 1_000_000_000)]
    pub price_core_hour: Option<f64>,
    /// Price of a GiB for an hour.
    #[serde(deserialize_with = "price", skip_serializing_if = "Option::is_none")]
    #[param(minimum = 0, maximum = 1_000_000_000)]
    pub price_gib_hour: Option<f64>,
}

impl Default for SizingParameters {
    fn default() -> Self {
        Self {
            runs: 20,
            since: None,
            variant: None,
            git_ref: None,
            event: None,
            min_runs: 3,
            cpu_percentile: 95.0,
            cpu_margin: 15.0,
            cpu_limit_percentile: None,
            memory_margin: 15.0,
            growth_steps: 2.0,
            oom_factor: 1.2,
            oom_bytes: 100 * MIB,
            cpu_floor: 0.01,
            memory_floor: 32 * MIB,
            cpu_cap: None,
            memory_cap: None,
            max_step_down: None,
            ignore_below: 10.0,
            throttled_above: 100.0 * THROTTLED,
            at_limit: 100.0 * NEAR_LIMIT,
            price_core_hour: None,
            price_gib_hour: None,
        }
    }
}

impl SizingParameters {
    /// Checks rules that involve several parameters.
    pub fn check(&self) -> Result<(), InvalidParameter> {
        if self.min_runs > self.runs {
            let detail = format!("is {}, more than runs, which is {}", self.min_runs, self.runs);
            return Err(InvalidParameter::new("min_runs", detail));
        }
        if self.cpu_limit_percentile.is_some_and(|limit| limit < self.cpu_percentile) {
            let detail = format!("is below cpu_percentile, which is {}", self.cpu_percentile);
            return Err(InvalidParameter::new("cpu_limit_percentile", detail));
        }
        if self.cpu_cap.is_some_and(|cap| cap < self.cpu_floor) {
            return Err(InvalidParameter::new("cpu_cap", "is below cpu_floor"));
        }
        if self.memory_cap.is_some_and(|cap| cap < self.memory_floor) {
            return Err(InvalidParameter::new("memory_cap", "is below memory_floor"));
        }
        Ok(())
    }
}

/// Parses a value with `read`. If that fails, the error says what is `accepted`.
fn value<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    accepted: &str,
    read: impl FnOnce(&str) -> Option<T>,
) -> Result<T, D::Error> {
    let text = String::deserialize(deserializer)?;
    read(&text).ok_or_else(|| de::Error::custom(format!("is {text:?}; {accepted} is accepted")))
}

fn number<'de, D: Deserializer<'de>>(
    deserializer: D,
    range: RangeInclusive<f64>,
    accepted: &str,
) -> Result<f64, D::Error> {
    value(deserializer, accepted, |text| text.parse().ok().filter(|number| range.contains(number)))
}

fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let count = |text: &str| text.parse().ok().filter(|count| (1..=1000).contains(count));
    value(deserializer, "a number from 1 to 1000", count)
}

fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    value(deserializer, "a time such as 2026-02-06T14:30:00Z", |text| text.parse().ok().map(Some))
}

fn percentile<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    number(deserializer, 1.0..=100.0, "a percentile from 1 to 100")
}

fn limit_percentile<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    percentile(deserializer).map(Some)
}

fn margin<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    number(deserializer, 0.0..=1000.0, "percent from 0 to 1000")
}

fn percent<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    number(deserializer, 0.0..=100.0, "percent from 0 to 100")
}

fn step<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    percent(deserializer).map(Some)
}

fn limit_share<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    number(deserializer, 1.0..=100.0, "percent from 1 to 100")
}

fn steps<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    number(deserializer, 0.0..=100.0, "a number from 0 to 100")
}

fn factor<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    number(deserializer, 1.0..=100.0, "a factor from 1 to 100")
}

fn price<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    number(deserializer, 0.0..=1e9, "a price from 0 to 1000000000").map(Some)
}

fn cores<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    quantity::cpu_cores(&String::deserialize(deserializer)?).map_err(de::Error::custom)
}

fn cpu_cap<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    cores(deserializer).map(Some)
}

fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = String::deserialize(deserializer)?;
    let bytes = quantity::memory_bytes(&text).map_err(de::Error::custom)?;
    let fits = Some(bytes).filter(|bytes| *bytes <= MOST_BYTES);
    fits.ok_or_else(|| de::Error::custom(format!("is {text:?}; memory of at most 1Pi is accepted")))
}

fn memory_cap<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    bytes(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::string::string_regex;
    use serde::de::value::{Error, MapDeserializer};

    use super::*;

    fn given(name: &str, value: &str) -> Result<SizingParameters, String> {
        let pairs = MapDeserializer::<_, Error>::new(std::iter::once((name, value)));
        SizingParameters::deserialize(pairs).map_err(|error| error.to_string())
    }

    #[test]
    fn quantities_are_those_of_kubernetes_in_reason() {
        assert_eq!(given("cpu_floor", "1e-1").unwrap().cpu_floor, 0.1);
        assert_eq!(given("cpu_cap", "250m").unwrap().cpu_cap, Some(0.25));
        assert_eq!(given("memory_floor", "1e6").unwrap().memory_floor, 1_000_000);
        assert_eq!(given("memory_cap", "1Pi").unwrap().memory_cap, Some(1 << 50));
        for (name, value, words) in [
            ("memory_cap", "512m", "(did you mean 512Mi?)"),
            ("memory_cap", "1.5", "(did you mean 1.5Gi?)"),
            ("memory_cap", "1025Ti", "memory of at most 1Pi is accepted"),
            ("oom_bytes", "100MB", "128Mi"),
            ("cpu_cap", "1e7", "more than a million cores"),
            ("cpu_floor", "0", "is zero"),
        ] {
            let detail = given(name, value).unwrap_err();
            assert!(detail.contains(words), "{value}: {detail}");
        }
    }

    /// Texts that match a pattern, which is anchored at both ends.
    fn taken_by(pattern: &str) -> impl Strategy<Value = String> {
        string_regex(pattern.trim_start_matches('^').trim_end_matches('$')).unwrap()
    }

    proptest! {
        #[test]
        fn what_is_described_as_cpu_is_accepted(text in taken_by(CPU)) {
            prop_assert!(given("cpu_cap", &text).is_ok());
        }

        #[test]
        fn what_is_described_as_memory_is_accepted(text in taken_by(MEMORY)) {
            prop_assert!(given("memory_cap", &text).is_ok());
        }
    }
}
