//! Cgroups made for one measurement, for comparison with the kernel's own count of CPU time.

use std::io::{Error, ErrorKind, Read, Result};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The processes in a cgroup must end within this time.
const PATIENCE: Duration = Duration::from_secs(10);

/// The program that makes a kubelet's cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// The kubelet itself.
    Cgroupfs,
    /// systemd, which has its own naming scheme.
    Systemd,
}

/// Limits of a container in a pod and of the levels above it.
#[derive(Debug, Default, Clone, Copy)]
pub struct PodLimits {
    /// Memory of all pods of the node, in bytes.
    pub node_bytes: Option<u64>,
    /// The pod's cores, and bytes.
    pub pod: (Option<f64>, Option<u64>),
    /// The container's own: cores, and bytes.
    pub own: (Option<f64>, Option<u64>),
}

/// A new pod UID.
pub fn pod_uid() -> Result<String> {
    let id = new_id()?;
    Ok(format!("{}-{}-{}-{}-{}", &id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..32]))
}

/// A cgroup that looks like a container's. It is removed when dropped, with the parents that are then unused.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    id: String,
    v1: bool,
    /// Its directories in other hierarchies.
    others: Vec<PathBuf>,
}

impl Cgroup {
    /// A new cgroup in the v2 hierarchy, named after a random container id; needs root.
    pub fn new() -> Result<Self> {
        Self::new_in(&mount("cgroup2", "")?, false)
    }

    /// The same in the v1 hierarchy that counts CPU time.
    pub fn new_v1() -> Result<Self> {
        Self::new_in(&mount("cgroup", "cpuacct")?, true)
    }

    /// A container of a pod, at the path of a kubelet with this cgroup driver.
    pub fn in_pod(driver: Driver, pod_uid: &str) -> Result<Self> {
        let id = new_id()?;
        Self::make(mount("cgroup2", "")?.join(below(driver, pod_uid, &id)), id, false)
    }

    /// The same with limits, in the hierarchies that have the controllers.
    pub fn limited_in_pod(driver: Driver, pod_uid: &str, limits: PodLimits) -> Result<Self> {
        let id = new_id()?;
        let below = below(driver, pod_uid, &id);
        let v1 = mount("cgroup", "memory").is_ok();
        let mut roots = if v1 {
            vec![mount("cgroup", "cpuacct")?, mount("cgroup", "memory")?, mount("cgroup", "cpu")?]
        } else {
            vec![mount("cgroup2", "")?]
        };
        roots.dedup();
        let mut directories = roots.iter().map(|root| root.join(&below));
        let path = directories.next().ok_or_else(|| Error::from(ErrorKind::NotFound))?;
        let others = directories.collect();
        let mut cgroup = Self::make(path, id, v1)?;
        cgroup.others = others;
        cgroup.others.iter().try_for_each(std::fs::create_dir_all)?;
        if let (false, Some(root)) = (v1, roots.first()) {
            // From the root down to the pod, each level passes its controllers to its children.
            let between = cgroup.path.ancestors().skip(1).take_while(|level| level.starts_with(root));
            let between: Vec<_> = between.collect();
            for level in between.iter().rev() {
                std::fs::write(level.join("cgroup.subtree_control"), "+cpu +memory")?;
            }
        }
        // Container, pod, QoS class, all pods.
        let all = [(3, (None, limits.node_bytes)), (1, limits.pod), (0, limits.own)];
        for (up, (cores, bytes)) in all {
            for directory in cgroup.directories().filter_map(|directory| directory.ancestors().nth(up)) {
                limit(directory, v1, cores, bytes)?;
            }
        }
        Ok(cgroup)
    }

    /// A container of Docker.
    pub fn of_docker() -> Result<Self> {
        let id = new_id()?;
        Self::make(mount("cgroup2", "")?.join("docker").join(&id), id, false)
    }

    fn new_in(hierarchy: &Path, v1: bool) -> Result<Self> {
        let id = new_id()?;
        Self::make(hierarchy.join(&id), id, v1)
    }

    fn make(path: PathBuf, id: String, v1: bool) -> Result<Self> {
        std::fs::create_dir_all(&path)
            .map_err(|error| Error::new(error.kind(), format!("cannot make {}: {error}", path.display())))?;
        Ok(Self { path, id, v1, others: Vec::new() })
    }

    /// Like [`Self::new_v1`], with limits: cores, and bytes of memory.
    pub fn limited_v1(cores: f64, memory_bytes: u64) -> Result<Self> {
        Self::limited_v1_called(new_id()?, cores, memory_bytes)
    }

    /// A service of the machine, such as a runner's, with limits.
    pub fn service_v1(cores: f64, memory_bytes: u64) -> Result<Self> {
        Self::limited_v1_called(format!("runner-{}.service", &new_id()?[..8]), cores, memory_bytes)
    }

    fn limited_v1_called(name: String, cores: f64, memory_bytes: u64) -> Result<Self> {
        let mut cgroup = Self::make(mount("cgroup", "cpuacct")?.join(&name), name, true)?;
        let period_us = 100_000.0;
        let quota = format!("{:.0}", cores * period_us);
        let limits = [
            ("cpu", "cpu.cfs_quota_us", quota),
            ("memory", "memory.limit_in_bytes", memory_bytes.to_string()),
        ];
        for (controller, file, limit) in limits {
            let directory = mount("cgroup", controller)?.join(&cgroup.id);
            // Two controllers can share a hierarchy.
            if !directory.exists() {
                std::fs::create_dir(&directory)?;
                cgroup.others.push(directory.clone());
            }
            std::fs::write(directory.join(file), limit)?;
        }
        Ok(cgroup)
    }

    /// Its directories. A process is in the cgroup if it is in each of them.
    pub fn directories(&self) -> impl Iterator<Item = &Path> {
        [&self.path].into_iter().chain(&self.others).map(PathBuf::as_path)
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

    /// Waits until the cgroup is empty.
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
        for directory in self.directories() {
            if let Err(error) = std::fs::remove_dir(directory) {
                eprintln!("{} is left: {error}", directory.display());
            }
        }
        // The root of a hierarchy and cgroups in use cannot be removed.
        for directory in self.directories() {
            let above = directory.ancestors().skip(1);
            let _ = above.map(std::fs::remove_dir).take_while(std::result::Result::is_ok).count();
        }
    }
}

/// The path of a pod's container with this cgroup driver.
fn below(driver: Driver, pod_uid: &str, id: &str) -> String {
    match driver {
        Driver::Cgroupfs => format!("kubepods/burstable/pod{pod_uid}/{id}"),
        Driver::Systemd => format!(
            "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{}.slice/cri-containerd-{id}.scope",
            pod_uid.replace('-', "_")
        ),
    }
}

/// Limits a cgroup in one hierarchy, if that has the controllers.
fn limit(directory: &Path, v1: bool, cores: Option<f64>, bytes: Option<u64>) -> Result<()> {
    let quota = cores.map(|cores| format!("{:.0}", cores * 100_000.0));
    let limits = if v1 {
        [("cpu.cfs_quota_us", quota), ("memory.limit_in_bytes", bytes.map(|bytes| bytes.to_string()))]
    } else {
        let quota = quota.map(|quota| format!("{quota} 100000"));
        [("cpu.max", quota), ("memory.max", bytes.map(|bytes| bytes.to_string()))]
    };
    for (file, limit) in limits {
        let file = directory.join(file);
        if let Some(limit) = limit.filter(|_| file.exists()) {
            std::fs::write(&file, limit).map_err(|error| {
                Error::new(error.kind(), format!("cannot limit {}: {error}", file.display()))
            })?;
        }
    }
    Ok(())
}

/// A random container id.
pub fn new_id() -> Result<String> {
    let mut random = [0u8; 32];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The mount point of a hierarchy with this type and controller.
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

/// Whether there is a v1 hierarchy that counts CPU time.
pub fn has_v1() -> bool {
    mount("cgroup", "cpuacct").is_ok()
}
