//! Bounds around a target. They are wider if there are fewer runs.
//!
//! The formula is the Vertical Pod Autoscaler's (`logic/recommender.go`): a bound is multiplied by (1 + m / n)^e, with m = 1
//! and e = 1 for the upper bound and m = 0.001 and e = −2 for the lower one. There n counts days of samples. Here it counts
//! runs, because a run of a job covers one whole cycle, like a day of a service.

/// Lower and upper bound. There is an upper bound only if a run shows what is enough.
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

/// The upper bound of a figure from this many runs.
pub(super) fn upper(figure: f64, runs: usize) -> f64 {
    figure * (1.0 + 1.0 / runs as f64)
}

/// n / (n + 1): the inverse of the factor of the upper bound.
pub(super) fn confidence(runs: usize) -> f64 {
    let n = runs as f64;
    n / (n + 1.0)
}
