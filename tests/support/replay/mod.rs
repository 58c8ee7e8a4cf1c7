//! Recommendations from the first runs of a history, compared with the next run: by this project's rule, and by other
//! projects' published rules.

mod histories;
mod rules;

use receiver::store::CompleteRun;
use wire::ContainerSummary;
use wire::CpuHistogram;

pub use self::histories::synthetic;
pub use self::rules::Rule;

/// Runs before the first recommendation.
const FIRST: usize = 3;
/// Runs that are searched for a sign of the next run's need: the default window of this project.
const WINDOW: usize = 20;
/// If each of this many runs in a row has a higher peak, the next run is expected to have a higher one again.
const GROWING: usize = 4;
const MIB: f64 = 1024.0 * 1024.0;

/// One run of a history.
#[derive(Debug, Clone)]
pub struct Past {
    /// The stored run; it has one container.
    pub run: CompleteRun,
    /// The memory that it really needs, whether it was seen or not, in bytes.
    pub need_bytes: f64,
    /// Its time in hours since the first run.
    pub at_hours: f64,
}

/// The runs of a job, oldest first.
#[derive(Debug, Clone)]
pub struct History {
    /// The kind of history.
    pub name: String,
    /// Its runs.
    pub runs: Vec<Past>,
}

/// The performance of a rule on a history.
#[derive(Debug, Clone, Copy, Default)]
pub struct Outcome {
    /// Recommendations that were compared with a run.
    pub checked: usize,
    /// Runs that need more memory than recommended.
    pub killed: usize,
    /// Killed runs whose need the runs in the window could have shown.
    pub told: usize,
    /// Killed runs whose need only older runs could have shown.
    pub forgotten: usize,
    /// Byte-seconds recommended for the runs that were not killed.
    survived_bytes: f64,
    /// Byte-seconds that those runs need.
    survived_need: f64,
    /// Byte-seconds recommended for the runs that were killed.
    wasted_bytes: f64,
    /// Byte-seconds that all runs need.
    need: f64,
    /// Core-seconds recommended.
    cores: f64,
    /// Core-seconds at each run's own 95th percentile.
    p95: f64,
    /// Seconds in which a run used more cores than recommended.
    above: f64,
    seconds: f64,
}

impl Outcome {
    /// The recommendation for runs that were not killed, divided by their need.
    pub fn over_request(&self) -> f64 {
        self.survived_bytes / self.survived_need
    }

    /// The same for all runs, if each killed run is repeated with exactly its need.
    pub fn with_retries(&self) -> f64 {
        let retried = self.need - self.survived_need;
        (self.survived_bytes + self.wasted_bytes + retried) / self.need
    }

    /// Recommended cores, divided by the run's own 95th percentile.
    pub fn cpu_over_request(&self) -> f64 {
        self.cores / self.p95
    }

    /// Share of the time in which a run used more cores than recommended.
    pub fn above_request(&self) -> f64 {
        self.above / self.seconds
    }

    /// Adds another history, each with the same weight per run and need.
    pub fn add(&mut self, other: &Self) {
        self.checked += other.checked;
        self.killed += other.killed;
        self.told += other.told;
        self.forgotten += other.forgotten;
        // A large job counts no more than a small one.
        let (bytes, cores) = (other.need / other.checked as f64, other.p95 / other.checked as f64);
        self.survived_bytes += other.survived_bytes / bytes;
        self.survived_need += other.survived_need / bytes;
        self.wasted_bytes += other.wasted_bytes / bytes;
        self.need += other.need / bytes;
        self.cores += other.cores / cores;
        self.p95 += other.p95 / cores;
        let seconds = other.seconds / other.checked as f64;
        self.above += other.above / seconds;
        self.seconds += other.seconds / seconds;
    }
}

/// Compares a rule with a history.
pub fn replay(history: &History, rule: Rule) -> Outcome {
    let mut outcome = Outcome::default();
    for at in FIRST..history.runs.len() {
        let (past, next) = (&history.runs[..at], &history.runs[at]);
        let recommended = rule.recommend(past);
        let seconds = next.run.duration_seconds;
        outcome.checked += 1;
        outcome.need += next.need_bytes * seconds;
        if recommended.bytes < next.need_bytes {
            outcome.killed += 1;
            outcome.wasted_bytes += recommended.bytes * seconds;
            let told = could_tell(&past[at.saturating_sub(WINDOW)..], next.need_bytes);
            outcome.told += usize::from(told);
            outcome.forgotten += usize::from(!told && could_tell(past, next.need_bytes));
        } else {
            outcome.survived_bytes += recommended.bytes * seconds;
            outcome.survived_need += next.need_bytes * seconds;
        }
        let used = cpu(next);
        outcome.cores += recommended.cores * seconds;
        outcome.p95 += used.quantile(0.95).unwrap_or(0.0) * seconds;
        let above = used.buckets().iter().filter(|(bucket, _)| {
            // The beginning of the bucket, so that all of the bucket is above.
            bucket.checked_sub(1).map_or(0.0, CpuHistogram::end_of) >= recommended.cores
        });
        outcome.above += above.map(|(_, seconds)| seconds).sum::<f64>();
        outcome.seconds += used.seconds();
    }
    outcome
}

/// Whether these runs could have shown that the next one needs this much. Either one of them was seen to need as much. Or one
/// was killed, so a fifth or 100 MiB more may be needed. Or each of the last runs needed more than the one before, and the
/// next one's step is at most the largest of theirs.
fn could_tell(past: &[Past], need_bytes: f64) -> bool {
    let seen = past.iter().map(|past| {
        let facts = &past.run.containers[0];
        let peak = peak(facts);
        let limit = facts.memory_limit_bytes.map_or(peak, |limit| limit as f64);
        let killed = facts.oom_kills.is_some_and(|kills| kills > 0);
        if killed { (limit * 1.2).max(limit + 100.0 * MIB) } else { peak }
    });
    let mut known = seen.fold(0.0, f64::max);
    if past.len() >= GROWING {
        let peaks: Vec<f64> =
            past[past.len() - GROWING..].iter().map(|past| peak(&past.run.containers[0])).collect();
        let steps: Vec<f64> = peaks.windows(2).map(|pair| pair[1] - pair[0]).collect();
        if steps.iter().all(|step| *step > 0.0) {
            known = f64::max(known, peaks[GROWING - 1] + steps.into_iter().fold(0.0, f64::max));
        }
    }
    need_bytes <= known
}

fn peak(facts: &ContainerSummary) -> f64 {
    facts.working_set_peak_bytes.unwrap_or(facts.memory_peak_bytes)
}

fn cpu(past: &Past) -> CpuHistogram {
    past.run.containers[0].cpu_cores_histogram.clone().unwrap_or_default()
}
