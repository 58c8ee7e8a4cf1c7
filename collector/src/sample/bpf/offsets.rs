//! Where the running kernel keeps what the eBPF program reads, looked up by name.

use collector_ebpf::{Config, TaskOffsets};

use super::btf::Btf;

/// A field that this kernel's BTF does not have under any name known here.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the kernel's BTF has no {structure}.{}", names.join(" or "))]
pub struct Missing {
    structure: &'static str,
    names: &'static [&'static str],
}

/// Controllers whose cgroups tell containers apart on hosts where those live in v1 hierarchies.
const CONTROLLERS: [&str; 3] = ["cpuacct_cgrp_id", "cpu_cgrp_id", "memory_cgrp_id"];

/// All offsets; the rest of the configuration is 0.
pub fn resolve(btf: &Btf<'_>) -> Result<Config, Missing> {
    let field = |structure: &'static str, names: &'static [&'static str]| {
        let found = names.iter().find_map(|name| btf.offset(structure, name));
        found.ok_or(Missing { structure, names })
    };
    let controller = CONTROLLERS.iter().find_map(|name| btf.enumerator("cgroup_subsys_id", name));
    Ok(Config {
        task: TaskOffsets {
            pid: field("task_struct", &["pid"])?,
            tgid: field("task_struct", &["tgid"])?,
            // Before 5.5 it was called real_start_time.
            start_boottime: field("task_struct", &["start_boottime", "real_start_time"])?,
            signal: field("task_struct", &["signal"])?,
            group_leader: field("task_struct", &["group_leader"])?,
            real_parent: field("task_struct", &["real_parent"])?,
            thread_pid: field("task_struct", &["thread_pid"])?,
            cgroups: field("task_struct", &["cgroups"])?,
            comm: field("task_struct", &["comm"])?,
            thread_node: field("task_struct", &["thread_node"])?,
            sum_exec_runtime: field("task_struct", &["se.sum_exec_runtime"])?,
        },
        signal_live: field("signal_struct", &["live.counter", "live"])?,
        signal_sum_sched_runtime: field("signal_struct", &["sum_sched_runtime"])?,
        signal_cutime: field("signal_struct", &["cutime"])?,
        signal_cstime: field("signal_struct", &["cstime"])?,
        signal_maxrss: field("signal_struct", &["maxrss"])?,
        signal_thread_head: field("signal_struct", &["thread_head"])?,
        css_set_dfl_cgrp: field("css_set", &["dfl_cgrp"])?,
        css_set_cpu: match controller {
            Some(index) => field("css_set", &["subsys"])? + 8 * index,
            None => 0,
        },
        css_cgroup: field("cgroup_subsys_state", &["cgroup"])?,
        cgroup_kn: field("cgroup", &["kn"])?,
        // Before 5.5 it was a union of the inode and a generation.
        kernfs_id: field("kernfs_node", &["id"])?,
        kernfs_name: field("kernfs_node", &["name"])?,
        // Since 6.15 it is __parent.
        kernfs_parent: field("kernfs_node", &["parent", "__parent"])?,
        pid_level: field("pid", &["level"])?,
        pid_numbers: field("pid", &["numbers"])?,
        upid_size: btf.size("upid").ok_or(Missing { structure: "upid", names: &["size"] })?,
        upid_nr: field("upid", &["nr"])?,
        upid_ns: field("upid", &["ns"])?,
        pid_ns_inum: field("pid_namespace", &["ns.inum", "proc_inum"])?,
        ..Config::default()
    })
}
