//! CPU: a percentile of the samples of all runs.

use std::fmt::Write as _;

use wire::CpuHistogram;
use wire::rules::Whose;

use super::bounds;
use super::ceiling;
use super::guard_rails::{Decision, GuardRails};
use super::observation::Observation;
use super::parameters::SizingParameters;
use super::quantity::{round_cores, say_cores, write_cores};
use super::recommendation::{Change, CpuSizing};

/// Recommends a request. Values in `current` are `None` if they are unknown.
pub(super) fn size(
    observations: &[Observation<'_>],
    own: &[Observation<'_>],
    current: &CurrentCpu,
    parameters: &SizingParameters,
) -> CpuSizing {
    let at = |percentile: f64| used(observations, percentile);
    let with_margin = |cores: f64| cores * (1.0 + parameters.cpu_margin / 100.0);
    let used = at(parameters.cpu_percentile);
    let told = observations.iter().filter(|one| !one.is_cpu_censored()).count();
    let rails = GuardRails {
        floor: parameters.cpu_floor,
        cap: parameters.cpu_cap.unwrap_or(f64::INFINITY),
        allowed: ceiling::allowed(observations.iter().map(|one| ceiling::cpu_allowed(one.facts))),
        current: current.request.or(current.limit),
        may_lower: told > 0,
        proofs: own.iter().filter(|one| one.proves_cpu()).count(),
        needed: used,
        round: round_cores,
        per_one: 1000.0,
        say: say_cores,
        parameters,
    };
    let raw = with_margin(used);
    let mut reasons = vec![reason(observations, raw, used, parameters)];
    if let (None, Some(bound)) = (current.limit, current.bound) {
        reasons.push(format!("it has no limit of its own; {} {}", Whose::Above.allows(), say_cores(bound)));
    }
    let Decision { request, target, change, reasons: rails_reasons } = rails.settle(raw);
    reasons.extend(rails_reasons);
    let upper = parameters.cpu_percentile.max(99.0);
    let (lower_bound, upper_bound) =
        bounds::around(target, with_margin(at(50.0)), with_margin(at(upper)), told, |cores| {
            rails.clamp(cores)
        });
    let limit = parameters.cpu_limit_percentile.map(|percentile| {
        let limit = rails.allow(rails.clamp(with_margin(at(percentile)))).max(request);
        reasons.push(format!(
            "CPU limit {}: {percentile} % of the time the runs used less, + {} %",
            say_cores(limit),
            parameters.cpu_margin
        ));
        limit
    });
    if limit.is_none() {
        reasons.push("no CPU limit: it would only withhold otherwise idle CPU time".to_owned());
    }
    CpuSizing {
        request_cores: Some(request),
        request: Some(write_cores(request)),
        limit_cores: limit,
        limit: limit.map(write_cores),
        current_request_cores: current.request,
        current_limit_cores: current.limit,
        current_bound_cores: current.bound,
        used_cores: Some(used),
        lower_bound_cores: Some(lower_bound),
        target_cores: Some(target),
        upper_bound_cores: upper_bound,
        confidence: bounds::confidence(told),
        change,
        reasons,
    }
}

/// The same if nothing can be recommended.
pub(super) fn none(
    observations: &[Observation<'_>],
    current: &CurrentCpu,
    parameters: &SizingParameters,
) -> CpuSizing {
    CpuSizing {
        request_cores: None,
        request: None,
        limit_cores: None,
        limit: None,
        current_request_cores: current.request,
        current_limit_cores: current.limit,
        current_bound_cores: current.bound,
        used_cores: (!observations.is_empty()).then(|| used(observations, parameters.cpu_percentile)),
        lower_bound_cores: None,
        target_cores: None,
        upper_bound_cores: None,
        confidence: 0.0,
        change: Change::Unknown,
        reasons: Vec::new(),
    }
}

/// Request and limits of the newest run, in cores.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct CurrentCpu {
    pub(super) request: Option<f64>,
    pub(super) limit: Option<f64>,
    /// The tightest limit above it.
    pub(super) bound: Option<f64>,
}

/// A percentile of the samples of all runs. The end of a bucket may be above all samples, so the highest peak caps it.
fn used(observations: &[Observation<'_>], percentile: f64) -> f64 {
    let of = |censored: bool| {
        let those = observations.iter().filter(move |one| one.is_cpu_censored() == censored);
        those.map(|one| &one.cpu)
    };
    let mut told = CpuHistogram::default();
    of(false).for_each(|histogram| told.merge(histogram));
    let censored: Vec<_> = of(true).collect();
    let peak = observations.iter().map(|one| one.facts.cpu_peak_cores).fold(0.0, f64::max);
    highest_percentile(&told, &censored, percentile / 100.0).unwrap_or(0.0).min(peak)
}

/// The highest percentile of the samples of `told` together with any of the censored runs: a censored run can raise it and
/// never lowers it.
///
/// A percentile is in a bucket or above it if more than the share 1 − q of the time is. So a run with more than that share
/// there counts for the bucket, and a run with less is left out.
fn highest_percentile(told: &CpuHistogram, censored: &[&CpuHistogram], q: f64) -> Option<f64> {
    let told = Excess::new(told, q);
    let censored: Vec<_> = censored.iter().map(|histogram| Excess::new(histogram, q)).collect();
    let found = (0..=CpuHistogram::LAST_BUCKET).rev().find(|bucket| {
        let of_censored = censored.iter().map(|excess| excess.at(*bucket).max(0.0));
        told.at(*bucket) + of_censored.sum::<f64>() > 1e-6
    });
    found.map(CpuHistogram::end_of)
}

/// Seconds in each bucket and above it, minus the share 1 − q of all seconds.
struct Excess(Vec<f64>);

impl Excess {
    fn new(histogram: &CpuHistogram, q: f64) -> Self {
        let mut seconds = vec![0.0; usize::from(CpuHistogram::LAST_BUCKET) + 1];
        for &(bucket, time) in histogram.buckets() {
            if let Some(in_bucket) = seconds.get_mut(usize::from(bucket)) {
                *in_bucket += time;
            }
        }
        let allowed = (1.0 - q) * histogram.seconds();
        let mut above = 0.0;
        for in_bucket in seconds.iter_mut().rev() {
            above += *in_bucket;
            *in_bucket = above - allowed;
        }
        Self(seconds)
    }

    fn at(&self, bucket: u16) -> f64 {
        self.0[usize::from(bucket)]
    }
}

fn reason(observations: &[Observation<'_>], figure: f64, used: f64, parameters: &SizingParameters) -> String {
    let runs = observations.len();
    let count = |test: fn(&Observation<'_>) -> bool| observations.iter().filter(|one| test(one)).count();
    let mut reason = format!(
        "CPU {}: {} % of the time {} used no more than {}, + {} %",
        say_cores(figure),
        parameters.cpu_percentile,
        if runs == 1 { "1 run".to_owned() } else { format!("{runs} runs") },
        say_cores(used),
        parameters.cpu_margin
    );
    let mut add = |count: usize, what: &str| {
        if count > 0 {
            let were = if count == 1 { "was" } else { "were" };
            let _ = write!(reason, "; {count} of {runs} runs {were} {what}");
        }
    };
    add(
        count(|one| !one.sampled),
        "without a histogram, so the 95th percentile of each stands for the whole run",
    );
    add(
        count(|one| one.throttled),
        &format!(
            "throttled for more than {} % of the time and can only raise this",
            parameters.throttled_above
        ),
    );
    add(count(|one| one.run.failed), "failed or cancelled and can only raise this");
    add(count(|one| one.short_of_cpu), "short of CPU because of others and can only raise this");
    add(count(|one| one.at_cpu_limit), "at the CPU limit and can only raise this");
    let bound: Vec<_> = observations.iter().filter_map(Observation::cpu_bound_met).collect();
    if let Some(most) = ceiling::highest(bound.iter().copied()) {
        let (count, at, allows) = (bound.len(), say_cores(most.at), most.whose.allows());
        let _ = write!(
            reason,
            "; {count} of {runs} runs reached the {at} that {allows}, not a limit of their own"
        );
    }
    if observations.iter().all(Observation::is_cpu_censored) {
        reason.push_str("; all of them were held back, so at least this much is needed");
    }
    reason
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(samples: &[(f64, f64)]) -> CpuHistogram {
        let mut histogram = CpuHistogram::default();
        for &(cores, seconds) in samples {
            histogram.add(cores, seconds);
        }
        histogram
    }

    #[test]
    fn without_censored_runs_it_is_the_percentile() {
        let told = histogram(&[(0.1, 50.0), (1.0, 44.0), (3.0, 6.0)]);
        for q in [0.01, 0.5, 0.9, 0.94, 0.95, 0.99, 1.0] {
            assert_eq!(highest_percentile(&told, &[], q), told.quantile(q), "{q}");
        }
        assert_eq!(highest_percentile(&CpuHistogram::default(), &[], 0.95), None);
    }

    #[test]
    fn a_censored_run_raises_by_its_weight_and_never_lowers() {
        let told = histogram(&[(1.0, 100.0)]);
        let low = histogram(&[(0.2, 1_000.0)]);
        let brief = histogram(&[(8.0, 1.0)]);
        let long = histogram(&[(8.0, 10.0)]);
        let plain = highest_percentile(&told, &[], 0.95).unwrap();
        assert_eq!(highest_percentile(&told, &[&low], 0.95), Some(plain), "it is left out");
        assert_eq!(highest_percentile(&told, &[&brief], 0.95), Some(plain), "1 % of the time is not 5 %");
        let raised = highest_percentile(&told, &[&long, &low], 0.95).unwrap();
        assert!((8.0..8.41).contains(&raised), "{raised}");
    }
}
