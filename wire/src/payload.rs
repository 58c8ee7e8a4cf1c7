use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{CiContext, CpuHistogram};

/// Resource use of one run, from `start_time` to `end_time`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Payload {
    /// [`crate::SCHEMA_VERSION`]; absent in payloads of the original's collector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema_version: Option<u32>,
    /// When measuring began, by the collector's wall clock. If the collector sees all processes of a pod, it is the start of the
    /// oldest one that it found (field 22 of `/proc/[pid]/stat`).
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub start_time: Timestamp,
    /// `start_time` plus the elapsed time, so that a change of the clock in between does no harm.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub end_time: Timestamp,
    /// Seconds between the two, by the boot clock (`CLOCK_BOOTTIME`; suspended time counts).
    pub duration_seconds: f64,
    /// Number of passes over the process table.
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
    /// Use of all containers at the same time; absent if there is only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodUsage>,
    /// Use of the pod outside of its containers; absent if there is none.
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
    /// Use by step of the job, in the order of their beginnings, if steps name themselves. Use that belongs to no step is in none
    /// of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<StepUsage>,
    /// What the CI system says about the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ci: Option<CiContext>,
    /// The collector, and how it measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collector: Option<CollectorInfo>,
    /// How much of the CPU time was attributed to a container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attribution: Option<Attribution>,
    /// How the percentiles were computed: [`QuantileMethod::Exact`], or the least exact method of all series.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantile_method: Option<QuantileMethod>,
    /// False for an interim summary, and for one recovered after the collector was killed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub complete: Option<bool>,
}

/// Use of all containers of a pod or job at the same time, `pod_overhead` included. Its peak is at most the sum of the
/// containers' peaks, which come at different times.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PodUsage {
    /// CPU use in cores.
    pub cpu_cores: Stats,
    /// Sum of the resident set sizes (RSS) of all processes, in bytes. The peak is the highest sum seen.
    pub memory_bytes: Stats,
}

/// Use of a pod outside of its containers: the runtime's sandbox (`pause`), which holds the namespaces, and processes in the
/// pod's own cgroup (conmon). If the pod runs several jobs, an even part of what belongs to none of them, such as the runner.
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
/// Percentiles are by nearest rank: the smallest observed value that is not exceeded for at least p % of the observed time.
/// Each sample is weighted by the interval that it stands for.
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
    /// A method of a newer collector.
    #[serde(other)]
    Unknown,
}

/// How certain a figure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Certainty {
    /// The kernel's own account.
    Exact,
    /// Bounded from below and from above.
    Bounded,
    /// Seen only in samples.
    Sampled,
    /// A value of a newer collector.
    #[serde(other)]
    Unknown,
}

/// Resource use of one container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ContainerUsage {
    /// Name from `CGROUP_PROCESS_MAP`, else the container's name in its pod, else `job` for the container of the job's processes,
    /// else its short id; `host` for processes in no container, `kernel` for kernel threads, `run` in run mode.
    pub name: String,
    /// The container's id, as the runtime wrote it into the cgroup path; after a restart, the last id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// How often the kubelet restarted it, as far as seen. Each restart has a new id, and all of them count as this container.
    /// Absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarts: Option<u64>,
    /// Container runtime, if the cgroup path shows it: `docker`, `containerd`, `crio`, `podman`, `ecs`.
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
    /// The part of it that no known process used, but processes that lived between two passes. Absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unnamed_cpu_seconds: Option<f64>,
    /// How certain `cpu_seconds` is: [`Certainty::Exact`] if it is the kernel's own account of the container's cgroup (v2
    /// `cpu.stat`, v1 `cpuacct.usage`), read until its end; [`Certainty::Sampled`] if it is the CPU time of its processes, as far
    /// as they were seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_certainty: Option<Certainty>,
    /// Processes seen in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process_count: Option<u64>,
    /// CPU limit in cores that was set for this container alone: from `CGROUP_LIMITS`, else from its own cgroup (v2 `cpu.max`, v1
    /// `cpu.cfs_quota_us`); in run mode, from the cgroup that the collector runs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_limit_cores: Option<f64>,
    /// Memory limit in bytes, likewise (v2 `memory.max`, v1 `memory.limit_in_bytes`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_limit_bytes: Option<u64>,
    /// The tightest CPU limit of the cgroups above it (its pod, a slice, the node), in cores. Everything below that cgroup shares
    /// the limit. The size of the machine is in `collector`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_bound_cores: Option<f64>,
    /// The same for memory, in bytes (v2 `memory.max`, v1 `memory.limit_in_bytes` and `hierarchical_memory_limit` of
    /// `memory.stat`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bound_bytes: Option<u64>,
    /// CPU request in cores, from `CGROUP_LIMITS` (`cpu_request`); no cgroup has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_request_cores: Option<f64>,
    /// Memory request in bytes, from `CGROUP_LIMITS` (`memory_request`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_request_bytes: Option<u64>,
    /// CPU time that the kernel charged to the cgroup while it was watched (v2 `cpu.stat`, v1 `cpuacct.usage`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup_cpu_seconds: Option<f64>,
    /// Time for which the cgroup was throttled while it was watched (`cpu.stat`), read from the cgroup with the tightest CPU
    /// limit: its own, or that of `cpu_bound_cores` if that is less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_throttled_seconds: Option<f64>,
    /// Enforcement periods in which the cgroup wanted CPU while it was watched (`cpu.stat` `nr_periods`, of the same
    /// cgroup as `cpu_throttled_seconds`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_periods: Option<u64>,
    /// Enforcement periods in which it was throttled (`cpu.stat` `nr_throttled`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_throttled_periods: Option<u64>,
    /// Processes that the OOM killer killed while the cgroup was watched (v2 `memory.events`, v1 `memory.oom_control`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom_kills: Option<u64>,
    /// Time in seconds in which it had runnable tasks and none of them ran, because of neighbours or its own limit (PSI: `full`
    /// of `cpu.pressure`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_stalled_seconds: Option<f64>,
    /// Time in seconds in which at least one of its tasks waited for memory (PSI: `some` of `memory.pressure`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_stalled_seconds: Option<f64>,
    /// Time in seconds in which at least one of its tasks waited for I/O (PSI: `some` of `io.pressure`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io_stalled_seconds: Option<f64>,
    /// Bytes read from disks (v2 `io.stat` `rbytes`, v1 `blkio.throttle.io_service_bytes_recursive` `Read`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_read_bytes: Option<u64>,
    /// Bytes written to disks (`wbytes`, `Write`). v1 does not charge to a container what is written back later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_written_bytes: Option<u64>,
    /// The cgroup's own peak in bytes, page cache included (v2 `memory.peak`, v1
    /// `memory.max_usage_in_bytes`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_peak_bytes: Option<u64>,
    /// The highest memory use without page cache that was seen, in bytes: the memory charged to the cgroup minus what the kernel
    /// reclaims when memory is short (v2 `memory.current` minus `file`, except `shmem`, and minus `slab_reclaimable` of
    /// `memory.stat`; v1 `memory.usage_in_bytes` minus `total_cache`, except `total_shmem`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_needed_at_least_bytes: Option<u64>,
    /// Upper bound of the memory use without page cache, in bytes: the cgroup's peak minus the least page cache at that moment,
    /// or, if that is less, the use before the peak plus all memory that page faults then brought in (`pgfault`,
    /// `thp_fault_alloc` of `memory.stat`). For a command in a container: the growth of the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_needed_at_most_bytes: Option<u64>,
    /// How certain the two are: [`Certainty::Exact`] if they are within 5 %, [`Certainty::Bounded`] if not, and
    /// [`Certainty::Sampled`] if the kernel reports no peak, so that there are only samples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_certainty: Option<Certainty>,
    /// The highest memory of its processes, in bytes, if the memory of its cgroup cannot be read: anonymous and shared memory
    /// (`RssAnon`, `RssShmem` and `VmHWM` of `/proc/[pid]/status`), without mapped files, and without what a forked process
    /// shares with its parent, as far as page faults tell (`min_flt` of `/proc/[pid]/stat`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processes_memory_bytes: Option<u64>,
    /// The same, in bytes, with the growth of the machine's shared memory that no visible process has mapped (`Shmem` of
    /// `/proc/meminfo`): files in `/dev/shm` are in no process's memory, and may be this container's or another's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processes_memory_at_most_bytes: Option<u64>,
    /// Exit status of its first process, if the kernel reports it (`PIDFD_GET_INFO`, Linux 6.15).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(maximum = 255))]
    pub exit_code: Option<u8>,
    /// The signal that ended its first process, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(maximum = 255))]
    pub exit_signal: Option<u8>,
    /// Memory use minus inactive page cache (`inactive_file`), in bytes. The kubelet evicts by this figure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_set_bytes: Option<Stats>,
    /// Histogram of all samples of `cpu_cores`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_cores_histogram: Option<CpuHistogram>,
    /// Time series over the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub series: Option<Series>,
    /// Containers that run inside this one (Docker in Docker); their use is part of its figures.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nested: Vec<NestedUsage>,
}

impl ContainerUsage {
    /// How its first process ended: its exit status, or 128 plus the number of the signal that killed it.
    pub fn exit_status(&self) -> Option<u16> {
        let signal = self.exit_signal.map(|signal| 128 + u16::from(signal));
        self.exit_code.map(u16::from).or(signal)
    }
}

/// Resource use of a container inside another container; part of the outer one's figures.
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

/// Time series over the run: at most 240 steps of equal length, from `start_time`.
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
    /// Highest use in one interval, or over its life if that was shorter; 100 % is one core.
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
    /// Highest resident set size, in bytes; with eBPF, an upper bound for a process that ended, as in [`CommandUsage`].
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
    /// CPU time of children that they waited for and that no pass saw, in seconds. Without eBPF, the name of such a child is
    /// unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unseen_children_cpu_seconds: Option<f64>,
    /// Highest resident set size of one of them, in bytes. With eBPF it is an upper bound: the kernel's `signal->maxrss` of a
    /// process (which `getrusage` reports to its parent) includes the image that it had before it executed another.
    pub peak_mem_bytes: u64,
    /// The most of them that were seen at the same time. With eBPF, those between two looks count, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_process_count: Option<u64>,
    /// Bytes that they caused to be read from disks, by the records of those that ended (eBPF; `ioac.read_bytes` of the kernel's
    /// `signal_struct`). Absent if there were none, or if they were not counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_read_bytes: Option<u64>,
    /// Bytes that they caused to be written to disks, likewise (`ioac.write_bytes`: pages that they made dirty).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_written_bytes: Option<u64>,
}

/// Use of one step of the job: of the processes whose environment names it, and of their descendants.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StepUsage {
    /// Its name: `COLLECTOR_STEP` (set by `collector step`), `GITHUB_ACTION` or `CI_STEP_NAME`.
    pub name: String,
    /// When its first process began, in seconds since `start_time`.
    pub begin_seconds: f64,
    /// When a process of it was last seen, in seconds since `start_time`.
    pub end_seconds: f64,
    /// CPU time in seconds.
    pub cpu_seconds: f64,
    /// Highest sum of the resident set sizes of its processes, in bytes.
    pub peak_mem_bytes: u64,
    /// Number of its processes that were seen.
    pub process_count: u64,
}

/// The collector, and how it measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CollectorInfo {
    /// The collector's version.
    pub version: String,
    /// `sidecar`, `run` or `node`.
    pub mode: String,
    /// Source of short-lived processes: `ebpf` or `proc`.
    pub source: String,
    /// Why the source is `proc`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_reason: Option<String>,
    /// Why it could not read the kernel's account of each container; absent if it could.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_reason: Option<String>,
    /// What it could not see, as far as it knows, such as processes of other users if proc is mounted with `hidepid`.
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
    /// Name of the machine: the Kubernetes node's, from `--node-name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// Type of the machine, as its cloud names it, from `--instance-type`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_type: Option<String>,
    /// Warnings and errors in the log so far, such as an invalid variable; at most 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// How much of the CPU time was attributed to a container. `cpu_seconds` is the sum of the containers' CPU time, the pod's
/// overhead and `unattributed_cpu_seconds`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Attribution {
    /// All CPU time seen, in seconds.
    pub cpu_seconds: f64,
    /// The part of it from processes that ended before the next pass.
    pub exited_cpu_seconds: f64,
    /// The part of it whose container is unknown.
    pub unattributed_cpu_seconds: f64,
    /// Processes seen.
    pub process_count: u64,
    /// Passes that were due and did not happen because an earlier one was late.
    pub missed_samples: u64,
    /// Records that the eBPF program could not deliver.
    pub lost_records: u64,
    /// CPU time of the collector itself, in seconds.
    pub collector_cpu_seconds: f64,
}
