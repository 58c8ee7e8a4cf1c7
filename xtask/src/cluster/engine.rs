//! A Docker Engine for runners, in a network namespace of its own beside the node's, and a cable between the two.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::node::{Node, log_of};
use crate::command::checked;
use crate::docker::{self, Client};

/// The engine's name among the daemons.
const DAEMON: &str = "dockerd";

/// Starts the engine and connects it to the node.
pub(crate) fn start(node: &mut Node) -> Result<()> {
    let client = client();
    let mut dockerd = client.daemon(node.inside("unshare"), Path::new("/var/lib/docker"))?;
    dockerd.arg(format!("--cgroup-parent=/{}/docker", node.state.cgroup()));
    node.start(DAEMON, &dockerd)?;
    let pid = node.state.daemons[DAEMON];
    client.wait_until_up(&log_of(DAEMON), || Ok(node.has(pid)))?;
    let (here, there) = (node.network.engine_gateway(), node.network.engine());
    let node_ip = |arguments: &[&str]| checked(node.inside("ip").args(arguments));
    let peer = pid.to_string();
    node_ip(&["link", "add", "engine", "type", "veth", "peer", "name", "node", "netns", &peer])?;
    node_ip(&["address", "add", &format!("{here}/24"), "dev", "engine"])?;
    node_ip(&["link", "set", "engine", "up"])?;
    let engine_ip = |arguments: &[&str]| checked(docker::in_network_of(pid).arg("ip").args(arguments));
    engine_ip(&["address", "add", &format!("{there}/24"), "dev", "node"])?;
    engine_ip(&["link", "set", "node", "up"])?;
    engine_ip(&["route", "add", "default", "via", &here])
}

/// The engine's client, which works from anywhere on the machine.
pub(crate) fn client() -> Client {
    Client::new(Node::run(), None)
}

/// Makes an image of one layer from a directory.
pub(crate) fn import(directory: &Path, image: &str, changes: &[&str]) -> Result<()> {
    let mut tar = Command::new("tar")
        .args(["--create", "--numeric-owner", "--directory"])
        .arg(directory)
        .arg(".")
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run tar")?;
    let archive = tar.stdout.take().context("tar has no output")?;
    let mut import = client().docker()?;
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
