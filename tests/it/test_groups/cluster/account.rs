//! The kernel's own account of each container of the cluster, read repeatedly until its cgroup is gone.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tests::cgroup::mount;

/// A cgroup exists for at least twice this time after its last process has ended.
const PERIOD: Duration = Duration::from_millis(10);
/// The priority of a thread that runs before all ordinary ones.
const FIRST: i32 = -20;
/// Digits of a container's id.
const ID_DIGITS: usize = 64;

/// What the kernel charged to one container.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Figures {
    /// v1 `cpuacct.usage`, v2 `cpu.stat` `usage_usec`.
    pub(super) cpu_seconds: f64,
    /// v1 `memory.max_usage_in_bytes`, v2 `memory.peak`: page cache and kernel memory included.
    pub(super) memory_peak_bytes: u64,
    /// v1 `memory.oom_control`, v2 `memory.events`: `oom_kill`.
    pub(super) oom_kills: u64,
}

/// Figures of all containers below one cgroup. One background thread reads them for all tests, because timing matters.
#[derive(Debug, Clone)]
pub(super) struct Account {
    known: Arc<Mutex<HashMap<String, Figures>>>,
    /// The name of each container's parent cgroup, by the container's id.
    pods: Arc<Mutex<HashMap<String, String>>>,
}

impl Account {
    /// Starts reading all containers below this cgroup, unless the thread runs already.
    pub(super) fn begin(cgroup: &str) -> Self {
        static BEGUN: OnceLock<(String, Account)> = OnceLock::new();
        let (of, account) = BEGUN.get_or_init(|| (cgroup.to_owned(), Self::start(cgroup)));
        assert_eq!(of, cgroup, "all tests have one cluster");
        account.clone()
    }

    fn start(cgroup: &str) -> Self {
        let roots = Roots::of(cgroup);
        let account = Self { known: Arc::default(), pods: Arc::default() };
        let Self { known, pods } = account.clone();
        std::thread::spawn(move || {
            // The files disappear some milliseconds after a container's end, even if the machine is busy.
            rustix::process::setpriority_process(Some(rustix::thread::gettid()), FIRST).unwrap();
            let mut open = HashMap::new();
            loop {
                read(&roots, &mut open, &known, &pods);
                std::thread::sleep(PERIOD);
            }
        });
        account
    }

    /// The ids of all containers that a pod had, including its sandbox.
    pub(super) fn of_pod(&self, uid: &str) -> Vec<String> {
        let pods = self.pods.lock().unwrap();
        pods.iter().filter(|(_, pod)| pod.ends_with(uid)).map(|(id, _)| id.clone()).collect()
    }

    /// The figures of the container with this id. They are final when the container is gone.
    pub(super) fn of(&self, id: &str) -> Option<Figures> {
        self.known.lock().unwrap().get(id).copied()
    }
}

/// The paths of one cgroup in the hierarchies that count CPU time and memory.
struct Roots {
    cpu: PathBuf,
    memory: PathBuf,
    v1: bool,
}

impl Roots {
    fn of(cgroup: &str) -> Self {
        let v1 = tests::cgroup::has_v1();
        let hierarchy = |controller| if v1 { mount("cgroup", controller) } else { mount("cgroup2", "") };
        let at = |controller| hierarchy(controller).unwrap().join(cgroup);
        Self { cpu: at("cpuacct"), memory: at("memory"), v1 }
    }
}

/// The open files of one container. They can be read until the cgroup is removed.
struct Open {
    cpu: File,
    memory_peak: Option<File>,
    oom: Option<File>,
}

fn read(
    roots: &Roots,
    open: &mut HashMap<String, Open>,
    known: &Mutex<HashMap<String, Figures>>,
    pods: &Mutex<HashMap<String, String>>,
) {
    let mut found = Vec::new();
    containers(&roots.cpu, &mut found);
    for directory in found {
        let id = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if open.contains_key(&id) {
            continue;
        }
        let Ok(below) = directory.strip_prefix(&roots.cpu) else { continue };
        let memory = roots.memory.join(below);
        let above = below.parent().and_then(Path::file_name).unwrap_or_default();
        pods.lock().unwrap().insert(id.clone(), above.to_string_lossy().into_owned());
        let names = if roots.v1 {
            ["cpuacct.usage", "memory.max_usage_in_bytes", "memory.oom_control"]
        } else {
            ["cpu.stat", "memory.peak", "memory.events"]
        };
        let Ok(cpu) = File::open(directory.join(names[0])) else { continue };
        let at = |name| File::open(memory.join(name)).ok();
        open.insert(id, Open { cpu, memory_peak: at(names[1]), oom: at(names[2]) });
    }
    open.retain(|id, files| {
        let Some(cpu) = content(&files.cpu) else { return false };
        let cpu_seconds = if roots.v1 {
            cpu.trim().parse().map(|ns: f64| ns / 1e9).ok()
        } else {
            keyed(&cpu, "usage_usec").map(|us| us as f64 / 1e6)
        };
        let figures = Figures {
            cpu_seconds: cpu_seconds.unwrap_or_default(),
            memory_peak_bytes: files
                .memory_peak
                .as_ref()
                .and_then(|file| content(file)?.trim().parse().ok())
                .unwrap_or_default(),
            oom_kills: files
                .oom
                .as_ref()
                .and_then(|file| keyed(&content(file)?, "oom_kill"))
                .unwrap_or_default(),
        };
        let mut known = known.lock().unwrap();
        let kept = known.entry(id.clone()).or_default();
        // In v1 the memory files may disappear before or after the CPU files.
        *kept = Figures {
            cpu_seconds: figures.cpu_seconds.max(kept.cpu_seconds),
            memory_peak_bytes: figures.memory_peak_bytes.max(kept.memory_peak_bytes),
            oom_kills: figures.oom_kills.max(kept.oom_kills),
        };
        true
    });
}

/// Finds directories named after a container, at any depth.
fn containers(directory: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.len() == ID_DIGITS && name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            found.push(entry.path());
        }
        containers(&entry.path(), found);
    }
}

/// `None` once the cgroup is gone.
fn content(file: &File) -> Option<String> {
    let mut buffer = [0; 4096];
    let length = file.read_at(&mut buffer, 0).ok().filter(|length| *length > 0)?;
    Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

fn keyed(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}
