//! The eBPF program: loaded, attached and drained. The only module that knows aya.

pub mod btf;
pub mod offsets;

mod cgroup_paths;
mod environments;
mod load;
mod privileges;

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use aya::Ebpf;
use aya::maps::{HashMap, MapData, PerCpuArray, RingBuf};
use aya_log::EbpfLogger;
pub use collector_ebpf::CgroupIds;
use collector_ebpf::{
    BeginRecord, CgroupRecord, Config, Counters, EnvironmentRecord, ExitRecord, MoveRecord, kind,
};
use tracing::debug;

use self::btf::{Btf, BtfError};
use self::cgroup_paths::CgroupPaths;
use self::environments::Environments;
use super::pid_stat::Comm;
use super::process_table::ProcessKey;

/// The object, if the collector was built with one.
pub const OBJECT: Option<&[u8]> = {
    #[cfg(bpf_object)]
    {
        Some(aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/collector-ebpf")))
    }
    #[cfg(not(bpf_object))]
    {
        None
    }
};

/// Descriptors reserved for everything else: /proc, cgroups, a connection, and files that are written.
const SPARE_DESCRIPTORS: usize = 16;
const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// Why the program does not run.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    /// The collector has no object to load.
    #[error("built without eBPF")]
    NotBuilt,
    /// It is turned off.
    #[error("turned off")]
    Off,
    /// Capabilities are missing.
    #[error("no {0}")]
    Capability(&'static str),
    /// The kernel is too old for the program.
    #[error("the kernel is too old ({release}; 5.8 or later is needed): {cause}")]
    TooOld {
        /// Its release.
        release: String,
        /// The error.
        cause: String,
    },
    /// No descriptors would be left for measuring.
    #[error("there are too few file descriptors (ulimit -n); 64 are enough")]
    Descriptors,
    /// There is no BTF.
    #[error("the kernel has no BTF ({KERNEL_BTF}: {0})")]
    NoBtf(io::Error),
    /// The BTF cannot be read.
    #[error("the kernel's BTF cannot be used: {0}")]
    BadBtf(#[from] BtfError),
    /// The kernel's BTF lacks a field that the program needs.
    #[error(transparent)]
    Kernel(#[from] offsets::Missing),
    /// The collector's own PID namespace is unknown.
    #[error("cannot determine the collector's PID namespace: {0}")]
    Namespace(io::Error),
    /// The collector cannot wait for the ring buffer.
    #[error("cannot wait for the ring buffer: {0}")]
    Events(io::Error),
    /// The kernel's lockdown forbids it.
    #[error("the kernel is locked down (confidentiality), which forbids eBPF programs to read its memory")]
    Lockdown,
    /// The kernel refuses the program.
    #[error("the kernel refuses the eBPF program: {0}")]
    Refused(String),
}

/// The final figures of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// Which process.
    pub key: ProcessKey,
    /// Its parent's PID when it ended, 0 if that is not visible.
    pub parent_pid: u32,
    /// Whether it was in that parent's cgroups.
    pub in_parents_cgroups: bool,
    /// Command name at its end.
    pub comm: Comm,
    /// From boot to its start in nanoseconds.
    pub start_ns: u64,
    /// From boot to its end in nanoseconds, in the clock of its start.
    pub end_ns: u64,
    /// CPU time of all its threads in nanoseconds.
    pub own_ns: u64,
    /// CPU time of the children that it waited for in nanoseconds.
    pub reaped_ns: u64,
    /// Highest resident set size in pages.
    pub peak_rss_pages: u64,
    /// Bytes that it caused to be read from disks.
    pub disk_read_bytes: u64,
    /// Bytes that it caused to be written to disks.
    pub disk_written_bytes: u64,
    /// Its cgroups.
    pub cgroups: CgroupIds,
}

/// A process was moved to other cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Move {
    /// Which process.
    pub key: ProcessKey,
    /// Its parent's PID, 0 if that is not visible.
    pub parent_pid: u32,
    /// CPU time of all its threads so far in nanoseconds.
    pub own_ns: u64,
    /// Its cgroups now.
    pub cgroups: CgroupIds,
}

/// The records that came through the ring buffer since the last read.
#[derive(Debug, Default)]
pub struct Drained {
    /// Processes that ended.
    pub exits: Vec<Exit>,
    /// Processes that were moved, in the order of the moves.
    pub moves: Vec<Move>,
    /// Processes that executed one of the first programs in their cgroup: a container began.
    pub begun: Vec<FirstExec>,
}

impl Drained {
    /// Whether nothing was read.
    pub fn is_empty(&self) -> bool {
        self.exits.is_empty() && self.moves.is_empty() && self.begun.is_empty()
    }
}

/// A process executed one of the first programs in its cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirstExec {
    /// Which process.
    pub key: ProcessKey,
    /// Its parent's PID, 0 if that is not visible.
    pub parent_pid: u32,
    /// Its cgroups.
    pub cgroups: CgroupIds,
    /// Its environment, as in `/proc/[pid]/environ`; `None` if it was not requested, is too long or was lost.
    pub environment: Option<Vec<u8>>,
}

/// The program's counts since the last request.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Growth {
    /// Processes that ended.
    pub ended: u64,
    /// Processes without a record, because there was no room for it.
    pub lost: u64,
    /// Processes whose free event never came; their records were written when another process took their address.
    pub missed: u64,
}

/// Converts start times in the kernel's memory to those in `/proc`.
#[derive(Debug, Clone, Copy)]
struct StartClock {
    tick_ns: u64,
    offset_ns: i64,
}

impl StartClock {
    fn key(self, pid: u32, start_boottime_ns: u64) -> ProcessKey {
        let start_ticks = start_boottime_ns.saturating_add_signed(self.offset_ns) / self.tick_ns;
        ProcessKey { pid, start_ticks }
    }
}

/// The program's options.
#[derive(Debug, Clone, Copy)]
pub struct ProgramOptions<'a> {
    /// Where proc is mounted: PIDs are those of its PID namespace.
    pub proc_path: &'a Path,
    /// Only the descendants of the process with this PID are followed.
    pub root: Option<u32>,
    /// Nanoseconds per clock tick.
    pub tick_ns: u64,
    /// The root inodes of the mounted cgroup hierarchies, v2 and v1: paths begin there.
    pub cgroup_roots: CgroupIds,
    /// Size of the ring buffer; a power of two and whole pages.
    pub ring_bytes: u32,
    /// Whether it reports the environment of processes that begin a container.
    pub environments: bool,
    /// Whether the program logs what it does.
    pub log: bool,
    /// Whether the capabilities for loading it are dropped afterwards.
    pub shed_privileges: bool,
}

/// The program while it runs.
pub struct BpfProgram {
    /// Programs stay attached as long as this lives.
    _program: Ebpf,
    records: RingBuf<MapData>,
    counters: PerCpuArray<MapData, CountersValue>,
    /// Processes that have ended and have not been freed yet.
    exiting: HashMap<MapData, u64, ExitValue>,
    log: Option<EbpfLogger<&'static dyn log::Log>>,
    clock: StartClock,
    cgroups: CgroupPaths,
    environments: Environments,
    counted: Counters,
}

impl std::fmt::Debug for BpfProgram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BpfProgram")
            .field("cgroups", &self.cgroups)
            .field("counted", &self.counted)
            .finish_non_exhaustive()
    }
}

#[repr(transparent)]
#[derive(Debug, Clone, Copy)]
struct CountersValue(Counters);

// SAFETY: integers only, without padding, by the assertions beside the type.
unsafe impl aya::Pod for CountersValue {}

#[repr(transparent)]
#[derive(Debug, Clone, Copy)]
struct ExitValue(ExitRecord);

// SAFETY: as above.
unsafe impl aya::Pod for ExitValue {}

#[repr(transparent)]
#[derive(Debug, Clone, Copy)]
struct ConfigValue(Config);

// SAFETY: as above.
unsafe impl aya::Pod for ConfigValue {}

/// Whether enough further files can be opened.
fn has_spare_descriptors() -> bool {
    use rustix::fs::{Mode, OFlags, open};
    let opened = (0..SPARE_DESCRIPTORS).map(|_| open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()));
    opened.collect::<Result<Vec<_>, _>>().is_ok()
}

impl BpfProgram {
    /// Loads and attaches the program.
    pub fn start(options: &ProgramOptions<'_>) -> Result<Self, Unavailable> {
        let object = OBJECT.ok_or(Unavailable::NotBuilt)?;
        privileges::check()?;
        let bytes = fs::read(KERNEL_BTF).map_err(Unavailable::NoBtf)?;
        let btf = Btf::parse(&bytes)?;
        let mut config = offsets::resolve(&btf)?;
        config.own_pid_ns = pid_namespace(options.proc_path).map_err(Unavailable::Namespace)?;
        config.root_pid = options.root.unwrap_or(0);
        config.wake_bytes = options.ring_bytes / 2;
        if !options.environments {
            config.mm_env_start = 0;
        }
        let loaded = privileges::with_locked_memory(|| load::load(object, config, &btf, options));
        let tracer = loaded.map_err(load::refusal)?;
        if !has_spare_descriptors() {
            return Err(Unavailable::Descriptors);
        }
        if options.shed_privileges {
            privileges::shed(|| tracer.counters.get(&0, 0).is_ok());
        }
        Ok(tracer)
    }

    /// Reads all records since the last time.
    pub fn drain(&mut self, into: &mut Drained) {
        let clock = self.clock;
        while let Some(record) = self.records.next() {
            let Some(kind) = record.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes)) else { continue };
            match kind {
                kind::EXIT => into.exits.extend(read(&record).map(|record| exit(clock, &record))),
                kind::MOVE => into.moves.extend(read(&record).map(|record| moved(clock, &record))),
                kind::ENVIRONMENT => {
                    if let Some(part) = read::<EnvironmentRecord>(&record) {
                        self.environments.add(&part);
                    }
                }
                kind::BEGIN => {
                    if let Some(begun) = read::<BeginRecord>(&record) {
                        into.begun.push(FirstExec {
                            key: clock.key(begun.pid, begun.start_boottime_ns),
                            parent_pid: begun.parent_pid,
                            cgroups: begun.cgroups,
                            environment: self.environments.take(begun.pid, begun.environment_bytes),
                        });
                    }
                }
                kind::CGROUP => {
                    if let Some(cgroup) = read::<CgroupRecord>(&record) {
                        self.cgroups.learn(&cgroup);
                    }
                }
                _ => {}
            }
        }
        if let Some(log) = &mut self.log {
            log.flush();
        }
    }

    /// Processes that have ended, but that their parent has not waited for or the kernel has not freed yet. Their figures
    /// are as far as the kernel had counted when they ended.
    pub fn exiting(&self) -> impl Iterator<Item = Exit> {
        self.exiting.iter().filter_map(|entry| Some(exit(self.clock, &entry.ok()?.1.0)))
    }

    /// Forgets ended processes whose free event never came; returns those that were still there.
    pub fn give_up(&mut self, keys: &[ProcessKey]) -> Vec<Exit> {
        let clock = self.clock;
        let entries: Vec<_> = self.exiting.iter().flatten().collect();
        let stale = entries.into_iter().map(|(address, ExitValue(record))| (address, exit(clock, &record)));
        let stale = stale.filter(|(_, exit)| keys.contains(&exit.key));
        stale.filter_map(|(address, exit)| self.exiting.remove(&address).ok().map(|()| exit)).collect()
    }

    /// The content that `/proc/[pid]/cgroup` would have for a process of these cgroups; `None` if their record was lost.
    pub fn cgroup_content(&mut self, ids: CgroupIds) -> Option<Vec<u8>> {
        self.cgroups.content(ids)
    }

    /// The program's counts since the last call.
    pub fn growth(&mut self) -> Growth {
        let counted = self.counters();
        let lost = |counters: &Counters| counters.lost_ring + counters.lost_map;
        let growth = Growth {
            ended: counted.exits.saturating_sub(self.counted.exits),
            lost: lost(&counted).saturating_sub(lost(&self.counted)),
            missed: counted.missed.saturating_sub(self.counted.missed),
        };
        self.counted = counted;
        debug!(?counted, "counted by the eBPF program");
        growth
    }

    fn counters(&self) -> Counters {
        let mut sum = Counters::default();
        let Ok(per_cpu) = self.counters.get(&0, 0) else { return self.counted };
        for CountersValue(one) in per_cpu.iter() {
            sum.forks += one.forks;
            sum.execs += one.execs;
            sum.moves += one.moves;
            sum.exits += one.exits;
            sum.records += one.records;
            sum.lost_ring += one.lost_ring;
            sum.lost_map += one.lost_map;
            sum.missed += one.missed;
        }
        sum
    }
}

impl AsRawFd for BpfProgram {
    /// As [`AsFd`]; tokio needs both.
    fn as_raw_fd(&self) -> RawFd {
        self.records.as_raw_fd()
    }
}

impl AsFd for BpfProgram {
    /// Readable once the ring buffer is half full, or a container begins.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.records.as_fd()
    }
}

fn exit(clock: StartClock, record: &ExitRecord) -> Exit {
    Exit {
        key: clock.key(record.pid, record.start_boottime_ns),
        parent_pid: record.parent_pid,
        in_parents_cgroups: record.in_parents_cgroups == 1,
        comm: Comm::new(record.comm.split(|&byte| byte == 0).next().unwrap_or_default()),
        start_ns: record.start_boottime_ns.saturating_add_signed(clock.offset_ns),
        end_ns: record.end_boottime_ns.saturating_add_signed(clock.offset_ns),
        own_ns: record.cpu_ns,
        reaped_ns: record.reaped_ns,
        peak_rss_pages: record.max_rss_pages,
        disk_read_bytes: record.disk_read_bytes,
        disk_written_bytes: record.disk_written_bytes,
        cgroups: record.cgroups,
    }
}

fn moved(clock: StartClock, record: &MoveRecord) -> Move {
    Move {
        key: clock.key(record.pid, record.start_boottime_ns),
        parent_pid: record.parent_pid,
        own_ns: record.cpu_ns,
        cgroups: record.cgroups,
    }
}

/// The inode of the PID namespace that this proc mount shows.
fn pid_namespace(proc_path: &Path) -> io::Result<u32> {
    // The reader's PIDs, from the mount's namespace inwards: only one if the mount's namespace is its own.
    let status = fs::read_to_string(proc_path.join("self/status"))?;
    let pids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    let own = pids.is_some_and(|pids| pids.split_ascii_whitespace().count() == 1);
    let namespace = if own { "self/ns/pid" } else { "1/ns/pid" };
    Ok(fs::metadata(proc_path.join(namespace))?.ino() as u32)
}

fn read<T: Copy>(bytes: &[u8]) -> Option<T> {
    // SAFETY: the records are integers only, so any bytes are valid; the length is checked.
    (bytes.len() >= size_of::<T>()).then(|| unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}
