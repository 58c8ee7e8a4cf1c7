//! What is answered: recommendations with their reasons.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use wire::MemoryFigure;

use super::parameters::SizingParameters;

/// What the containers of a job, or of all jobs of a workflow or repository, should request.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Sizing {
    /// Organization.
    pub organization: String,
    /// Repository, as `organization/repository`.
    pub repository: String,
    /// Workflow; absent in the answer for a repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workflow: Option<String>,
    /// Job; absent in the answer for more than one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// The rules' parameters.
    pub parameters: SizingParameters,
    /// The runs that were looked at.
    pub window: Window,
    /// One recommendation per container, in the order of the newest run, then by name.
    pub containers: Vec<ContainerSizing>,
    /// What all of them would free.
    pub savings: Savings,
    /// Each job for itself; only in the answer for more than one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub jobs: Vec<JobSizing>,
    /// Jobs that ran less lately and were not looked at, as there are too many.
    #[serde(skip_serializing_if = "is_zero")]
    pub jobs_left_out: usize,
}

/// One job of a workflow or repository.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct JobSizing {
    /// Workflow.
    pub workflow: String,
    /// Job.
    pub job: String,
    /// Its runs.
    pub window: Window,
    /// One recommendation per container.
    pub containers: Vec<ContainerSizing>,
    /// What they would free.
    pub savings: Savings,
}

/// The runs that were looked at.
#[derive(Debug, Clone, Default, PartialEq, Serialize, utoipa::ToSchema)]
#[schema(as = SizingWindow)]
pub struct Window {
    /// Complete runs.
    pub runs: usize,
    /// When the summary of the oldest came.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub oldest: Option<Timestamp>,
    /// When the summary of the newest came.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub newest: Option<Timestamp>,
    /// How long they took together.
    pub seconds: f64,
}

/// What a container should request.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct ContainerSizing {
    /// Its name.
    pub name: String,
    /// Whether there is a recommendation.
    pub status: Status,
    /// What the figures are taken from.
    pub basis: Basis,
    /// CPU.
    pub cpu: CpuSizing,
    /// Memory.
    pub memory: MemorySizing,
    /// What the recommendation would free.
    pub savings: Savings,
}

/// Whether there is a recommendation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = SizingStatus)]
pub enum Status {
    /// Yes.
    Recommended,
    /// Too few runs; nothing is recommended.
    InsufficientData,
}

/// Whose runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SizingLevel {
    /// The job's own.
    Job,
    /// Those of all jobs of its workflow.
    Workflow,
    /// Those of all jobs of its repository.
    Repository,
}

/// What figures are taken from.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
#[schema(as = SizingBasis)]
pub struct Basis {
    /// Whose runs.
    pub level: SizingLevel,
    /// Runs with this container.
    pub runs: usize,
    /// Those in which processes of it were killed for want of memory.
    pub oom_killed_runs: usize,
    /// Those in which it was throttled for more than the share that is accepted.
    pub throttled_runs: usize,
    /// Those in which it came close to its memory limit and was not killed.
    pub at_memory_limit_runs: usize,
    /// Those in which it came close to its CPU limit and was not throttled.
    pub at_cpu_limit_runs: usize,
    /// Those in which it came close to a memory limit above it or to its machine's memory, and not to its own limit.
    pub at_memory_bound_runs: usize,
    /// Those in which it came close to a CPU limit above it or to its machine's CPUs, and was not throttled.
    pub at_cpu_bound_runs: usize,
    /// Those that only tell what is needed at the least, for CPU or for memory: any of the six above.
    pub censored_runs: usize,
    /// Which figure of memory the most runs have: `working_set`, `rss` or `cgroup_peak`.
    pub memory_figure: MemoryFigure,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = SizingAction)]
pub enum Change {
    /// What is requested now is not known.
    Unknown,
    /// Request more.
    Raise,
    /// Request less.
    Lower,
    /// Leave it.
    Keep,
}

/// CPU: what to request and why.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct CpuSizing {
    /// The request to write, in cores; absent without a recommendation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_cores: Option<f64>,
    /// The same as Kubernetes writes it, such as `1250m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// The limit to write, in cores; absent where none is recommended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_cores: Option<f64>,
    /// The same as Kubernetes writes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
    /// The newest run's request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_request_cores: Option<f64>,
    /// The newest run's own limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_limit_cores: Option<f64>,
    /// The tightest limit above it in the newest run: what its pod, a slice or its node allows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_bound_cores: Option<f64>,
    /// The percentile of use that the figure is made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used_cores: Option<f64>,
    /// Less is likely to be too little.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lower_bound_cores: Option<f64>,
    /// What the runs say, before what is requested now is looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_cores: Option<f64>,
    /// More is likely to be too much; absent where all runs are censored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upper_bound_cores: Option<f64>,
    /// How far the number of runs is to be trusted: n / (n + 1) of n runs that are not censored.
    pub confidence: f64,
    /// What to do.
    pub change: Change,
    /// Why, in words.
    pub reasons: Vec<String>,
}

/// Memory: what to request and why. The limit to write is the same.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct MemorySizing {
    /// The request and limit to write, in bytes; absent without a recommendation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_bytes: Option<u64>,
    /// The same as Kubernetes writes it, such as `1946Mi`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// The newest run's request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_request_bytes: Option<u64>,
    /// The newest run's own limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_limit_bytes: Option<u64>,
    /// The tightest limit above it in the newest run: what its pod, a slice or its node allows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_bound_bytes: Option<u64>,
    /// The highest peak, which the figure is made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used_bytes: Option<u64>,
    /// Less is likely to be too little.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lower_bound_bytes: Option<u64>,
    /// What the runs say, before what is requested now is looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_bytes: Option<u64>,
    /// More is likely to be too much; absent where all runs are censored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upper_bound_bytes: Option<u64>,
    /// How far the number of runs is to be trusted: n / (n + 1) of n runs that are not censored.
    pub confidence: f64,
    /// What to do.
    pub change: Change,
    /// Why, in words.
    pub reasons: Vec<String>,
}

/// (Current request − recommended) × duration over the window; negative where more is to be requested.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, utoipa::ToSchema)]
#[schema(as = SizingSavings)]
pub struct Savings {
    /// CPU.
    pub core_hours: f64,
    /// Memory.
    pub gib_hours: f64,
    /// At the prices that were given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub money: Option<f64>,
    /// Whether what is requested now is known of all containers; what is not known is counted as nothing.
    pub known: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}
