//! Histories of jobs like a company's, made from a seed so that they are the same each time.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use wire::CpuHistogram;

const MIB: f64 = 1024.0 * 1024.0;
/// The number of points in a run's series.
const POINTS: usize = 120;

/// A job and the shape of its runs.
#[derive(Debug, Clone, Copy)]
pub struct Job {
    /// Organization, repository, workflow, job.
    pub names: [&'static str; 4],
    /// The number of runs.
    pub runs: u32,
    /// The duration of a run, in seconds.
    pub seconds: f64,
    /// Its containers.
    pub containers: &'static [Container],
}

/// A container and its usage.
#[derive(Debug, Clone, Copy)]
pub struct Container {
    /// Its name.
    pub name: &'static str,
    /// Cores in use when it is busy.
    pub cores: f64,
    /// Peak memory in MiB.
    pub memory: f64,
    /// The growth from each run to the next, as a share.
    pub growth: f64,
    /// Requested and limited cores.
    pub cpu: (Option<f64>, Option<f64>),
    /// Requested and limited MiB.
    pub memory_asked: (Option<f64>, Option<f64>),
    /// The names of its processes.
    pub commands: &'static [&'static str],
}

const RUNNER: Container = Container {
    name: "runner",
    cores: 1.6,
    memory: 1500.0,
    growth: 0.0,
    cpu: (Some(4.0), None),
    memory_asked: (Some(8192.0), Some(8192.0)),
    commands: &["rustc", "cc1", "rust-lld", "cargo", "as", "git", "sh"],
};

const DATABASE: Container = Container {
    name: "postgres",
    cores: 0.3,
    memory: 220.0,
    growth: 0.0,
    cpu: (Some(1.0), Some(2.0)),
    memory_asked: (Some(1024.0), Some(2048.0)),
    commands: &["postgres"],
};

/// Jobs that are wasteful, endangered, growing, or well set.
pub const COMPANY: &[Job] = &[
    Job { names: ["harbour", "shop", "ci.yml", "build"], runs: 28, seconds: 412.0, containers: &[RUNNER] },
    Job {
        names: ["harbour", "shop", "ci.yml", "integration"],
        runs: 24,
        seconds: 655.0,
        containers: &[
            Container { cores: 2.4, memory: 2900.0, commands: &["node", "chromium", "java", "sh"], ..RUNNER },
            DATABASE,
        ],
    },
    Job {
        names: ["harbour", "shop", "ci.yml", "lint"],
        runs: 30,
        seconds: 48.0,
        containers: &[Container {
            cores: 0.9,
            memory: 430.0,
            cpu: (Some(1.0), None),
            memory_asked: (Some(512.0), Some(512.0)),
            commands: &["eslint", "node", "tsc"],
            ..RUNNER
        }],
    },
    Job {
        names: ["harbour", "billing", "ci.yml", "test"],
        runs: 22,
        seconds: 301.0,
        containers: &[Container {
            cores: 1.9,
            memory: 1190.0,
            growth: 0.012,
            cpu: (Some(2.0), Some(2.0)),
            memory_asked: (Some(1400.0), Some(1400.0)),
            commands: &["java", "gradle", "javac"],
            ..RUNNER
        }],
    },
    Job {
        names: ["harbour", "billing", "nightly.yml", "load-test"],
        runs: 12,
        seconds: 1810.0,
        containers: &[
            Container {
                name: "runner",
                cores: 5.6,
                memory: 5100.0,
                cpu: (Some(16.0), None),
                memory_asked: (Some(32_768.0), Some(32_768.0)),
                commands: &["k6", "node", "sh"],
                ..RUNNER
            },
            DATABASE,
        ],
    },
    Job {
        names: ["harbour", "app", "release.yml", "package"],
        runs: 9,
        seconds: 233.0,
        containers: &[Container {
            cores: 0.45,
            memory: 610.0,
            cpu: (Some(2.0), Some(4.0)),
            memory_asked: (Some(4096.0), Some(4096.0)),
            commands: &["gzip", "tar", "docker", "sh"],
            ..RUNNER
        }],
    },
    Job {
        names: ["harbour", "app", "ci.yml", "unit"],
        runs: 2,
        seconds: 95.0,
        containers: &[Container {
            cores: 1.2,
            memory: 700.0,
            cpu: (None, None),
            memory_asked: (None, None),
            ..RUNNER
        }],
    },
    Job {
        names: ["lighthouse", "docs", "site.yml", "publish"],
        runs: 18,
        seconds: 71.0,
        containers: &[Container {
            cores: 0.7,
            memory: 310.0,
            cpu: (Some(0.75), None),
            memory_asked: (Some(384.0), Some(512.0)),
            commands: &["hugo", "node", "git"],
            ..RUNNER
        }],
    },
];

/// Numbers that look random and are the same each time.
struct Chance(u64);

impl Chance {
    /// A number between 0 and 1.
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f64 / (1u64 << 24) as f64
    }

    fn around(&mut self, spread: f64) -> f64 {
        1.0 + spread * (self.next() - 0.5)
    }
}

impl Job {
    /// The collector's push at the end of run `number`, counted from 0. The last run ended an hour ago.
    pub fn submission(&self, number: u32) -> Value {
        let seed = self
            .names
            .iter()
            .flat_map(|name| name.bytes())
            .fold(7u64, |sum, byte| sum * 31 % 65_521 + u64::from(byte));
        let mut chance = Chance(seed * 1000 + u64::from(number));
        let before = SignedDuration::from_hours(1 + 5 * i64::from(self.runs - 1 - number));
        let end = Timestamp::now() - before;
        let seconds = (self.seconds * chance.around(0.2)).round();
        let start = end - SignedDuration::from_secs(seconds as i64);
        let containers: Vec<_> =
            self.containers.iter().map(|container| container.usage(seconds, number, &mut chance)).collect();
        let total: f64 = containers.iter().filter_map(|container| container["cpu_seconds"].as_f64()).sum();
        let commands = self.containers.iter().zip(&containers).flat_map(|(container, usage)| {
            let all = usage["cpu_seconds"].as_f64().unwrap_or_default();
            container.commands.iter().enumerate().map(move |(at, name)| {
                let cpu = all * 0.6 / 2f64.powi(at as i32);
                json!({"name": name, "container": container.name, "process_count": 3 + 17 * at,
                    "cpu_seconds": (cpu * 100.0).round() / 100.0,
                    "peak_mem_bytes": (container.memory * MIB * 0.5 / (at + 1) as f64) as u64})
            })
        });
        let commands: Vec<_> = commands.collect();
        let processes: Vec<_> = commands
            .iter()
            .take(6)
            .enumerate()
            .map(|(at, command)| {
                json!({"pid": 4200 + 37 * at, "name": command["name"], "container": command["container"],
                    "peak_cpu_percent": 100.0, "avg_cpu_percent": 81.0 / (at + 1) as f64,
                    "cpu_seconds": command["cpu_seconds"]})
            })
            .collect();
        let largest: Vec<_> = commands
            .iter()
            .take(6)
            .enumerate()
            .map(|(at, command)| {
                json!({"pid": 4300 + 41 * at, "name": command["name"], "container": command["container"],
                    "peak_mem_bytes": command["peak_mem_bytes"]})
            })
            .collect();
        let [organization, repository, workflow, job] = self.names;
        let run_id = (7_300_000 + u64::from(number) * 37).to_string();
        json!({
            "organization": organization, "repository": repository, "workflow": workflow, "job": job,
            "run_id": run_id, "run_attempt": 1, "summary_id": format!("{}-{run_id}", self.names.join("-")), "seq": 1,
            "final": true,
            "payload": {
                "schema_version": 1, "start_time": start.to_string(), "end_time": end.to_string(),
                "duration_seconds": seconds, "sample_count": (seconds / 2.0) as u64,
                "containers": containers,
                "top_cpu_processes": processes, "top_mem_processes": largest, "top_commands": commands,
                "collector": {"version": env!("CARGO_PKG_VERSION"), "mode": "sidecar", "source": "ebpf",
                    "interval_seconds": 2.0, "cpu_count": 16, "memory_total_bytes": 67_430_000_000u64, "kernel": "6.12.95"},
                "attribution": {"cpu_seconds": total, "exited_cpu_seconds": total * 0.31,
                    "unattributed_cpu_seconds": total * 0.0002, "process_count": 1840 + number,
                    "missed_samples": 0, "lost_records": 0, "collector_cpu_seconds": seconds * 0.004},
                "quantile_method": "exact", "complete": true
            }
        })
    }
}

impl Container {
    fn usage(&self, seconds: f64, number: u32, chance: &mut Chance) -> Value {
        let grown = (1.0 + self.growth).powi(number as i32);
        let (busy, peak) =
            (self.cores * grown * chance.around(0.15), self.memory * MIB * grown * chance.around(0.12));
        let (cpu_request, cpu_limit) = self.cpu;
        let (request, limit) = self.memory_asked;
        let limit_bytes = limit.map(|limit| limit * MIB);
        let killed = limit_bytes.is_some_and(|limit| peak > limit);
        let step = seconds / POINTS as f64;
        let mut throttled = 0.0;
        let mut cpu = Vec::with_capacity(POINTS);
        let mut memory = Vec::with_capacity(POINTS);
        let mut histogram = CpuHistogram::default();
        for at in 0..POINTS {
            let part = at as f64 / POINTS as f64;
            // Fetching, two waves of work, and cleaning up.
            let wave = match part {
                ..0.12 => 0.18,
                0.12..0.55 => 0.95,
                0.55..0.62 => 0.35,
                0.62..0.9 => 0.8,
                _ => 0.25,
            };
            let wanted = busy * wave * chance.around(0.35);
            let cores = cpu_limit.map_or(wanted, |limit| wanted.min(limit));
            throttled += if cores < wanted { step } else { 0.0 };
            let used = peak * (0.25 + 0.75 * (part * 1.25).min(1.0).powf(0.7)) * chance.around(0.04).min(1.0);
            cpu.push((cores * 1000.0).round() / 1000.0);
            memory.push(limit_bytes.map_or(used, |limit| used.min(limit)).round());
            histogram.add(cores, step);
        }
        let total: f64 = cpu.iter().map(|cores| cores * step).sum();
        let periods = (seconds * 10.0) as u64;
        let mut usage = json!({
            "name": self.name, "runtime": "containerd", "id": id(self.name, number),
            "cpu_cores": stats(&cpu), "memory_bytes": stats(&memory), "working_set_bytes": stats(&memory),
            "cpu_seconds": total, "cgroup_cpu_seconds": total * 1.0003, "process_count": 940,
            "cpu_throttled_seconds": throttled * 0.3, "cpu_periods": periods,
            "cpu_throttled_periods": (throttled / seconds * periods as f64) as u64,
            "oom_kills": u64::from(killed), "memory_peak_bytes": (peak * 1.08) as u64,
            "cpu_cores_histogram": histogram.rounded(),
            "series": {"step_seconds": step, "cpu_cores": cpu, "memory_bytes": memory.iter().map(|bytes| *bytes as u64).collect::<Vec<_>>()}
        });
        for (field, value) in [
            ("cpu_request_cores", cpu_request.map(Value::from)),
            ("cpu_limit_cores", cpu_limit.map(Value::from)),
            ("memory_request_bytes", request.map(|mib| Value::from((mib * MIB) as u64))),
            ("memory_limit_bytes", limit.map(|mib| Value::from((mib * MIB) as u64))),
        ] {
            if let Some(value) = value {
                usage[field] = value;
            }
        }
        usage
    }
}

/// 64 hexadecimal digits, like a container runtime's id.
fn id(name: &str, number: u32) -> String {
    let mix = |sum: u64, byte| sum.wrapping_mul(257).wrapping_add(u64::from(byte));
    let mut chance = Chance(name.bytes().fold(u64::from(number) + 1, mix));
    (0..8).map(|_| format!("{:08x}", (chance.next() * f64::from(u32::MAX)) as u32)).collect()
}

fn stats(values: &[f64]) -> Value {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = |percent: f64| sorted[((percent / 100.0 * sorted.len() as f64).ceil() as usize).max(1) - 1];
    json!({"peak": rank(100.0), "p99": rank(99.0), "p95": rank(95.0), "p75": rank(75.0), "p50": rank(50.0),
        "avg": values.iter().sum::<f64>() / values.len() as f64})
}
