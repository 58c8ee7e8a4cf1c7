//! The cluster's cgroup, with the same name in each hierarchy. Everything that runs below it belongs to the cluster.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// Killed processes end within this time.
const PATIENCE: Duration = Duration::from_secs(30);

/// The mount points of the hierarchies: all of v1, and v2.
#[derive(Debug)]
pub(crate) struct Hierarchies {
    v1: Vec<PathBuf>,
    v2: Option<PathBuf>,
}

impl Hierarchies {
    pub(crate) fn read() -> Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let mut found = Self { v1: Vec::new(), v2: None };
        for line in mounts.lines() {
            let mut fields = line.split(' ').skip(1);
            match (fields.next(), fields.next()) {
                (Some(point), Some("cgroup")) => found.v1.push(point.into()),
                (Some(point), Some("cgroup2")) => found.v2 = found.v2.or_else(|| Some(point.into())),
                _ => {}
            }
        }
        if found.v1.is_empty() && found.v2.is_none() {
            bail!("no cgroup hierarchy is mounted");
        }
        Ok(found)
    }

    /// The hierarchy with the daemons comes first: without the daemons no new processes start.
    fn all(&self) -> impl Iterator<Item = &Path> {
        self.v2.iter().chain(&self.v1).map(PathBuf::as_path)
    }

    /// Makes the cgroup in every hierarchy, so that a kubelet can make its own below it.
    pub(crate) fn make(&self, name: &str) -> Result<()> {
        for hierarchy in self.all() {
            let directory = hierarchy.join(name);
            fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
            // A new cgroup of v1 has no CPUs and no memory nodes, so nothing can run in it.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if let Ok(above) = fs::read(hierarchy.join(file)) {
                    fs::write(directory.join(file), above)?;
                }
            }
        }
        if let (true, Some(v2)) = (self.v1.is_empty(), &self.v2) {
            let controllers = fs::read_to_string(v2.join("cgroup.controllers"))?;
            let all: Vec<_> = controllers.split_whitespace().map(|one| format!("+{one}")).collect();
            for directory in [v2.clone(), v2.join(name)] {
                let file = directory.join("cgroup.subtree_control");
                fs::write(&file, all.join(" ")).with_context(|| file.display().to_string())?;
            }
        }
        // In v2 only a leaf may have processes.
        let daemons = self.daemons(name);
        fs::create_dir_all(&daemons).with_context(|| daemons.display().to_string())
    }

    /// The cgroup in which daemons start. On a machine with both versions their children stay below it, in v2.
    pub(crate) fn daemons(&self, name: &str) -> PathBuf {
        self.all().next().unwrap_or(Path::new("/")).join(name).join("daemons")
    }

    /// Kills everything that runs below it, in every hierarchy, and removes it.
    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        for hierarchy in self.all() {
            let directory = hierarchy.join(name);
            loop {
                match end(&directory) {
                    Ok(()) => break,
                    Err(error) if Instant::now() > until => {
                        return Err(error)
                            .with_context(|| format!("{} cannot be removed", directory.display()));
                    }
                    Err(_) => std::thread::sleep(Duration::from_millis(50)),
                }
            }
        }
        Ok(())
    }
}

/// One round of killing and removing; an error if something is left.
fn end(directory: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    // Linux 5.14, v2: kills all processes at once, so that none can fork in between.
    let _ = fs::write(directory.join("cgroup.kill"), "1");
    let processes = fs::read_to_string(directory.join("cgroup.procs"))?;
    for pid in processes.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)) {
        let _ = kill_process(pid, Signal::KILL);
    }
    let mut left = Ok(());
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            left = end(&entry.path()).and(left);
        }
    }
    left.and_then(|()| fs::remove_dir(directory))
}
