//! Cgroups made for one measurement: the kernel's own count of CPU time to compare with.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// A v2 cgroup that looks like a container's; removed when dropped.
#[derive(Debug)]
pub(crate) struct Cgroup {
    path: PathBuf,
    id: String,
}

impl Cgroup {
    /// A new one, named by a container id of our own.
    pub(crate) fn new() -> Result<Self> {
        let id = format!("{}{}", crate::programs::random()?, crate::programs::random()?);
        let path = mount()?.join(&id);
        std::fs::create_dir(&path)
            .with_context(|| format!("cannot make {}; this needs root", path.display()))?;
        Ok(Self { path, id })
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// CPU time that the kernel charged to it (`cpu.stat`, `usage_usec`), in seconds.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        let stat = std::fs::read_to_string(self.path.join("cpu.stat"))?;
        let usage = stat.lines().find_map(|line| line.strip_prefix("usage_usec "));
        let usage: f64 = usage.context("cpu.stat has no usage_usec")?.trim().parse()?;
        Ok(usage / 1e6)
    }

    /// Whether nothing runs in it.
    pub(crate) fn is_empty(&self) -> Result<bool> {
        let events = std::fs::read_to_string(self.path.join("cgroup.events"))?;
        Ok(events.lines().any(|line| line == "populated 0"))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir(&self.path) {
            eprintln!("{} is left: {error}", self.path.display());
        }
    }
}

/// Where the v2 hierarchy is mounted.
fn mount() -> Result<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    let mount = mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (point, kind) = (fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(point))
    });
    match mount {
        Some(mount) => Ok(mount),
        None => bail!("no cgroup v2 hierarchy is mounted"),
    }
}
