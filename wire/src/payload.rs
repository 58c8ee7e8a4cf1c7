use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::CpuHistogram;

/// What one run used, from `start_time` to `end_time`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Payload {
    /// [`crate::SCHEMA_VERSION`]; absent in what the original's collector sends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema_version: Option<u32>,
    /// When measuring began, by the collector's wall clock. Of a pod, all of whose processes the collector sees, when the
    /// first of them that was there began (field 22 of `/proc/[pid]/stat`).
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub start_time: Timestamp,
    /// `start_time` plus the time that passed since, so that a clock that was set meanwhile does no harm.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub end_time: Timestamp,
    /// Seconds between the two, by the boot clock (`CLOCK_BOOTTIME`; suspended time counts).
    pub duration_seconds: f64,
    /// Passes over the process table.
    pub sample_count: u64,
    /// CPU use of the whole host in percent, 0 to 100, from `/proc/stat`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_total_percent: Option<Stats>,
    /// Memory use of the whole host in bytes: `MemTotal − MemAvailable` of `/proc/meminfo`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mem_used_bytes: Option<Stats>,
    /// Use by container, most CPU first.
    #[serde(default)]
    pub containers: Vec<ContainerUsage>,
    /// What the pod used beside its containers; absent where there is nothing of the kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_overhead: Option<PodOverhead>,
    /// The processes that used the most CPU time.
    #[serde(default)]
    pub top_cpu_processes: Vec<ProcessCpu>,
    /// The processes with the highest resident memory.
    #[serde(default)]
    pub top_mem_processes: Vec<ProcessMemory>,
    /// Use by command name, exited processes included.
    #[serde(default)]
    pub top_commands: Vec<CommandUsage>,
    /// Who measured, and how.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collector: Option<CollectorInfo>,
    /// How much of the CPU time found its container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attribution: Option<Attribution>,
    /// How the percentiles were computed: [`QuantileMethod::Exact`], or the least exact of those that apply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantile_method: Option<QuantileMethod>,
    /// False for an interim summary, and for one recovered after the collector was killed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub complete: Option<bool>,
}

/// What a pod used that none of its containers did: the runtime's sandbox (`pause`), which holds the namespaces, and
/// processes in the pod's own cgroup (conmon).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PodOverhead {
    /// All CPU time charged to it, in seconds.
    pub cpu_seconds: f64,
    /// Sum of the resident set sizes (RSS) of its processes, in bytes.
    pub memory_bytes: Stats,
}

/// Statistics of one series over the run, in the unit of the field that holds them.
///
/// Percentiles are by nearest rank: the smallest observed value that at least p % of the observed time do not
/// exceed. Each sample weighs as much as the interval that it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Stats {
    /// Maximum, always exact.
    pub peak: f64,
    /// 99th percentile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99: Option<f64>,
    /// 95th percentile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p95: Option<f64>,
    /// 75th percentile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p75: Option<f64>,
    /// Median.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50: Option<f64>,
    /// Mean over time, always exact.
    pub avg: f64,
}

/// How percentiles were computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum QuantileMethod {
    /// From all samples (up to 16,384 a series).
    Exact,
    /// From an `HdrHistogram` with 3 significant digits.
    Hdr3,
    /// Some method of a newer collector.
    #[serde(other)]
    Unknown,
}

/// How sure a figure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Certainty {
    /// The kernel's own account.
    Exact,
    /// Known from both sides.
    Bounded,
    /// What was seen at the moments of looking.
    Sampled,
    /// Something that a newer collector says.
    #[serde(other)]
    Unknown,
}

/// What one container used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ContainerUsage {
    /// Name by `CGROUP_PROCESS_MAP`, else the container's name in its pod, else `job` for the one that the job's processes
    /// run in, else its short id; `host` for processes in no container, `kernel` for kernel threads, `run` in run mode.
    pub name: String,
    /// The container's id, as the runtime wrote it into the cgroup path; of one that was restarted, the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// How often the kubelet was seen to restart it: each time it has another id, and all of them are this container.
    /// Absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarts: Option<u64>,
    /// Container runtime, where the cgroup path tells it: `docker`, `containerd`, `crio`, `podman`, `ecs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// Kubernetes pod UID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_uid: Option<String>,
    /// CPU use in cores, over the time in which the container was seen.
    pub cpu_cores: Stats,
    /// Sum of the resident set sizes (RSS) of its processes, in bytes. Pages shared between processes count
    /// in each of them.
    pub memory_bytes: Stats,
    /// All CPU time charged to it, in seconds, short-lived processes included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_seconds: Option<f64>,
    /// The part of it that no process is known to have used: of those that lived between two looks. Absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unnamed_cpu_seconds: Option<f64>,
    /// How sure `cpu_seconds` is: [`Certainty::Exact`] where it is the kernel's own account of the container's cgroup (v2
    /// `cpu.stat`, v1 `cpuacct.usage`), read until its end; [`Certainty::Sampled`] where it is what its processes used, as
    /// far as they were seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_certainty: Option<Certainty>,
    /// Processes seen in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process_count: Option<u64>,
    /// CPU limit in cores that was set for this container and nothing else: from `CGROUP_LIMITS`, else its own cgroup's
    /// (v2 `cpu.max`, v1 `cpu.cfs_quota_us`); in run mode, that of the cgroup that the collector runs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_limit_cores: Option<f64>,
    /// Memory limit in bytes, likewise (v2 `memory.max`, v1 `memory.limit_in_bytes`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_limit_bytes: Option<u64>,
    /// What bounds it besides, in cores: the tightest CPU limit of the cgroups above it (its pod, a slice, the node),
    /// which it shares with all that is below them. What the machine has is in `collector`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_bound_cores: Option<f64>,
    /// The same of memory, in bytes (v2 `memory.max`, v1 `memory.limit_in_bytes` and `hierarchical_memory_limit` of
    /// `memory.stat`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bound_bytes: Option<u64>,
    /// CPU request in cores, from `CGROUP_LIMITS` (`cpu_request`); no cgroup tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_request_cores: Option<f64>,
    /// Memory request in bytes, from `CGROUP_LIMITS` (`memory_request`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_request_bytes: Option<u64>,
    /// What the kernel charged to the cgroup while it was watched (v2 `cpu.stat`, v1 `cpuacct.usage`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup_cpu_seconds: Option<f64>,
    /// Time for which the cgroup was throttled while it was watched (`cpu.stat`), read where the tightest CPU limit is: its
    /// own, or `cpu_bound_cores` if that is less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_throttled_seconds: Option<f64>,
    /// Enforcement periods in which the cgroup wanted CPU while it was watched (`cpu.stat` `nr_periods`, of the same
    /// cgroup as `cpu_throttled_seconds`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_periods: Option<u64>,
    /// Those of them in which it was throttled (`cpu.stat` `nr_throttled`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_throttled_periods: Option<u64>,
    /// Processes killed for want of memory while the cgroup was watched (v2 `memory.events`, v1
    /// `memory.oom_control`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom_kills: Option<u64>,
    /// The cgroup's own peak in bytes, page cache included (v2 `memory.peak`, v1
    /// `memory.max_usage_in_bytes`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_peak_bytes: Option<u64>,
    /// The highest memory use without page cache that was seen, in bytes: what is charged to the cgroup less what the kernel
    /// takes back when memory is short (v2 `memory.current` less `file`, but for `shmem`, and `slab_reclaimable` of
    /// `memory.stat`; v1 `memory.usage_in_bytes` less `total_cache`, but for `total_shmem`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_needed_at_least_bytes: Option<u64>,
    /// The highest that it can have been, in bytes: the cgroup's peak less the page cache that there was at that moment, at
    /// the least; or what was there before and after, and all that page faults brought in between (`pgfault`,
    /// `thp_fault_alloc` of `memory.stat`), where that is less. Of a command in a container: what the container grew by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_needed_at_most_bytes: Option<u64>,
    /// How sure the two are: [`Certainty::Exact`] if they are within 5 %, [`Certainty::Bounded`] if not, and
    /// [`Certainty::Sampled`] where the kernel tells no peak, so that there is only what was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_certainty: Option<Certainty>,
    /// Exit status of its first process, where the kernel tells it (`PIDFD_GET_INFO`, Linux 6.15).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(maximum = 255))]
    pub exit_code: Option<u8>,
    /// The signal that ended it, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(maximum = 255))]
    pub exit_signal: Option<u8>,
    /// Memory in use less inactive page cache (`inactive_file`), in bytes: what the kubelet evicts by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_set_bytes: Option<Stats>,
    /// All samples of `cpu_cores` by size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_cores_histogram: Option<CpuHistogram>,
    /// The run's course.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub series: Option<Series>,
    /// Containers that run inside this one (Docker in Docker); their use is part of its figures.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nested: Vec<NestedUsage>,
}

/// What a container inside another container used; part of the outer one's figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NestedUsage {
    /// The inner container's id.
    pub id: String,
    /// CPU time charged to it, in seconds.
    pub cpu_seconds: f64,
    /// Processes seen in it.
    pub process_count: u64,
    /// Highest sum of its processes' resident set sizes, in bytes.
    pub peak_mem_bytes: u64,
}

/// A series over the run, at most 240 points of equal length, from `start_time`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Series {
    /// Length of one step in seconds.
    pub step_seconds: f64,
    /// Mean CPU use in each step, in cores.
    pub cpu_cores: Vec<f64>,
    /// Highest sum of RSS in each step, in bytes.
    pub memory_bytes: Vec<u64>,
}

/// CPU use of one process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ProcessCpu {
    /// PID, as the collector sees it.
    pub pid: u32,
    /// Command name (`comm`, at most 15 bytes), the last one seen.
    pub name: String,
    /// Name of its container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Highest use in one interval; 100 % is one core.
    pub peak_cpu_percent: f64,
    /// Mean use over the time in which it was seen; 100 % is one core.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub avg_cpu_percent: Option<f64>,
    /// Its own CPU time, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_seconds: Option<f64>,
}

/// Memory use of one process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ProcessMemory {
    /// PID, as the collector sees it.
    pub pid: u32,
    /// Command name (`comm`, at most 15 bytes), the last one seen.
    pub name: String,
    /// Name of its container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Highest resident set size, in bytes; for one that ended, with eBPF, an upper bound as in [`CommandUsage`].
    pub peak_mem_bytes: u64,
}

/// Use by all processes of one name in one container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CommandUsage {
    /// Command name (`comm`, at most 15 bytes).
    pub name: String,
    /// Name of the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Processes of this name that were seen.
    pub process_count: u64,
    /// Their own CPU time, in seconds.
    pub cpu_seconds: f64,
    /// CPU time of children that they waited for and that no pass saw, in seconds: such a child's name is not
    /// known without eBPF.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unseen_children_cpu_seconds: Option<f64>,
    /// Highest resident set size of one of them, in bytes. With eBPF an upper bound: the kernel's `signal->maxrss` of
    /// a process (what `getrusage` tells its parent) includes the image that it had before it executed another.
    pub peak_mem_bytes: u64,
}

/// Who measured, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CollectorInfo {
    /// The collector's version.
    pub version: String,
    /// `sidecar`, `run` or `node`.
    pub mode: String,
    /// Where short-lived processes were taken from: `ebpf` or `proc`.
    pub source: String,
    /// Why it is `proc`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_reason: Option<String>,
    /// Why it could not read the kernel's account of each container, where it could not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_reason: Option<String>,
    /// What it could not see, as far as it knows, such as processes of other users where proc is mounted with `hidepid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hidden: Option<String>,
    /// The configured interval in seconds.
    pub interval_seconds: f64,
    /// CPUs online.
    pub cpu_count: u32,
    /// `MemTotal` in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_total_bytes: Option<u64>,
    /// Kernel release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// What went wrong or was left out by then, as the log has it, such as a variable that makes no sense; at most 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// How much of the CPU time found its container. `cpu_seconds` is the sum of the containers', the pod's overhead and
/// `unattributed_cpu_seconds`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Attribution {
    /// All CPU time seen, in seconds.
    pub cpu_seconds: f64,
    /// The part of it that only processes which had ended by the next pass account for.
    pub exited_cpu_seconds: f64,
    /// The part of it whose container could not be told.
    pub unattributed_cpu_seconds: f64,
    /// Processes seen.
    pub process_count: u64,
    /// Passes that were due and did not happen, because one before was late.
    pub missed_samples: u64,
    /// Records that the eBPF program could not deliver.
    pub lost_records: u64,
    /// What the collector itself used, in seconds.
    pub collector_cpu_seconds: f64,
}
