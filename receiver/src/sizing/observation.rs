//! What one run shows about one container: its memory, its CPU, and whether it would have taken more.

use wire::rules::{Ceiling, Whose};
use wire::{ContainerSummary, CpuHistogram, MemoryFigure};

use super::parameters::SizingParameters;
use crate::store::CompleteRun;

/// A machine's shared memory always changes a little. Less than this, in bytes, is nobody's file.
const LEAST_UNMAPPED: f64 = 4.0 * 1024.0 * 1024.0;

/// One container in one run.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a finding of its own, and any of them may be")]
pub(super) struct Observation<'a> {
    pub(super) run: &'a CompleteRun,
    pub(super) facts: &'a ContainerSummary,
    /// The memory that it needed, or that was seen before it was stopped.
    pub(super) memory_bytes: f64,
    pub(super) memory_figure: MemoryFigure,
    /// The part of it that is shared memory of the machine, which was there in each run and may be this container's.
    pub(super) unmapped_bytes: f64,
    /// Its CPU use, and whether that is a histogram of all samples.
    pub(super) cpu: CpuHistogram,
    pub(super) sampled: bool,
    pub(super) oom_killed: bool,
    /// SIGKILL ended it, and whether for want of memory is not known.
    pub(super) maybe_killed: bool,
    /// Close to its own limit, and not killed.
    pub(super) at_memory_limit: bool,
    /// Close to a limit above it or to its machine's memory, and not killed.
    pub(super) at_memory_bound: bool,
    pub(super) throttled: bool,
    /// Stalled for CPU for long, and not throttled: neighbours had the CPUs.
    pub(super) short_of_cpu: bool,
    /// Close to its own limit, and not throttled.
    pub(super) at_cpu_limit: bool,
    /// Close to a limit above it or to its machine's CPUs, and not throttled.
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
        // The end of a bucket may be above all samples.
        let used = cpu.quantile(parameters.cpu_percentile / 100.0).map(|used| used.min(facts.cpu_peak_cores));
        let at_cpu = used.and_then(|used| at(cpu_ceiling, used)).filter(|_| !throttled);
        Self {
            run,
            facts,
            memory_bytes,
            memory_figure,
            unmapped_bytes: 0.0,
            cpu,
            sampled,
            oom_killed,
            maybe_killed: facts.may_be_oom_killed(),
            at_memory_limit: at_memory == Some(true),
            at_memory_bound: at_memory == Some(false),
            throttled,
            short_of_cpu: !throttled && facts.is_short_of_cpu(run.duration_seconds),
            at_cpu_limit: at_cpu == Some(true),
            at_cpu_bound: at_cpu == Some(false),
            memory_ceiling,
            cpu_ceiling,
        }
    }

    /// Whether it shows any memory use. Every process needs memory, so 0 means that the run was too short for a pass.
    pub(super) fn tells_memory(&self) -> bool {
        self.memory_bytes > 0.0 || self.killed_at().is_some_and(|bytes| bytes > 0.0)
    }

    /// Whether it shows only how much memory is needed at least.
    pub(super) fn is_memory_censored(&self) -> bool {
        self.run.failed
            || self.oom_killed
            || self.maybe_killed
            || self.at_memory_limit
            || self.at_memory_bound
    }

    /// Whether it shows only how much CPU is needed at least.
    pub(super) fn is_cpu_censored(&self) -> bool {
        self.run.failed || self.throttled || self.short_of_cpu || self.at_cpu_limit || self.at_cpu_bound
    }

    /// Whether it proves how much memory is enough: nothing held it back, and the figure is the kernel's.
    pub(super) fn proves_memory(&self) -> bool {
        !self.is_memory_censored() && self.tells_memory() && self.memory_figure == MemoryFigure::Needed
    }

    /// The same for CPU: nothing held it back, and there are samples of its whole time.
    pub(super) fn proves_cpu(&self) -> bool {
        !self.is_cpu_censored() && self.sampled
    }

    /// The amount of memory that was too little: its own limit if that killed it, else its observed use, because other
    /// containers used the rest of the pod's limit or of the machine.
    pub(super) fn killed_at(&self) -> Option<f64> {
        let own = self.memory_ceiling.filter(|_| !self.is_killed_by_others_limit());
        self.oom_killed.then(|| own.map_or(self.memory_bytes, |ceiling| ceiling.at))
    }

    /// Whether it was killed, but not by its own limit: it has none, or another ceiling is tighter.
    pub(super) fn is_killed_by_others_limit(&self) -> bool {
        self.oom_killed && self.memory_ceiling.is_none_or(|ceiling| ceiling.whose != Whose::Own)
    }

    /// The ceiling that it came close to, if that is not its own limit.
    pub(super) fn memory_bound_met(&self) -> Option<Ceiling> {
        self.memory_ceiling.filter(|_| self.at_memory_bound)
    }

    /// The same for CPU. A machine does not throttle.
    pub(super) fn cpu_bound_met(&self) -> Option<Ceiling> {
        let throttled_by = self.throttled.then_some(Whose::Above);
        self.cpu_ceiling.filter(|ceiling| {
            throttled_by == Some(ceiling.whose) || self.at_cpu_bound && ceiling.whose != Whose::Own
        })
    }
}

/// Adds the files in shared memory that processes may have written without mapping them. They are known only as a growth of
/// the machine's shared memory, to which others contribute. What came in every run is taken for the container's own.
pub(super) fn add_unmapped(observations: &mut [Observation<'_>]) {
    let by_processes = |one: &Observation<'_>| one.memory_figure == MemoryFigure::Processes;
    let unmapped = |one: &Observation<'_>| {
        one.facts.processes_memory_at_most_bytes.map_or(0.0, |most| (most as f64 - one.memory_bytes).max(0.0))
    };
    let least = observations.iter().filter(|one| by_processes(one)).map(unmapped).reduce(f64::min);
    let Some(least) = least.filter(|least| *least >= LEAST_UNMAPPED) else { return };
    for one in observations.iter_mut().filter(|one| by_processes(one)) {
        one.memory_bytes += least;
        one.unmapped_bytes = least;
    }
}

/// The histogram of a run. Without one, the percentile or the peak stands for the whole run.
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
