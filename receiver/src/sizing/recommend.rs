//! Turns histories into recommendations, container by container.

use std::collections::{BTreeMap, BTreeSet};

use wire::MemoryFigure;

use super::observation::{Observation, add_unmapped};
use super::parameters::SizingParameters;
use super::quantity::GIB;
use super::recommendation::{
    Basis, ContainerSizing, CpuSizing, MemorySizing, Savings, SizingLevel, Status, Window,
};
use super::{cpu, memory};
use crate::store::CompleteRun;

/// Names that the collector gives to processes outside of containers, which have no requests.
const NO_CONTAINERS: [&str; 2] = ["host", "kernel"];

/// Runs of other jobs that are used if a job has too few, nearest level first; each level has its newest run first.
pub type Fallbacks<'a> = [(SizingLevel, &'a [CompleteRun])];

/// Recommends requests for the containers of these runs (newest first). If a container is in too few of them, they are used
/// together with the first of the fallbacks that has enough.
pub fn recommend(
    own: &[CompleteRun],
    fallbacks: &Fallbacks<'_>,
    parameters: &SizingParameters,
) -> Vec<ContainerSizing> {
    recommend_at(SizingLevel::Job, own, fallbacks, parameters)
}

/// The same for runs of more than one job.
pub(super) fn recommend_at(
    level: SizingLevel,
    own: &[CompleteRun],
    fallbacks: &Fallbacks<'_>,
    parameters: &SizingParameters,
) -> Vec<ContainerSizing> {
    let names = names(own, fallbacks, parameters);
    names.into_iter().map(|name| container(name, level, own, fallbacks, parameters)).collect()
}

/// Whether some container has fewer runs than a recommendation needs, so that fallbacks are useful.
pub fn is_short(own: &[CompleteRun], parameters: &SizingParameters) -> bool {
    let enough = parameters.min_runs as usize;
    own.is_empty() || names(own, &[], parameters).into_iter().any(|name| runs_with(own, name) < enough)
}

/// The containers of the newest run, and those of at least `min_runs` runs: a container that is rare and gone needs no
/// recommendation. Without any own run, the containers of the nearest fallback.
fn names<'a>(
    own: &'a [CompleteRun],
    fallbacks: &'a Fallbacks<'_>,
    parameters: &SizingParameters,
) -> Vec<&'a str> {
    let nearest = fallbacks.iter().map(|(_, runs)| *runs).find(|runs| !runs.is_empty());
    let runs = if own.is_empty() { nearest.unwrap_or_default() } else { own };
    let mut names: Vec<&str> = Vec::new();
    let mut seen = BTreeSet::new();
    for (age, run) in runs.iter().enumerate() {
        let mut of_run: Vec<_> = run.containers.iter().map(|facts| facts.name.as_str()).collect();
        if age > 0 {
            of_run.sort_unstable();
        }
        for name in of_run {
            let new = !NO_CONTAINERS.contains(&name) && seen.insert(name);
            if new && (age == 0 || runs_with(runs, name) >= parameters.min_runs as usize) {
                names.push(name);
            }
        }
    }
    names
}

fn runs_with(runs: &[CompleteRun], name: &str) -> usize {
    runs.iter().filter(|run| run.containers.iter().any(|facts| facts.name == name)).count()
}

fn observations<'a>(
    runs: &'a [CompleteRun],
    name: &str,
    parameters: &SizingParameters,
) -> Vec<Observation<'a>> {
    let of_run = |run: &'a CompleteRun| {
        let those = run.containers.iter().filter(|facts| facts.name == name);
        those.map(|facts| Observation::new(run, facts, parameters)).collect::<Vec<_>>()
    };
    runs.iter().flat_map(of_run).collect()
}

fn container(
    name: &str,
    level: SizingLevel,
    own: &[CompleteRun],
    fallbacks: &Fallbacks<'_>,
    parameters: &SizingParameters,
) -> ContainerSizing {
    let mut own_observations = observations(own, name, parameters);
    let mine = runs_with(own, name);
    let enough = |runs: usize| runs >= parameters.min_runs as usize;
    let mut basis = (level, own_observations.clone());
    let mut notes = Vec::new();
    for (step, runs) in fallbacks {
        if enough(runs_of(&basis.1)) {
            break;
        }
        let known: BTreeSet<i64> = own.iter().map(|run| run.id).collect();
        let others = observations(runs, name, parameters);
        let others = others.into_iter().filter(|one| !known.contains(&one.run.id));
        basis = (*step, own_observations.iter().cloned().chain(others).collect());
    }
    let (level, mut basis) = basis;
    add_unmapped(&mut basis);
    add_unmapped(&mut own_observations);
    let runs = runs_of(&basis);
    let now = CurrentRequests::of(&own_observations);
    let (cpu_current, memory_current) = now.highest();
    // The order of runs of different jobs says nothing about growth.
    let course = if now.jobs.len() == 1 { own_observations.as_slice() } else { &[] };
    let (status, mut cpu, mut memory);
    if enough(runs) {
        status = Status::Recommended;
        cpu = cpu::size(&basis, course, &cpu_current, parameters);
        let told = telling(&basis);
        let seen = runs_of(&told);
        memory = if enough(seen) {
            memory::size(&told, &telling(course), &memory_current, parameters)
        } else {
            let mut none = memory::none(&told, &memory_current);
            none.reasons.push(format!(
                "nothing is recommended: memory was measured in {seen} of {runs} runs, and {} are needed",
                parameters.min_runs
            ));
            none
        };
        if basis.len() > own_observations.len() {
            let whose = whose(level);
            notes.push(format!("taken from the runs of {whose}, as there {}", there_are(mine, parameters)));
        }
    } else {
        status = Status::InsufficientData;
        cpu = cpu::none(&basis, &cpu_current, parameters);
        memory = memory::none(&basis, &memory_current);
        let looked = if fallbacks.is_empty() { "" } else { ", even in the whole repository" };
        notes.push(format!("nothing is recommended, as there {}{looked}", there_are(runs, parameters)));
    }
    cpu.reasons.extend(notes.iter().cloned());
    memory.reasons.extend(notes);
    let savings = savings(&now, &cpu, &memory, parameters);
    ContainerSizing { name: name.to_owned(), status, basis: describe(level, &basis), cpu, memory, savings }
}

/// The observations that show memory use.
fn telling<'a>(observations: &[Observation<'a>]) -> Vec<Observation<'a>> {
    observations.iter().filter(|one| one.tells_memory()).cloned().collect()
}

fn whose(level: SizingLevel) -> &'static str {
    match level {
        SizingLevel::Variant => "the variant",
        SizingLevel::Job => "the job",
        SizingLevel::Workflow => "all jobs of the workflow",
        SizingLevel::Repository => "all jobs of the repository",
    }
}

fn there_are(runs: usize, parameters: &SizingParameters) -> String {
    let are = match runs {
        0 => "is no complete run".to_owned(),
        1 => "is 1 complete run".to_owned(),
        more => format!("are {more} complete runs"),
    };
    format!("{are} with this container and at least {} are needed", parameters.min_runs)
}

fn runs_of(observations: &[Observation<'_>]) -> usize {
    observations.iter().map(|one| one.run.id).collect::<BTreeSet<_>>().len()
}

fn describe(level: SizingLevel, observations: &[Observation<'_>]) -> Basis {
    let count = |test: fn(&Observation<'_>) -> bool| {
        let those = observations.iter().filter(|one| test(one)).map(|one| one.run.id);
        those.collect::<BTreeSet<_>>().len()
    };
    let of = |figure| observations.iter().filter(|one| one.memory_figure == figure).count();
    let figures = [
        MemoryFigure::CgroupPeak,
        MemoryFigure::Rss,
        MemoryFigure::Processes,
        MemoryFigure::WorkingSet,
        MemoryFigure::Needed,
    ];
    Basis {
        level,
        runs: runs_of(observations),
        oom_killed_runs: count(|one| one.oom_killed),
        throttled_runs: count(|one| one.throttled),
        at_memory_limit_runs: count(|one| one.at_memory_limit),
        at_cpu_limit_runs: count(|one| one.at_cpu_limit),
        at_memory_bound_runs: count(|one| one.at_memory_bound),
        at_cpu_bound_runs: count(|one| one.at_cpu_bound),
        censored_runs: count(|one| one.is_memory_censored() || one.is_cpu_censored()),
        memory_figure: figures
            .into_iter()
            .max_by_key(|figure| of(*figure))
            .unwrap_or(MemoryFigure::WorkingSet),
    }
}

/// The current values of a container by job: those of its newest run, and the total duration of its runs.
struct CurrentRequests {
    jobs: BTreeMap<i64, (cpu::CurrentCpu, memory::CurrentMemory, f64)>,
}

impl CurrentRequests {
    /// Observations are newest first.
    fn of(observations: &[Observation<'_>]) -> Self {
        let mut jobs = BTreeMap::new();
        for Observation { run, facts, .. } in observations {
            let cpu = cpu::CurrentCpu {
                request: facts.cpu_request_cores,
                limit: facts.cpu_limit_cores,
                bound: facts.cpu_bound_cores,
            };
            let memory = memory::CurrentMemory {
                request: facts.memory_request_bytes,
                limit: facts.memory_limit_bytes,
                bound: facts.memory_bound_bytes,
            };
            jobs.entry(run.job_id).or_insert((cpu, memory, 0.0)).2 += run.duration_seconds;
        }
        Self { jobs }
    }

    /// The values of the job that requests the most CPU, and of the one that requests the most memory.
    fn highest(&self) -> (cpu::CurrentCpu, memory::CurrentMemory) {
        let all = || self.jobs.values();
        let cpu = all().map(|(cpu, ..)| *cpu).max_by(|a, b| {
            let of = |one: &cpu::CurrentCpu| one.request.or(one.limit).unwrap_or(0.0);
            of(a).total_cmp(&of(b))
        });
        let memory = all().map(|(_, memory, _)| *memory).max_by_key(|one| one.request.or(one.limit));
        (cpu.unwrap_or_default(), memory.unwrap_or_default())
    }
}

/// What the recommended requests would have freed in these runs.
fn savings(
    now: &CurrentRequests,
    cpu: &CpuSizing,
    memory: &MemorySizing,
    parameters: &SizingParameters,
) -> Savings {
    let mut savings = Savings { known: true, ..Savings::default() };
    for (cpu_now, memory_now, seconds) in now.jobs.values() {
        let hours = seconds / 3600.0;
        let cores = cpu_now.request.or(cpu_now.limit).zip(cpu.request_cores);
        let bytes = memory_now.request.or(memory_now.limit).zip(memory.request_bytes);
        savings.core_hours += cores.map_or(0.0, |(current, request)| (current - request) * hours);
        savings.gib_hours +=
            bytes.map_or(0.0, |(current, request)| (current as f64 - request as f64) / GIB * hours);
        savings.known &= cores.is_some() && bytes.is_some();
    }
    savings.price(parameters);
    savings
}

impl Savings {
    /// Adds up several savings.
    pub(super) fn sum<'a>(all: impl IntoIterator<Item = &'a Self>, parameters: &SizingParameters) -> Self {
        let mut sum = Self { known: true, ..Self::default() };
        for one in all {
            sum.core_hours += one.core_hours;
            sum.gib_hours += one.gib_hours;
            sum.known &= one.known;
        }
        sum.price(parameters);
        sum
    }

    fn price(&mut self, parameters: &SizingParameters) {
        let of_cpu = parameters.price_core_hour.map(|price| price * self.core_hours);
        let of_memory = parameters.price_gib_hour.map(|price| price * self.gib_hours);
        self.money = match (of_cpu, of_memory) {
            (None, None) => None,
            (cpu, memory) => Some(cpu.unwrap_or(0.0) + memory.unwrap_or(0.0)),
        };
    }
}

impl Window {
    /// The window of these runs.
    pub fn of(runs: &[CompleteRun]) -> Self {
        Self {
            runs: runs.len(),
            oldest: runs.iter().map(|run| run.received_at).min(),
            newest: runs.iter().map(|run| run.received_at).max(),
            seconds: runs.iter().map(|run| run.duration_seconds).sum(),
        }
    }
}
