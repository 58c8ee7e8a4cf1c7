//! Loads and attaches the programs, or explains why the kernel refuses them.

use std::fs;
use std::path::Path;

use aya::maps::{HashMap, PerCpuArray, RingBuf};
use aya::programs::{BtfTracePoint, ProgramError};
use aya::{Ebpf, EbpfLoader};
use aya_log::EbpfLogger;
use collector_ebpf::{Config, Counters};
use tracing::debug;

use super::btf::Btf;
use super::cgroup_paths::CgroupPaths;
use super::environments::Environments;
use super::{BpfProgram, ConfigValue, ProgramOptions, StartClock, Unavailable, privileges};
use crate::host;
use crate::sample::uptime;

/// The programs and their tracepoints, attached in this order: the record of a process that exits must be sure to be taken
/// when it is freed.
const PROGRAMS: [(&str, &str); 5] = [
    ("process_free", "sched_process_free"),
    ("process_exit", "sched_process_exit"),
    ("process_exec", "sched_process_exec"),
    ("process_fork", "sched_process_fork"),
    (MOVES, "cgroup_attach_task"),
];
/// Not needed if the descendants of one process are followed: they belong to it wherever they move.
const MOVES: &str = "cgroup_move";
/// The first kernel with everything that the program needs.
const OLDEST_KERNEL: (u32, u32) = (5, 8);
/// Global variable of the program's logger that sets its level.
const LOG_LEVEL: &str = aya_log::LEVEL;
const LOG_NOTHING: u8 = 0;

/// Loads and attaches the programs.
pub(super) fn load(
    object: &[u8],
    config: Config,
    btf: &Btf<'_>,
    options: &ProgramOptions<'_>,
) -> Result<BpfProgram, String> {
    let config = ConfigValue(config);
    // Only the ids are needed; reading every type would take longer than everything else here.
    let typedefs = PROGRAMS.map(|(_, tracepoint)| format!("btf_trace_{tracepoint}"));
    let ids = btf.with_ids_of(&typedefs.each_ref().map(String::as_str));
    let ids = aya::Btf::parse(&ids, aya::Endianness::default()).map_err(|error| causes(&error))?;
    // The loader also reads and parses the kernel's BTF for relocations, of which there are none here; versions for Rust
    // 1.98 and later no longer do. It continues without a file that it cannot open.
    let mut loader = privileges::without_opening(EbpfLoader::new);
    loader.override_global("CONFIG", &config, true);
    if !options.log {
        loader.override_global(LOG_LEVEL, &LOG_NOTHING, true);
    }
    loader.map_max_entries("RECORDS", options.ring_bytes);
    let mut program = loader.load(object).map_err(|error| causes(&error))?;
    let log = if options.log {
        Some(EbpfLogger::init(&mut program).map_err(|error| causes(&error))?)
    } else {
        None
    };
    let mut map = |name: &str| program.take_map(name).ok_or_else(|| format!("no map {name}"));
    let records = RingBuf::try_from(map("RECORDS")?).map_err(|error| causes(&error))?;
    let counters = PerCpuArray::try_from(map("COUNTERS")?).map_err(|error| causes(&error))?;
    let exiting = HashMap::try_from(map("EXITING")?).map_err(|error| causes(&error))?;
    let wanted = |(name, _): &(&str, &str)| options.root.is_none() || *name != MOVES;
    // The kernel's check of each takes some milliseconds: they are attached together, once all are loaded.
    for (name, tracepoint) in PROGRAMS.into_iter().filter(wanted) {
        tracing_program(&mut program, name)?
            .load(tracepoint, &ids)
            .map_err(|error| load_error(name, &error))?;
    }
    for (name, _) in PROGRAMS.into_iter().filter(wanted) {
        tracing_program(&mut program, name)?.attach().map_err(|error| load_error(name, &error))?;
    }
    Ok(BpfProgram {
        _program: program,
        records,
        counters,
        exiting,
        log,
        clock: StartClock { tick_ns: options.tick_ns, offset_ns: uptime::namespace_offset_ns() },
        cgroups: CgroupPaths::new(options.cgroup_roots),
        environments: Environments::default(),
        counted: Counters::default(),
    })
}

/// Why the program cannot be loaded.
pub(super) fn refusal(cause: String) -> Unavailable {
    let release = host::kernel_release();
    if locked_down() {
        Unavailable::Lockdown
    } else if host::kernel_version(&release).is_some_and(|version| version < OLDEST_KERNEL) {
        Unavailable::TooOld { release, cause }
    } else {
        Unavailable::Refused(cause)
    }
}

fn tracing_program<'a>(program: &'a mut Ebpf, name: &str) -> Result<&'a mut BtfTracePoint, String> {
    let one = program.program_mut(name).ok_or_else(|| format!("no program {name}"))?;
    one.try_into().map_err(|error| load_error(name, &error))
}

/// The error in one line; the verifier's output goes to the log.
fn load_error(program: &str, error: &ProgramError) -> String {
    match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            debug!(program, verifier = %verifier_log, "the kernel's verifier refuses a program");
            format!("{program}: {io_error} (its verifier's log is logged at the debug level)")
        }
        error => format!("{program}: {}", causes(error)),
    }
}

fn locked_down() -> bool {
    let lockdown = fs::read_to_string(Path::new("/sys/kernel/security/lockdown"));
    lockdown.is_ok_and(|text| text.contains("[confidentiality]"))
}

/// An error with all its causes, in one line.
fn causes(error: &dyn std::error::Error) -> String {
    let chain = std::iter::successors(Some(error), |error| error.source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
