//! Cgroups made for one measurement: the kernel's own count of CPU time to compare with.

use std::io::{Error, ErrorKind, Read, Result};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What ran in a cgroup must have ended by then.
const PATIENCE: Duration = Duration::from_secs(10);

/// A v2 cgroup that looks like a container's; removed when dropped.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    id: String,
}

impl Cgroup {
    /// A new one, named by a container id of our own; this needs root.
    pub fn new() -> Result<Self> {
        let mut random = [0u8; 32];
        std::fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
        let id: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let path = mount()?.join(&id);
        std::fs::create_dir(&path)
            .map_err(|error| Error::new(error.kind(), format!("cannot make {}: {error}", path.display())))?;
        Ok(Self { path, id })
    }

    /// Its container id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// CPU time that the kernel charged to it (`cpu.stat`, `usage_usec`), in seconds.
    pub fn cpu_seconds(&self) -> Result<f64> {
        let stat = std::fs::read_to_string(self.path.join("cpu.stat"))?;
        let usage =
            stat.lines().find_map(|line| line.strip_prefix("usage_usec ")?.trim().parse::<f64>().ok());
        Ok(usage.ok_or_else(|| Error::new(ErrorKind::InvalidData, "cpu.stat has no usage_usec"))? / 1e6)
    }

    /// Waits until nothing runs in it any more.
    pub fn wait_until_empty(&self) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            let events = std::fs::read_to_string(self.path.join("cgroup.events"))?;
            if events.lines().any(|line| line == "populated 0") {
                return Ok(());
            }
            if Instant::now() > end {
                let what = format!("something still runs in {}", self.path.display());
                return Err(Error::new(ErrorKind::TimedOut, what));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
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
    mount.ok_or_else(|| Error::new(ErrorKind::NotFound, "no cgroup v2 hierarchy is mounted"))
}
