//! The rules' parameters, as a query gives them. `docs/sizing.md` says where each default comes from.

use jiff::Timestamp;
use program::quantity;
use serde::Serialize;
use wire::rules::{NEAR_LIMIT, THROTTLED};

use super::quantity::MIB;

/// A parameter with a value that is not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidParameter {
    /// Its name.
    pub name: String,
    /// What is wrong and what would be accepted.
    pub detail: String,
}

impl InvalidParameter {
    /// Of a name and what is wrong with its value.
    pub fn new(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { name: name.into(), detail: detail.into() }
    }
}

/// More memory than this no machine has, in bytes.
const MOST_BYTES: u64 = 1 << 50;

/// The rules' parameters.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
#[schema(as = SizingParameters)]
pub struct Parameters {
    /// Complete runs of each job that are looked at, the newest ones.
    pub runs: u32,
    /// Only runs whose summary came then or later.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since: Option<Timestamp>,
    /// Fewer runs than this make no recommendation.
    pub min_runs: u32,
    /// Percentile of the CPU samples that the request is made from.
    pub cpu_percentile: f64,
    /// Added to it, in percent.
    pub cpu_margin: f64,
    /// Percentile of the CPU samples for a CPU limit; absent: none is recommended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_limit_percentile: Option<f64>,
    /// Added to the highest peak of memory, in percent.
    pub memory_margin: f64,
    /// Where the peak grew in each of the last runs, so many times its largest step are added to the last one.
    pub growth_steps: f64,
    /// After an OOM kill, at least the limit times this …
    pub oom_factor: f64,
    /// … and at least the limit and so many bytes.
    pub oom_bytes: u64,
    /// Least CPU request, in cores.
    pub cpu_floor: f64,
    /// Least memory request, in bytes.
    pub memory_floor: u64,
    /// Highest CPU request, in cores.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_cap: Option<f64>,
    /// Highest memory request, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_cap: Option<u64>,
    /// No lower than what is requested now less this, in percent.
    pub max_step_down: f64,
    /// A change by less than this is none, in percent of what is requested now.
    pub ignore_below: f64,
    /// A run that was throttled for more than this is censored, in percent of its periods.
    pub throttled_above: f64,
    /// A run that came to this or more of a limit is censored, in percent of the limit.
    pub at_limit: f64,
    /// Price of a core for an hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price_core_hour: Option<f64>,
    /// Price of a GiB for an hour.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price_gib_hour: Option<f64>,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            runs: 20,
            since: None,
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
            max_step_down: 25.0,
            ignore_below: 10.0,
            throttled_above: 100.0 * THROTTLED,
            at_limit: 100.0 * NEAR_LIMIT,
            price_core_hour: None,
            price_gib_hour: None,
        }
    }
}

impl Parameters {
    /// The names that a query may give.
    pub const NAMES: [&str; 20] = [
        "runs",
        "since",
        "min_runs",
        "cpu_percentile",
        "cpu_margin",
        "cpu_limit_percentile",
        "memory_margin",
        "growth_steps",
        "oom_factor",
        "oom_bytes",
        "cpu_floor",
        "memory_floor",
        "cpu_cap",
        "memory_cap",
        "max_step_down",
        "ignore_below",
        "throttled_above",
        "at_limit",
        "price_core_hour",
        "price_gib_hour",
    ];

    /// Takes one over from a query; false if there is none of this name.
    pub fn set(&mut self, name: &str, value: &str) -> Result<bool, InvalidParameter> {
        let wrong =
            |accepted: &str| InvalidParameter::new(name, format!("is {value:?}; {accepted} is accepted"));
        let number = |from: f64, to: f64, accepted: &str| {
            let number = value.parse::<f64>().ok().filter(|number| (from..=to).contains(number));
            number.ok_or_else(|| wrong(accepted))
        };
        let count = |to: u32, accepted: &str| {
            let count = value.parse::<u32>().ok().filter(|count| (1..=to).contains(count));
            count.ok_or_else(|| wrong(accepted))
        };
        let percentile = || number(1.0, 100.0, "a percentile from 1 to 100");
        let margin = || number(0.0, 1000.0, "percent from 0 to 1000");
        let percent = || number(0.0, 100.0, "percent from 0 to 100");
        let price = || number(0.0, 1e9, "a price from 0 to 1000000000");
        let cores =
            || quantity::cpu_cores(value).map_err(|error| InvalidParameter::new(name, error.to_string()));
        let bytes = || match quantity::memory_bytes(value) {
            Ok(bytes) if bytes > MOST_BYTES => Err(wrong("memory of at most 1Pi")),
            Ok(bytes) => Ok(bytes),
            Err(error) => Err(InvalidParameter::new(name, error.to_string())),
        };
        match name {
            "runs" => self.runs = count(1000, "a number from 1 to 1000")?,
            "since" => {
                let time = value.parse().map_err(|_| wrong("a time such as 2026-02-06T14:30:00Z"))?;
                self.since = Some(time);
            }
            "min_runs" => self.min_runs = count(1000, "a number from 1 to 1000")?,
            "cpu_percentile" => self.cpu_percentile = percentile()?,
            "cpu_margin" => self.cpu_margin = margin()?,
            "cpu_limit_percentile" => self.cpu_limit_percentile = Some(percentile()?),
            "memory_margin" => self.memory_margin = margin()?,
            "growth_steps" => self.growth_steps = number(0.0, 100.0, "a number from 0 to 100")?,
            "oom_factor" => self.oom_factor = number(1.0, 100.0, "a factor from 1 to 100")?,
            "oom_bytes" => self.oom_bytes = bytes()?,
            "cpu_floor" => self.cpu_floor = cores()?,
            "memory_floor" => self.memory_floor = bytes()?,
            "cpu_cap" => self.cpu_cap = Some(cores()?),
            "memory_cap" => self.memory_cap = Some(bytes()?),
            "max_step_down" => self.max_step_down = percent()?,
            "ignore_below" => self.ignore_below = percent()?,
            "throttled_above" => self.throttled_above = percent()?,
            "at_limit" => self.at_limit = number(1.0, 100.0, "percent from 1 to 100")?,
            "price_core_hour" => self.price_core_hour = Some(price()?),
            "price_gib_hour" => self.price_gib_hour = Some(price()?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// What cannot be told of one value alone.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_those_of_kubernetes_in_reason() {
        let mut parameters = Parameters::default();
        for (name, value) in
            [("cpu_floor", "1e-1"), ("cpu_cap", "250m"), ("memory_floor", "1e6"), ("memory_cap", "1Pi")]
        {
            assert!(parameters.set(name, value).unwrap(), "{name}");
        }
        assert_eq!((parameters.cpu_floor, parameters.cpu_cap), (0.1, Some(0.25)));
        assert_eq!((parameters.memory_floor, parameters.memory_cap), (1_000_000, Some(1 << 50)));
        for (name, value, words) in [
            ("memory_cap", "512m", "(did you mean 512Mi?)"),
            ("memory_cap", "1.5", "(did you mean 1.5Gi?)"),
            ("memory_cap", "1025Ti", "memory of at most 1Pi is accepted"),
            ("oom_bytes", "100MB", "128Mi"),
            ("cpu_cap", "1e7", "more than a million cores"),
            ("cpu_floor", "0", "no CPU at all"),
        ] {
            let error = parameters.set(name, value).unwrap_err();
            assert_eq!(error.name, name);
            let detail = error.detail;
            assert!(detail.contains(words), "{value}: {detail}");
        }
    }
}
