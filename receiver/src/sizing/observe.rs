//! What one run says of one container: how much memory, how much CPU, and whether that is all it would have taken.

use wire::CpuHistogram;

use super::answer::MemoryFigure;
use super::history::{Facts, Run};
use super::parameters::Parameters;

/// One run of one container.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a finding of its own, and any of them may be")]
pub(super) struct Observation<'a> {
    pub(super) run: &'a Run,
    pub(super) facts: &'a Facts,
    /// What it needed, or was seen to need before it was stopped.
    pub(super) memory_bytes: f64,
    pub(super) memory_figure: MemoryFigure,
    /// Its CPU use, and whether that is a histogram of all samples.
    pub(super) cpu: CpuHistogram,
    pub(super) sampled: bool,
    pub(super) oom_killed: bool,
    pub(super) at_memory_limit: bool,
    pub(super) throttled: bool,
    pub(super) at_cpu_limit: bool,
}

impl<'a> Observation<'a> {
    pub(super) fn new(run: &'a Run, facts: &'a Facts, parameters: &Parameters) -> Self {
        let (memory_bytes, memory_figure) = memory(facts);
        let (cpu, sampled) = cpu(run, facts);
        let oom_killed = facts.oom_kills.is_some_and(|kills| kills > 0);
        let close = parameters.at_limit / 100.0;
        let at_memory_limit =
            facts.memory_limit_bytes.is_some_and(|limit| memory_bytes >= limit as f64 * close);
        let throttled =
            throttled_share(run, facts).is_some_and(|share| share > parameters.throttled_above / 100.0);
        // The end of a bucket may be above what was seen.
        let used = cpu.quantile(parameters.cpu_percentile / 100.0).map(|used| used.min(facts.cpu_peak_cores));
        let at_cpu_limit = facts.cpu_limit_cores.zip(used).is_some_and(|(limit, used)| used >= limit * close);
        Self {
            run,
            facts,
            memory_bytes,
            memory_figure,
            cpu,
            sampled,
            oom_killed,
            at_memory_limit: at_memory_limit && !oom_killed,
            throttled,
            at_cpu_limit: at_cpu_limit && !throttled,
        }
    }

    /// Whether it only tells how much memory is needed at the least.
    pub(super) fn is_memory_censored(&self) -> bool {
        self.oom_killed || self.at_memory_limit
    }

    /// Whether it only tells how much CPU is needed at the least.
    pub(super) fn is_cpu_censored(&self) -> bool {
        self.throttled || self.at_cpu_limit
    }

    /// What it could not get by with: the limit at which it was killed, else what was seen of it.
    pub(super) fn killed_at(&self) -> Option<f64> {
        let limit = self.facts.memory_limit_bytes.map(|limit| limit as f64);
        self.oom_killed.then(|| limit.unwrap_or(self.memory_bytes))
    }
}

/// The working set is what the kernel could not have taken away without harm, and each page of it is counted once. Where
/// it is not known, the sum of resident set sizes, which counts shared pages once for each process that has them; but
/// never more than what the kernel charged to the cgroup at the most.
fn memory(facts: &Facts) -> (f64, MemoryFigure) {
    if let Some(working_set) = facts.working_set_peak_bytes {
        return (working_set, MemoryFigure::WorkingSet);
    }
    match facts.cgroup_memory_peak_bytes {
        Some(peak) if (peak as f64) < facts.memory_peak_bytes => (peak as f64, MemoryFigure::CgroupPeak),
        _ => (facts.memory_peak_bytes, MemoryFigure::Rss),
    }
}

/// Without a histogram, the percentile that is there stands for the whole run.
fn cpu(run: &Run, facts: &Facts) -> (CpuHistogram, bool) {
    match &facts.cpu_cores_histogram {
        Some(histogram) if histogram.seconds() > 0.0 => (histogram.clone(), true),
        _ => {
            let mut histogram = CpuHistogram::default();
            let cores = facts.cpu_p95_cores.unwrap_or(facts.cpu_peak_cores);
            histogram.add(cores, run.duration_seconds.max(1e-3));
            (histogram, false)
        }
    }
}

/// By periods; by time where they are not known.
fn throttled_share(run: &Run, facts: &Facts) -> Option<f64> {
    if let (Some(throttled), Some(periods)) = (facts.cpu_throttled_periods, facts.cpu_periods) {
        return (periods > 0).then(|| throttled as f64 / periods as f64);
    }
    let seconds = facts.cpu_throttled_seconds?;
    (run.duration_seconds > 0.0).then(|| seconds / run.duration_seconds)
}
