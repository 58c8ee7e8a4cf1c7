//! The jobs of a node on the real kernel, as root: pods are cgroups laid out as by a kubelet, and jobs are processes in them
//! with a CI system's environment.

mod jobs;
mod life;
mod limits;
mod metrics;
mod pods;
mod restarts;
mod sandboxes;
mod shared;
mod sidecar;
mod whole;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::cgroup::{Cgroup, Driver, pod_uid};
use tests::program::{PATIENCE, Program, collector, workload};
use tests::receiver::{READ_TOKEN, Receiver};
use wire::Payload;

/// Without and with eBPF.
const EBPF: [&str; 2] = ["off", "require"];

/// A node's collector that pushes to its own receiver.
struct Node {
    program: Program,
    receiver: Receiver,
    directory: tempfile::TempDir,
}

impl Node {
    fn start(options: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let receiver = Receiver::start(&directory.path().join("metrics.db"));
        let program = Self::program(directory.path(), &receiver, options);
        Self { program, receiver, directory }
    }

    fn program(directory: &Path, receiver: &Receiver, options: &[&str]) -> Program {
        let mut command = command(directory, receiver);
        if !options.iter().any(|option| option.starts_with("--push-tokens-file")) {
            command.env("COLLECTOR_PUSH_TOKEN", receiver.token(&json!({"organization": "my-org"})));
        }
        let program = Program::start(command.args(options));
        program.wait_for("measuring");
        program
    }

    /// Waits until the receiver has the summaries of this many runs.
    fn wait_until_over(&self, count: usize) {
        for _ in 0..count {
            self.program.wait_for("the receiver has the summary");
        }
    }

    /// The receiver's runs of a job.
    fn runs(&self, job: &str) -> Vec<Value> {
        let path = format!("/api/v1/metrics/repo/my-org/my-repo/ci.yml/{job}");
        let answer = self.receiver.request("GET", &path, READ_TOKEN, "");
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json().as_array().unwrap().clone()
    }

    /// The only run of a job.
    #[track_caller]
    fn run(&self, job: &str) -> Payload {
        // The wait may have ended with another job of this machine.
        let end = Instant::now() + PATIENCE;
        let mut runs = self.runs(job);
        while runs.is_empty() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
            runs = self.runs(job);
        }
        assert_eq!(runs.len(), 1, "{job}: {runs:#?}");
        serde_json::from_value(runs[0]["payload"].clone()).unwrap()
    }
}

fn command(directory: &Path, receiver: &Receiver) -> Command {
    let mut command = collector();
    command.args(["node", "--interval=200ms", "--log-format=json", "--output=none", "--metrics-addr=none"]);
    command.args(["--push-interval=0", "--checkpoint-interval=300ms"]);
    command.arg(format!("--push-endpoint=http://{}/api/v1/metrics", receiver.address));
    command.arg("--spool-dir").arg(directory.join("spool"));
    command.arg("--pod-logs-path").arg(directory.join("log/pods"));
    command
}

/// A pod with one container.
struct Pod {
    uid: String,
    cgroup: Cgroup,
}

impl Pod {
    fn new(driver: Driver) -> Self {
        let uid = pod_uid().unwrap();
        let cgroup = Cgroup::in_pod(driver, &uid).unwrap();
        Self { uid, cgroup }
    }

    /// Starts a script in the pod, as a job of this name or as none; `$1` is the program with the workloads.
    fn start(&self, job: Option<(&str, &str)>, script: &str) -> Child {
        start_in(&self.cgroup, job, script)
    }

    /// The kernel's CPU time of the pod, once it is empty. The kubelet then removes it.
    fn end(self) -> f64 {
        self.cgroup.wait_until_empty().unwrap();
        self.cgroup.cpu_seconds().unwrap()
    }
}

fn start_in(cgroup: &Cgroup, job: Option<(&str, &str)>, script: &str) -> Child {
    let environment = job.map(|(job, run_id)| environment(job, run_id));
    start_with(cgroup, environment.as_ref().map_or(&[], |variables| variables), script)
}

/// Starts a script in a container with these variables.
fn start_with(cgroup: &Cgroup, environment: &[(&str, &str)], script: &str) -> Child {
    let mut command = Command::new("sh");
    let enter = |directory: &Path| format!("echo $$ > \"{}/cgroup.procs\" && ", directory.display());
    let enter: String = cgroup.directories().map(enter).collect();
    command.args(["-c", &format!("{enter}{script}")]);
    command.arg(cgroup.path()).arg(workload()).stdin(Stdio::null());
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    command.envs(environment.iter().copied());
    command.spawn().unwrap()
}

/// The variables that a CI system sets.
fn environment<'a>(job: &'a str, run_id: &'a str) -> [(&'static str, &'a str); 6] {
    [
        ("GITHUB_REPOSITORY_OWNER", "my-org"),
        ("GITHUB_REPOSITORY", "my-org/my-repo"),
        ("GITHUB_WORKFLOW", "ci.yml"),
        ("GITHUB_JOB", job),
        ("GITHUB_RUN_ID", run_id),
        ("GITHUB_RUN_ATTEMPT", "1"),
    ]
}

/// The same as assignments before a command in a script.
fn assignments(job: &str, run_id: &str) -> String {
    environment(job, run_id).map(|(name, value)| format!("{name}={value} ")).concat()
}

/// The promised share of a job's CPU time: 99.5 % with eBPF, 98 % without. In addition one clock tick is allowed, or three
/// without eBPF and in an interval in which a record was lost.
#[track_caller]
fn assert_share(ebpf: &str, payload: &Payload, found: f64, truth: f64) {
    let lost = payload.attribution.as_ref().unwrap().lost_records;
    let share = if ebpf == "off" { 0.02 } else { 0.005 };
    let ticks = if ebpf == "off" || lost > 0 { 0.03 } else { 0.01 };
    let off = (found - truth).abs();
    assert!(off <= share * truth + ticks, "--ebpf={ebpf}: {found} s of {truth} s, {lost} records lost");
}

/// The sum of all attributed CPU time.
fn attributed(payload: &Payload) -> f64 {
    payload.containers.iter().filter_map(|usage| usage.cpu_seconds).sum()
}

/// Checks that the containers, the pod's overhead and the unattributed time add up to the total.
#[track_caller]
fn assert_sum(payload: &Payload) {
    let attribution = payload.attribution.as_ref().unwrap();
    let overhead = payload.pod_overhead.as_ref().map_or(0.0, |overhead| overhead.cpu_seconds);
    let sum = attributed(payload) + overhead + attribution.unattributed_cpu_seconds;
    assert!((sum - attribution.cpu_seconds).abs() < 1e-6, "{sum} of {}", attribution.cpu_seconds);
}
