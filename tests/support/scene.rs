//! Scenes: /proc trees of text files that change while a collector reads them.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

/// One process of a scene.
#[derive(Debug, Clone, Copy)]
pub struct Process<'a> {
    /// PID.
    pub pid: u32,
    /// Parent's PID.
    pub ppid: u32,
    /// Name.
    pub comm: &'a [u8],
    /// State, `S` or `Z` for example.
    pub state: char,
    /// `utime` + `stime`.
    pub own: u64,
    /// `cutime` + `cstime`.
    pub reaped: u64,
    /// Start in ticks since boot.
    pub start: u64,
    /// RSS in pages.
    pub rss: u64,
    /// The content of `cgroup`.
    pub cgroup: &'a str,
    /// The content of `mountinfo`.
    pub mountinfo: &'a str,
}

/// A template for the processes of scenes.
pub const PROCESS: Process<'static> = Process {
    pid: 1,
    ppid: 0,
    comm: b"init",
    state: 'S',
    own: 0,
    reaped: 0,
    start: 100,
    rss: 0,
    cgroup: "0::/\n",
    mountinfo: "",
};

/// The uptime of every scene, in seconds. A process with a start of 100,000 ticks or later started with or after the collector.
pub const UPTIME: &str = "1000.00 2000.00\n";

/// Writes a scene; processes that are not in it end.
///
/// # Panics
/// If a file cannot be written.
pub fn write(root: &Path, processes: &[Process<'_>]) {
    let put = |path: &str, content: &[u8]| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("a directory")).expect("create");
        // In place, like the kernel's files: a reader may keep them open.
        fs::write(path, content).expect("write");
    };
    put("uptime", UPTIME.as_bytes());
    put("meminfo", b"MemTotal: 1000000 kB\nMemFree: 1 kB\nMemAvailable: 750000 kB\n");
    if !root.join("stat").exists() {
        put("stat", b"cpu  100 0 100 800 0 0 0 0 0 0\n");
    }
    for process in processes {
        let mut stat = format!("{} (", process.pid).into_bytes();
        stat.extend_from_slice(process.comm);
        let Process { ppid, state, own, reaped, start, rss, .. } = process;
        let rest =
            format!(") {state} {ppid} 1 1 0 -1 0 0 0 0 0 {own} 0 {reaped} 0 20 0 1 0 {start} 0 {rss}\n");
        stat.extend_from_slice(rest.as_bytes());
        put(&format!("{}/cgroup", process.pid), process.cgroup.as_bytes());
        put(&format!("{}/mountinfo", process.pid), process.mountinfo.as_bytes());
        put(&format!("{}/stat", process.pid), &stat);
    }
    let there: HashSet<u32> = processes.iter().map(|process| process.pid).collect();
    for entry in fs::read_dir(root).expect("list").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Ok(pid) = name.parse::<u32>() else { continue };
        if !there.contains(&pid) {
            fs::remove_dir_all(entry.path()).expect("remove");
        }
    }
}

/// Puts a scene's collector into a cgroup namespace of its own.
///
/// # Panics
/// If a link cannot be made.
pub fn own_cgroup_namespace(root: &Path) {
    fs::create_dir_all(root.join("self/ns")).expect("create");
    symlink("cgroup:[4026532000]", root.join("self/ns/cgroup")).expect("link");
}

/// Makes a scene's collector one of its processes, in a cgroup namespace of its own.
///
/// # Panics
/// If a link cannot be made.
pub fn be_process(root: &Path, pid: u32) {
    fs::create_dir_all(root.join(format!("{pid}/ns"))).expect("create");
    symlink("cgroup:[4026532000]", root.join(format!("{pid}/ns/cgroup"))).expect("link");
    symlink(pid.to_string(), root.join("self")).expect("link");
}
