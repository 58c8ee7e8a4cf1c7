//! Decides which containers are the same, and whose figures of each are taken.

use std::collections::BTreeMap;

use jiff::Timestamp;
use wire::{Certainty, ContainerUsage, CpuHistogram, Series, Stats};

use super::{Part, Watch, descending, ranked};

/// The most points of a collector's series.
const MAX_POINTS: usize = 240;
/// The most points to put before a series. If a collector's own clock says that it began even later, it is not
/// believed.
const MAX_STEPS: usize = 64 * MAX_POINTS;

/// Reports of the same container: for each, the part and the index of the container in it.
type Told = Vec<(usize, usize)>;

/// A container of the run, and the summaries that report it.
#[derive(Debug)]
pub(super) struct Chosen {
    /// The part that its figures are taken from.
    pub(super) part: usize,
    /// Index of the container in that part.
    pub(super) at: usize,
    /// Its name.
    pub(super) name: String,
    /// The summaries that report it, the best figures first.
    pub(super) told: Told,
}

/// All containers, most CPU time first.
pub(super) fn containers(parts: &[Part], order: &[usize]) -> Vec<Chosen> {
    let mut chosen: Vec<Chosen> = same(parts, order).into_iter().map(|told| choose(parts, told)).collect();
    chosen.sort_by(|one, other| {
        let (a, b) = (one.container(parts), other.container(parts));
        descending(a.cpu_seconds, b.cpu_seconds)
            .then_with(|| (&one.name, &a.id).cmp(&(&other.name, &b.id)))
            .then_with(|| {
                let origin = |chosen: &Chosen| (parts[chosen.part].summary_id.clone(), chosen.at);
                origin(one).cmp(&origin(other))
            })
    });
    chosen
}

/// Groups reports of the same container: by its id or, if one of the two does not know the id, by its pod and its name
/// there. A sidecar with a cgroup namespace of its own does not know its own id.
fn same(parts: &[Part], order: &[usize]) -> Vec<Told> {
    let usage = |(part, at): (usize, usize)| &parts[part].payload.containers[at];
    let mut by_id: BTreeMap<&str, Told> = BTreeMap::new();
    let mut by_name: BTreeMap<(Option<&str>, &str), Told> = BTreeMap::new();
    for part in order {
        for (at, container) in parts[*part].payload.containers.iter().enumerate() {
            let name = (container.pod_uid.as_deref(), container.name.as_str());
            match container.id.as_deref() {
                Some(id) => by_id.entry(id).or_default().push((*part, at)),
                None => by_name.entry(name).or_default().push((*part, at)),
            }
        }
    }
    let mut without_id = vec![];
    for (name, told) in by_name {
        let is_named =
            |one: &(usize, usize)| (usage(*one).pod_uid.as_deref(), usage(*one).name.as_str()) == name;
        let seconds = |told: &[(usize, usize)]| {
            told.iter().map(|one| watched(usage(*one), parts, *one)).fold(0.0, f64::max)
        };
        // A restarted container has several ids under one name.
        let named = by_id.iter_mut().rev().filter(|(_, told)| told.iter().any(is_named));
        match named.max_by(|(_, one), (_, other)| seconds(one).total_cmp(&seconds(other))) {
            Some((_, same)) => same.extend(told),
            None => without_id.push(told),
        }
    }
    by_id.into_values().chain(without_id).collect()
}

/// Seconds for which a container was watched.
fn watched(usage: &ContainerUsage, parts: &[Part], (part, _): (usize, usize)) -> f64 {
    let histogram = usage.cpu_cores_histogram.as_ref();
    histogram.map_or(parts[part].payload.duration_seconds, CpuHistogram::seconds)
}

fn choose(parts: &[Part], told: Told) -> Chosen {
    let watches = told.into_iter().map(|(part, at)| {
        let usage = &parts[part].payload.containers[at];
        Watch { part, at, seconds: watched(usage, parts, (part, at)), counts: counts(usage) }
    });
    let told: Told =
        ranked(parts, watches.collect()).into_iter().map(|watch| (watch.part, watch.at)).collect();
    let usages = || told.iter().map(|(part, at)| &parts[*part].payload.containers[*at]);
    let id = usages().find_map(|usage| usage.id.as_deref());
    // A collector that does not know the name uses the beginning of the id.
    let named = usages().find(|usage| !id.is_some_and(|id| id.starts_with(&usage.name)));
    let name = named.or_else(|| usages().next()).map(|usage| usage.name.clone()).unwrap_or_default();
    let (part, at) = told[0];
    Chosen { part, at, name, told }
}

/// How many of the kernel's own counts are known.
fn counts(usage: &ContainerUsage) -> usize {
    let counts = [
        usage.cgroup_cpu_seconds.is_some(),
        usage.cpu_certainty == Some(Certainty::Exact),
        usage.memory_needed_at_most_bytes.is_some(),
        usage.memory_peak_bytes.is_some(),
        usage.oom_kills.is_some(),
        usage.working_set_bytes.is_some(),
    ];
    counts.into_iter().filter(|is_there| *is_there).count()
}

impl Chosen {
    /// The container as reported by the part that its figures are taken from.
    pub(super) fn container<'a>(&self, parts: &'a [Part]) -> &'a ContainerUsage {
        &parts[self.part].payload.containers[self.at]
    }

    /// The joined figures: those that belong together from one part, the highest peaks of all parts, and from other
    /// parts what that one does not know.
    pub(super) fn usage(&self, parts: &[Part], start: Timestamp) -> ContainerUsage {
        let all = || self.told.iter().map(|(part, at)| &parts[*part].payload.containers[*at]);
        let base = self.container(parts);
        let highest = |stats: fn(&ContainerUsage) -> Option<&Stats>| {
            let peak = all().filter_map(stats).map(|stats| stats.peak).fold(0.0, f64::max);
            all().find_map(stats).map(|stats| Stats { peak, ..*stats })
        };
        let throttling = all().find(|usage| usage.cpu_periods.or(usage.cpu_throttled_periods).is_some());
        let throttling = throttling.or_else(|| all().find(|usage| usage.cpu_throttled_seconds.is_some()));
        // A collector that read the cgroup knows its limits. Others only repeat what they were configured with.
        let mut limits: Vec<&ContainerUsage> = all().collect();
        limits.sort_by_key(|usage| usage.cgroup_cpu_seconds.is_none());
        let late = parts[self.part].payload.start_time.duration_since(start).as_secs_f64();
        ContainerUsage {
            name: self.name.clone(),
            id: all().find_map(|usage| usage.id.clone()),
            runtime: all().find_map(|usage| usage.runtime.clone()),
            pod_uid: all().find_map(|usage| usage.pod_uid.clone()),
            memory_bytes: highest(|usage| Some(&usage.memory_bytes)).unwrap_or(base.memory_bytes),
            working_set_bytes: highest(|usage| usage.working_set_bytes.as_ref()),
            memory_peak_bytes: all().filter_map(|usage| usage.memory_peak_bytes).max(),
            memory_needed_at_least_bytes: all().filter_map(|usage| usage.memory_needed_at_least_bytes).max(),
            memory_needed_at_most_bytes: all().filter_map(|usage| usage.memory_needed_at_most_bytes).max(),
            processes_memory_bytes: all().filter_map(|usage| usage.processes_memory_bytes).max(),
            processes_memory_at_most_bytes: all()
                .filter_map(|usage| usage.processes_memory_at_most_bytes)
                .max(),
            exit_code: all().find_map(|usage| usage.exit_code),
            exit_signal: all().find_map(|usage| usage.exit_signal),
            oom_kills: all().filter_map(|usage| usage.oom_kills).max(),
            cpu_stalled_seconds: all().find_map(|usage| usage.cpu_stalled_seconds),
            memory_stalled_seconds: all().find_map(|usage| usage.memory_stalled_seconds),
            io_stalled_seconds: all().find_map(|usage| usage.io_stalled_seconds),
            disk_read_bytes: all().find_map(|usage| usage.disk_read_bytes),
            disk_written_bytes: all().find_map(|usage| usage.disk_written_bytes),
            cgroup_cpu_seconds: all().find_map(|usage| usage.cgroup_cpu_seconds),
            cpu_throttled_seconds: throttling.and_then(|usage| usage.cpu_throttled_seconds),
            cpu_periods: throttling.and_then(|usage| usage.cpu_periods),
            cpu_throttled_periods: throttling.and_then(|usage| usage.cpu_throttled_periods),
            cpu_limit_cores: limits.iter().find_map(|usage| usage.cpu_limit_cores),
            memory_limit_bytes: limits.iter().find_map(|usage| usage.memory_limit_bytes),
            cpu_bound_cores: limits.iter().find_map(|usage| usage.cpu_bound_cores),
            memory_bound_bytes: limits.iter().find_map(|usage| usage.memory_bound_bytes),
            cpu_request_cores: all().find_map(|usage| usage.cpu_request_cores),
            memory_request_bytes: all().find_map(|usage| usage.memory_request_bytes),
            series: base.series.as_ref().map(|series| later(series, late)),
            ..base.clone()
        }
    }
}

/// The series of this part, shifted into a run that began this many seconds earlier.
fn later(series: &Series, seconds: f64) -> Series {
    let Series { mut step_seconds, mut cpu_cores, mut memory_bytes } = series.clone();
    let steps = if step_seconds > 0.0 { (seconds / step_seconds).round() } else { 0.0 };
    let steps = (steps.max(0.0) as usize).min(MAX_STEPS);
    cpu_cores.splice(0..0, std::iter::repeat_n(0.0, steps));
    memory_bytes.splice(0..0, std::iter::repeat_n(0, steps));
    while cpu_cores.len().max(memory_bytes.len()) > MAX_POINTS.max(series.cpu_cores.len()) {
        step_seconds *= 2.0;
        let mean = |pair: &[f64]| pair.iter().sum::<f64>() / pair.len() as f64;
        cpu_cores = cpu_cores.chunks(2).map(mean).collect();
        memory_bytes = memory_bytes.chunks(2).map(|pair| pair.iter().copied().max().unwrap_or(0)).collect();
    }
    Series { step_seconds, cpu_cores, memory_bytes }
}
