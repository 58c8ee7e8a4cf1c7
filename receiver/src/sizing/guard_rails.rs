//! Guard rails: from what the runs say to what is to be requested, given what is requested now.

use wire::rules::Ceiling;

use super::bounds;
use super::parameters::SizingParameters;
use super::recommendation::Change;

/// At most so much less at a time, in percent, where little is known.
const STEP_DOWN: f64 = 25.0;

/// What holds for one resource of one container, in its unit.
pub(super) struct GuardRails<'a> {
    pub(super) floor: f64,
    pub(super) cap: f64,
    /// What the cgroups above and the machines allowed at the most.
    pub(super) allowed: Option<Ceiling>,
    /// What is requested now.
    pub(super) current: Option<f64>,
    /// Whether a run tells that less than now is enough.
    pub(super) may_lower: bool,
    /// How many runs tell what is enough: nothing held them back, and the kernel itself counted what they used.
    pub(super) proofs: usize,
    /// What was seen to be needed: with less than this now, no change is too small.
    pub(super) needed: f64,
    /// Rounds up to what Kubernetes writes.
    pub(super) round: fn(f64) -> f64,
    /// How many of the units that Kubernetes writes (millicores, MiB) make one core or byte.
    pub(super) per_one: f64,
    /// For a sentence.
    pub(super) say: fn(f64) -> String,
    pub(super) parameters: &'a SizingParameters,
}

/// What is to be requested.
pub(super) struct Decision {
    pub(super) request: f64,
    /// Before what is requested now was looked at.
    pub(super) target: f64,
    pub(super) change: Change,
    pub(super) reasons: Vec<String>,
}

impl GuardRails<'_> {
    /// Between floor and cap, rounded up.
    pub(super) fn clamp(&self, value: f64) -> f64 {
        (self.round)(value).max(self.floor).min(self.cap)
    }

    /// No more than was allowed, rounded down, and no less than what was needed: a margin that nothing can give is of no
    /// use, and a container that requests more than there is is never started.
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
            reasons.push(format!("raised to {}, the least that is recommended", say(self.floor)));
        }
        if raw > self.cap {
            reasons.push(format!("cut to {}, the most that is recommended", say(self.cap)));
            if self.needed > self.cap {
                reasons.push(format!("this is less than the {} that were needed", say(self.needed)));
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
        // The cap is an order and not advice.
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

    /// What is recommended may be more than there was.
    fn beyond(&self, request: f64) -> Option<String> {
        let allowed = self.allowed.filter(|allowed| request > (self.round)(allowed.at))?;
        let (there, allows) = ((self.say)(allowed.at), allowed.whose.allows());
        let needed = if self.needed > allowed.at { ", and so much is needed" } else { "" };
        Some(format!("this is more than the {there} that {allows}{needed}"))
    }

    /// From what is requested now towards the target.
    fn step(&self, current: f64, target: f64) -> (f64, Option<String>) {
        let SizingParameters { ignore_below, max_step_down, .. } = self.parameters;
        let say = |value: f64| (self.say)(value);
        let share = 100.0 * (target - current).abs() / current.max(f64::MIN_POSITIVE);
        let keep = |why: String| (current, Some(format!("kept at {}: {why}", say(current))));
        if target < current && !self.may_lower {
            return keep("every run was held back, and none of them tells that less is enough".to_owned());
        }
        let enough = current >= self.needed;
        if share < *ignore_below && enough && target != current {
            return keep(format!("{} would be a change of less than {ignore_below} %", say(target)));
        }
        let percent = max_step_down.unwrap_or(STEP_DOWN);
        let by_percent = current * (1.0 - percent / 100.0);
        let proven = self.proven(target).filter(|_| max_step_down.is_none());
        let lowest = proven.map_or(by_percent, |proven| proven.min(by_percent));
        // Another step would be too small to be made.
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

    /// What the runs prove to be enough, the surer the more they are.
    fn proven(&self, target: f64) -> Option<f64> {
        let enough = self.proofs >= self.parameters.min_runs as usize;
        enough.then(|| self.clamp(bounds::upper(target, self.proofs)))
    }
}
