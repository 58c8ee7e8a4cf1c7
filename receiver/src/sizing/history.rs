//! What sizing looks at: complete runs and what is known of their containers.

use jiff::Timestamp;
use wire::CpuHistogram;

/// A complete run: its last summary, and all of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Row.
    pub id: i64,
    /// Row of its job.
    pub job_id: i64,
    /// The CI system's identifier of it.
    pub run_id: String,
    /// For how long it was measured.
    pub duration_seconds: f64,
    /// CPU time in all.
    pub cpu_seconds: Option<f64>,
    /// When its last summary came.
    pub received_at: Timestamp,
    /// Its containers.
    pub containers: Vec<Facts>,
}

/// What is known of a container in one run; a row of table `containers`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    /// Its name.
    pub name: String,
    /// CPU time charged to it.
    pub cpu_seconds: Option<f64>,
    /// Highest CPU use.
    pub cpu_peak_cores: f64,
    /// 95th percentile of CPU use.
    pub cpu_p95_cores: Option<f64>,
    /// CPU request.
    pub cpu_request_cores: Option<f64>,
    /// Its own CPU limit.
    pub cpu_limit_cores: Option<f64>,
    /// The tightest CPU limit of the cgroups above it.
    pub cpu_bound_cores: Option<f64>,
    /// CPUs of the machine.
    pub machine_cpus: Option<u32>,
    /// Time for which it was throttled.
    pub cpu_throttled_seconds: Option<f64>,
    /// Enforcement periods.
    pub cpu_periods: Option<u64>,
    /// Those of them in which it was throttled.
    pub cpu_throttled_periods: Option<u64>,
    /// Highest sum of RSS.
    pub memory_peak_bytes: f64,
    /// Highest working set.
    pub working_set_peak_bytes: Option<f64>,
    /// The cgroup's own peak, page cache included.
    pub cgroup_memory_peak_bytes: Option<u64>,
    /// Memory request.
    pub memory_request_bytes: Option<u64>,
    /// Its own memory limit.
    pub memory_limit_bytes: Option<u64>,
    /// The tightest memory limit of the cgroups above it.
    pub memory_bound_bytes: Option<u64>,
    /// Memory of the machine.
    pub machine_memory_bytes: Option<u64>,
    /// Processes killed for want of memory.
    pub oom_kills: Option<u64>,
    /// All samples of its CPU use by size.
    pub cpu_cores_histogram: Option<CpuHistogram>,
}
