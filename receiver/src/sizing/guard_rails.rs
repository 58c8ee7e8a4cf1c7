//! Guard rails: turn the figure from the runs into a request, given the current request.

use wire::rules::Ceiling;

use super::bounds;
use super::parameters::SizingParameters;
use super::recommendation::Change;

/// Largest step down, in percent, unless enough runs prove that a larger one is safe.
const STEP_DOWN: f64 = 25.0;

/// The rules for one resource of one container, in the resource's unit.
pub(super) struct GuardRails<'a> {
    pub(super) floor: f64,
    pub(super) cap: f64,
    /// The most that the cgroups above and the machines allowed.
    pub(super) allowed: Option<Ceiling>,
    /// The current request.
    pub(super) current: Option<f64>,
    /// Whether a run shows that less than the current request is enough.
    pub(super) may_lower: bool,
    /// Number of runs that prove what is enough: nothing held them back, and the kernel itself counted their use.
    pub(super) proofs: usize,
    /// The observed need. If the current request is less, no change is too small.
    pub(super) needed: f64,
    /// Rounds up to the units that Kubernetes writes.
    pub(super) round: fn(f64) -> f64,
    /// Units that Kubernetes writes (millicores, MiB) per core or byte.
    pub(super) per_one: f64,
    /// Formats a value for a sentence.
    pub(super) say: fn(f64) -> String,
    pub(super) parameters: &'a SizingParameters,
}

/// The request to recommend.
pub(super) struct Decision {
    pub(super) request: f64,
    /// The request before the current one is considered.
    pub(super) target: f64,
    pub(super) change: Change,
    pub(super) reasons: Vec<String>,
}

impl GuardRails<'_> {
    /// Rounds up and limits to floor and cap.
    pub(super) fn clamp(&self, value: f64) -> f64 {
        (self.round)(value).max(self.floor).min(self.cap)
    }

    /// Limits a value to what was allowed, rounded down, but not below what was needed. A margin that no machine has is useless,
    /// and a container that requests more than there is never starts.
    pub(super) fn allow(&self, value: f64) -> f64 {
        let Some(allowed) = self.allowed else { return value };
        let allowed = (allowed.at * self.per_one + 1e-6).floor() / self.per_one;
        value.min(allowed.max(self.clamp(self.needed)))
    }

    pub(super) fn settle(&self, raw: f64) -> Decision {
        let mut reasons = Vec::new();
        let say = |value: f64| (self.say)(value);
        let clamped = self.clamp(raw);
        let target = self.allow(clamped);
        if raw < self.floor {
            reasons.push(format!("raised to {}, the minimum recommendation", say(self.floor)));
        }
        if raw > self.cap {
            reasons.push(format!("cut to {}, the maximum recommendation", say(self.cap)));
            if self.needed > self.cap {
                reasons.push(format!("this is less than the {} needed", say(self.needed)));
            }
        }
        if let Some(allowed) = self.allowed.filter(|allowed| target < clamped && target <= allowed.at) {
            reasons.push(format!("cut to {}: {} no more", say(target), allowed.whose.allows()));
        }
        let Some(current) = self.current else {
            reasons.extend(self.beyond(target));
            return Decision { request: target, target, change: Change::Unknown, reasons };
        };
        let (request, reason) = self.step(current, target);
        reasons.extend(reason);
        // The cap is always obeyed.
        let request = (self.round)(request).min(self.cap);
        reasons.extend(self.beyond(request));
        let change = if request > (self.round)(current) {
            Change::Raise
        } else if request < (self.round)(current) {
            Change::Lower
        } else {
            Change::Keep
        };
        Decision { request, target, change, reasons }
    }

    /// The reason to add if the request is more than there was.
    fn beyond(&self, request: f64) -> Option<String> {
        let allowed = self.allowed.filter(|allowed| request > (self.round)(allowed.at))?;
        let (there, allows) = ((self.say)(allowed.at), allowed.whose.allows());
        let needed = if self.needed > allowed.at { ", and that much is needed" } else { "" };
        Some(format!("this is more than the {there} that {allows}{needed}"))
    }

    /// Steps from the current request towards the target.
    fn step(&self, current: f64, target: f64) -> (f64, Option<String>) {
        let SizingParameters { ignore_below, max_step_down, .. } = self.parameters;
        let say = |value: f64| (self.say)(value);
        let share = 100.0 * (target - current).abs() / current.max(f64::MIN_POSITIVE);
        let keep = |why: String| (current, Some(format!("kept at {}: {why}", say(current))));
        if target < current && !self.may_lower {
            return keep("every run was held back, so none shows that less is enough".to_owned());
        }
        let enough = current >= self.needed;
        if share < *ignore_below && enough && target != current {
            return keep(format!("{} would be a change of less than {ignore_below} %", say(target)));
        }
        let percent = max_step_down.unwrap_or(STEP_DOWN);
        let by_percent = current * (1.0 - percent / 100.0);
        let proven = self.proven(target).filter(|_| max_step_down.is_none());
        let lowest = proven.map_or(by_percent, |proven| proven.min(by_percent));
        // Go to the target at once if the rest would be too small for another step.
        let arrives = proven.is_some() && target > lowest * (1.0 - ignore_below / 100.0);
        if target < lowest && !arrives {
            let why = if lowest < by_percent {
                format!("{} runs that nothing held back needed less", self.proofs)
            } else {
                format!("at most {percent} % at a time")
            };
            let (from, to) = (say(current), say(target));
            let why = format!("lowered to {} for now: {why}, from {from} towards {to}", say(lowest));
            return (lowest, Some(why));
        }
        (target, None)
    }

    /// What the runs prove to be enough. With more runs, it is closer to the target.
    fn proven(&self, target: f64) -> Option<f64> {
        let enough = self.proofs >= self.parameters.min_runs as usize;
        enough.then(|| self.clamp(bounds::upper(target, self.proofs)))
    }
}
