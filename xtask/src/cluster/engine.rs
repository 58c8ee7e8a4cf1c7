//! A Docker Engine for runners, in a network namespace of its own beside the node's, and a cable between the two.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::node::{Node, last_lines, log_of, wait};
use crate::build::checked;

/// Its name among the daemons.
const DAEMON: &str = "dockerd";

/// Starts it.
pub(crate) fn start(node: &mut Node) -> Result<()> {
    let mut unshare = node.inside("unshare");
    unshare.args(["--net", "sh", "-c", "ip link set lo up && exec dockerd \"$@\"", "sh"]);
    unshare.args(["--data-root=/var/lib/docker", "--exec-root=/run/docker", "--pidfile=/run/docker.pid"]);
    unshare.arg(format!("--host={}", host())).arg(format!("--cgroup-parent=/{}/docker", node.state.cgroup()));
    node.start(DAEMON, &unshare)?;
    let pid = node.state.daemons[DAEMON];
    wait("the Docker Engine", || {
        if !node.has(pid) {
            bail!("dockerd has ended: {}", last_lines(&log_of(DAEMON)));
        }
        Ok(docker().arg("version").stdout(Stdio::null()).stderr(Stdio::null()).status()?.success())
    })?;
    let (here, there) = (node.network.engine_gateway(), node.network.engine());
    let pid = pid.to_string();
    let node_ip = |arguments: &[&str]| checked(node.inside("ip").args(arguments));
    node_ip(&["link", "add", "engine", "type", "veth", "peer", "name", "node", "netns", &pid])?;
    node_ip(&["address", "add", &format!("{here}/24"), "dev", "engine"])?;
    node_ip(&["link", "set", "engine", "up"])?;
    let engine_ip = |arguments: &[&str]| {
        checked(Command::new("nsenter").args(["--target", &pid, "--net", "ip"]).args(arguments))
    };
    engine_ip(&["address", "add", &format!("{there}/24"), "dev", "node"])?;
    engine_ip(&["link", "set", "node", "up"])?;
    engine_ip(&["route", "add", "default", "via", &here])
}

/// Its client, from anywhere on the machine.
pub(crate) fn docker() -> Command {
    let mut docker = Command::new("docker");
    docker.env("DOCKER_HOST", host());
    // Nothing that somebody logged in with is looked for.
    docker.env("DOCKER_CONFIG", Node::run().join("docker-config"));
    docker
}

/// Where it is to be asked.
pub(crate) fn host() -> String {
    format!("unix://{}", Node::run().join("docker.sock").display())
}

/// Makes an image of one layer from a directory.
pub(crate) fn import(directory: &std::path::Path, image: &str, changes: &[&str]) -> Result<()> {
    let mut tar = Command::new("tar")
        .args(["--create", "--numeric-owner", "--directory"])
        .arg(directory)
        .arg(".")
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run tar")?;
    let archive = tar.stdout.take().context("tar has no output")?;
    let mut import = docker();
    import.arg("import");
    for change in changes {
        import.args(["--change", change]);
    }
    checked(import.args(["-", image]).stdin(archive).stdout(Stdio::null()))?;
    if !tar.wait()?.success() {
        bail!("tar could not read {}", directory.display());
    }
    Ok(())
}
