//! The eBPF program: loaded, attached and drained. The only module that knows aya.

pub mod btf;
pub mod offsets;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use aya::maps::{MapData, PerCpuArray, RingBuf};
use aya::programs::BtfTracePoint;
use aya::{Ebpf, EbpfLoader};
use collector_ebpf::{CgroupIds, CgroupRecord, Config, Counters, ExitRecord, NAME_LEN, kind};
use rustix::thread::{CapabilitySet, capabilities};

use self::btf::{Btf, BtfError};

/// The object, where the collector was built with one.
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

const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";
const PROGRAMS: [&str; 4] = ["process_fork", "process_exec", "process_exit", "process_free"];
/// Bytes of the ring buffer: what some 12,000 processes of one interval need.
pub const RING_BYTES: u32 = 1 << 20;

/// Why the program does not run.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    /// The collector has no object to load.
    #[error("built without eBPF")]
    NotBuilt,
    /// Asked not to.
    #[error("turned off")]
    Off,
    /// Capabilities are missing.
    #[error("no {0}")]
    Capability(&'static str),
    /// There is no BTF.
    #[error("the kernel has no BTF ({KERNEL_BTF}: {0})")]
    NoBtf(io::Error),
    /// The BTF cannot be read.
    #[error("the kernel's BTF cannot be used: {0}")]
    BadBtf(#[from] BtfError),
    /// The kernel is not one of those known here.
    #[error(transparent)]
    Kernel(#[from] offsets::Missing),
    /// The PID namespace of the collector cannot be told.
    #[error("cannot tell the own PID namespace: {0}")]
    Namespace(io::Error),
    /// The kernel's lockdown forbids it.
    #[error("the kernel is locked down (confidentiality), which forbids eBPF programs to read its memory")]
    Lockdown,
    /// The kernel refuses the program.
    #[error("the kernel refuses the eBPF program: {0}")]
    Refused(String),
}

/// What was read from the ring buffer since it was read last.
#[derive(Debug, Default)]
pub struct Drained {
    /// Processes that ended.
    pub exits: Vec<ExitRecord>,
    /// Processes whose record was lost since then.
    pub lost: u64,
}

/// The program while it runs.
pub struct Tracer {
    /// Programs stay attached as long as this lives.
    _program: Ebpf,
    records: RingBuf<MapData>,
    counters: PerCpuArray<MapData, CountersValue>,
    cgroups: HashMap<(u64, bool), String>,
    lost: u64,
}

impl std::fmt::Debug for Tracer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tracer")
            .field("cgroups", &self.cgroups)
            .field("lost", &self.lost)
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
struct ConfigValue(Config);

// SAFETY: as above.
unsafe impl aya::Pod for ConfigValue {}

impl Tracer {
    /// Loads and attaches the program. `root`: only the descendants of the process with this PID are followed.
    pub fn start(root: Option<u32>) -> Result<Self, Unavailable> {
        let object = OBJECT.ok_or(Unavailable::NotBuilt)?;
        check_capabilities()?;
        let bytes = fs::read(KERNEL_BTF).map_err(Unavailable::NoBtf)?;
        let mut config = offsets::resolve(&Btf::parse(&bytes)?)?;
        let namespace = fs::metadata("/proc/self/ns/pid").map_err(Unavailable::Namespace)?;
        config.own_pid_ns = namespace.ino() as u32;
        config.root_pid = root.unwrap_or(0);
        config.wake_bytes = RING_BYTES / 2;
        Self::load(object, config)
            .map_err(|error| if locked_down() { Unavailable::Lockdown } else { Unavailable::Refused(error) })
    }

    fn load(object: &[u8], config: Config) -> Result<Self, String> {
        let config = ConfigValue(config);
        let mut loader = EbpfLoader::new();
        loader.override_global("CONFIG", &config, true).map_max_entries("RECORDS", RING_BYTES);
        let mut program = loader.load(object).map_err(|error| causes(&error))?;
        let btf = aya::Btf::from_sys_fs().map_err(|error| causes(&error))?;
        let records = program.take_map("RECORDS").ok_or("no map RECORDS")?;
        let records = RingBuf::try_from(records).map_err(|error| causes(&error))?;
        let counters = program.take_map("COUNTERS").ok_or("no map COUNTERS")?;
        let counters = PerCpuArray::try_from(counters).map_err(|error| causes(&error))?;
        for name in PROGRAMS {
            let tracepoint = name.replacen("process", "sched_process", 1);
            let one = program.program_mut(name).ok_or_else(|| format!("no program {name}"))?;
            let one: &mut BtfTracePoint =
                one.try_into().map_err(|error: aya::programs::ProgramError| causes(&error))?;
            one.load(&tracepoint, &btf).map_err(|error| format!("{name}: {}", causes(&error)))?;
            one.attach().map_err(|error| format!("{name}: {}", causes(&error)))?;
        }
        Ok(Self { _program: program, records, counters, cgroups: HashMap::new(), lost: 0 })
    }

    /// Everything that was written since the last time.
    pub fn drain(&mut self) -> Drained {
        let mut drained = Drained::default();
        while let Some(record) = self.records.next() {
            let Some(kind) = record.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes)) else { continue };
            match kind {
                kind::EXIT => drained.exits.extend(read::<ExitRecord>(&record)),
                kind::CGROUP => {
                    if let Some(cgroup) = read::<CgroupRecord>(&record) {
                        self.cgroups.insert((cgroup.id, cgroup.v1 == 1), path(&cgroup));
                    }
                }
                _ => {}
            }
        }
        let lost = self.lost();
        drained.lost = lost - self.lost;
        self.lost = lost;
        drained
    }

    /// What `/proc/[pid]/cgroup` would hold for a process of these cgroups, seen from the initial cgroup namespace.
    pub fn cgroup_content(&self, ids: CgroupIds) -> Option<Vec<u8>> {
        let mut content = String::new();
        if let Some(path) = self.cgroups.get(&(ids.v1, true)) {
            content = format!("1:cpuacct:{path}\n");
        }
        if let Some(path) = self.cgroups.get(&(ids.unified, false)) {
            content.push_str("0::");
            content.push_str(path);
            content.push('\n');
        }
        (!content.is_empty()).then(|| content.into_bytes())
    }

    /// Processes that left no record, since the start.
    pub fn lost(&self) -> u64 {
        let Ok(counters) = self.counters.get(&0, 0) else { return self.lost };
        counters.iter().map(|one| one.0.lost_ring + one.0.lost_map).sum::<u64>().max(self.lost)
    }
}

/// Both are asked for by name: without either the kernel only answers that it is not permitted.
fn check_capabilities() -> Result<(), Unavailable> {
    let Ok(sets) = capabilities(None) else { return Ok(()) };
    let have = |one| sets.effective.contains(one) || sets.effective.contains(CapabilitySet::SYS_ADMIN);
    match (have(CapabilitySet::BPF), have(CapabilitySet::PERFMON)) {
        (true, true) => Ok(()),
        (false, true) => Err(Unavailable::Capability("CAP_BPF")),
        (true, false) => Err(Unavailable::Capability("CAP_PERFMON")),
        (false, false) => Err(Unavailable::Capability("CAP_BPF and no CAP_PERFMON")),
    }
}

fn locked_down() -> bool {
    let lockdown = fs::read_to_string(Path::new("/sys/kernel/security/lockdown"));
    lockdown.is_ok_and(|text| text.contains("[confidentiality]"))
}

fn read<T: Copy>(bytes: &[u8]) -> Option<T> {
    // SAFETY: both records are integers only, so that any bytes make one; the length is checked.
    (bytes.len() >= size_of::<T>()).then(|| unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

fn path(cgroup: &CgroupRecord) -> String {
    let mut path = String::new();
    for name in cgroup.names.iter().take(cgroup.depth as usize).rev() {
        let end = name.iter().position(|&byte| byte == 0).unwrap_or(NAME_LEN);
        path.push('/');
        path.push_str(&String::from_utf8_lossy(&name[..end]));
    }
    if path.is_empty() { "/".to_owned() } else { path }
}

/// An error with all that caused it, in one line.
fn causes(error: &dyn std::error::Error) -> String {
    let chain = std::iter::successors(Some(error), |error| error.source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
