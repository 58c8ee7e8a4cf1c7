//! `cargo xtask cluster`: a real Kubernetes cluster of one node on this machine, with the shipped programs deployed in it.
//!
//! The node has namespaces, a root and cgroups of its own. It shares the kernel with the rest of the machine and sees all of
//! the machine's processes.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use clap::Subcommand;

use crate::command::{checked, root, tools};
use crate::daemon::wait;
use crate::debian::{self, From};
use crate::dist::images as shipped;
use crate::setup::{self, For};

mod cache;
mod cgroups;
mod engine;
pub(crate) mod go;
mod images;
mod network;
mod node;
mod plane;
mod state;

use node::Node;
use plane::{Plane, kubectl};
use state::State;

/// The tag of all images, as the shipped manifests have it.
const TAG: &str = env!("CARGO_PKG_VERSION");
/// The image of a pod's sandbox.
const PAUSE: &str = "runner-resource-collector/pause";
/// The image that jobs run in.
const BUILD: &str = "runner-resource-collector/build";
/// Packages that are unpacked and not installed, because installing them may start their services.
const PACKAGES: [&str; 2] = ["etcd-server", "containernetworking-plugins"];
/// The shipped workloads, by namespace.
const DEPLOYED: [(&str, &str); 2] = [
    ("runner-resource-collector", "statefulset/receiver"),
    ("runner-resource-collector-node", "daemonset/collector"),
];
/// The read token of the overlay `try`.
const READ_TOKEN: &str = "dummyreadtoken";

/// Actions on the cluster.
#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// Build whatever is missing, bring the cluster up and deploy the shipped programs.
    Up {
        /// Build the programs with optimisations, as they are shipped.
        #[arg(long)]
        release: bool,
    },
    /// End the cluster, even after a crash, and leave nothing behind but the built programs.
    Down,
    /// Report what runs and where.
    Status,
    /// Stop a daemon of the node and start it again.
    Restart {
        /// Only the kubelet can be restarted.
        #[arg(value_parser = ["kubelet"])]
        daemon: String,
    },
}

pub(crate) fn run(action: &Action) -> Result<()> {
    match action {
        Action::Up { release } => up(*release),
        Action::Down => down(),
        Action::Status => status(),
        Action::Restart { daemon } => restart(daemon),
    }
}

/// Brings the cluster up. The remains of a dead one are removed first.
pub(crate) fn up(release: bool) -> Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "a cluster needs root");
    let began = Instant::now();
    if let Some(state) = State::read()? {
        let node = Node::of(state)?;
        if node.state.up && node.is_alive() {
            bail!(
                "a cluster is up: `cargo xtask cluster status` shows it, `cargo xtask cluster down` ends it"
            );
        }
        eprintln!("removing the remains of a cluster that is not up");
        node.remove()?;
    }
    let programs = go::programs()?;
    setup::ensure(For::Cluster)?;
    let packages = debian::unpack("cluster", From::Processor(shipped_arch()?), &PACKAGES)?;
    shipped::prepare(release)?;
    eprintln!("built after {} s", began.elapsed().as_secs());
    let mut node = Node::make()?;
    if let Err(error) = start(&mut node, &programs, &packages) {
        eprintln!("the cluster did not come up; `cargo xtask cluster down` removes it. Logs: {}", logs());
        return Err(error);
    }
    node.state.up = true;
    node.state.write()?;
    eprintln!("up after {} s", began.elapsed().as_secs());
    status()
}

fn start(node: &mut Node, programs: &go::KubernetesPrograms, packages: &std::path::Path) -> Result<()> {
    engine::start(node)?;
    let mut plane = Plane::new(node, programs, packages);
    plane.start_control()?;
    plane.start_containerd()?;
    images::provide(node)?;
    Plane::new(node, programs, packages).start_node()?;
    deploy(node, programs)
}

/// Deploys the shipped manifests, unchanged.
fn deploy(node: &Node, programs: &go::KubernetesPrograms) -> Result<()> {
    checked(node.inside("mkdir").args(["-p", "/volumes/receiver"]))?;
    let volume = Node::run().join("volume.ext4");
    fs::File::create(&volume)?.set_len(256 << 20)?;
    checked(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&volume))?;
    checked(node.inside("mount").args(["-o", "loop"]).arg(&volume).arg("/volumes/receiver"))?;
    let apply = |what: &str, path: &str| {
        checked(kubectl(programs).args(["apply", what]).arg(root().join(path)).stdout(Stdio::null()))
    };
    apply("-f", "tests/cluster/volume.yaml")?;
    apply("-k", "deploy/kubernetes/overlays/try")?;
    for (namespace, what) in DEPLOYED {
        checked(kubectl(programs).args([
            "--namespace",
            namespace,
            "rollout",
            "status",
            what,
            "--timeout=120s",
        ]))?;
    }
    Ok(())
}

/// Ends the cluster.
pub(crate) fn down() -> Result<()> {
    let Some(state) = State::read()? else {
        println!("There is no cluster.");
        return Ok(());
    };
    Node::of(state)?.remove()?;
    println!("The cluster is removed; the programs built for it are in {}.", cache::directory()?.display());
    Ok(())
}

fn status() -> Result<()> {
    let Some(state) = State::read()? else {
        println!("There is no cluster; `cargo xtask cluster up` makes one.");
        return Ok(());
    };
    let node = Node::of(state)?;
    println!("{:<20} {}", "node", if node.is_alive() { "up" } else { "gone" });
    for (name, pid) in &node.state.daemons {
        let state = if node.has(*pid) { format!("running, PID {pid}") } else { "ended".to_owned() };
        println!("{name:<20} {state}");
    }
    if !(node.state.up && node.is_alive()) {
        println!("It is not up: `cargo xtask cluster down` removes its remains. Logs: {}", logs());
        return Ok(());
    }
    let programs = go::programs()?;
    checked(kubectl(&programs).args(["get", "pods", "--all-namespaces", "--output=wide"]))?;
    println!();
    println!("export KUBECONFIG={}", plane::kubeconfig("admin").display());
    println!("export DOCKER_HOST={}", engine::client().host());
    println!("{:<20} {}", "kubectl", programs.kubernetes("kubectl").display());
    println!("{:<20} http://{}:8080 (token {READ_TOKEN})", "the page", receiver_address(&programs)?);
    println!("{:<20} {}", "logs", logs());
    Ok(())
}

/// The receiver's address, which this machine has a route to.
fn receiver_address(programs: &go::KubernetesPrograms) -> Result<String> {
    let output = kubectl(programs)
        .args(["--namespace=runner-resource-collector", "get", "service", "receiver"])
        .arg("--output=jsonpath={.spec.clusterIP}")
        .output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

fn restart(daemon: &str) -> Result<()> {
    use rustix::process::{Pid, Signal, kill_process};
    let state = State::read()?.context("there is no cluster")?;
    let mut node = Node::of(state)?;
    let pid = node.state.daemons.get(daemon).copied().filter(|pid| node.has(*pid));
    if let Some(pid) = pid {
        let process = Pid::from_raw(pid.cast_signed()).context("no PID")?;
        kill_process(process, Signal::TERM)?;
        wait("the end of the daemon", || Ok(!node.has(pid)))?;
    }
    let (programs, packages) = (go::programs()?, tools().join("cluster"));
    Plane::new(&mut node, &programs, &packages).start_kubelet()
}

/// Runs `what` in the running cluster. If there is none, brings one up for it and ends it afterwards.
pub(crate) fn with<T>(what: impl FnOnce() -> Result<T>) -> Result<T> {
    if let Some(state) = State::read()? {
        let node = Node::of(state)?;
        if node.state.up && node.is_alive() {
            eprintln!("a cluster is up: using it as it is, with the images that it has");
            return what();
        }
    }
    let result = up(false).and_then(|()| what());
    if result.is_err() {
        tell_logs();
    }
    down().and(result)
}

/// Prints the last log lines of the shipped programs, to explain a failure.
fn tell_logs() {
    let Ok(programs) = go::programs() else { return };
    for (namespace, what) in DEPLOYED {
        let mut logs = kubectl(&programs);
        logs.args(["--namespace", namespace, "logs", what, "--tail=60"]).stdout(std::io::stderr());
        let _ = logs.status();
    }
}

/// Sets the variables that the cluster's tests read.
pub(crate) fn tell(test: &mut Command) -> Result<&mut Command> {
    let state = State::read()?.context("there is no cluster")?;
    let programs = go::programs()?;
    test.env("KUBECONFIG", plane::kubeconfig("admin")).env("CLUSTER_KUBECTL", programs.kubernetes("kubectl"));
    test.env("CLUSTER_ACT", programs.act()).env("CLUSTER_CGROUP", state.cgroup());
    test.env("CLUSTER_RECEIVER", format!("http://{}:8080", receiver_address(&programs)?));
    test.env("CLUSTER_BUILD_IMAGE", images::build_image()?);
    // The program may have been rebuilt meanwhile, at the same path.
    let program = std::env::current_exe()?.to_string_lossy().trim_end_matches(" (deleted)").to_owned();
    test.env("CLUSTER_XTASK", program);
    test.env("CLUSTER_NODE", state.keeper.unwrap_or_default().to_string());
    engine::client().tell(test)?;
    Ok(test)
}

fn logs() -> String {
    Node::run().join("logs").display().to_string()
}

fn shipped_arch() -> Result<&'static str> {
    Ok(crate::dist::arch::Arch::native()?.name())
}
