//! The ways in which a collector measures a job, each with a receiver of its own.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;
use serde_json::{Value, json};
use tests::cgroup::{Cgroup, Driver, PodLimits, has_v1, mount, pod_uid};
use tests::jail::Jail;
use tests::privileges::open_to_all;

use super::workloads::{Scratch, Workload, Workshop};
use crate::build;
use crate::programs::{Receiver, Running};

/// The organization of the job.
const ORGANIZATION: &str = "bench-memory";
/// The name of the job's container.
const CONTAINER: &str = "build";
/// The name of the shell that runs the job. No other process has it.
const SHELL: &str = "dash";
/// The summaries arrive within this time after the pod's end.
const DELIVERY: Duration = Duration::from_secs(30);

/// How a job is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// `collector run`, in the job's container.
    Run,
    /// A sidecar of the job's user, which reads the kernel's account through the job's processes.
    Sidecar,
    /// A sidecar of another user, which may not read the account.
    OtherUser,
    /// The node's collector, with the eBPF program.
    NodeEbpf,
    /// The node's collector, without the eBPF program.
    Node,
}

impl Mode {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Sidecar => "sidecar",
            Self::OtherUser => "other-user",
            Self::NodeEbpf => "node-ebpf",
            Self::Node => "node",
        }
    }

    /// Whether the collector reads the kernel's account or has the eBPF program.
    pub(super) fn is_told(self) -> bool {
        matches!(self, Self::Sidecar | Self::NodeEbpf | Self::Node)
    }

    fn is_node(self) -> bool {
        matches!(self, Self::NodeEbpf | Self::Node)
    }

    fn container(self) -> &'static str {
        if self == Self::Run { "run" } else { CONTAINER }
    }
}

/// The receiver's recommendation after some runs.
#[derive(Debug, Clone)]
pub(super) struct Advice {
    pub(super) runs: usize,
    /// Memory to request, in bytes.
    pub(super) bytes: Option<u64>,
    /// The highest figure of the runs, in bytes, and the name of that figure.
    pub(super) used_bytes: Option<u64>,
    pub(super) figure: String,
    /// The certainty of the last run's figure.
    pub(super) certainty: String,
}

/// A receiver for a mode, and the token for it.
struct Target {
    mode: Mode,
    receiver: Receiver,
    token: String,
    node: Option<Running>,
}

/// The receivers and collectors of all modes.
pub(super) struct Observers {
    targets: Vec<Target>,
    collector: PathBuf,
    directory: PathBuf,
    runs: u64,
}

impl Observers {
    pub(super) fn start(built: &build::Programs, modes: &[Mode], directory: &Path) -> Result<Self> {
        // Other users run this copy, so they must be able to reach it.
        open_to_all(directory, 0o755)?;
        let collector = directory.join("collector");
        std::fs::copy(&built.collector, &collector)?;
        open_to_all(&collector, 0o755)?;
        let mut targets = Vec::new();
        for mode in modes {
            let receiver = Receiver::start(&built.receiver, &directory.join(format!("{}.db", mode.name())))?;
            let token = receiver.push_token(&json!({ "organization": ORGANIZATION }))?;
            let mut target = Target { mode: *mode, receiver, token, node: None };
            if mode.is_node() {
                target.node = Some(target.start_node(&collector, directory)?);
            }
            targets.push(target);
        }
        Ok(Self { targets, collector, directory: directory.to_owned(), runs: 0 })
    }

    /// Runs a workload once more, measured in each mode.
    pub(super) fn measure(&mut self, programs: &Workshop, workload: &Workload) -> Result<()> {
        self.runs += 1;
        let run = self.runs.to_string();
        let before: Vec<_> =
            self.targets.iter().map(|target| target.finals(workload)).collect::<Result<_>>()?;
        if let Some(target) = self.targets.iter().find(|target| target.mode == Mode::Run) {
            let scratch = Scratch::new(&self.directory)?;
            let mut command = Command::new("sh");
            scratch.give(programs, &mut command);
            self.in_front(target, workload, &run, &mut command)?;
        }
        if self.targets.iter().any(|target| target.mode != Mode::Run) {
            let scratch = Scratch::new(&self.directory)?;
            let mut command = Command::new("unshare");
            scratch.give(programs, &mut command);
            self.pod(workload, &run, &mut command)?;
        }
        // A mode that saw nothing of the job has no run of it. All modes share one deadline.
        let end = Instant::now() + DELIVERY;
        for (target, before) in self.targets.iter().zip(before) {
            while target.finals(workload)? == before {
                if Instant::now() > end {
                    eprintln!("{}, {}: no summary came", workload.name, target.mode.name());
                    break;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        Ok(())
    }

    /// Each receiver's recommendation for the workload.
    pub(super) fn advice(&self, workload: &Workload) -> Result<Vec<(Mode, Advice)>> {
        self.targets.iter().map(|target| Ok((target.mode, target.advice(workload)?))).collect()
    }

    /// Runs a workload under `collector run`, in a container of its own.
    fn in_front(&self, target: &Target, workload: &Workload, run: &str, command: &mut Command) -> Result<()> {
        let jail = Jail::new(None)?;
        let enter = |path: &Path| format!("echo $$ > {}/cgroup.procs\n", path.display());
        let enter: String = jail.directories().iter().map(|path| enter(path)).collect();
        let options = target.options().join(" ");
        let collector = self.collector.display();
        command.args(["-ec", &format!("{enter}exec {collector} run {options} -- {SHELL} -ec \"$0\"")]);
        command.arg(workload.script).envs(identity(workload, run)).env("COLLECTOR_PUSH_TOKEN", &target.token);
        let ended = command.stdout(Stdio::null()).stderr(Stdio::piped()).output()?;
        jail.kill()?;
        let log = String::from_utf8_lossy(&ended.stderr);
        ensure!(ended.status.success(), "{}, run: {}\n{log}", workload.name, ended.status);
        Ok(())
    }

    /// Runs a workload in a pod with the sidecars. The node's collectors are running already.
    fn pod(&self, workload: &Workload, run: &str, command: &mut Command) -> Result<()> {
        let uid = pod_uid()?;
        let [job, own] =
            [(); 2].map(|()| Cgroup::limited_in_pod(Driver::Cgroupfs, &uid, PodLimits::default()));
        let (job, own) = (job?, own?);
        let identity: String =
            identity(workload, run).iter().map(|(name, value)| format!("{name}={value} ")).collect();
        let mut script = String::from("pids=\n");
        for target in &self.targets {
            let user = match target.mode {
                Mode::Sidecar => "",
                Mode::OtherUser => {
                    "setpriv --reuid 65534 --regid 65534 --clear-groups --bounding-set=-all --inh-caps=-all"
                }
                _ => continue,
            };
            let (token, collector) = (&target.token, self.collector.display());
            let log = self.directory.join(format!("{}.log", target.mode.name()));
            let log = log.display();
            let options = target.options().join(" ");
            let _ = write!(
                script,
                "rm -f {log}; unshare --mount sh -ec '{}umount --lazy --recursive /sys/fs/cgroup
                 exec env {identity} COLLECTOR_SPOOL_DIR=none COLLECTOR_PUSH_TOKEN={token} {user} {collector} {options}' 2> {log} &
                 pids=\"$pids $!\"\nuntil grep --quiet measuring {log}; do sleep 0.05; done\n",
                enter(&own, Path::new(""))
            );
        }
        let host = self.directory.join("cgroups");
        std::fs::create_dir_all(&host)?;
        let _ = write!(
            script,
            "unshare --mount sh -ec 'mount --rbind /sys/fs/cgroup {host}\n{}{}exec env {identity} {SHELL} -ec \"$0\"' \"$0\"\n\
             status=$?; [ -z \"$pids\" ] || {{ kill -TERM $pids; wait $pids; }}; exit $status",
            mounts(&job, &host)?,
            enter(&job, &host),
            host = host.display(),
        );
        command.args(["--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "sh", "-c", &script]);
        command.envs([process_map()]);
        let ended = command.arg(workload.script).stdout(Stdio::null()).stderr(Stdio::piped()).output()?;
        let log = String::from_utf8_lossy(&ended.stderr);
        ensure!(ended.status.success(), "{}, in a pod: {}\n{log}", workload.name, ended.status);
        job.wait_until_empty()?;
        own.wait_until_empty()?;
        Ok(())
    }

    pub(super) fn stop(self) -> Result<()> {
        for target in self.targets {
            if let Some(node) = target.node {
                node.stop()?;
            }
            target.receiver.stop()?;
        }
        Ok(())
    }
}

impl Target {
    fn options(&self) -> Vec<String> {
        let endpoint = format!("--push-endpoint={}/api/v1/metrics", self.receiver.base);
        let ebpf = if self.mode == Mode::NodeEbpf { "require" } else { "off" };
        let mut options = vec![endpoint, format!("--ebpf={ebpf}"), "--output=none".to_owned()];
        options.push("--push-interval=0".to_owned());
        options
    }

    fn start_node(&self, collector: &Path, directory: &Path) -> Result<Running> {
        let at = directory.join(self.mode.name());
        let mut command = Command::new("sh");
        let options = self.options().join(" ");
        let (collector, at) = (collector.display(), at.display());
        command.args(["-c", &format!(
            "exec {collector} node {options} --log-format=json --metrics-addr=none --spool-dir={at}/spool --pod-logs-path={at}/logs"
        )]);
        command.env("COLLECTOR_PUSH_TOKEN", &self.token).envs([process_map()]);
        let running = Running::start(&mut command)?;
        running.wait_for("measuring")?;
        Ok(running)
    }

    /// How many complete runs of a workload the receiver has.
    fn finals(&self, workload: &Workload) -> Result<usize> {
        let runs = self.receiver.runs(&path(workload))?;
        let is_over = |run: &&wire::StoredRun| {
            !run.sources.is_empty() && run.sources.iter().all(|source| source.is_final)
        };
        Ok(runs.iter().filter(is_over).count())
    }

    fn advice(&self, workload: &Workload) -> Result<Advice> {
        let runs = self.receiver.runs(&path(workload))?;
        let of_job = runs
            .first()
            .and_then(|run| run.payload.containers.iter().find(|usage| usage.name == self.mode.container()));
        let certainty =
            of_job.and_then(|usage| usage.memory_certainty).map(serde_json::to_value).transpose()?;
        let url = format!("{}/api/v1/sizing/repo/{}", self.receiver.base, path(workload));
        let request = ureq::get(url).header("Authorization", &format!("Bearer {}", self.receiver.read_token));
        let sizing: Value = match request.call() {
            Ok(mut answer) => answer.body_mut().read_json()?,
            Err(ureq::Error::StatusCode(404)) => Value::Null,
            Err(error) => bail!("sizing of {}: {error}", workload.name),
        };
        let containers = sizing["containers"].as_array().cloned().unwrap_or_default();
        let advice = containers.iter().find(|one| one["name"] == self.mode.container());
        let advice = advice.cloned().unwrap_or_default();
        Ok(Advice {
            runs: runs.len(),
            bytes: advice["memory"]["request_bytes"].as_u64(),
            used_bytes: advice["memory"]["used_bytes"].as_u64(),
            figure: advice["basis"]["memory_figure"].as_str().unwrap_or("none").to_owned(),
            certainty: certainty.as_ref().and_then(Value::as_str).unwrap_or("none").to_owned(),
        })
    }
}

fn path(workload: &Workload) -> String {
    format!("{ORGANIZATION}/memory/bench.yml/{}", workload.name)
}

/// Maps the job's shell to the name of its container.
fn process_map() -> (&'static str, String) {
    ("CGROUP_PROCESS_MAP", json!({ SHELL: CONTAINER }).to_string())
}

/// The variables that a CI system sets.
fn identity(workload: &Workload, run: &str) -> [(&'static str, String); 5] {
    [
        ("GITHUB_REPOSITORY_OWNER", ORGANIZATION.to_owned()),
        ("GITHUB_REPOSITORY", format!("{ORGANIZATION}/memory")),
        ("GITHUB_WORKFLOW", "bench.yml".to_owned()),
        ("GITHUB_JOB", workload.name.to_owned()),
        ("GITHUB_RUN_ID", run.to_owned()),
    ]
}

/// A shell script that enters a container's cgroups, through `/sys/fs/cgroup` or through `host`, where that was mounted.
fn enter(cgroup: &Cgroup, host: &Path) -> String {
    let seen = |path: &Path| {
        let below = path.strip_prefix("/sys/fs/cgroup").unwrap_or(path);
        if host.as_os_str().is_empty() { path.to_owned() } else { host.join(below) }
    };
    cgroup.directories().map(|path| format!("echo 0 > {}/cgroup.procs\n", seen(path).display())).collect()
}

/// A shell script that mounts a container's own cgroup of each hierarchy, as a runtime does.
fn mounts(cgroup: &Cgroup, host: &Path) -> Result<String> {
    let root = if has_v1() { mount("cgroup", "cpuacct")? } else { mount("cgroup2", "")? };
    let below = cgroup.path().strip_prefix(&root).context("a cgroup outside of its hierarchy")?;
    let mut script = "mount -t tmpfs none /sys/fs/cgroup\n".to_owned();
    for name in if has_v1() { &["memory", "cpuacct", "cpu"][..] } else { &["."] } {
        let from = host.join(name).join(below);
        let _ = writeln!(
            script,
            "mkdir -p /sys/fs/cgroup/{name}; mount --bind {} /sys/fs/cgroup/{name}",
            from.display()
        );
    }
    Ok(script)
}
