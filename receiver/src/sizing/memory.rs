//! Memory: the highest peak, raised for OOM kills and for growth.

use std::fmt::Write as _;

use wire::MemoryFigure;
use wire::rules::Whose;

use super::bounds;
use super::ceiling;
use super::guard_rails::{Decision, GuardRails};
use super::observation::Observation;
use super::parameters::SizingParameters;
use super::quantity::{MIB, round_bytes, say_bytes, write_bytes};
use super::recommendation::{Change, MemorySizing};

/// If each of this many runs in a row has a higher peak than the one before, it is growth and not chance.
const GROWING_RUNS: usize = 4;

/// It is growth and not a jump if the largest step is at most this many times the smallest.
const EVEN_STEPS: f64 = 3.0;
/// After runs that were all killed, the factor is applied at most this many times.
const MAX_STEPS: usize = 3;

/// Request and limits of the newest run, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct CurrentMemory {
    pub(super) request: Option<u64>,
    pub(super) limit: Option<u64>,
    /// The tightest limit above it.
    pub(super) bound: Option<u64>,
}

/// Recommends a request. Observations are newest first.
pub(super) fn size(
    observations: &[Observation<'_>],
    own: &[Observation<'_>],
    current: &CurrentMemory,
    parameters: &SizingParameters,
) -> MemorySizing {
    let with_margin = |bytes: f64| bytes * (1.0 + parameters.memory_margin / 100.0);
    let highest = highest(observations);
    let used = highest.map_or(0.0, |one| one.memory_bytes);
    let killed_at = observations.iter().filter_map(Observation::killed_at).fold(0.0, f64::max);
    let kill = AfterKill::new(killed_at, own, parameters);
    let after_kill = kill.bytes;
    let next = grown(own, parameters);
    let raw = with_margin(used).max(after_kill).max(next.unwrap_or(0.0));
    let told: Vec<_> = observations.iter().filter(|one| !one.is_memory_censored()).collect();
    let rails = GuardRails {
        floor: parameters.memory_floor as f64,
        cap: parameters.memory_cap.map_or(f64::INFINITY, |cap| cap as f64),
        allowed: ceiling::allowed(observations.iter().map(|one| ceiling::memory_allowed(one.facts))),
        current: current.request.or(current.limit).map(|bytes| bytes as f64),
        may_lower: !told.is_empty(),
        proofs: own.iter().filter(|one| one.proves_memory()).count(),
        needed: used.max(after_kill).max(next.unwrap_or(0.0)),
        round: |bytes| round_bytes(bytes) as f64,
        per_one: 1.0 / MIB as f64,
        say: say_bytes,
        parameters,
    };
    let mut reasons = vec![reason(observations, raw, with_margin(used), &kill, parameters)];
    if next.is_some_and(|next| next >= raw) {
        reasons.push(format!(
            "the peak grew in each of the last {GROWING_RUNS} runs: {} times its largest step is added to the last peak",
            parameters.growth_steps
        ));
    }
    if let (None, Some(bound)) = (current.limit, current.bound) {
        let bound = say_bytes(bound as f64);
        reasons.push(format!("it has no limit of its own; {} {bound}", Whose::Above.allows()));
    }
    let Decision { request, target, change, reasons: rails_reasons } = rails.settle(raw);
    reasons.extend(rails_reasons);
    // A run that was stopped needs at least the amount that stopped it.
    let censored = observations.iter().filter(|one| one.is_memory_censored());
    let least = censored.map(|one| one.killed_at().unwrap_or(one.memory_bytes)).fold(0.0, f64::max);
    let lower = with_margin(median(&told)).max(least);
    let (lower_bound, upper_bound) =
        bounds::around(target, lower, raw, told.len(), |bytes| rails.clamp(bytes));
    MemorySizing {
        request_bytes: Some(request as u64),
        request: Some(write_bytes(request as u64)),
        current_request_bytes: current.request,
        current_limit_bytes: current.limit,
        current_bound_bytes: current.bound,
        used_bytes: Some(used as u64),
        lower_bound_bytes: Some(lower_bound as u64),
        target_bytes: Some(target as u64),
        upper_bound_bytes: upper_bound.map(|bytes| bytes as u64),
        confidence: bounds::confidence(told.len()),
        change,
        reasons,
    }
}

/// The same if nothing can be recommended.
pub(super) fn none(observations: &[Observation<'_>], current: &CurrentMemory) -> MemorySizing {
    MemorySizing {
        request_bytes: None,
        request: None,
        current_request_bytes: current.request,
        current_limit_bytes: current.limit,
        current_bound_bytes: current.bound,
        used_bytes: highest(observations).map(|one| one.memory_bytes as u64),
        lower_bound_bytes: None,
        target_bytes: None,
        upper_bound_bytes: None,
        confidence: 0.0,
        change: Change::Unknown,
        reasons: Vec::new(),
    }
}

/// The request after an OOM kill: more than the limit by a factor and by an amount. Each further killed run in a row applies
/// the factor once more: what did not help twice is not tried a third time. It is 0 once later runs needed more than the
/// limit that killed and proved how much.
struct AfterKill {
    factor: f64,
    added: f64,
    bytes: f64,
    answered_by: usize,
}

impl AfterKill {
    fn new(killed_at: f64, own: &[Observation<'_>], parameters: &SizingParameters) -> Self {
        let in_a_row = own.iter().take_while(|one| one.oom_killed).count().clamp(1, MAX_STEPS);
        let factor = parameters.oom_factor.powi(in_a_row as i32);
        let added = parameters.oom_bytes as f64;
        let answered_by = answers(killed_at, own);
        let is_open = killed_at > 0.0 && answered_by < parameters.min_runs as usize;
        let bytes = if is_open { (killed_at * factor).max(killed_at + added) } else { 0.0 };
        Self { factor: (factor * 100.0).round() / 100.0, added, bytes, answered_by }
    }
}

/// Number of runs since the last kill that prove how much is enough. 0 if all of them needed less than the limit that
/// killed: they may not have done the work that was killed.
fn answers(killed_at: f64, own: &[Observation<'_>]) -> usize {
    let since = own.iter().take_while(|one| !one.oom_killed).filter(|one| one.proves_memory());
    let (count, most) =
        since.fold((0, 0.0_f64), |(count, most), one| (count + 1, most.max(one.memory_bytes)));
    if most > killed_at { count } else { 0 }
}

/// The run with the highest peak; of several, the newest.
fn highest<'o, 'a>(observations: &'o [Observation<'a>]) -> Option<&'o Observation<'a>> {
    observations.iter().rev().max_by(|a, b| a.memory_bytes.total_cmp(&b.memory_bytes))
}

/// The most that the next run is expected to need if the peak grew evenly from run to run.
fn grown(observations: &[Observation<'_>], parameters: &SizingParameters) -> Option<f64> {
    let last = observations.get(..GROWING_RUNS)?;
    let steps = last.windows(2).map(|pair| pair[0].memory_bytes - pair[1].memory_bytes);
    let (smallest, largest) =
        steps.fold((f64::INFINITY, 0.0_f64), |(least, most), step| (least.min(step), most.max(step)));
    if smallest <= 0.0 || largest > smallest * EVEN_STEPS {
        return None;
    }
    Some(last[0].memory_bytes + parameters.growth_steps * largest)
}

fn median(observations: &[&Observation<'_>]) -> f64 {
    let mut peaks: Vec<_> = observations.iter().map(|one| one.memory_bytes).collect();
    peaks.sort_by(f64::total_cmp);
    peaks.get(peaks.len().saturating_sub(1) / 2).copied().unwrap_or(0.0)
}

fn reason(
    observations: &[Observation<'_>],
    figure: f64,
    from_peak: f64,
    kill: &AfterKill,
    parameters: &SizingParameters,
) -> String {
    let runs = observations.len();
    let mut reason = format!("memory {}: ", say_bytes(figure));
    if let Some(highest) = highest(observations) {
        let what = match highest.memory_figure {
            MemoryFigure::Needed => "without page cache, by the kernel's account",
            MemoryFigure::WorkingSet => "working set",
            MemoryFigure::Processes => "of its processes, without mapped files",
            MemoryFigure::Rss => "sum of RSS",
            MemoryFigure::CgroupPeak => "peak of the cgroup, page cache included",
        };
        let bytes = say_bytes(highest.memory_bytes);
        if from_peak >= kill.bytes {
            let margin = parameters.memory_margin;
            let _ = write!(reason, "peak of run {} ({what}, {bytes}) + {margin} %", highest.run.run_id);
        } else {
            let _ = write!(
                reason,
                "after an OOM kill, the limit × {} or + {}, whichever is more; the highest peak was {bytes} ({what}) in run {}",
                kill.factor,
                say_bytes(kill.added),
                highest.run.run_id
            );
        }
    }
    let unmapped = observations.iter().map(|one| one.unmapped_bytes).fold(0.0, f64::max);
    if unmapped > 0.0 {
        let _ = write!(
            reason,
            "; {} of it are shared memory that the machine used in each run, perhaps for files of this container in /dev/shm",
            say_bytes(unmapped)
        );
    }
    let killed: Vec<_> = observations.iter().filter(|one| one.oom_killed).collect();
    if let Some(at) = killed.iter().filter_map(|one| one.killed_at()).reduce(f64::max) {
        let were = if killed.len() == 1 { "was" } else { "were" };
        let up_to = if killed.len() == 1 { "at" } else { "at up to" };
        let _ =
            write!(reason, "; {} of {runs} runs {were} OOM-killed {up_to} {}", killed.len(), say_bytes(at));
        let others = killed.iter().filter(|one| one.is_killed_by_others_limit()).count();
        if others > 0 {
            let of_them = if others == killed.len() { String::new() } else { format!("{others} of them ") };
            let _ = write!(reason, ", {of_them}not by a limit of their own");
        }
        if kill.bytes == 0.0 {
            let _ = write!(reason, "; {} runs since then needed more and were not killed", kill.answered_by);
        }
    }
    let failed = observations.iter().filter(|one| one.run.failed).count();
    if failed > 0 {
        let _ = write!(reason, "; {failed} of {runs} runs failed or were cancelled and can only raise this");
    }
    let maybe_killed = observations.iter().filter(|one| one.maybe_killed).count();
    if maybe_killed > 0 {
        let _ = write!(reason, "; SIGKILL ended {maybe_killed} of {runs} runs, perhaps for want of memory");
    }
    let close = observations.iter().filter(|one| one.at_memory_limit).count();
    if close > 0 {
        let percent = parameters.at_limit;
        let _ = write!(reason, "; {close} of {runs} runs reached at least {percent} % of the limit");
    }
    let bound: Vec<_> = observations.iter().filter_map(Observation::memory_bound_met).collect();
    if let Some(most) = ceiling::highest(bound.iter().copied()) {
        let (count, at, allows) = (bound.len(), say_bytes(most.at), most.whose.allows());
        let _ = write!(
            reason,
            "; {count} of {runs} runs reached the {at} that {allows}, not a limit of their own"
        );
    }
    if observations.iter().all(Observation::is_memory_censored) {
        reason.push_str("; all of them were held back, so at least this much is needed");
    }
    reason
}
