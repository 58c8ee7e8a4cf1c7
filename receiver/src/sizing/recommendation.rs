//! The answer: recommendations with their reasons.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use wire::MemoryFigure;

use super::parameters::SizingParameters;

/// Recommended requests for the containers of a job, or of all jobs of a workflow or repository.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Sizing {
    /// Organization.
    pub organization: String,
    /// Repository, as `organization/repository`.
    pub repository: String,
    /// Workflow; absent in the answer for a repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workflow: Option<String>,
    /// Job; absent in the answer for a workflow or repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// Parameters of the rules.
    pub parameters: SizingParameters,
    /// The runs that were considered.
    pub window: Window,
    /// One recommendation per container, in the order of the newest run, then by name.
    pub containers: Vec<ContainerSizing>,
    /// What all recommendations together would free.
    pub savings: Savings,
    /// Recommendations for each job; only in the answer for a workflow or repository.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub jobs: Vec<JobSizing>,
    /// Number of jobs that were left out because there are too many; they ran less recently.
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
    /// What these recommendations would free.
    pub savings: Savings,
}

/// The runs that were considered.
#[derive(Debug, Clone, Default, PartialEq, Serialize, utoipa::ToSchema)]
#[schema(as = SizingWindow)]
pub struct Window {
    /// Number of complete runs.
    pub runs: usize,
    /// When the summary of the oldest run was received.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub oldest: Option<Timestamp>,
    /// When the summary of the newest run was received.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub newest: Option<Timestamp>,
    /// Total duration of the runs.
    pub seconds: f64,
}

/// Recommended requests for a container.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct ContainerSizing {
    /// Its name.
    pub name: String,
    /// Whether there is a recommendation.
    pub status: Status,
    /// The runs that the figures are based on.
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
    /// There is one.
    Recommended,
    /// Too few runs; nothing is recommended.
    InsufficientData,
}

/// Whose runs are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SizingLevel {
    /// The runs of the requested variant of the job.
    Variant,
    /// The job's own runs.
    Job,
    /// The runs of all jobs of its workflow.
    Workflow,
    /// The runs of all jobs of its repository.
    Repository,
}

/// The runs that figures are based on.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
#[schema(as = SizingBasis)]
pub struct Basis {
    /// Whose runs are used.
    pub level: SizingLevel,
    /// Number of runs with this container.
    pub runs: usize,
    /// Runs in which a process of it was OOM-killed.
    pub oom_killed_runs: usize,
    /// Runs in which it was throttled for more than the accepted share.
    pub throttled_runs: usize,
    /// Runs in which it came close to its memory limit and was not killed.
    pub at_memory_limit_runs: usize,
    /// Runs in which it came close to its CPU limit and was not throttled.
    pub at_cpu_limit_runs: usize,
    /// Runs in which it came close to a memory limit above it or to its machine's memory, and not to its own limit.
    pub at_memory_bound_runs: usize,
    /// Runs in which it came close to a CPU limit above it or to its machine's CPUs, and was not throttled.
    pub at_cpu_bound_runs: usize,
    /// Runs that show only how much is needed at least, for CPU or for memory: any of the six above.
    pub censored_runs: usize,
    /// The memory figure that most runs have: `needed`, `working_set`, `processes`, `rss` or `cgroup_peak`.
    pub memory_figure: MemoryFigure,
}

/// The change to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = SizingAction)]
pub enum Change {
    /// The current request is unknown.
    Unknown,
    /// Request more.
    Raise,
    /// Request less.
    Lower,
    /// Keep the current request.
    Keep,
}

/// The recommendation for CPU, with reasons.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct CpuSizing {
    /// Recommended request, in cores; absent without a recommendation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_cores: Option<f64>,
    /// The same as a Kubernetes quantity, such as `1250m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// Recommended limit, in cores; absent if none is recommended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_cores: Option<f64>,
    /// The same as a Kubernetes quantity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
    /// The newest run's request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_request_cores: Option<f64>,
    /// The newest run's own limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_limit_cores: Option<f64>,
    /// The tightest limit above it in the newest run: of its pod, a slice or its node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_bound_cores: Option<f64>,
    /// The percentile of use that the request is based on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used_cores: Option<f64>,
    /// Less than this is likely too little.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lower_bound_cores: Option<f64>,
    /// The request that the runs alone suggest, before the current request is considered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_cores: Option<f64>,
    /// More than this is likely too much; absent if all runs are censored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upper_bound_cores: Option<f64>,
    /// Confidence from the number of runs: n / (n + 1) for n runs that are not censored.
    pub confidence: f64,
    /// The change to make.
    pub change: Change,
    /// The reasons, in words.
    pub reasons: Vec<String>,
}

/// The recommendation for memory, with reasons. The recommended limit is the same as the request.
#[derive(Debug, Clone, PartialEq, Serialize, utoipa::ToSchema)]
pub struct MemorySizing {
    /// Recommended request and limit, in bytes; absent without a recommendation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_bytes: Option<u64>,
    /// The same as a Kubernetes quantity, such as `1946Mi`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// The newest run's request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_request_bytes: Option<u64>,
    /// The newest run's own limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_limit_bytes: Option<u64>,
    /// The tightest limit above it in the newest run: of its pod, a slice or its node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_bound_bytes: Option<u64>,
    /// The highest peak, which the request is based on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used_bytes: Option<u64>,
    /// Less than this is likely too little.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lower_bound_bytes: Option<u64>,
    /// The request that the runs alone suggest, before the current request is considered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_bytes: Option<u64>,
    /// More than this is likely too much; absent if all runs are censored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upper_bound_bytes: Option<u64>,
    /// Confidence from the number of runs: n / (n + 1) for n runs that are not censored.
    pub confidence: f64,
    /// The change to make.
    pub change: Change,
    /// The reasons, in words.
    pub reasons: Vec<String>,
}

/// (Current request − recommended request) × duration over the window; negative if more is recommended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, utoipa::ToSchema)]
#[schema(as = SizingSavings)]
pub struct Savings {
    /// CPU.
    pub core_hours: f64,
    /// Memory.
    pub gib_hours: f64,
    /// The savings at the given prices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub money: Option<f64>,
    /// Whether the current requests of all containers are known. Unknown ones count as 0 savings.
    pub known: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}
