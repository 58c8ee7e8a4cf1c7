//! The PID table, read cheaply: one pass reads `/proc/[pid]/stat` of every visible process once.
//!
//! A descriptor is kept open for each process as far as `RLIMIT_NOFILE` allows: a `pread` on it costs about
//! half of open, read and close, and it can never show another process that got the same PID (it answers
//! ESRCH instead). Beyond that the file is opened each time.

mod cgroups;
mod files;
mod observation;

use std::fs::File;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustc_hash::FxHashSet;
use rustix::fs::{Mode, OFlags, RawDir, openat};
use rustix::io::{Errno, pread};

use self::cgroups::CgroupContents;
pub use self::cgroups::CgroupId;
use self::files::{ReadError, join_path, own_loadavg, parse_pid, read_stat};
pub use self::files::{has_own_pids, own_pid};
pub use self::observation::{Observation, ProcessKey};
use super::pid_stat::PidStat;

/// Descriptors left for everything else: sockets, the database of names, cgroup files.
const RESERVED_DESCRIPTORS: u64 = 128;
/// How long a process's cgroup is trusted without another read while it uses no CPU time.
const CGROUP_TRUST: Duration = Duration::from_secs(30);
/// How long a new process may take to reach its cgroups.
const ARRIVAL: Duration = Duration::from_secs(1);
/// How many passes in a row may skip listing the tree.
const PASSES_PER_LISTING: u32 = 15;
/// At most this much of a file is read that a job can make as large as it likes, such as `mountinfo` with its own mounts. A
/// node with a thousand pods has half of it.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// At most this many threads of a process are looked at for one that still runs. A job can leave thousands that have ended,
/// if it traces them.
const MAX_THREADS: usize = 64;

/// The result of one pass.
#[derive(Debug, Default)]
pub struct TablePass {
    /// Every process that could be read, parents before their children.
    pub observations: Vec<Observation>,
    /// Processes that the collector has no permission to read.
    pub forbidden: u64,
    /// Processes whose `stat` made no sense.
    pub garbled: u64,
}

/// The processes of one proc tree.
#[derive(Debug)]
pub struct ProcessTable {
    path: PathBuf,
    root: OwnedFd,
    entries: Vec<TableEntry>,
    pids: FxHashSet<u32>,
    descriptors: u64,
    descriptor_budget: u64,
    cgroups: CgroupContents,
    reads_cgroups: bool,
    buffer: Vec<u8>,
    /// `loadavg`, if it belongs to the PID namespace that this tree shows.
    loadavg: Option<OwnedFd>,
    /// The PID that was allocated last, and how many passes ago the tree was listed.
    listed: Option<(u32, u32)>,
}

#[derive(Debug)]
struct TableEntry {
    stat: Option<OwnedFd>,
    last: Observation,
    /// When it was first seen.
    first_seen: Duration,
    /// When the cgroup was last read, and how much CPU time the process had used by then.
    cgroup_read: Option<(Duration, u64)>,
    sights: u32,
    gone: bool,
}

impl ProcessTable {
    /// Opens the proc tree at `path`. It keeps as many descriptors open as `open_files_limit` allows, less a reserve for
    /// everything else.
    pub fn open(path: &Path, open_files_limit: u64) -> io::Result<Self> {
        let root = File::open(path)?;
        Ok(Self {
            path: path.to_owned(),
            root: root.into(),
            entries: Vec::new(),
            pids: FxHashSet::default(),
            descriptors: 0,
            descriptor_budget: open_files_limit.saturating_sub(RESERVED_DESCRIPTORS),
            cgroups: CgroupContents::default(),
            reads_cgroups: true,
            buffer: vec![0; 4096],
            loadavg: own_loadavg(path),
            listed: None,
        })
    }

    /// Turns off reading cgroups, which are half of a first pass's reads.
    #[must_use]
    pub fn without_cgroups(self) -> Self {
        Self { reads_cgroups: false, ..self }
    }

    /// Reads only one process, as a pass before [`pass`](Self::pass).
    pub fn pass_of(&mut self, pid: u32, now: Duration) -> TablePass {
        let mut pass = TablePass::default();
        match self.discover(pid, now) {
            Ok(observation) => pass.observations.push(observation),
            Err(error) => pass.count(&error),
        }
        pass
    }

    /// Reads only a process and its children, if it is the only one known so far and all of its children have ended. Then
    /// it has no other descendants, and nobody else need be read. `None` if that is not so, or not known.
    pub fn pass_of_ended_children(&mut self, pid: u32, now: Duration) -> Option<TablePass> {
        if self.entries.len() != 1 || self.entries[0].last.key.pid != pid {
            return None;
        }
        let children = self.children(pid)?;
        let mut pass = TablePass { observations: vec![self.observe(0, now).ok()?], ..TablePass::default() };
        for child in children {
            let child = self.discover(child, now).ok()?;
            if !child.zombie {
                return None;
            }
            pass.observations.push(child);
        }
        Some(pass)
    }

    /// The children of all threads of a process (`/proc/[pid]/task/[tid]/children`). The kernel may leave some out while
    /// others are reaped (`proc_pid_children(5)`), which is up to the caller. `None` if the kernel has no such file.
    fn children(&self, pid: u32) -> Option<Vec<u32>> {
        let mut children = Vec::new();
        for thread in std::fs::read_dir(self.path.join(format!("{pid}/task"))).ok()? {
            let list = std::fs::read_to_string(thread.ok()?.path().join("children")).ok()?;
            children.extend(list.split_ascii_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
        Some(children)
    }

    /// Reads every process once. `now` only has to grow from pass to pass.
    pub fn pass(&mut self, now: Duration) -> io::Result<TablePass> {
        let mut listed = if self.nothing_began() { None } else { Some(self.list()?) };
        let mut pass =
            TablePass { observations: Vec::with_capacity(self.entries.len() + 64), ..TablePass::default() };
        // Known processes come first, in their order of appearance, so that a parent is read before its children: a child's
        // CPU time between the two reads is then seen later rather than twice.
        for index in 0..self.entries.len() {
            // A known process that is not on the list has ended.
            let pid = self.entries[index].last.key.pid;
            if listed.as_ref().is_some_and(|listed| listed.binary_search(&pid).is_err()) {
                self.forget(index);
                continue;
            }
            match self.observe(index, now) {
                Ok(observation) => pass.observations.push(observation),
                Err(ReadError::Gone) => self.forget(index),
                // It may still be there: keep the last observation.
                Err(error) => {
                    pass.count(&error);
                    pass.observations.push(self.entries[index].last);
                }
            }
        }
        // The last PID may have been reused, from a process that has ended.
        if listed.is_none() && self.entries.iter().any(|entry| entry.gone) {
            listed = Some(self.list()?);
        }
        self.entries.retain(|entry| !entry.gone);
        for pid in listed.unwrap_or_default() {
            if self.pids.contains(&pid) {
                continue;
            }
            match self.discover(pid, now) {
                Ok(observation) => pass.observations.push(observation),
                Err(error) => pass.count(&error),
            }
        }
        self.cgroups.forget_unused(self.entries.iter().filter_map(|entry| entry.last.cgroup));
        Ok(pass)
    }

    /// The content of `/proc/[pid]/cgroup` for the processes of this cgroup.
    pub fn cgroup_content(&self, id: CgroupId) -> &[u8] {
        self.cgroups.get(id)
    }

    /// Reads any other file of a process, such as `mountinfo`, up to a MiB of it; `None` if it cannot be read.
    pub fn read_file(&self, key: ProcessKey, name: &str) -> Option<Vec<u8>> {
        let mut content = Vec::new();
        let file = openat(
            &self.root,
            format!("{}/{name}", key.pid),
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        );
        File::from(file.ok()?).take(MAX_FILE_BYTES).read_to_end(&mut content).ok()?;
        Some(content)
    }

    /// Reads the beginning of any other file of a process into `space`; returns its length.
    pub fn read_beginning(&self, key: ProcessKey, name: &str, space: &mut [u8]) -> io::Result<usize> {
        let path = format!("{}/{name}", key.pid);
        let file = openat(&self.root, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let mut length = 0;
        while length < space.len() {
            match pread(&file, &mut space[length..], length as u64) {
                Ok(0) => break,
                Ok(count) => length += count,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(length)
    }

    /// Whether no PID was allocated since the tree was listed, so that every process is known.
    ///
    /// `loadavg` ends with the PID allocated last. Listing is a tenth of the cost of a pass, which a mostly idle machine
    /// saves this way. A restored process that chose its PID (CRIU) does not show there, so the tree is still listed now
    /// and then.
    fn nothing_began(&mut self) -> bool {
        let last_pid = self.loadavg.as_ref().and_then(|file| {
            let length = pread(file, &mut self.buffer[..], 0).ok()?;
            let text = self.buffer[..length].trim_ascii_end();
            parse_pid(text.rsplit(|&byte| byte == b' ').next()?)
        });
        let (Some(last_pid), Some((before, passes))) = (last_pid, self.listed) else {
            self.listed = last_pid.map(|last_pid| (last_pid, 0));
            return false;
        };
        let skip = last_pid == before && passes < PASSES_PER_LISTING;
        self.listed = Some((last_pid, if skip { passes + 1 } else { 0 }));
        skip
    }

    fn list(&mut self) -> io::Result<Vec<u32>> {
        let mut listed = Vec::with_capacity(self.entries.len() + 64);
        // The position in a directory belongs to the descriptor: open it anew each time.
        let directory =
            openat(&self.root, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let mut space = vec![MaybeUninit::uninit(); 64 * 1024];
        let mut entries = RawDir::new(directory, &mut space);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            if let Some(pid) = parse_pid(entry.file_name().to_bytes()) {
                listed.push(pid);
            }
        }
        listed.sort_unstable();
        Ok(listed)
    }

    fn discover(&mut self, pid: u32, now: Duration) -> Result<Observation, ReadError> {
        let file = self.open_file(pid, c"stat")?;
        let stat = read_stat(&file, &mut self.buffer)?;
        if stat.pid != pid {
            return Err(ReadError::Garbled);
        }
        let mut entry = TableEntry {
            stat: None,
            last: Observation::new(&stat),
            first_seen: Duration::ZERO,
            cgroup_read: None,
            sights: 0,
            gone: false,
        };
        if self.descriptors < self.descriptor_budget {
            self.descriptors += 1;
            entry.stat = Some(file);
        }
        self.pids.insert(pid);
        self.entries.push(entry);
        Ok(self.complete(self.entries.len() - 1, &stat, now))
    }

    fn observe(&mut self, index: usize, now: Duration) -> Result<Observation, ReadError> {
        let key = self.entries[index].last.key;
        let stat = self.read_again(index)?;
        if stat.start_ticks != key.start_ticks {
            return Err(ReadError::Gone);
        }
        Ok(self.complete(index, &stat, now))
    }

    fn read_again(&mut self, index: usize) -> Result<PidStat, ReadError> {
        let entry = &self.entries[index];
        if let Some(file) = &entry.stat {
            return read_stat(file, &mut self.buffer);
        }
        let file = self.open_file(entry.last.key.pid, c"stat")?;
        read_stat(&file, &mut self.buffer)
    }

    fn forget(&mut self, index: usize) {
        let entry = &mut self.entries[index];
        entry.gone = true;
        self.pids.remove(&entry.last.key.pid);
        if entry.stat.take().is_some() {
            self.descriptors -= 1;
        }
    }

    /// Adds what `stat` lacks: the cgroup, and the memory of a process whose first thread has ended.
    fn complete(&mut self, index: usize, stat: &PidStat, now: Duration) -> Observation {
        let entry = &mut self.entries[index];
        if entry.sights == 0 {
            entry.first_seen = now;
        }
        entry.sights = entry.sights.saturating_add(1);
        let mut rss_pages = stat.rss_pages;
        if stat.is_zombie() {
            // Its `cgroup` reads `/` now: keep the cgroup from when it lived. Other threads may still run.
            if stat.threads > 1 {
                rss_pages = self.remaining_thread(index).unwrap_or(rss_pages);
            } else if self.entries[index].last.final_ns.is_none() {
                // `stat` rounds down to whole ticks twice, which loses most of a short-lived process's CPU time.
                self.entries[index].last.final_ns = self.first_threads_ns(stat.pid);
            }
        } else if self.reads_cgroups && !stat.kernel_thread && !stat.exiting && entry.cgroup_is_due(stat, now)
        {
            entry.cgroup_read = Some((now, stat.own_ticks.saturating_add(stat.reaped_ticks)));
            let before = entry.last.cgroup;
            let file = self.open_file(stat.pid, c"cgroup").ok();
            if let Some(content) = file.and_then(|file| self.read_small(&file)) {
                let cgroup = Some(self.cgroups.intern(&content));
                // In v1 hierarchies, the `cgroup` of a process that has begun to exit reads `/` before it is a zombie.
                if cgroup == before || !self.is_exiting(index) {
                    self.entries[index].last.cgroup = cgroup;
                }
            }
        }
        let entry = &mut self.entries[index];
        let Observation { cgroup, final_ns, .. } = entry.last;
        entry.last = Observation { final_ns, rss_pages, cgroup, ..Observation::new(stat) };
        entry.last
    }

    /// The first field of `schedstat`: nanoseconds on a CPU (`Documentation/scheduler/sched-stats.rst`).
    fn first_threads_ns(&mut self, pid: u32) -> Option<u64> {
        let file = self.open_file(pid, c"schedstat").ok()?;
        let content = self.read_small(&file)?;
        std::str::from_utf8(&content).ok()?.split_ascii_whitespace().next()?.parse().ok()
    }

    fn is_exiting(&mut self, index: usize) -> bool {
        let again = self.read_again(index);
        again.map_or(true, |stat| stat.exiting || stat.is_zombie())
    }

    /// For a process whose first thread has ended: RSS and, if unknown, the cgroup from a thread that still runs.
    fn remaining_thread(&mut self, index: usize) -> Option<u64> {
        let entry = &mut self.entries[index];
        let tasks = std::fs::read_dir(self.path.join(format!("{}/task", entry.last.key.pid))).ok()?;
        for thread in tasks.flatten().take(MAX_THREADS) {
            let stat = std::fs::read(thread.path().join("stat")).ok();
            let Some(stat) = stat.and_then(|content| PidStat::parse(&content).ok()) else { continue };
            if stat.is_zombie() {
                continue;
            }
            if self.reads_cgroups
                && entry.last.cgroup.is_none()
                && let Ok(content) = std::fs::read(thread.path().join("cgroup"))
            {
                entry.last.cgroup = Some(self.cgroups.intern(&content));
            }
            return Some(stat.rss_pages);
        }
        None
    }

    fn open_file(&mut self, pid: u32, name: &std::ffi::CStr) -> Result<OwnedFd, Errno> {
        let mut path = [0u8; 32];
        let path = join_path(&mut path, pid, name);
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        match openat(&self.root, path, flags, Mode::empty()) {
            Err(Errno::MFILE | Errno::NFILE) => {
                self.release_descriptors();
                openat(&self.root, path, flags, Mode::empty())
            }
            result => result,
        }
    }

    /// The limit on descriptors was lower than reported, or was lowered: close some of the open ones.
    fn release_descriptors(&mut self) {
        self.descriptor_budget = self.descriptors.saturating_sub(RESERVED_DESCRIPTORS);
        let excess = self.descriptors - self.descriptor_budget;
        let kept = self.entries.iter_mut().rev().filter_map(|entry| entry.stat.take());
        self.descriptors -= kept.take(excess as usize).count() as u64;
    }

    fn read_small(&mut self, file: &OwnedFd) -> Option<Vec<u8>> {
        let mut content = Vec::new();
        loop {
            match pread(file, &mut self.buffer[..], content.len() as u64) {
                Ok(0) => break,
                Ok(count) => content.extend_from_slice(&self.buffer[..count]),
                Err(Errno::INTR) => {}
                Err(_) => return None,
            }
            // A `cgroup` file that fits the buffer ends with its newline: skip the read that only finds its end.
            if content.len() < self.buffer.len() && content.ends_with(b"\n") {
                break;
            }
        }
        (!content.is_empty()).then_some(content)
    }
}

impl TableEntry {
    /// Whether the process may be in another cgroup by now: runtimes move a process right after its start, and a process
    /// that has used no CPU time since the last read has nothing to charge to the wrong container.
    fn cgroup_is_due(&self, stat: &PidStat, now: Duration) -> bool {
        let Some((read_at, ticks)) = self.cgroup_read else { return true };
        self.sights <= 2
            || now.saturating_sub(self.first_seen) < ARRIVAL
            || stat.own_ticks.saturating_add(stat.reaped_ticks) != ticks
            || now.saturating_sub(read_at) >= CGROUP_TRUST
    }
}

impl TablePass {
    fn count(&mut self, error: &ReadError) {
        match error {
            ReadError::Gone => {}
            ReadError::Forbidden => self.forbidden += 1,
            ReadError::Garbled => self.garbled += 1,
        }
    }
}

#[cfg(test)]
mod tests;
