//! Docker Engines of this project, beside any that runs on the machine.

use std::fs::{self, File, TryLockError};
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::command::{root, within};
use crate::daemon::{ensure_room_for_sockets, last_lines, wait};
use crate::debian::{self, From};
use crate::setup::{self, For};

/// An engine takes about 2 s to end, and 15 s if a container ignores SIGTERM.
const PATIENCE: Duration = Duration::from_mins(1);

/// `runc` is the machine's own, because Debian 13's needs a newer libc than Debian 12 has.
const NEWER: [&str; 5] = ["docker.io", "docker-cli", "containerd", "docker-buildx", "docker-compose"];

/// Runs in the engine's own namespaces, with dockerd as `$0`. Published ports on localhost need the loopback device. The
/// engine has its own /run so that it finds neither the machine's containerd, which it would use, nor its systemd: it then
/// makes its containers' cgroups itself. Its own paths there are also short and private.
const BEGIN: &str = "ip link set lo up && mount -t tmpfs tmpfs /run && exec \"$0\" \"$@\"";

/// The directory with a client's configuration and plugins.
const CONFIG: &str = "docker-config";
/// An engine's log, in its directory.
const LOG: &str = "log";

/// The source of the engine's packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Release {
    /// This machine's packages; on Debian 12 that is Docker 20.10 with docker-compose 1.29.
    Installed,
    /// Debian 13's, unpacked and not installed: Docker 26.1 with Compose 2.26.
    Newer,
}

/// An engine's paths, for starting it and talking to it, whether it runs or not.
#[derive(Debug)]
pub(crate) struct Client {
    /// The directory of its socket and configuration.
    directory: PathBuf,
    /// A directory that is searched first for its programs.
    programs: Option<PathBuf>,
}

impl Client {
    pub(crate) fn new(directory: PathBuf, programs: Option<PathBuf>) -> Self {
        Self { directory, programs }
    }

    /// The engine's dockerd, in network and mount namespaces of its own. Another engine's rules, which drop other networks'
    /// forwarded packets, do not apply there, and this engine's rules apply nowhere else.
    ///
    /// `unshare` is that program, possibly behind another one. The engine keeps the PID of the command.
    pub(crate) fn daemon(&self, mut unshare: Command, data: &Path) -> Result<Command> {
        // The machine's own configuration is for the machine's engine.
        let configuration = self.directory.join("docker.json");
        fs::write(&configuration, "{}").with_context(|| configuration.display().to_string())?;
        unshare.args(["--net", "--mount", "--propagation=private", "sh", "-c", BEGIN]);
        unshare.arg(self.program("dockerd")).arg("--config-file").arg(configuration);
        unshare.args(["--exec-root=/run/docker", "--pidfile=/run/docker.pid"]);
        unshare.arg("--data-root").arg(data).arg("--host").arg(self.host());
        self.search(&mut unshare)?;
        Ok(unshare)
    }

    /// Waits until the engine answers.
    pub(crate) fn wait_until_up(
        &self,
        log: &Path,
        mut is_running: impl FnMut() -> Result<bool>,
    ) -> Result<()> {
        let answers = || {
            ensure!(is_running()?, "dockerd has ended");
            Ok(self.docker()?.arg("version").stdout(Stdio::null()).stderr(Stdio::null()).status()?.success())
        };
        wait("the Docker Engine", answers).with_context(|| format!("dockerd's log ends: {}", last_lines(log)))
    }

    /// The engine's client, which works from anywhere on the machine.
    pub(crate) fn docker(&self) -> Result<Command> {
        let mut docker = Command::new(self.program("docker"));
        self.tell(&mut docker)?;
        Ok(docker)
    }

    /// Has a program that uses Docker use this engine.
    pub(crate) fn tell(&self, command: &mut Command) -> Result<()> {
        command.env("DOCKER_HOST", self.host());
        // Docker looks for plugins there. It contains no user's credentials.
        command.env("DOCKER_CONFIG", self.directory.join(CONFIG));
        self.search(command)
    }

    /// The address of the engine.
    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.directory.join("docker.sock").display())
    }

    fn program(&self, name: &str) -> PathBuf {
        self.programs.as_ref().map_or(name.into(), |programs| programs.join(name))
    }

    /// Has a command find the engine's programs before all others.
    fn search(&self, command: &mut Command) -> Result<()> {
        if let Some(programs) = &self.programs {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let all = std::iter::once(programs.clone()).chain(std::env::split_paths(&path));
            command.env("PATH", std::env::join_paths(all)?);
        }
        Ok(())
    }
}

/// A prefix that runs a command in a process's network namespace. Not `ip netns exec`, which mounts a /sys without cgroups.
pub(crate) fn in_network_of(pid: u32) -> Command {
    let mut nsenter = Command::new("nsenter");
    nsenter.args(["--target", &pid.to_string(), "--net", "--"]);
    nsenter
}

/// A running engine. It ends with the process that started it, even if that is killed.
#[derive(Debug)]
pub(crate) struct Engine {
    client: Client,
    daemon: Child,
    directory: TempDir,
    /// The engine's log, locked until the directory is removed.
    _log: File,
}

impl Engine {
    /// Call this on the first thread: the kernel ends the engine with the thread that started it.
    pub(crate) fn start(release: Release) -> Result<Self> {
        setup::ensure(For::Docker)?;
        let unpacked = match release {
            Release::Installed => None,
            Release::Newer => Some(debian::unpack("docker-newer", From::Newer, &NEWER)?),
        };
        let (directory, log) = room()?;
        let programs = unpacked.as_deref().map(|root| programs_of(root, directory.path())).transpose()?;
        let client = Client::new(directory.path().to_owned(), programs);
        // On SIGTERM dockerd stops its containers. Their mounts end with its namespace.
        let mut setpriv = Command::new("setpriv");
        setpriv.args(["--pdeathsig=TERM", "unshare"]);
        let mut dockerd = client.daemon(setpriv, &directory.path().join("data"))?;
        dockerd.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log.try_clone()?).process_group(0);
        let daemon = dockerd.spawn().context("cannot run setpriv")?;
        let mut engine = Self { client, daemon, directory, _log: log };
        let log = engine.directory.path().join(LOG);
        engine.client.wait_until_up(&log, || Ok(engine.daemon.try_wait()?.is_none()))?;
        Ok(engine)
    }

    /// The engine's client.
    pub(crate) fn docker(&self) -> Result<Command> {
        self.client.docker()
    }

    /// The versions of the engine and of Compose.
    pub(crate) fn versions(&self, compose: &str) -> Result<String> {
        let format = "--format={{.Server.Version}}";
        let engine = self.docker()?.args(["version", format]).output()?.stdout;
        let mut shell = Command::new("sh");
        self.client.tell(&mut shell)?;
        let compose = shell.args(["-c", &format!("{compose} version --short")]).output()?.stdout;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        Ok(format!("Docker {}, Compose {}", text(&engine), text(&compose)))
    }

    /// A command that uses the engine, in the namespace in which containers publish ports on localhost.
    pub(crate) fn inside(&self, command: &Command) -> Result<Command> {
        let mut inside = within(in_network_of(self.daemon.id()), command);
        self.client.tell(&mut inside)?;
        Ok(inside)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if !matches!(self.daemon.try_wait(), Ok(None)) {
            return;
        }
        if let Err(error) = kill_process(Pid::from_child(&self.daemon), Signal::TERM) {
            eprintln!("cannot stop the engine: {error:#}");
        }
        let until = Instant::now() + PATIENCE;
        while matches!(self.daemon.try_wait(), Ok(None)) {
            if Instant::now() > until {
                let _ = self.daemon.kill();
                let _ = self.daemon.wait();
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Makes a directory for an engine and its log, which is locked while any part of the engine runs. Removes the directories of
/// engines that were not stopped cleanly.
fn room() -> Result<(TempDir, File)> {
    let all = root().join("target/docker");
    fs::create_dir_all(&all).with_context(|| all.display().to_string())?;
    // A new directory has no locked log yet. No other process may see it in this state and remove it.
    let making = File::open(&all)?;
    making.lock()?;
    for entry in fs::read_dir(&all)? {
        let path = entry?.path();
        let log = File::open(path.join(LOG));
        if log.is_ok_and(|log| matches!(log.try_lock(), Err(TryLockError::WouldBlock))) {
            continue;
        }
        if let Err(error) = fs::remove_dir_all(&path) {
            eprintln!("cannot remove the unused {}: {error}", path.display());
        }
    }
    let directory = tempfile::Builder::new().prefix("").tempdir_in(&all)?;
    ensure_room_for_sockets(directory.path())?;
    let log = File::create(directory.path().join(LOG))?;
    log.lock()?;
    Ok((directory, log))
}

/// Links the programs and plugins of unpacked packages to where they are searched for.
fn programs_of(root: &Path, directory: &Path) -> Result<PathBuf> {
    let plugins = directory.join(CONFIG).join("cli-plugins");
    let programs = directory.join("bin");
    for (from, to) in
        [("usr/bin", &programs), ("usr/sbin", &programs), ("usr/libexec/docker/cli-plugins", &plugins)]
    {
        fs::create_dir_all(to)?;
        let from = root.join(from);
        for entry in fs::read_dir(&from).with_context(|| from.display().to_string())? {
            let entry = entry?;
            symlink(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(programs)
}
