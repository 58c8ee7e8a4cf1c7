//! Offsets of the running kernel's fields that the eBPF program reads, looked up by name.

use collector_ebpf::{Config, TaskOffsets};

use super::btf::Btf;

/// A field that this kernel's BTF does not have under any name known here.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the kernel's BTF has no {structure}.{}", names.join(" or "))]
pub struct Missing {
    structure: &'static str,
    names: &'static [&'static str],
}

/// Controllers whose cgroups distinguish containers on hosts with v1 hierarchies.
const CONTROLLERS: [&str; 3] = ["cpuacct_cgrp_id", "cpu_cgrp_id", "memory_cgrp_id"];

/// The types that offsets are looked up in.
const STRUCTS: [&str; 13] = [
    "task_struct",
    "task_io_accounting",
    "sched_entity",
    "signal_struct",
    "css_set",
    "cgroup_subsys_state",
    "cgroup",
    "kernfs_node",
    "mm_struct",
    "pid",
    "upid",
    "pid_namespace",
    "ns_common",
];

/// The needed part of a kernel's BTF, for tests on other kernels.
pub fn excerpt(btf: &Btf<'_>) -> Vec<u8> {
    btf.reduced(&STRUCTS, &["cgroup_subsys_id"])
}

/// All offsets; the rest of the configuration is 0.
pub fn resolve(btf: &Btf<'_>) -> Result<Config, Missing> {
    let field = |structure: &'static str, names: &'static [&'static str]| {
        let found = names.iter().find_map(|name| btf.offset(structure, name));
        found.ok_or(Missing { structure, names })
    };
    // Two fields that are read at once: they are adjacent on every kernel.
    let pair = |structure: &'static str, names: &'static [&'static str; 2], size: u32| {
        let [first, second] = names.map(|name| btf.offset(structure, name));
        first.filter(|first| second == Some(first + size)).ok_or(Missing { structure, names })
    };
    // Kernels without CONFIG_TASK_IO_ACCOUNTING have none.
    let disk = |structure: &str| {
        let [read, written] = ["ioac.read_bytes", "ioac.write_bytes"].map(|name| btf.offset(structure, name));
        read.filter(|read| written == Some(read + 8)).unwrap_or(0)
    };
    let controller = CONTROLLERS.iter().find_map(|name| btf.enumerator("cgroup_subsys_id", name));
    Ok(Config {
        task: TaskOffsets {
            pid: pair("task_struct", &["pid", "tgid"], 4)?,
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
            mm: field("task_struct", &["mm"])?,
            disk: disk("task_struct"),
        },
        signal_live: field("signal_struct", &["live.counter", "live"])?,
        signal_sum_sched_runtime: field("signal_struct", &["sum_sched_runtime"])?,
        signal_cutime: pair("signal_struct", &["cutime", "cstime"], 8)?,
        signal_maxrss: field("signal_struct", &["maxrss"])?,
        signal_thread_head: field("signal_struct", &["thread_head"])?,
        signal_disk: disk("signal_struct"),
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
        mm_env_start: pair("mm_struct", &["env_start", "env_end"], 8)?,
        pid_level: field("pid", &["level"])?,
        pid_numbers: field("pid", &["numbers"])?,
        upid_size: btf.size("upid").ok_or(Missing { structure: "upid", names: &["size"] })?,
        upid_nr: field("upid", &["nr"])?,
        upid_ns: field("upid", &["ns"])?,
        pid_ns_inum: field("pid_namespace", &["ns.inum", "proc_inum"])?,
        ..Config::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recorded by `cargo xtask record-btf` from Debian's kernels, and from a 6.18 of another make.
    const KERNELS: [(&str, &[u8]); 5] = [
        ("5.10", include_bytes!("../../../tests/btf/5.10.0-32-cloud-amd64.btf")),
        ("6.1", include_bytes!("../../../tests/btf/6.1.0-56-cloud-amd64.btf")),
        ("6.12", include_bytes!("../../../tests/btf/6.12.117-cloud-amd64.btf")),
        ("6.18", include_bytes!("../../../tests/btf/6.18.44.btf")),
        ("7.2", include_bytes!("../../../tests/btf/7.2.13-cloud-amd64.btf")),
    ];

    #[test]
    fn every_field_is_found_on_every_kernel() {
        for (kernel, blob) in KERNELS {
            let btf = Btf::parse(blob).unwrap();
            let config = resolve(&btf).unwrap_or_else(|missing| panic!("{kernel}: {missing}"));
            // `cgroup` before `subsys` before the controllers: none of these can be at the start of its type.
            let task = config.task;
            for offset in
                [task.pid, task.comm, task.signal, task.cgroups, task.sum_exec_runtime, config.css_set_cpu]
            {
                assert!(offset > 0, "{kernel}: {config:?}");
            }
            assert_eq!(config.upid_size, 16, "{kernel}");
            // The renamed field: the program must get the offset of whichever name exists.
            let [parent, new] = ["parent", "__parent"].map(|name| btf.offset("kernfs_node", name));
            assert_eq!(parent.or(new), Some(config.kernfs_parent), "{kernel}");
            assert_eq!(new.is_some(), matches!(kernel, "6.18" | "7.2"), "{kernel}");
        }
    }

    #[test]
    fn fields_move_between_kernels() {
        let pids: std::collections::BTreeSet<u32> =
            KERNELS.iter().map(|(_, blob)| resolve(&Btf::parse(blob).unwrap()).unwrap().task.pid).collect();
        assert!(pids.len() >= 4, "{pids:?}");
    }

    #[test]
    fn an_excerpt_tells_the_same_as_the_whole() {
        let whole = Btf::parse(KERNELS[1].1).unwrap();
        let excerpt = excerpt(&whole);
        assert_eq!(resolve(&Btf::parse(&excerpt).unwrap()), resolve(&whole));
    }

    #[test]
    fn what_a_kernel_does_not_have_is_named() {
        let whole = Btf::parse(KERNELS[1].1).unwrap();
        let without = whole.reduced(&["task_struct", "sched_entity", "signal_struct", "css_set"], &[]);
        let missing = resolve(&Btf::parse(&without).unwrap()).unwrap_err();
        assert_eq!(missing.to_string(), "the kernel's BTF has no cgroup_subsys_state.cgroup");
        let parts = whole.reduced(&STRUCTS[..7], &[]);
        let missing = resolve(&Btf::parse(&parts).unwrap()).unwrap_err();
        assert_eq!(missing.to_string(), "the kernel's BTF has no kernfs_node.id");
    }

    #[test]
    fn a_kernel_without_controllers_has_the_v2_hierarchy_alone() {
        let whole = Btf::parse(KERNELS[1].1).unwrap();
        let without = whole.reduced(&STRUCTS, &[]);
        assert_eq!(resolve(&Btf::parse(&without).unwrap()).unwrap().css_set_cpu, 0);
    }
}
