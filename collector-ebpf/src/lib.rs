//! The records that the eBPF program and the collector share: integers only, padding explicit, sizes asserted.
#![no_std]

/// Bytes of a command name (`TASK_COMM_LEN`), including the final 0.
pub const COMM_LEN: usize = 16;
/// Bytes kept of one cgroup's name, including the final 0: `cri-containerd-<64 hex digits>.scope` needs 86.
pub const NAME_LEN: usize = 96;
/// Cgroups of a path that are recorded, from the innermost one upwards.
pub const PATH_DEPTH: usize = 12;
/// Bytes of an environment in one record.
pub const ENVIRONMENT_CHUNK: usize = 2_048;
/// At most this many records hold one environment. A longer one is not reported.
pub const ENVIRONMENT_CHUNKS: usize = 32;
/// Nested PID namespaces that the kernel allows (`MAX_PID_NS_LEVEL`).
pub const PID_NS_LEVELS: u32 = 32;

/// Kinds of records: their first field.
pub mod kind {
    /// [`super::ExitRecord`].
    pub const EXIT: u32 = 1;
    /// [`super::CgroupRecord`].
    pub const CGROUP: u32 = 2;
    /// [`super::MoveRecord`].
    pub const MOVE: u32 = 3;
    /// [`super::BeginRecord`].
    pub const BEGIN: u32 = 4;
    /// [`super::EnvironmentRecord`].
    pub const ENVIRONMENT: u32 = 5;
}

/// The final figures of one process, written when its thread group leader is freed (`sched_process_free`).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExitRecord {
    /// [`kind::EXIT`].
    pub kind: u32,
    /// PID in the collector's PID namespace.
    pub pid: u32,
    /// Its parent's PID when it ended; 0 if that is not visible.
    pub parent_pid: u32,
    /// 1 if it was in the cgroups of that parent.
    pub in_parents_cgroups: u32,
    /// Nanoseconds from boot to its start (`task_struct.start_boottime`).
    pub start_boottime_ns: u64,
    /// Nanoseconds from boot to the exit of its last thread.
    pub end_boottime_ns: u64,
    /// CPU time of all its threads in nanoseconds (`signal_struct.sum_sched_runtime`).
    pub cpu_ns: u64,
    /// CPU time of the children that it waited for in nanoseconds (`signal_struct.cutime`, `cstime`).
    pub reaped_ns: u64,
    /// Highest resident set size in pages (`signal_struct.maxrss`), including that of the image before an exec.
    pub max_rss_pages: u64,
    /// Bytes that it caused to be read from disks (`signal_struct.ioac.read_bytes`); 0 if the kernel does not count them.
    pub disk_read_bytes: u64,
    /// Bytes that it caused to be written to disks (`ioac.write_bytes`: pages that it made dirty).
    pub disk_written_bytes: u64,
    /// Its cgroups.
    pub cgroups: CgroupIds,
    /// Command name at its end.
    pub comm: [u8; COMM_LEN],
}

/// The cgroups of a task.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct CgroupIds {
    /// In the v2 hierarchy (`kernfs_node.id`: the inode of its directory).
    pub unified: u64,
    /// In the v1 hierarchy of the CPU accounting controller; 0 if there is none.
    pub v1: u64,
}

/// A process has been moved to other cgroups (`cgroup_attach_task`).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MoveRecord {
    /// [`kind::MOVE`].
    pub kind: u32,
    /// PID in the collector's PID namespace.
    pub pid: u32,
    /// Its parent's PID; 0 if that is not visible.
    pub parent_pid: u32,
    /// Always 0.
    pub unused: u32,
    /// Nanoseconds from boot to its start (`task_struct.start_boottime`).
    pub start_boottime_ns: u64,
    /// CPU time of all its threads so far in nanoseconds (`signal_struct.sum_sched_runtime` and, for the living,
    /// `sched_entity.sum_exec_runtime`).
    pub cpu_ns: u64,
    /// Its cgroups now.
    pub cgroups: CgroupIds,
}

/// A program is executed in cgroups with few executions before: a container begins. It wakes the reader.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BeginRecord {
    /// [`kind::BEGIN`].
    pub kind: u32,
    /// PID in the collector's PID namespace.
    pub pid: u32,
    /// Nanoseconds from boot to its start (`task_struct.start_boottime`).
    pub start_boottime_ns: u64,
    /// Its cgroups.
    pub cgroups: CgroupIds,
    /// Its parent's PID; 0 if that is not visible.
    pub parent_pid: u32,
    /// Bytes of its environment, which is in the records before this one; 0 if it is too long for them.
    pub environment_bytes: u32,
}

/// A part of the environment of a process that executes a program (`mm_struct.env_start` to `env_end`).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EnvironmentRecord {
    /// [`kind::ENVIRONMENT`].
    pub kind: u32,
    /// PID in the collector's PID namespace.
    pub pid: u32,
    /// Which part it is, from 0.
    pub index: u32,
    /// How many of `bytes` are set.
    pub length: u32,
    /// `NAME=value`, each ended by a NUL.
    pub bytes: [u8; ENVIRONMENT_CHUNK],
}

/// A cgroup, written when a process executes a program in it, ends in it or moves to it, unless it was reported already.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CgroupRecord {
    /// [`kind::CGROUP`].
    pub kind: u32,
    /// How many of `ids` and `names` are set.
    pub depth: u32,
    /// 1 for a cgroup of the v1 hierarchy.
    pub v1: u64,
    /// Its id, its parent's, and so on up to the root.
    pub ids: [u64; PATH_DEPTH],
    /// Its name, its parent's, and so on; the root has none.
    pub names: [[u8; NAME_LEN]; PATH_DEPTH],
}

/// The program's configuration, set by the collector when it loads it: mainly offsets of the running kernel's fields.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Config {
    /// Byte offsets in `task_struct`.
    pub task: TaskOffsets,
    /// Byte offset of `signal_struct.live`.
    pub signal_live: u32,
    /// Of `signal_struct.sum_sched_runtime`.
    pub signal_sum_sched_runtime: u32,
    /// Of `signal_struct.cutime`, which `cstime` follows.
    pub signal_cutime: u32,
    /// Of `signal_struct.maxrss`.
    pub signal_maxrss: u32,
    /// Of `signal_struct.thread_head`.
    pub signal_thread_head: u32,
    /// Of `signal_struct.ioac.read_bytes`, which `write_bytes` follows; 0 if there is none (`CONFIG_TASK_IO_ACCOUNTING`).
    pub signal_disk: u32,
    /// Of `css_set.dfl_cgrp`.
    pub css_set_dfl_cgrp: u32,
    /// Of the element of `css_set.subsys` whose controller accounts CPU; 0 if there is none.
    pub css_set_cpu: u32,
    /// Of `cgroup_subsys_state.cgroup`.
    pub css_cgroup: u32,
    /// Of `cgroup.kn`.
    pub cgroup_kn: u32,
    /// Of `kernfs_node.id`.
    pub kernfs_id: u32,
    /// Of `kernfs_node.name`.
    pub kernfs_name: u32,
    /// Of `kernfs_node.parent`, which newer kernels call `__parent`.
    pub kernfs_parent: u32,
    /// Of `mm_struct.env_start`, which `env_end` follows; 0 if environments are not requested.
    pub mm_env_start: u32,
    /// Of `pid.level`.
    pub pid_level: u32,
    /// Of `pid.numbers`.
    pub pid_numbers: u32,
    /// Size of `upid`.
    pub upid_size: u32,
    /// Of `upid.nr`.
    pub upid_nr: u32,
    /// Of `upid.ns`.
    pub upid_ns: u32,
    /// Of `pid_namespace.ns.inum`.
    pub pid_ns_inum: u32,
    /// Inode of the collector's own PID namespace: a process without a PID in it makes no record.
    pub own_pid_ns: u32,
    /// PID in that namespace of the process whose descendants alone make records; 0 if all processes do.
    pub root_pid: u32,
    /// Bytes of the ring buffer beyond which every record wakes the reader.
    pub wake_bytes: u32,
}

/// Byte offsets in `task_struct`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TaskOffsets {
    /// Of `pid`, which `tgid` follows.
    pub pid: u32,
    /// Of `start_boottime`, which kernels before 5.5 call `real_start_time`.
    pub start_boottime: u32,
    /// Of `signal`.
    pub signal: u32,
    /// Of `group_leader`.
    pub group_leader: u32,
    /// Of `real_parent`.
    pub real_parent: u32,
    /// Of `thread_pid`.
    pub thread_pid: u32,
    /// Of `cgroups`.
    pub cgroups: u32,
    /// Of `comm`.
    pub comm: u32,
    /// Of `thread_node`.
    pub thread_node: u32,
    /// Of `se.sum_exec_runtime`.
    pub sum_exec_runtime: u32,
    /// Of `mm`.
    pub mm: u32,
    /// Of `ioac.read_bytes`, like `signal_disk`.
    pub disk: u32,
}

impl Config {
    /// The built-in value; the loader replaces it.
    pub const UNSET: Self = Self {
        task: TaskOffsets {
            pid: 0,
            start_boottime: 0,
            signal: 0,
            group_leader: 0,
            real_parent: 0,
            thread_pid: 0,
            cgroups: 0,
            comm: 0,
            thread_node: 0,
            sum_exec_runtime: 0,
            mm: 0,
            disk: 0,
        },
        signal_live: 0,
        signal_sum_sched_runtime: 0,
        signal_cutime: 0,
        signal_maxrss: 0,
        signal_thread_head: 0,
        signal_disk: 0,
        css_set_dfl_cgrp: 0,
        css_set_cpu: 0,
        css_cgroup: 0,
        cgroup_kn: 0,
        kernfs_id: 0,
        kernfs_name: 0,
        kernfs_parent: 0,
        mm_env_start: 0,
        pid_level: 0,
        pid_numbers: 0,
        upid_size: 0,
        upid_nr: 0,
        upid_ns: 0,
        pid_ns_inum: 0,
        own_pid_ns: 0,
        root_pid: 0,
        wake_bytes: 0,
    };
}

/// The program's counts, per CPU.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Processes that began.
    pub forks: u64,
    /// Programs that were executed.
    pub execs: u64,
    /// Processes that were moved to other cgroups.
    pub moves: u64,
    /// Processes of which all threads have ended.
    pub exits: u64,
    /// Processes whose exit record was written.
    pub records: u64,
    /// Processes whose exit record, or a move, found no room in the ring buffer.
    pub lost_ring: u64,
    /// Processes that found no room in a map.
    pub lost_map: u64,
    /// Processes whose free event never came.
    pub missed: u64,
}

const _: () = {
    assert!(size_of::<ExitRecord>() == 104);
    assert!(size_of::<CgroupIds>() == 16);
    assert!(size_of::<CgroupRecord>() == 16 + (8 + NAME_LEN) * PATH_DEPTH);
    assert!(size_of::<Config>() == 140);
    assert!(size_of::<MoveRecord>() == 48);
    assert!(size_of::<BeginRecord>() == 40);
    assert!(size_of::<EnvironmentRecord>() == 16 + ENVIRONMENT_CHUNK);
    assert!(size_of::<Counters>() == 64);
};
