//! The node: namespaces, a root and cgroups of its own, and the daemons in them.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use super::cache;
use super::cgroups::Hierarchies;
use super::network::Network;
use super::state::State;
use crate::command::{checked, root, within};
use crate::daemon::{ensure_room_for_sockets, last_lines, wait};

/// The kernel settings that the kubelet changes for the whole machine.
const SYSCTLS: [&str; 6] = [
    "kernel/keys/root_maxbytes",
    "kernel/keys/root_maxkeys",
    "kernel/panic",
    "kernel/panic_on_oops",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
];

/// A running node.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) state: State,
    pub(crate) network: Network,
    hierarchies: Hierarchies,
}

impl Node {
    /// Makes the node. The state file is written before anything is made.
    pub(crate) fn make() -> Result<Self> {
        let (block, network) = Network::free()?;
        let id = tests::cgroup::new_id()?.chars().take(6).collect();
        let state = State { id, boot_id: boot_id()?, block, sysctls: sysctls(), ..State::default() };
        let run = Self::run();
        ensure_room_for_sockets(&run)?;
        for directory in ["root", "logs"] {
            fs::create_dir_all(run.join(directory)).with_context(|| run.display().to_string())?;
        }
        state.write()?;
        let hierarchies = Hierarchies::read()?;
        hierarchies.make(&state.cgroup())?;
        let mut node = Self { state, network, hierarchies };
        node.keep()?;
        Ok(node)
    }

    /// The node of a state file.
    pub(crate) fn of(state: State) -> Result<Self> {
        let network = Network::of(state.block);
        Ok(Self { state, network, hierarchies: Hierarchies::read()? })
    }

    /// The node's files. They have the same path inside its root.
    pub(crate) fn run() -> PathBuf {
        State::directory().join("run")
    }

    /// Whether the process that keeps its namespaces is still running.
    pub(crate) fn is_alive(&self) -> bool {
        self.state.keeper.is_some_and(|pid| self.has(pid))
    }

    /// Whether a process is a live daemon of this node. The PID alone does not tell, because the kernel may have reused it, and
    /// a zombie keeps its cgroup until its parent waits for it.
    pub(crate) fn has(&self, pid: u32) -> bool {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        if status.lines().any(|line| line.starts_with("State:\tZ")) {
            return false;
        }
        let cgroup = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let ours = format!("/{}/daemons", self.state.cgroup());
        cgroup.lines().any(|line| line.ends_with(&ours))
    }

    /// Starts the process that keeps the namespaces, and connects the node to the machine.
    fn keep(&mut self) -> Result<()> {
        let run = Self::run();
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "--net", "--uts", "--propagation", "private", "sh"]);
        unshare.arg(root().join("xtask/src/cluster/node.sh")).arg(&run).arg(cache::directory()?);
        let mut keeper = self.spawn("keeper", &unshare)?;
        let pid = keeper.id();
        self.state.keeper = Some(pid);
        self.state.write()?;
        wait("the node", || {
            if let Some(status) = keeper.try_wait()? {
                bail!("cannot create the node ({status}): {}", last_lines(&log_of("keeper")));
            }
            Ok(run.join("ready").exists())
        })?;
        let device = format!("rrc-{}", self.state.id);
        let ip = |arguments: &[&str]| checked(Command::new("ip").args(arguments));
        let pid = pid.to_string();
        ip(&["link", "add", &device, "type", "veth", "peer", "name", "machine", "netns", &pid])?;
        ip(&["address", "add", &format!("{}/24", self.network.machine()), "dev", &device])?;
        ip(&["link", "set", &device, "up"])?;
        let inside = |arguments: &[&str]| checked(self.inside("ip").args(arguments));
        inside(&["address", "add", &format!("{}/24", self.network.node()), "dev", "machine"])?;
        inside(&["link", "set", "machine", "up"])?;
        inside(&["route", "add", "default", "via", &self.network.machine()])?;
        for range in [self.network.services(), self.network.pods()] {
            ip(&["route", "add", &range, "via", &self.network.node()])?;
        }
        Ok(())
    }

    /// A command in the node's namespaces. Not `ip netns exec`, which mounts a /sys without cgroups.
    pub(crate) fn inside(&self, program: impl AsRef<OsStr>) -> Command {
        let mut nsenter = Command::new("nsenter");
        let keeper = self.state.keeper.unwrap_or_default().to_string();
        nsenter.args(["--target", &keeper, "--mount", "--net", "--uts", "--"]).arg(program);
        nsenter
    }

    /// Starts a daemon in the node's cgroup, with a log of its own, and records it in the state file.
    pub(crate) fn start(&mut self, name: &str, command: &Command) -> Result<()> {
        let child = self.spawn(name, command)?;
        self.state.daemons.insert(name.to_owned(), child.id());
        self.state.write()
    }

    fn spawn(&self, name: &str, command: &Command) -> Result<Child> {
        let procs = self.hierarchies.daemons(&self.state.cgroup()).join("cgroup.procs");
        let mut shell = Command::new("sh");
        // The shell enters the cgroup first, so that the daemon can be found there from its start.
        shell.args(["-c", "echo 0 > \"$0\" && exec \"$@\""]).arg(procs);
        let mut shell = within(shell, command);
        let log = File::create(log_of(name))?;
        shell.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0).current_dir("/");
        let mut child = shell.spawn().with_context(|| format!("cannot start {name}"))?;
        // From now on the daemon is found by its cgroup.
        wait(name, || Ok(self.has(child.id()) || child.try_wait()?.is_some()))?;
        Ok(child)
    }

    /// Ends the node and removes everything that belongs to it.
    pub(crate) fn remove(self) -> Result<()> {
        if self.state.boot_id == boot_id()? {
            self.hierarchies.remove(&self.state.cgroup())?;
            for (name, value) in &self.state.sysctls {
                let path = Path::new("/proc/sys").join(name);
                if fs::read_to_string(&path).is_ok_and(|now| now.trim() != value) {
                    fs::write(&path, value).with_context(|| path.display().to_string())?;
                }
            }
        }
        let run = Self::run();
        if run.exists() {
            fs::remove_dir_all(&run).with_context(|| run.display().to_string())?;
        }
        State::remove()
    }
}

/// The path of a daemon's log.
pub(crate) fn log_of(name: &str) -> PathBuf {
    Node::run().join("logs").join(name)
}

fn boot_id() -> Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

fn sysctls() -> std::collections::BTreeMap<String, String> {
    let read = |name: &&str| fs::read_to_string(Path::new("/proc/sys").join(name)).ok();
    SYSCTLS.iter().filter_map(|name| Some(((*name).to_owned(), read(name)?.trim().to_owned()))).collect()
}
