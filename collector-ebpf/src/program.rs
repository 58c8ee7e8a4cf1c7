//! The eBPF program: follows processes in the kernel and writes a final record for each one that ends.
//!
//! A task's identity is gone when it is freed, and its CPU time is not complete before. So the name and the cgroups of a
//! process are kept when its last thread exits (`EXITING`), and its usage is read when its leader is freed.

#![expect(clippy::needless_pass_by_value, reason = "a program is handed its context")]

use aya_ebpf::helpers::generated::{bpf_ktime_get_boot_ns, bpf_probe_read_kernel_str, bpf_probe_read_user};
use aya_ebpf::macros::{btf_tracepoint, map};
use aya_ebpf::maps::{HashMap, LruHashMap, PerCpuArray, RingBuf};
use aya_ebpf::programs::BtfTracePointContext;
use aya_log_ebpf::{debug, trace};
use collector_ebpf::{
    BeginRecord, COMM_LEN, CgroupIds, CgroupRecord, Counters, ENVIRONMENT_CHUNK, ENVIRONMENT_CHUNKS,
    EnvironmentRecord, ExitRecord, MoveRecord, NAME_LEN, PATH_DEPTH, kind,
};

use crate::kernel::{Address, Name, comm, config, leaders_pid, offset, own_pid, pid_and_tgid, process_pid};

/// The reader polls; only a buffer that fills up wakes it.
const NO_WAKEUP: u64 = 1;
const FORCE_WAKEUP: u64 = 2;
const AVAILABLE_DATA: u64 = 0;
/// The flag to insert only if there is no entry (`BPF_NOEXIST`), and the error if there is one (`EEXIST`).
const IF_NONE: u64 = 1;
const THERE_IS_ONE: i32 = -17;
/// At most this many programs executed in a cgroup wake the reader: a runtime executes itself there before the container's
/// program, and a shell the program that it was started for.
const FIRST_EXECS: u32 = 3;
/// At most this many threads of a moved process are read for their CPU time: a runtime moves a process that has just
/// started.
const MOVED_THREADS: u32 = 64;

/// Records for the collector, which chooses the size.
#[map]
static RECORDS: RingBuf = RingBuf::with_byte_size(4_096, 0);
/// Exit records of processes whose last thread has exited, by the address of the leader.
#[map]
static EXITING: HashMap<u64, ExitRecord> = HashMap::with_max_entries(16_384, 0);
/// The last program that each process executed, by the address of the leader. A process without an entry is reported by its
/// current name.
#[map]
static EXECUTED: HashMap<u64, Executed> = HashMap::with_max_entries(32_768, 0);
/// Descendants of the root process, by PID in the initial namespace: filled only if there is a root.
#[map]
static MEMBERS: HashMap<u32, u32> = HashMap::with_max_entries(32_768, 0);
/// Cgroups that were reported to the collector.
#[map]
static TOLD: LruHashMap<CgroupIds, u8> = LruHashMap::with_max_entries(4_096, 0);
/// How many programs were executed in a cgroup, up to [`FIRST_EXECS`].
#[map]
static BEGUN: LruHashMap<CgroupIds, u32> = LruHashMap::with_max_entries(4_096, 0);
#[map]
static COUNTERS: PerCpuArray<Counters> = PerCpuArray::with_max_entries(1, 0);

/// The last program that a process executed; the process may have renamed itself since.
#[derive(Clone, Copy)]
struct Executed {
    /// Its start: addresses are reused.
    start_boottime_ns: u64,
    comm: Name,
}

fn count(field: fn(&mut Counters) -> &mut u64) {
    if let Some(counters) = COUNTERS.get_ptr_mut(0) {
        // SAFETY: each CPU has its own, and programs do not preempt one another there.
        *field(unsafe { &mut *counters }) += 1;
    }
}

/// The last program that this leader's process executed, if it is remembered.
fn executed(leader: Address) -> Option<Name> {
    // SAFETY: it is copied at once; if it is replaced meanwhile, the start shows it.
    let executed = unsafe { EXECUTED.get(leader.0) }.copied()?;
    let start: u64 = leader.load(offset(&config().task.start_boottime));
    // Otherwise it is of an earlier process at this address.
    (executed.start_boottime_ns == start).then_some(executed.comm)
}

fn note_executed(leader: Address, comm: Name) {
    let start_boottime_ns = leader.load(offset(&config().task.start_boottime));
    let _ = EXECUTED.insert(leader.0, Executed { start_boottime_ns, comm }, 0);
}

fn kernfs_id(cgroup: Address) -> u64 {
    let config = config();
    cgroup.step(offset(&config.cgroup_kn)).load(offset(&config.kernfs_id))
}

/// Reports the cgroup at this address to the collector. Returns 1 if there was room for the record.
///
/// A global function, which the verifier checks separately, for any address. Inside its callers it would be checked again
/// on each path that leads to it.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn tell_cgroup(cgroup: u64, v1: u64) -> u64 {
    u64::from(write_cgroup(Address(cgroup), v1).is_some())
}

fn write_cgroup(cgroup: Address, v1: u64) -> Option<()> {
    let config = config();
    let mut at = cgroup.follow(offset(&config.cgroup_kn));
    let mut entry = RECORDS.reserve::<CgroupRecord>(0)?;
    let record = entry.as_mut_ptr();
    let mut depth = 0;
    // SAFETY: the record lies in the ring buffer and is as large as its type.
    unsafe {
        (&raw mut (*record).kind).write(kind::CGROUP);
        (&raw mut (*record).v1).write(v1);
        for level in 0..PATH_DEPTH {
            let name = (&raw mut (*record).names[level]).cast::<u8>();
            name.write(0);
            let id = at.and_then(|node| node.read(offset(&config.kernfs_id)));
            (&raw mut (*record).ids[level]).write(id.unwrap_or(0));
            let Some(node) = at else { continue };
            depth = level as u32 + 1;
            at = node.follow(offset(&config.kernfs_parent));
            if let Some(text) = node.follow(offset(&config.kernfs_name))
                && at.is_some()
            {
                bpf_probe_read_kernel_str(name.cast(), NAME_LEN as u32, text.0 as *const _);
            }
        }
        (&raw mut (*record).depth).write(depth);
    }
    entry.submit(NO_WAKEUP);
    Some(())
}

/// The ids of these cgroups: of the v2 hierarchy, and of the v1 hierarchy that accounts CPU. Reports them to the collector
/// first, unless they were reported already.
fn told_cgroups(css_set: Address) -> CgroupIds {
    let config = config();
    let cpu = offset(&config.css_set_cpu);
    let unified = kernfs_id(css_set.step(offset(&config.css_set_dfl_cgrp)));
    let v1 = if cpu == 0 { 0 } else { kernfs_id(css_set.step(cpu).step(offset(&config.css_cgroup))) };
    let ids = CgroupIds { unified, v1 };
    // SAFETY: only the presence is looked at.
    if unsafe { TOLD.get(ids) }.is_none() {
        // Read again: a global function takes no pointers whose type the verifier knows.
        let unified = css_set.follow(offset(&config.css_set_dfl_cgrp));
        let state = if cpu == 0 { None } else { css_set.follow(cpu) };
        let v1 = state.and_then(|state| state.follow(offset(&config.css_cgroup)));
        let told = unified.is_none_or(|cgroup| tell_cgroup(cgroup.0, 0) == 1);
        if v1.is_none_or(|cgroup| tell_cgroup(cgroup.0, 1) == 1) && told {
            let _ = TOLD.insert(ids, 1, 0);
        }
    }
    ids
}

/// A process or thread began: a descendant of a member is a member, and runs its parent's program.
#[btf_tracepoint(function = "sched_process_fork")]
fn process_fork(context: BtfTracePointContext) -> i32 {
    let parent = Address(context.arg::<*const u8>(0) as u64);
    let child = Address(context.arg::<*const u8>(1) as u64);
    let _ = begin(parent, child);
    0
}

fn begin(parent: Address, child: Address) -> Option<()> {
    let config = config();
    let tgid = leaders_pid(child)?;
    count(|counters| &mut counters.forks);
    let leader = parent.step(offset(&config.task.group_leader));
    let root = offset(&config.root_pid) as u32;
    if root != 0 {
        let [_, parent_tgid] = pid_and_tgid(parent);
        // SAFETY: only the presence is looked at.
        let member = unsafe { MEMBERS.get(parent_tgid) }.is_some() || own_pid(leader) == Some(root);
        if !member {
            return Some(());
        }
        if MEMBERS.insert(tgid, 1, 0).is_err() {
            count(|counters| &mut counters.lost_map);
        }
    }
    if let Some(name) = executed(leader)
        && comm(child)? != name
    {
        note_executed(child, name);
    }
    Some(())
}

/// A program is executed.
#[btf_tracepoint(function = "sched_process_exec")]
fn process_exec(context: BtfTracePointContext) -> i32 {
    let task = Address(context.arg::<*const u8>(0) as u64);
    count(|counters| &mut counters.execs);
    let _ = execute(&context, task);
    0
}

fn execute(context: &BtfTracePointContext, task: Address) -> Option<()> {
    let config = config();
    let [_, tgid] = pid_and_tgid(task);
    // SAFETY: only the presence is looked at.
    if offset(&config.root_pid) != 0 && unsafe { MEMBERS.get(tgid) }.is_none() {
        return None;
    }
    let pid = own_pid(task)?;
    trace!(context, "exec pid={}", pid);
    note_executed(task, comm(task)?);
    if offset(&config.root_pid) == 0 {
        tell_begin(task, pid, told_cgroups(task.step(offset(&config.task.cgroups))));
    }
    Some(())
}

/// Wakes the collector when a container begins. A job can be over before the collector looks, so its environment, which
/// names it, is reported, too.
fn tell_begin(task: Address, pid: u32, cgroups: CgroupIds) {
    if let Some(executed) = BEGUN.get_ptr_mut(cgroups) {
        // SAFETY: an entry is replaced, never freed while a program runs. Two programs that count at once only wake the
        // reader once more.
        let executed = unsafe { &mut *executed };
        if *executed >= FIRST_EXECS {
            return;
        }
        *executed += 1;
    } else if BEGUN.insert(cgroups, 1, 0).is_err() {
        return;
    }
    let config = config();
    let record = BeginRecord {
        kind: kind::BEGIN,
        pid,
        start_boottime_ns: task.load(offset(&config.task.start_boottime)),
        cgroups,
        parent_pid: task.follow(offset(&config.task.real_parent)).map_or(0, process_pid),
        environment_bytes: environment(task, pid).unwrap_or(0),
    };
    // If there is no room, the collector looks soon anyway.
    if let Some(mut entry) = RECORDS.reserve::<BeginRecord>(0) {
        entry.write(record);
        entry.submit(FORCE_WAKEUP);
    }
}

/// Reports the environment that the current process was executed with. Returns its length in bytes.
fn environment(task: Address, pid: u32) -> Option<u32> {
    let config = config();
    let at = offset(&config.mm_env_start);
    if at == 0 {
        return None;
    }
    let memory = task.step(offset(&config.task.mm));
    // Its start and its end are adjacent fields.
    let (start, end): (u64, u64) = (memory.load(at), memory.load(at + 8));
    let bytes = end.wrapping_sub(start);
    let fits = bytes <= (ENVIRONMENT_CHUNK * ENVIRONMENT_CHUNKS) as u64;
    (fits && tell_environment(pid, start, bytes) == 1).then_some(bytes as u32)
}

/// Reports it part by part. Returns 1 if there was room for all parts. A global function, like [`tell_cgroup`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn tell_environment(pid: u32, start: u64, bytes: u64) -> u64 {
    for index in 0..ENVIRONMENT_CHUNKS {
        let begin = (index * ENVIRONMENT_CHUNK) as u64;
        if begin >= bytes {
            break;
        }
        let Some(mut entry) = RECORDS.reserve::<EnvironmentRecord>(0) else { return 0 };
        let record = entry.as_mut_ptr();
        let length = (bytes - begin).min(ENVIRONMENT_CHUNK as u64) as u32;
        // SAFETY: the record lies in the ring buffer, is as large as its type, and takes at most its bytes. The memory read
        // is the current process's.
        let read = unsafe {
            (&raw mut (*record).kind).write(kind::ENVIRONMENT);
            (&raw mut (*record).pid).write(pid);
            (&raw mut (*record).index).write(index as u32);
            (&raw mut (*record).length).write(length);
            bpf_probe_read_user((&raw mut (*record).bytes).cast(), length, (start + begin) as *const _)
        };
        if read != 0 {
            entry.discard(0);
            return 0;
        }
        entry.submit(NO_WAKEUP);
    }
    1
}

/// A task was moved to another cgroup; its process's CPU time so far counts for the old one.
#[btf_tracepoint(function = "cgroup_attach_task")]
fn cgroup_move(context: BtfTracePointContext) -> i32 {
    let task = Address(context.arg::<*const u8>(2) as u64);
    let _ = tell_move(&context, task);
    0
}

fn tell_move(context: &BtfTracePointContext, task: Address) -> Option<()> {
    let config = config();
    // Moving a single thread leaves its process where it is.
    leaders_pid(task)?;
    let pid = own_pid(task)?;
    count(|counters| &mut counters.moves);
    let signal = task.step(offset(&config.task.signal));
    let mut cpu_ns: u64 = signal.load(offset(&config.signal_sum_sched_runtime));
    let head = signal.0 + offset(&config.signal_thread_head) as u64;
    let mut node = head;
    for _ in 0..MOVED_THREADS {
        node = Address(node).read(0)?;
        if node == head {
            break;
        }
        let thread = Address(node - offset(&config.task.thread_node) as u64);
        cpu_ns += thread.read::<u64>(offset(&config.task.sum_exec_runtime))?;
    }
    let cgroups = told_cgroups(task.step(offset(&config.task.cgroups)));
    let record = MoveRecord {
        kind: kind::MOVE,
        pid,
        parent_pid: task.follow(offset(&config.task.real_parent)).map_or(0, process_pid),
        unused: 0,
        start_boottime_ns: task.load(offset(&config.task.start_boottime)),
        cpu_ns,
        cgroups,
    };
    let written = write(&record);
    debug!(context, "moved pid={} cgroup={} written={}", pid, cgroups.unified, u8::from(written));
    Some(())
}

/// Hands a record to the collector, or counts it as lost.
fn write<T: Copy + 'static>(record: &T) -> bool {
    let Some(mut entry) = RECORDS.reserve::<T>(0) else {
        count(|counters| &mut counters.lost_ring);
        return false;
    };
    entry.write(*record);
    let full = RECORDS.query(AVAILABLE_DATA) > offset(&config().wake_bytes) as u64;
    entry.submit(if full { FORCE_WAKEUP } else { NO_WAKEUP });
    true
}

/// A thread exits; if it is the last of its process, the process's identity is kept until it is freed.
#[btf_tracepoint(function = "sched_process_exit")]
fn process_exit(context: BtfTracePointContext) -> i32 {
    let task = Address(context.arg::<*const u8>(0) as u64);
    let _ = keep_identity(&context, task);
    0
}

fn keep_identity(context: &BtfTracePointContext, task: Address) -> Option<()> {
    let config = config();
    let signal = task.step(offset(&config.task.signal));
    if signal.load::<u32>(offset(&config.signal_live)) != 0 {
        return None;
    }
    let leader = task.step(offset(&config.task.group_leader));
    if offset(&config.root_pid) != 0 {
        let [_, tgid] = pid_and_tgid(leader);
        // It was a member if it could be removed.
        MEMBERS.remove(tgid).ok()?;
    }
    let pid = own_pid(leader)?;
    let css_set = task.step(offset(&config.task.cgroups));
    let cgroups = told_cgroups(css_set);
    let parent = leader.follow(offset(&config.task.real_parent));
    let parents_css_set = parent.and_then(|parent| parent.follow(offset(&config.task.cgroups)));
    let name = match executed(leader) {
        Some(name) => {
            let _ = EXECUTED.remove(leader.0);
            name
        }
        None => comm(leader).unwrap_or([0; 2]),
    };
    let disk = disk_until_now(task, leader, signal);
    let record = ExitRecord {
        kind: kind::EXIT,
        pid,
        parent_pid: parent.map_or(0, process_pid),
        in_parents_cgroups: u32::from(parents_css_set.is_some_and(|parents| parents.0 == css_set.0)),
        start_boottime_ns: leader.load(offset(&config.task.start_boottime)),
        // SAFETY: the helper reads a clock.
        end_boottime_ns: unsafe { bpf_ktime_get_boot_ns() },
        cpu_ns: used_until_now(task, leader, signal),
        reaped_ns: reaped(signal),
        max_rss_pages: signal.load(offset(&config.signal_maxrss)),
        disk_read_bytes: disk[0],
        disk_written_bytes: disk[1],
        cgroups,
        // SAFETY: both are 16 bytes of which any value is valid.
        comm: unsafe { core::mem::transmute::<Name, [u8; COMM_LEN]>(name) },
    };
    match EXITING.insert(leader.0, record, IF_NONE) {
        Err(THERE_IS_ONE) => {
            let other = EXITING.get_ptr(leader.0)?;
            // SAFETY: a copy of an entry that nothing else uses now: this address belongs to this process.
            let other = unsafe { *other };
            // Threads that exit at the same time can all find that none is left; the first of them has reported it.
            if other.start_boottime_ns == record.start_boottime_ns {
                return None;
            }
            // The previous process at this address was freed without a free event.
            write(&other);
            count(|counters| &mut counters.missed);
            let _ = EXITING.insert(leader.0, record, 0);
        }
        Err(_) => count(|counters| &mut counters.lost_map),
        Ok(()) => {}
    }
    count(|counters| &mut counters.exits);
    debug!(context, "exited pid={} cgroup={}", pid, cgroups.unified);
    Some(())
}

/// CPU time of all threads of a process, as far as the kernel has counted: the last thread's time since it got the CPU can
/// be missing.
fn used_until_now(last: Address, leader: Address, signal: Address) -> u64 {
    let config = config();
    let own = |task: Address| task.load::<u64>(offset(&config.task.sum_exec_runtime));
    let mut used: u64 = signal.load(offset(&config.signal_sum_sched_runtime));
    used += own(last);
    if last.0 != leader.0 {
        used += own(leader);
    }
    used
}

/// Bytes that tasks which were released, and these two, read from and wrote to disks.
fn disk_until_now(last: Address, leader: Address, signal: Address) -> [u64; 2] {
    let task = offset(&config().task.disk);
    let [mut read, mut written] = disk_released(signal);
    if task != 0 {
        read += last.load::<u64>(task);
        written += last.load::<u64>(task + 8);
        if last.0 != leader.0 {
            read += leader.load::<u64>(task);
            written += leader.load::<u64>(task + 8);
        }
    }
    [read, written]
}

/// Bytes that the released tasks of a process read from and wrote to disks. The two are adjacent.
fn disk_released(signal: Address) -> [u64; 2] {
    let at = offset(&config().signal_disk);
    if at == 0 { [0; 2] } else { [signal.load(at), signal.load(at + 8)] }
}

/// CPU time of the children that a process waited for.
fn reaped(signal: Address) -> u64 {
    // User and system time are adjacent.
    let user = offset(&config().signal_cutime);
    signal.load::<u64>(user) + signal.load::<u64>(user + 8)
}

/// A task is freed; if it leads a process, the usage of that process is final.
#[btf_tracepoint(function = "sched_process_free")]
fn process_free(context: BtfTracePointContext) -> i32 {
    let task = Address(context.arg::<*const u8>(0) as u64);
    let _ = last_word(&context, task);
    0
}

fn last_word(context: &BtfTracePointContext, task: Address) -> Option<()> {
    let config = config();
    if leaders_pid(task).is_none() {
        // It was the leader until another thread executed a program and took its place.
        let _ = EXECUTED.remove(task.0);
        return None;
    }
    let kept = EXITING.get_ptr_mut(task.0)?;
    // SAFETY: nothing else uses this task's entry: it is freed only once.
    let record = unsafe { &mut *kept };
    let signal = task.step(offset(&config.task.signal));
    // A task that no parent waits for adds itself to the sum while it still runs: its own count is final only now.
    let own: u64 = task.load(offset(&config.task.sum_exec_runtime));
    record.cpu_ns = own.max(signal.load(offset(&config.signal_sum_sched_runtime)));
    record.max_rss_pages = signal.load(offset(&config.signal_maxrss));
    record.reaped_ns = reaped(signal);
    // The counts of a leader that no parent waits for are in the sum, too, once it is released.
    let [read, disk_written] = disk_released(signal);
    record.disk_read_bytes = read.max(record.disk_read_bytes);
    record.disk_written_bytes = disk_written.max(record.disk_written_bytes);
    let written = write(record);
    if written {
        count(|counters| &mut counters.records);
    }
    debug!(context, "freed pid={} cpu_ns={} written={}", record.pid, record.cpu_ns, u8::from(written));
    let _ = EXITING.remove(task.0);
    Some(())
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
