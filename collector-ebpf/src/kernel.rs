//! Reads the kernel's memory for the programs: fields at their offsets, pointers, and the PID of a task in a namespace.

use aya_ebpf::helpers::bpf_probe_read_kernel;
use collector_ebpf::{Config, PID_NS_LEVELS};

/// Inode of the initial PID namespace (`PROC_PID_INIT_INO` in `include/linux/proc_ns.h`).
const INITIAL_PID_NS: u32 = 0xEFFF_FFFC;

#[unsafe(no_mangle)]
static CONFIG: Config = Config::UNSET;

pub(crate) fn config() -> &'static Config {
    &CONFIG
}

/// The value that the loader put there.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "it must be read where it is")]
pub(crate) fn offset(value: &u32) -> usize {
    // Volatile, or the compiler would fold the zeroes above into the code.
    // SAFETY: a plain read of an initialised value.
    unsafe { core::ptr::read_volatile(value) as usize }
}

/// A command name as the kernel stores it, comparable in one step.
pub(crate) type Name = [u64; 2];

/// An address in the kernel.
#[derive(Clone, Copy)]
pub(crate) struct Address(pub(crate) u64);

impl Address {
    /// Reads a field of a struct whose type the verifier knows: an argument of a tracepoint, or the target of such a
    /// pointer. The verifier checks offset and size against the kernel's BTF, and the kernel makes a bad address read as 0.
    pub(crate) fn load<T>(self, offset: usize) -> T {
        // SAFETY: see above; a program for which that did not hold would not be loaded.
        unsafe { core::ptr::read_volatile((self.0 as usize + offset) as *const T) }
    }

    /// The target of such a field. It is not checked for null: the verifier rejects a read through a pointer that can be
    /// null, unless the kernel makes it read as 0. Each check would give it two paths, and kernels from 6.4 on search all
    /// their types by name for each such step on each path.
    pub(crate) fn step(self, offset: usize) -> Self {
        Self(self.load(offset))
    }

    /// Reads anything at any address, at several times the cost.
    pub(crate) fn read<T>(self, offset: usize) -> Option<T> {
        // SAFETY: the helper checks the address and fails if nothing can be read.
        unsafe { bpf_probe_read_kernel((self.0 as usize + offset) as *const T) }.ok()
    }

    pub(crate) fn follow(self, offset: usize) -> Option<Self> {
        self.read::<u64>(offset).filter(|address| *address != 0).map(Self)
    }
}

/// PID and thread group of a task in the initial namespace; they are adjacent.
pub(crate) fn pid_and_tgid(task: Address) -> [u32; 2] {
    let pid = offset(&config().task.pid);
    [task.load(pid), task.load(pid + 4)]
}

/// The PID of a task that leads its process, in the initial namespace.
pub(crate) fn leaders_pid(task: Address) -> Option<u32> {
    let [pid, tgid] = pid_and_tgid(task);
    (pid == tgid).then_some(tgid)
}

/// The command name of a task.
pub(crate) fn comm(task: Address) -> Option<Name> {
    task.read(offset(&config().task.comm))
}

/// The task's PID in the collector's PID namespace.
pub(crate) fn own_pid(task: Address) -> Option<u32> {
    if in_initial_pid_ns() {
        return Some(pid_and_tgid(task)[0]);
    }
    pid_below(task)
}

/// The PID of the process of a task at any address, in the collector's PID namespace; 0 if it has none.
pub(crate) fn process_pid(task: Address) -> u32 {
    let config = config();
    let pid = if in_initial_pid_ns() {
        task.read(offset(&config.task.pid) + 4)
    } else {
        task.follow(offset(&config.task.group_leader)).and_then(pid_below)
    };
    pid.unwrap_or(0)
}

fn in_initial_pid_ns() -> bool {
    offset(&config().own_pid_ns) as u32 == INITIAL_PID_NS
}

/// The PID of a task at any address, in the collector's PID namespace if that is below the initial one.
fn pid_below(task: Address) -> Option<u32> {
    let pid = task.follow(offset(&config().task.thread_pid))?;
    Some(number_in_namespace(pid.0)).filter(|number| *number != 0)
}

/// The number that the `struct pid` at this address has in the collector's PID namespace, 0 if it has none. A global
/// function, like `tell_cgroup`.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn number_in_namespace(pid: u64) -> u32 {
    find_number(Address(pid)).unwrap_or(0)
}

fn find_number(pid: Address) -> Option<u32> {
    let config = config();
    let wanted = offset(&config.own_pid_ns) as u32;
    let level: u32 = pid.read(offset(&config.pid_level))?;
    // The innermost first: most tasks that a sidecar sees are in no namespace below its own.
    for index in 0..PID_NS_LEVELS {
        if index > level {
            break;
        }
        let upid = Address(
            pid.0
                + (offset(&config.pid_numbers) + (level - index) as usize * offset(&config.upid_size)) as u64,
        );
        let namespace = upid.follow(offset(&config.upid_ns))?;
        if namespace.read::<u32>(offset(&config.pid_ns_inum))? == wanted {
            return upid.read(offset(&config.upid_nr));
        }
    }
    None
}
