//! The receiver's answers about stored runs.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{CiContext, CollectorInfo, ContainerUsage, CpuHistogram, Payload};

/// An organization, a repository or a workflow: an element of `GET /api/v1/organizations`, `/repositories` and
/// `/workflows`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Group {
    /// Organization.
    pub organization: String,
    /// Repository, as `organization/repository`; absent for an organization.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// Workflow; absent for an organization or a repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workflow: Option<String>,
    /// Number of jobs in it.
    pub job_count: u64,
    /// Number of stored runs of these jobs.
    pub run_count: u64,
    /// When the last of these runs was received.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub last_received_at: Timestamp,
}

/// A run without its payload: an element of `GET /api/v1/jobs/{organization}/{repository}/{workflow}/{job}/runs`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RunSummary {
    /// Id of the run.
    pub id: i64,
    /// The CI system's identifier of the run.
    pub run_id: String,
    /// Attempt of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_attempt: Option<u32>,
    /// Whether its last summary was received.
    #[serde(rename = "final")]
    pub is_final: bool,
    /// Whether the summary covers the whole run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub complete: Option<bool>,
    /// When measuring began.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub start_time: Timestamp,
    /// When measuring ended.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub end_time: Timestamp,
    /// How long measuring took.
    pub duration_seconds: f64,
    /// Total CPU time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_seconds: Option<f64>,
    /// When the receiver stored the summary.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub received_at: Timestamp,
    /// What the CI system says about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ci: Option<CiContext>,
    /// Use by container.
    pub containers: Vec<ContainerSummary>,
}

/// Use of one container in a run, without its time series.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ContainerSummary {
    /// Its name.
    pub name: String,
    /// CPU time charged to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_seconds: Option<f64>,
    /// Highest CPU use.
    pub cpu_peak_cores: f64,
    /// 95th percentile of its CPU use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_p95_cores: Option<f64>,
    /// CPU request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_request_cores: Option<f64>,
    /// Its own CPU limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_limit_cores: Option<f64>,
    /// The tightest CPU limit of the cgroups above it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_bound_cores: Option<f64>,
    /// Time for which it was throttled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_throttled_seconds: Option<f64>,
    /// Enforcement periods in which it wanted CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_periods: Option<u64>,
    /// Enforcement periods in which it was throttled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_throttled_periods: Option<u64>,
    /// Time in seconds in which it had runnable tasks and none of them ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_stalled_seconds: Option<f64>,
    /// Highest sum of RSS.
    pub memory_peak_bytes: f64,
    /// 95th percentile of the sum of RSS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_p95_bytes: Option<f64>,
    /// Highest working set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_set_peak_bytes: Option<f64>,
    /// The cgroup's own peak, page cache included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup_memory_peak_bytes: Option<u64>,
    /// Upper bound of its memory use without page cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_needed_bytes: Option<u64>,
    /// Highest memory of its processes, without mapped files and with each page counted once as far as that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processes_memory_bytes: Option<u64>,
    /// The same with shared memory of the machine that may be its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processes_memory_at_most_bytes: Option<u64>,
    /// Memory request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_request_bytes: Option<u64>,
    /// Its own memory limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_limit_bytes: Option<u64>,
    /// The tightest memory limit of the cgroups above it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bound_bytes: Option<u64>,
    /// Processes that the OOM killer killed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom_kills: Option<u64>,
    /// How its first process ended, if the kernel reported it: its exit status, or 128 plus the number of the signal that killed
    /// it, as a shell shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(maximum = 383))]
    pub exit_status: Option<u16>,
    /// CPUs of the machine. The receiver keeps this and the next two fields for its recommendations; no answer has them.
    #[serde(skip)]
    pub machine_cpus: Option<u32>,
    /// Memory of the machine, in bytes.
    #[serde(skip)]
    pub machine_memory_bytes: Option<u64>,
    /// Histogram of all samples of its CPU use.
    #[serde(skip)]
    pub cpu_cores_histogram: Option<CpuHistogram>,
}

impl ContainerSummary {
    /// The figures of a container that are stored beside the payload, and those of the machine that it ran on.
    pub fn new(usage: &ContainerUsage, collector: Option<&CollectorInfo>) -> Self {
        Self {
            name: usage.name.clone(),
            cpu_seconds: usage.cpu_seconds,
            cpu_peak_cores: usage.cpu_cores.peak,
            cpu_p95_cores: usage.cpu_cores.p95,
            cpu_request_cores: usage.cpu_request_cores,
            cpu_limit_cores: usage.cpu_limit_cores,
            cpu_bound_cores: usage.cpu_bound_cores,
            cpu_throttled_seconds: usage.cpu_throttled_seconds,
            cpu_periods: usage.cpu_periods,
            cpu_throttled_periods: usage.cpu_throttled_periods,
            cpu_stalled_seconds: usage.cpu_stalled_seconds,
            memory_peak_bytes: usage.memory_bytes.peak,
            memory_p95_bytes: usage.memory_bytes.p95,
            working_set_peak_bytes: usage.working_set_bytes.map(|stats| stats.peak),
            cgroup_memory_peak_bytes: usage.memory_peak_bytes,
            memory_needed_bytes: usage.memory_needed_at_most_bytes,
            processes_memory_bytes: usage.processes_memory_bytes,
            processes_memory_at_most_bytes: usage.processes_memory_at_most_bytes,
            memory_request_bytes: usage.memory_request_bytes,
            memory_limit_bytes: usage.memory_limit_bytes,
            memory_bound_bytes: usage.memory_bound_bytes,
            oom_kills: usage.oom_kills,
            exit_status: usage.exit_status(),
            machine_cpus: collector.map(|collector| collector.cpu_count),
            machine_memory_bytes: collector.and_then(|collector| collector.memory_total_bytes),
            cpu_cores_histogram: usage.cpu_cores_histogram.clone(),
        }
    }
}

/// A collector that measured a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Source {
    /// `sidecar`, `run` or `node`.
    pub mode: String,
    /// Its source of short-lived processes: `ebpf` or `proc`.
    pub source: String,
    /// The `summary_id` that it pushed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary_id: Option<String>,
    /// The `seq` of its stored summary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// Whether that summary is its last.
    #[serde(rename = "final")]
    pub is_final: bool,
    /// Whether that summary covers all that it could see of the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub complete: Option<bool>,
}

impl Source {
    /// The collector that pushed a payload; `None` if the payload does not name it.
    pub fn of(payload: &Payload, summary: Option<(&str, u64)>, is_final: bool) -> Option<Self> {
        let collector = payload.collector.as_ref()?;
        Some(Self {
            mode: collector.mode.clone(),
            source: collector.source.clone(),
            summary_id: summary.map(|(summary_id, _)| summary_id.to_owned()),
            seq: summary.map(|(_, seq)| seq),
            is_final,
            complete: payload.complete,
        })
    }
}

/// Two runs side by side, as `GET /api/v1/compare` returns them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Comparison {
    /// The first run.
    pub a: ComparedRun,
    /// The second run.
    pub b: ComparedRun,
    /// Durations of the runs.
    pub duration_seconds: Change,
    /// Containers by name, largest growth in CPU time first.
    pub containers: Vec<ComparedContainer>,
    /// Commands by name and container, largest growth in CPU time first. A payload names only the heaviest commands: a
    /// command that is missing in one run may have been too light there.
    pub commands: Vec<ComparedCommand>,
}

/// One of the two runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ComparedRun {
    /// Id of the run.
    pub id: i64,
    /// Organization.
    pub organization: String,
    /// Repository, as `organization/repository`.
    pub repository: String,
    /// Workflow.
    pub workflow: String,
    /// Job.
    pub job: String,
    /// The CI system's identifier of the run.
    pub run_id: String,
    /// When measuring began.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub start_time: Timestamp,
}

/// The runs that contain a container or a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Presence {
    /// In both runs.
    Both,
    /// Only in the first.
    A,
    /// Only in the second.
    B,
}

/// A figure in both runs. If it is unknown for a run, it is absent, and so is everything computed from it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Change {
    /// In the first run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub a: Option<f64>,
    /// In the second run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub b: Option<f64>,
    /// `b − a`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub difference: Option<f64>,
    /// `(b − a) / a`; absent if `a` is 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relative: Option<f64>,
}

impl Change {
    /// Computes what the known values allow.
    pub fn new(a: Option<f64>, b: Option<f64>) -> Self {
        let difference = a.zip(b).map(|(a, b)| b - a);
        let relative = a.zip(difference).map(|(a, difference)| difference / a);
        Self { a, b, difference, relative: relative.filter(|relative| relative.is_finite()) }
    }
}

/// A container in both runs, or in one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ComparedContainer {
    /// Its name.
    pub name: String,
    /// The runs that contain it.
    #[serde(rename = "in")]
    pub presence: Presence,
    /// CPU time charged to it.
    pub cpu_seconds: Change,
    /// Mean CPU use.
    pub cpu_avg_cores: Change,
    /// 95th percentile of its CPU use.
    pub cpu_p95_cores: Change,
    /// Highest CPU use.
    pub cpu_peak_cores: Change,
    /// Time for which it was throttled.
    pub cpu_throttled_seconds: Change,
    /// Mean sum of RSS.
    pub memory_avg_bytes: Change,
    /// Highest sum of RSS.
    pub memory_peak_bytes: Change,
    /// Highest working set.
    pub working_set_peak_bytes: Change,
    /// Processes that the OOM killer killed.
    pub oom_kills: Change,
    /// Processes seen in it.
    pub process_count: Change,
}

/// A command in both runs, or in one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ComparedCommand {
    /// Command name.
    pub name: String,
    /// Name of its container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// The runs that contain it.
    #[serde(rename = "in")]
    pub presence: Presence,
    /// CPU time of its processes.
    pub cpu_seconds: Change,
    /// Number of its processes.
    pub process_count: Change,
    /// Highest resident set size of one of them.
    pub peak_mem_bytes: Change,
}
