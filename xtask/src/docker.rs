//! Docker Engines of our own: started by hand, beside any that runs, and stopped by their PID.

use std::fs::File;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::debian::{self, From};
use crate::dist::images;
use crate::setup::{self, For};

/// A start takes some 2 s.
const PATIENCE: Duration = Duration::from_mins(1);

/// `runc` is the machine's own: Debian 13's wants a newer libc than Debian 12 has.
const NEWER: [&str; 5] = ["docker.io", "docker-cli", "containerd", "docker-buildx", "docker-compose"];

/// Which packages it is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Release {
    /// Those of this machine; on Debian 12 that is Docker 20.10 with docker-compose 1.29.
    Installed,
    /// Debian 13's, unpacked and not installed: Docker 26.1 with Compose 2.26.
    Newer,
}

/// A running engine with data, socket and networks of its own; it has no default bridge and writes no firewall rules,
/// so that it takes nothing from another one.
#[derive(Debug)]
pub(crate) struct Engine {
    daemon: Child,
    directory: TempDir,
    /// Directories to look for its programs in, first.
    programs: Option<PathBuf>,
}

impl Engine {
    pub(crate) fn start(release: Release) -> Result<Self> {
        setup::ensure(For::Docker)?;
        let unpacked = match release {
            Release::Installed => None,
            Release::Newer => Some(debian::unpack("docker-newer", From::Newer, &NEWER)?),
        };
        let directory = tempfile::Builder::new().prefix("docker-").tempdir()?;
        let at = |name: &str| directory.path().join(name);
        let programs = unpacked.as_deref().map(|root| programs_of(root, directory.path())).transpose()?;
        let mut dockerd = Command::new(programs.as_ref().map_or("dockerd".into(), |dir| dir.join("dockerd")));
        search(&mut dockerd, programs.as_deref())?;
        dockerd.arg("--data-root").arg(at("data")).arg("--exec-root").arg(at("exec"));
        dockerd.arg("--pidfile").arg(at("pid")).arg("--host").arg(host(directory.path()));
        dockerd.args(["--bridge=none", "--iptables=false", "--ip-forward=false"]);
        let log = File::create(at("log"))?;
        dockerd.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let daemon = dockerd.spawn().context("cannot run dockerd")?;
        let mut engine = Self { daemon, directory, programs };
        engine.wait_until_up()?;
        Ok(engine)
    }

    fn wait_until_up(&mut self) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        loop {
            let asked = self.docker()?.arg("version").stdout(Stdio::null()).stderr(Stdio::null()).status()?;
            if asked.success() {
                return Ok(());
            }
            if self.daemon.try_wait()?.is_some() || Instant::now() > until {
                let log = std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
                let last: Vec<_> = log.lines().rev().take(5).collect();
                bail!("dockerd did not start: {}", last.into_iter().rev().collect::<Vec<_>>().join("\n"));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Its client.
    pub(crate) fn docker(&self) -> Result<Command> {
        let mut docker =
            Command::new(self.programs.as_ref().map_or("docker".into(), |dir| dir.join("docker")));
        self.tell(&mut docker)?;
        Ok(docker)
    }

    /// What it is, and what Compose.
    pub(crate) fn versions(&self, compose: &str) -> Result<String> {
        let format = "--format={{.Server.Version}}";
        let engine = self.docker()?.args(["version", format]).output()?.stdout;
        let mut shell = Command::new("sh");
        self.tell(&mut shell)?;
        let compose = shell.args(["-c", &format!("{compose} version --short")]).output()?.stdout;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        Ok(format!("Docker {}, Compose {}", text(&engine), text(&compose)))
    }

    /// Builds the images of `deploy/images`.
    pub(crate) fn build_images(&self) -> Result<()> {
        images::build(|| self.docker(), "latest").map(|_| ())
    }

    /// Has a program that uses Docker use this one.
    pub(crate) fn tell(&self, command: &mut Command) -> Result<()> {
        command.env("DOCKER_HOST", host(self.directory.path()));
        // Plugins are looked for there, and nothing that somebody logged in with is.
        command.env("DOCKER_CONFIG", self.directory.path().join("config"));
        search(command, self.programs.as_deref())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let stop = || -> Result<()> {
            // What still runs would outlive it.
            let running = self.docker()?.args(["ps", "--quiet"]).output()?.stdout;
            let running = String::from_utf8(running)?;
            if !running.trim().is_empty() {
                self.docker()?.args(["rm", "--force"]).args(running.split_whitespace()).output()?;
            }
            kill(Pid::from_raw(self.daemon.id().cast_signed()), Signal::SIGTERM)?;
            Ok(())
        };
        if let Err(error) = stop() {
            eprintln!("the engine could not be told to stop: {error:#}");
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

fn host(directory: &Path) -> String {
    format!("unix://{}", directory.join("socket").display())
}

/// Programs and plugins of unpacked packages, linked where they are looked for.
fn programs_of(root: &Path, directory: &Path) -> Result<PathBuf> {
    let plugins = directory.join("config/cli-plugins");
    let programs = directory.join("bin");
    for (from, to) in
        [("usr/bin", &programs), ("usr/sbin", &programs), ("usr/libexec/docker/cli-plugins", &plugins)]
    {
        std::fs::create_dir_all(to)?;
        let from = root.join(from);
        for entry in std::fs::read_dir(&from).with_context(|| from.display().to_string())? {
            let entry = entry?;
            symlink(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(programs)
}

/// Has a command find programs in this directory before all others.
fn search(command: &mut Command, programs: Option<&Path>) -> Result<()> {
    if let Some(programs) = programs {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let all = std::iter::once(programs.to_owned()).chain(std::env::split_paths(&path));
        command.env("PATH", std::env::join_paths(all)?);
    }
    Ok(())
}
