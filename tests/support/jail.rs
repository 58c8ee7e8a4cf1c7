//! A cgroup with a memory limit that the kernel enforces, in the hierarchy that has that controller.

use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::cgroup::{mount, new_id};
use crate::program::PATIENCE;

/// A cgroup that looks like a container to the collector; removed when dropped.
#[derive(Debug)]
pub struct Jail {
    id: String,
    /// Its directory in each hierarchy; memory comes first.
    directories: Vec<PathBuf>,
    v1: bool,
}

impl Jail {
    /// A new cgroup; needs root.
    pub fn new(limit_bytes: Option<u64>) -> Result<Self> {
        let id = new_id()?;
        let v1 = mount("cgroup", "memory").is_ok();
        let roots = if v1 {
            // CPU time is counted in a separate hierarchy, or in the one with the CPU limit.
            let mut roots =
                vec![mount("cgroup", "memory")?, mount("cgroup", "cpuacct")?, mount("cgroup", "cpu")?];
            roots.dedup();
            roots
        } else {
            let root = mount("cgroup2", "")?;
            std::fs::write(root.join("cgroup.subtree_control"), "+memory +cpu")?;
            vec![root]
        };
        let directories: Vec<_> = roots.into_iter().map(|root| root.join(&id)).collect();
        directories.iter().try_for_each(std::fs::create_dir)?;
        let jail = Self { id, directories, v1 };
        if let Some(limit) = limit_bytes {
            let file = if v1 { "memory.limit_in_bytes" } else { "memory.max" };
            std::fs::write(jail.memory().join(file), limit.to_string())?;
            // Memory above the limit must not be swapped out instead.
            let (swap, most) =
                if v1 { ("memory.memsw.limit_in_bytes", limit) } else { ("memory.swap.max", 0) };
            let swap = jail.memory().join(swap);
            if swap.exists() {
                std::fs::write(swap, most.to_string())?;
            }
        }
        Ok(jail)
    }

    /// Its container id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its directories. A process enters by writing its PID to `cgroup.procs` of each.
    pub fn directories(&self) -> &[PathBuf] {
        &self.directories
    }

    fn memory(&self) -> &Path {
        &self.directories[0]
    }

    /// The number of processes that the kernel killed because of the memory limit.
    pub fn oom_kills(&self) -> Result<u64> {
        let file = if self.v1 { "memory.oom_control" } else { "memory.events" };
        let text = std::fs::read_to_string(self.memory().join(file))?;
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok());
        Ok(count.unwrap_or(0))
    }
}

impl Jail {
    /// Anonymous memory of its processes, in bytes.
    pub fn anonymous_bytes(&self) -> Result<u64> {
        let field = if self.v1 { "total_rss " } else { "anon " };
        let text = std::fs::read_to_string(self.memory().join("memory.stat"))?;
        let bytes = text.lines().find_map(|line| line.strip_prefix(field)?.trim().parse().ok());
        Ok(bytes.unwrap_or(0))
    }

    /// Peak memory, page cache included (v1 `memory.max_usage_in_bytes`, v2 `memory.peak`).
    pub fn peak_bytes(&self) -> Result<u64> {
        let file = if self.v1 { "memory.max_usage_in_bytes" } else { "memory.peak" };
        let text = std::fs::read_to_string(self.memory().join(file))?;
        text.trim().parse().map_err(|error| Error::new(ErrorKind::InvalidData, error))
    }

    /// Kills its processes until none is left.
    pub fn kill(&self) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            let mut any = false;
            for directory in &self.directories {
                for pid in std::fs::read_to_string(directory.join("cgroup.procs"))?.lines() {
                    any = true;
                    // The process may have ended meanwhile.
                    let pid = pid.parse().ok().and_then(Pid::from_raw);
                    let _ = pid.map(|pid| kill_process(pid, Signal::KILL));
                }
            }
            if !any {
                return Ok(());
            }
            if Instant::now() > end {
                let what = format!("something still runs in {}", self.memory().display());
                return Err(Error::new(ErrorKind::TimedOut, what));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// CPU time that the kernel charged to it (v2 `cpu.stat`, `usage_usec`; v1 `cpuacct.usage`), in seconds.
    pub fn cpu_seconds(&self) -> Result<f64> {
        let files: Vec<_> =
            self.directories.iter().map(|directory| directory.join("cpuacct.usage")).collect();
        if let Some(file) = files.iter().find(|file| file.exists()) {
            let usage = std::fs::read_to_string(file)?;
            let ns = usage.trim().parse::<f64>();
            return ns.map(|ns| ns / 1e9).map_err(|error| Error::new(ErrorKind::InvalidData, error));
        }
        let stat = std::fs::read_to_string(self.memory().join("cpu.stat"))?;
        let usec = stat.lines().find_map(|line| line.strip_prefix("usage_usec ")?.trim().parse::<f64>().ok());
        Ok(usec.ok_or_else(|| Error::new(ErrorKind::InvalidData, "cpu.stat has no usage_usec"))? / 1e6)
    }

    /// Waits until its processes hold this much memory, or are killed for it.
    pub fn wait_until_held(&self, bytes: u64) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while self.anonymous_bytes()? < bytes && self.oom_kills()? == 0 {
            if Instant::now() > end {
                let what = format!("{} does not come to hold {bytes} bytes", self.memory().display());
                return Err(Error::new(ErrorKind::TimedOut, what));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Drop for Jail {
    fn drop(&mut self) {
        // Killed processes may take a moment to end.
        let end = Instant::now() + Duration::from_secs(5);
        for directory in &self.directories {
            while let Err(error) = std::fs::remove_dir(directory) {
                if Instant::now() > end {
                    eprintln!("{} is left: {error}", directory.display());
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}
