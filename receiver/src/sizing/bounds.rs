//! Bounds around a target, wider the fewer runs there are.
//!
//! The form is that of the Vertical Pod Autoscaler (`logic/recommender.go`): a bound is multiplied by
//! (1 + m / n)^e, with m = 1 and e = 1 for the upper and m = 0.001 and e = −2 for the lower one. There n counts days of
//! samples; here it counts runs, as one run of a job is what a day of a service is: one look at a whole cycle.

/// Lower and upper bound; the latter only where a run tells what is enough.
pub(super) fn around(
    target: f64,
    lower: f64,
    upper: f64,
    runs: usize,
    clamp: impl Fn(f64) -> f64,
) -> (f64, Option<f64>) {
    if runs == 0 {
        return (target, None);
    }
    let n = runs as f64;
    let lower = clamp(lower * (1.0 + 0.001 / n).powi(-2)).min(target);
    let upper = clamp(self::upper(upper, runs)).max(target);
    (lower, Some(upper))
}

/// The upper bound around a figure that some runs tell.
pub(super) fn upper(figure: f64, runs: usize) -> f64 {
    figure * (1.0 + 1.0 / runs as f64)
}

/// n / (n + 1): the inverse of what the upper bound is multiplied by.
pub(super) fn confidence(runs: usize) -> f64 {
    let n = runs as f64;
    n / (n + 1.0)
}
