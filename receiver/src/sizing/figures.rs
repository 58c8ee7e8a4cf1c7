//! What is told of a job in lists: computed in the background, stored as JSON in `jobs.figures`.

use serde::{Deserialize, Serialize};

/// What the last complete runs of a job come to; with default parameters.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct JobFigures {
    /// Complete runs that were looked at, at most 20.
    pub runs: usize,
    /// Their mean duration.
    pub mean_duration_seconds: f64,
    /// (Request − target) × duration of all containers whose request is more than their target, over those runs.
    pub cpu_waste_core_hours: f64,
    /// The same of memory.
    pub memory_waste_gib_hours: f64,
    /// Runs in which a process of a container was killed for want of memory.
    pub oom_killed_runs: usize,
    /// Runs in which a container was throttled for more than 5 % of its periods.
    pub throttled_runs: usize,
    /// Runs in which a container came close to its memory limit and was not killed.
    pub at_memory_limit_runs: usize,
    /// Runs that are censored for a container.
    pub censored_runs: usize,
    /// By container.
    pub containers: Vec<ContainerFigures>,
    /// One point per run, oldest first.
    pub sparkline: Vec<Point>,
}

/// A container in lists.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ContainerFigures {
    /// Its name.
    pub name: String,
    /// CPU in cores.
    pub cpu_cores: ResourceFigures,
    /// Memory in bytes.
    pub memory_bytes: ResourceFigures,
}

/// A resource of a container in lists, in the unit of the field that holds it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
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
    /// What to request; absent where there are too few runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recommended: Option<f64>,
}

/// One run in a sparkline.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Row of the run.
    pub run: i64,
    /// CPU time of all containers, in seconds.
    pub cpu_seconds: f64,
    /// Sum of the containers' memory peaks, in bytes.
    pub memory_peak_bytes: f64,
    /// Whether a process was killed for want of memory.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub oom_killed: bool,
}

/// GiB-hours that count as much as a core-hour in the sort key `jobs.waste`: between the ratios of the list prices of
/// large clouds' machines, 7 to 9.
pub const GIB_HOURS_PER_CORE_HOUR: f64 = 8.0;

impl JobFigures {
    /// `jobs.waste`: core-hours, and GiB-hours at [`GIB_HOURS_PER_CORE_HOUR`], over the window.
    pub fn waste(&self) -> f64 {
        self.cpu_waste_core_hours + self.memory_waste_gib_hours / GIB_HOURS_PER_CORE_HOUR
    }

    /// `jobs.risk`: the share of runs that went wrong, from 0 to 1; one that was killed counts in full, one that came
    /// close to it half, one that was only slowed down a tenth.
    pub fn risk(&self) -> f64 {
        if self.runs == 0 {
            return 0.0;
        }
        let [killed, close, slow] = [self.oom_killed_runs, self.at_memory_limit_runs, self.throttled_runs];
        let weighted = killed as f64 + 0.5 * close as f64 + 0.1 * slow as f64;
        (weighted / self.runs as f64).min(1.0)
    }
}
