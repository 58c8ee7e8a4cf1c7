//! The cost of following a node: 200 pods with 10,000 processes, and processes that end in them.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tests::cgroup::{Cgroup, Driver, pod_uid};

use super::clock::cpu_time;
use crate::build::{self, Programs};
use crate::programs::Running;

/// The promised cost of 10,000 processes with a pass every 2 s.
const PERCENT_OF_A_CORE: f64 = 5.0;
/// The largest allowed growth of the cost with four times as many processes.
const LINEAR: f64 = 4.8;
const PROCESSES_PER_POD: usize = 50;
/// Processes that end per second.
const EXITS_PER_SECOND: u32 = 500;
/// Passes before the measurement, in which the collector first sees every process.
const WARM_UP_PASSES: u32 = 4;

/// A pod whose processes sleep until this is dropped.
struct Pod {
    child: Child,
    cgroup: Cgroup,
}

impl Pod {
    fn start(programs: &Programs, number: usize) -> Result<Self> {
        let driver = if number.is_multiple_of(2) { Driver::Cgroupfs } else { Driver::Systemd };
        let cgroup = Cgroup::in_pod(driver, &pod_uid()?)?;
        let mut command = Command::new("sh");
        command.args(["-c", "echo $$ > \"$0/cgroup.procs\" && exec \"$@\""]).arg(cgroup.path());
        command.arg(&programs.workload).args(["idle", &(PROCESSES_PER_POD - 1).to_string(), "4096"]);
        command.envs(environment(number)).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let mut ready = [0; 6];
        child.stdout.as_mut().context("no output")?.read_exact(&mut ready)?;
        Ok(Self { child, cgroup })
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
        let _ = self.cgroup.wait_until_empty();
    }
}

fn environment(number: usize) -> [(&'static str, String); 5] {
    [
        ("GITHUB_REPOSITORY_OWNER", "my-org".to_owned()),
        ("GITHUB_REPOSITORY", "my-org/my-repo".to_owned()),
        ("GITHUB_WORKFLOW", "ci.yml".to_owned()),
        ("GITHUB_JOB", "bench".to_owned()),
        ("GITHUB_RUN_ID", number.to_string()),
    ]
}

pub(crate) fn run(seconds: u64, pods: usize) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("the pods are cgroups, and creating them needs root");
    }
    if pods < 8 || seconds < 4 {
        bail!("--pods is {pods} and --seconds is {seconds}; at least 8 and 4 are needed");
    }
    let programs = build::programs(true, build::Object::Required)?;
    let mut missed = Vec::new();
    let mut judge = |what: String, figure: f64, bound: f64, unit: &str| {
        let met = figure <= bound;
        println!(
            "{what:<62} {figure:>7.2} {unit} wanted at most {bound}{}",
            if met { "" } else { "  MISSED" }
        );
        if !met {
            missed.push(what);
        }
    };
    let mut running: Vec<Pod> = Vec::new();
    let mut costs: Vec<(usize, &str, f64)> = Vec::new();
    for count in [pods / 4, pods] {
        while running.len() < count {
            running.push(Pod::start(&programs, running.len())?);
        }
        for ebpf in ["off", "require"] {
            let processes = count * PROCESSES_PER_POD;
            let (cost, memory) = cost(&programs, ebpf, seconds, &running)?;
            println!(
                "{count} pods, {processes} processes, {EXITS_PER_SECOND} exits/s, --ebpf={ebpf}: {cost:.2} % of a core, {:.0} MiB",
                memory as f64 / f64::from(1 << 20)
            );
            costs.push((count, ebpf, cost));
        }
    }
    for (at, (count, ebpf, cost)) in costs.iter().enumerate().skip(2) {
        judge(
            format!("{count} pods, --ebpf={ebpf}: of a core, a pass every 2 s"),
            *cost,
            PERCENT_OF_A_CORE,
            "%",
        );
        judge(
            format!("{count} pods, --ebpf={ebpf}: to a quarter of them"),
            cost / costs[at - 2].2,
            LINEAR,
            "x",
        );
    }
    if !missed.is_empty() {
        bail!("missed: {}", missed.join("; "));
    }
    Ok(())
}

/// CPU time in percent of a core while processes end in one of the pods, and the RSS at the end in bytes.
fn cost(programs: &Programs, ebpf: &str, seconds: u64, pods: &[Pod]) -> Result<(f64, u64)> {
    let spool = tempfile::tempdir()?;
    let mut command = Command::new(&programs.collector);
    command.args(["node", "--interval=2s", "--log-format=json", "--log-level=debug", "--output=none"]);
    command.args(["--metrics-addr=none", &format!("--ebpf={ebpf}")]).arg("--spool-dir").arg(spool.path());
    let collector = Running::start(&mut command)?;
    for _ in 0..WARM_UP_PASSES {
        collector.wait_for("pass")?;
    }
    let pod = pods.first().context("no pod")?;
    let mut exits = Command::new("sh");
    exits.args(["-c", "echo $$ > \"$0/cgroup.procs\" && exec \"$@\""]).arg(pod.cgroup.path());
    exits.arg(&programs.workload).args(["exits", &EXITS_PER_SECOND.to_string(), &(seconds + 2).to_string()]);
    let mut exits = exits.spawn()?;
    sleep(Duration::from_secs(1));
    let before = cpu_time(collector.pid())?;
    sleep(Duration::from_secs(seconds));
    let used = cpu_time(collector.pid())?.saturating_sub(before);
    let memory = resident_bytes(collector.pid())?;
    exits.wait()?;
    collector.stop()?;
    Ok((100.0 * used.as_secs_f64() / seconds as f64, memory))
}

fn resident_bytes(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib << 10)
}
