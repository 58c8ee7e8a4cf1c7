//! The figures of a job in lists: computed in the background, stored as JSON in `jobs.figures`.

use serde::{Deserialize, Serialize};

use super::observation::Observation;
use super::parameters::SizingParameters;
use super::quantity::GIB;
use super::recommend::recommend;
use super::recommendation::ContainerSizing;
use crate::store::CompleteRun;

/// Figures of a job's last complete runs, with default parameters.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct JobFigures {
    /// Number of complete runs that were considered, at most 20.
    pub runs: usize,
    /// Their mean duration.
    pub mean_duration_seconds: f64,
    /// Sum of (request − target) × duration over those runs, for all containers whose request is more than their target.
    pub cpu_waste_core_hours: f64,
    /// The same for memory.
    pub memory_waste_gib_hours: f64,
    /// Runs in which a process of a container was OOM-killed.
    pub oom_killed_runs: usize,
    /// Runs in which a container was throttled in more than 5 % of its periods.
    pub throttled_runs: usize,
    /// Runs in which a container came close to its own memory limit and was not killed.
    pub at_memory_limit_runs: usize,
    /// Runs that are censored for at least one container.
    pub censored_runs: usize,
    /// Figures by container.
    pub containers: Vec<ContainerFigures>,
    /// One point per run, oldest first.
    pub sparkline: Vec<Point>,
}

/// The figures of a container in lists.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ContainerFigures {
    /// Its name.
    pub name: String,
    /// CPU in cores.
    pub cpu_cores: ResourceFigures,
    /// Memory in bytes.
    pub memory_bytes: ResourceFigures,
}

/// The figures of a resource in lists, in the unit of the field that holds them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ResourceFigures {
    /// The newest run's request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<f64>,
    /// The newest run's limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<f64>,
    /// CPU: 95th percentile of the samples of all runs. Memory: highest peak.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<f64>,
    /// Recommended request; absent if there are too few runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recommended: Option<f64>,
}

/// One run in a sparkline.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Point {
    /// Id of the run.
    pub run: i64,
    /// CPU time of all containers, in seconds.
    pub cpu_seconds: f64,
    /// Sum of the containers' memory peaks, in bytes.
    pub memory_peak_bytes: f64,
    /// Whether a process was OOM-killed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub oom_killed: bool,
}

/// GiB-hours that count as much as a core-hour in the sort key `jobs.waste`. The ratios of large clouds' list prices are
/// between 7 and 9.
pub const GIB_HOURS_PER_CORE_HOUR: f64 = 8.0;

impl JobFigures {
    /// `jobs.waste`: core-hours plus GiB-hours at [`GIB_HOURS_PER_CORE_HOUR`], over the window.
    pub fn waste(&self) -> f64 {
        self.cpu_waste_core_hours + self.memory_waste_gib_hours / GIB_HOURS_PER_CORE_HOUR
    }

    /// `jobs.risk`: the share of runs that went wrong, from 0 to 1. An OOM-killed run counts fully, a run near its memory
    /// limit half, a run that was only throttled a tenth.
    pub fn risk(&self) -> f64 {
        if self.runs == 0 {
            return 0.0;
        }
        let [killed, close, slow] = [self.oom_killed_runs, self.at_memory_limit_runs, self.throttled_runs];
        let weighted = killed as f64 + 0.5 * close as f64 + 0.1 * slow as f64;
        (weighted / self.runs as f64).min(1.0)
    }
}

impl JobFigures {
    /// Computes the figures of a job's last complete runs, newest first.
    pub fn of(runs: &[CompleteRun], parameters: &SizingParameters) -> Self {
        let sizings = recommend(runs, &[], parameters);
        let mut figures = Self { runs: runs.len(), ..Self::default() };
        let seconds: f64 = runs.iter().map(|run| run.duration_seconds).sum();
        if !runs.is_empty() {
            figures.mean_duration_seconds = seconds / runs.len() as f64;
        }
        for run in runs.iter().rev() {
            let seen: Vec<_> =
                run.containers.iter().map(|facts| Observation::new(run, facts, parameters)).collect();
            let any = |test: fn(&Observation<'_>) -> bool| usize::from(seen.iter().any(test));
            let killed = any(|one| one.oom_killed);
            figures.oom_killed_runs += killed;
            figures.throttled_runs += any(|one| one.throttled);
            // A run counts once: a kill outweighs coming close to the limit.
            figures.at_memory_limit_runs += any(|one| one.at_memory_limit) * (1 - killed);
            figures.censored_runs += any(|one| one.is_memory_censored() || one.is_cpu_censored());
            figures.sparkline.push(Point {
                run: run.id,
                cpu_seconds: run
                    .cpu_seconds
                    .unwrap_or_else(|| run.containers.iter().filter_map(|facts| facts.cpu_seconds).sum()),
                memory_peak_bytes: seen.iter().map(|one| one.memory_bytes).sum(),
                oom_killed: killed > 0,
            });
        }
        for sizing in sizings {
            let with_it =
                runs.iter().filter(|run| run.containers.iter().any(|facts| facts.name == sizing.name));
            let hours = with_it.map(|run| run.duration_seconds).sum::<f64>() / 3600.0;
            let ContainerSizing { name, cpu, memory, .. } = sizing;
            let bytes = |bytes: Option<u64>| bytes.map(|bytes| bytes as f64);
            let waste = |current: Option<f64>, target: Option<f64>| {
                current.zip(target).map_or(0.0, |(current, target)| (current - target).max(0.0) * hours)
            };
            let cpu_now = cpu.current_request_cores.or(cpu.current_limit_cores);
            let memory_now = bytes(memory.current_request_bytes.or(memory.current_limit_bytes));
            figures.cpu_waste_core_hours += waste(cpu_now, cpu.target_cores);
            figures.memory_waste_gib_hours += waste(memory_now, bytes(memory.target_bytes)) / GIB;
            figures.containers.push(ContainerFigures {
                name,
                cpu_cores: ResourceFigures {
                    request: cpu.current_request_cores,
                    limit: cpu.current_limit_cores,
                    used: cpu.used_cores,
                    recommended: cpu.request_cores,
                },
                memory_bytes: ResourceFigures {
                    request: bytes(memory.current_request_bytes),
                    limit: bytes(memory.current_limit_bytes),
                    used: bytes(memory.used_bytes),
                    recommended: bytes(memory.request_bytes),
                },
            });
        }
        figures
    }
}
