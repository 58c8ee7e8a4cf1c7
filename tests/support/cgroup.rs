//! Cgroups made for one measurement: the kernel's own count of CPU time to compare with.

use std::io::{Error, ErrorKind, Read, Result};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What ran in a cgroup must have ended by then.
const PATIENCE: Duration = Duration::from_secs(10);

/// A cgroup that looks like a container's; removed when dropped.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    id: String,
    v1: bool,
}

impl Cgroup {
    /// A new one in the v2 hierarchy, named by a container id of our own; this needs root.
    pub fn new() -> Result<Self> {
        Self::new_in(&mount("cgroup2", "")?, false)
    }

    /// The same in the v1 hierarchy that accounts CPU time.
    pub fn new_v1() -> Result<Self> {
        Self::new_in(&mount("cgroup", "cpuacct")?, true)
    }

    fn new_in(hierarchy: &Path, v1: bool) -> Result<Self> {
        let id = new_id()?;
        let path = hierarchy.join(&id);
        std::fs::create_dir(&path)
            .map_err(|error| Error::new(error.kind(), format!("cannot make {}: {error}", path.display())))?;
        Ok(Self { path, id, v1 })
    }

    /// Its container id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// CPU time that the kernel charged to it (v2 `cpu.stat`, `usage_usec`; v1 `cpuacct.usage`), in seconds.
    pub fn cpu_seconds(&self) -> Result<f64> {
        if self.v1 {
            let usage = std::fs::read_to_string(self.path.join("cpuacct.usage"))?;
            let ns = usage.trim().parse::<f64>();
            return ns.map(|ns| ns / 1e9).map_err(|error| Error::new(ErrorKind::InvalidData, error));
        }
        let stat = std::fs::read_to_string(self.path.join("cpu.stat"))?;
        let usage =
            stat.lines().find_map(|line| line.strip_prefix("usage_usec ")?.trim().parse::<f64>().ok());
        Ok(usage.ok_or_else(|| Error::new(ErrorKind::InvalidData, "cpu.stat has no usage_usec"))? / 1e6)
    }

    /// Waits until nothing runs in it any more.
    pub fn wait_until_empty(&self) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            let processes = std::fs::read_to_string(self.path.join("cgroup.procs"))?;
            let events = std::fs::read_to_string(self.path.join("cgroup.events")).unwrap_or_default();
            if processes.is_empty() && !events.lines().any(|line| line == "populated 1") {
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

/// A container id of our own.
pub fn new_id() -> Result<String> {
    let mut random = [0u8; 32];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Where a hierarchy of this type, with this controller, is mounted.
pub fn mount(kind: &str, controller: &str) -> Result<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    let mount = mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (point, found, options) = (fields.next()?, fields.next()?, fields.next()?);
        let fits =
            found == kind && (controller.is_empty() || options.split(',').any(|one| one == controller));
        fits.then(|| PathBuf::from(point))
    });
    mount.ok_or_else(|| {
        Error::new(ErrorKind::NotFound, format!("no {kind} hierarchy {controller} is mounted"))
    })
}

/// Whether there is a v1 hierarchy that accounts CPU time.
pub fn has_v1() -> bool {
    mount("cgroup", "cpuacct").is_ok()
}
