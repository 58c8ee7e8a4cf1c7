//! The kernel's interfaces: one file for each.

pub mod boot_id;
pub mod bpf;
pub mod cgroup;
pub mod cgroupfs;
pub mod environ;
pub mod fault_pages;
pub mod hidepid;
mod keyed;
pub mod meminfo;
pub mod mountinfo;
pub mod pid_stat;
pub mod pidfd;
pub mod pod_logs;
pub mod process_memory;
pub mod process_table;
pub mod system_stat;
pub mod uptime;
