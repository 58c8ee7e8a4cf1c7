//! What one run says of one container: how much memory, how much CPU, and whether that is all it would have taken.

use wire::rules::{Ceiling, Whose};
use wire::{ContainerSummary, CpuHistogram, MemoryFigure};

use super::parameters::SizingParameters;
use crate::store::CompleteRun;

/// One run of one container.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a finding of its own, and any of them may be")]
pub(super) struct Observation<'a> {
    pub(super) run: &'a CompleteRun,
    pub(super) facts: &'a ContainerSummary,
    /// What it needed, or was seen to need before it was stopped.
    pub(super) memory_bytes: f64,
    pub(super) memory_figure: MemoryFigure,
    /// Its CPU use, and whether that is a histogram of all samples.
    pub(super) cpu: CpuHistogram,
    pub(super) sampled: bool,
    pub(super) oom_killed: bool,
    /// Close to its own limit, and not killed.
    pub(super) at_memory_limit: bool,
    /// Close to what is above it or to what its machine has, and not killed.
    pub(super) at_memory_bound: bool,
    pub(super) throttled: bool,
    /// Close to its own limit, and not throttled.
    pub(super) at_cpu_limit: bool,
    /// Close to what is above it or to what its machine has, and not throttled.
    pub(super) at_cpu_bound: bool,
    memory_ceiling: Option<Ceiling>,
    cpu_ceiling: Option<Ceiling>,
}

impl<'a> Observation<'a> {
    pub(super) fn new(
        run: &'a CompleteRun,
        facts: &'a ContainerSummary,
        parameters: &SizingParameters,
    ) -> Self {
        let (memory_bytes, memory_figure) = facts.memory_needed();
        let (cpu, sampled) = cpu(run, facts);
        let oom_killed = facts.oom_kills.is_some_and(|kills| kills > 0);
        let close = parameters.at_limit / 100.0;
        let (memory_ceiling, cpu_ceiling) = (facts.memory_ceiling(), facts.cpu_ceiling());
        let at = |ceiling: Option<Ceiling>, used: f64| {
            let met = ceiling.filter(|ceiling| ceiling.is_within(used, close));
            met.map(|ceiling| ceiling.whose == Whose::Own)
        };
        let at_memory = at(memory_ceiling, memory_bytes).filter(|_| !oom_killed);
        let throttled = facts
            .throttled_share(run.duration_seconds)
            .is_some_and(|share| share > parameters.throttled_above / 100.0);
        // The end of a bucket may be above what was seen.
        let used = cpu.quantile(parameters.cpu_percentile / 100.0).map(|used| used.min(facts.cpu_peak_cores));
        let at_cpu = used.and_then(|used| at(cpu_ceiling, used)).filter(|_| !throttled);
        Self {
            run,
            facts,
            memory_bytes,
            memory_figure,
            cpu,
            sampled,
            oom_killed,
            at_memory_limit: at_memory == Some(true),
            at_memory_bound: at_memory == Some(false),
            throttled,
            at_cpu_limit: at_cpu == Some(true),
            at_cpu_bound: at_cpu == Some(false),
            memory_ceiling,
            cpu_ceiling,
        }
    }

    /// Whether it tells anything of memory: no process needs none, so that 0 is a run too short to be looked at.
    pub(super) fn tells_memory(&self) -> bool {
        self.memory_bytes > 0.0 || self.killed_at().is_some_and(|bytes| bytes > 0.0)
    }

    /// Whether it only tells how much memory is needed at the least.
    pub(super) fn is_memory_censored(&self) -> bool {
        self.oom_killed || self.at_memory_limit || self.at_memory_bound
    }

    /// Whether it only tells how much CPU is needed at the least.
    pub(super) fn is_cpu_censored(&self) -> bool {
        self.throttled || self.at_cpu_limit || self.at_cpu_bound
    }

    /// Whether it proves how much memory is enough: nothing held it back, and the figure is the kernel's.
    pub(super) fn proves_memory(&self) -> bool {
        !self.is_memory_censored() && self.tells_memory() && self.memory_figure == MemoryFigure::Needed
    }

    /// The same of CPU, of which there are samples of all of its time.
    pub(super) fn proves_cpu(&self) -> bool {
        !self.is_cpu_censored() && self.sampled
    }

    /// What it could not get by with: its own limit at which it was killed, else what was seen of it: the rest of what a
    /// pod's limit or the machine gave was others'.
    pub(super) fn killed_at(&self) -> Option<f64> {
        let own = self.memory_ceiling.filter(|_| !self.is_killed_by_others_limit());
        self.oom_killed.then(|| own.map_or(self.memory_bytes, |ceiling| ceiling.at))
    }

    /// Whether it was killed and not for its own limit: it has none, or what is above it is tighter.
    pub(super) fn is_killed_by_others_limit(&self) -> bool {
        self.oom_killed && self.memory_ceiling.is_none_or(|ceiling| ceiling.whose != Whose::Own)
    }

    /// What it came close to, where that is no limit of its own.
    pub(super) fn memory_bound_met(&self) -> Option<Ceiling> {
        self.memory_ceiling.filter(|_| self.at_memory_bound)
    }

    /// The same of CPU. A machine does not throttle.
    pub(super) fn cpu_bound_met(&self) -> Option<Ceiling> {
        let throttled_by = self.throttled.then_some(Whose::Above);
        self.cpu_ceiling.filter(|ceiling| {
            throttled_by == Some(ceiling.whose) || self.at_cpu_bound && ceiling.whose != Whose::Own
        })
    }
}

/// Without a histogram, the percentile that is there stands for the whole run.
fn cpu(run: &CompleteRun, facts: &ContainerSummary) -> (CpuHistogram, bool) {
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
