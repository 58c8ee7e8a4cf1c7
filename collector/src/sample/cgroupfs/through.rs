//! The cgroup of a container as its own processes see it: `/proc/[pid]/root/sys/fs/cgroup`, where the runtime mounted it.
//!
//! A collector in a pod has no mount that shows the other containers' cgroups. It can look through the root of their
//! processes if it may trace them (`ptrace(2)`, `PTRACE_MODE_READ_FSCREDS`): as the same user with at least their
//! capabilities. The job owns that mount namespace, so nothing in it is trusted: a directory counts only if the kernel
//! reports it as a cgroup file system's and it lists the process.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::rc::Rc;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, fstatfs, openat, openat2};
use rustix::io::Errno;

use super::directory::Directory;
use super::levels::Own;
use super::reader::{CgroupReader, Directories};
use crate::sample::cgroup::{CgroupLine, CgroupLines};

/// `CGROUP_SUPER_MAGIC` and `CGROUP2_SUPER_MAGIC` of `include/uapi/linux/magic.h`.
const CGROUP: u64 = 0x0027_e0eb;
const CGROUP2: u64 = 0x6367_7270;
/// Where runtimes mount them.
const MOUNTED: &str = "sys/fs/cgroup";
/// At most this much of a cgroup's process list is read.
const MAX_LIST_BYTES: u64 = 1 << 20;

/// Why a container's cgroup cannot be read through one of its processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Closed {
    /// The collector may not look into it.
    #[error("its processes belong to another user, or have capabilities that the collector lacks")]
    Forbidden,
    /// The process has ended.
    #[error("its process has ended")]
    Gone,
    /// No cgroup file system is mounted, or it shows another cgroup.
    #[error("its own cgroup is not mounted in it")]
    NotMounted,
    /// Its own cgroup is there, but without memory figures.
    #[error("its own cgroup is mounted in it without memory figures")]
    WithoutMemory,
}

/// A reader of the cgroup of the container with this id, through one of its processes; `lines` are that process's.
pub fn through(proc_path: &Path, pid: u32, lines: CgroupLines<'_>, id: &str) -> Result<CgroupReader, Closed> {
    let root = root_of(proc_path, pid)?;
    let find = |controller: Option<&str>| {
        let line = lines.iter().find(|line| match controller {
            Some(controller) => !line.is_unified() && line.has_controller(controller),
            None => line.is_unified(),
        })?;
        // A runtime moves a process into one hierarchy after another; it may not have reached this one yet.
        let at = line.path.find(id)?;
        // The part below the container's own cgroup: a process may have been moved there.
        let below = line.path[at..].split_once('/').map_or("", |(_, below)| below);
        let container = line.path.strip_suffix(below).unwrap_or(line.path).trim_matches('/');
        // v2 is mounted at `MOUNTED` itself, or beside v1 hierarchies.
        let places = controller.map_or(&["", "unified"][..], |_| &[""][..]);
        places.iter().find_map(|place| {
            let name = controller.unwrap_or(place);
            let magic = if controller.is_some() { CGROUP } else { CGROUP2 };
            let mount = mount(&root, name, magic)?;
            // The mount shows the container's own cgroup or the machine's root.
            [".", container].into_iter().filter(|path| !path.is_empty()).find_map(|path| {
                let directory = descend(mount.as_fd(), path)?;
                let holder = if below.is_empty() { None } else { Some(descend(directory.as_fd(), below)?) };
                let listed = lists(holder.as_ref().unwrap_or(&directory).as_fd(), pid);
                listed.then(|| Directory::Held(Rc::new(directory)))
            })
        })
    };
    let directories = Directories {
        unified: find(None),
        cpuacct: find(Some("cpuacct")),
        cpu: find(Some("cpu")),
        memory: find(Some("memory")),
        blkio: find(Some("blkio")),
        mount_points: Vec::new(),
        own: Own::Exact,
    };
    CgroupReader::open(directories).ok_or(Closed::NotMounted)
}

/// Whether the runtime has moved the process with these cgroups into the container with this id, in each hierarchy that
/// counts CPU time or memory. A container that is made otherwise may be in only one hierarchy.
pub fn is_settled(lines: CgroupLines<'_>, id: &str) -> bool {
    let v1 = |controller| lines.iter().find(|line| !line.is_unified() && line.has_controller(controller));
    let cpu = v1("cpuacct").or_else(|| lines.iter().find(CgroupLine::is_unified));
    let is_there = |line: CgroupLine<'_>| line.path.contains(id);
    cpu.is_some_and(is_there) && v1("memory").is_none_or(is_there)
}

fn root_of(proc_path: &Path, pid: u32) -> Result<OwnedFd, Closed> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, proc_path.join(format!("{pid}/root")), flags, Mode::empty()).map_err(|error| match error {
        Errno::ACCESS | Errno::PERM => Closed::Forbidden,
        Errno::NOENT | Errno::SRCH => Closed::Gone,
        _ => Closed::NotMounted,
    })
}

/// Opens a hierarchy's mount, if it is one. A v1 name may be a link to the directory of several controllers.
fn mount(root: &OwnedFd, name: &str, magic: u64) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let found = openat2(root, format!("{MOUNTED}/{name}"), flags, Mode::empty(), resolve).ok()?;
    (fstatfs(&found).ok()?.f_type as u64 == magic).then_some(found)
}

/// Opens a directory below, in the same mount.
fn descend(directory: BorrowedFd<'_>, path: &str) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    openat2(directory, path, flags, Mode::empty(), resolve).ok()
}

/// Whether a cgroup lists a process, by its number in the collector's PID namespace.
fn lists(directory: BorrowedFd<'_>, pid: u32) -> bool {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let Ok(file) = openat2(directory, "cgroup.procs", flags, Mode::empty(), resolve) else { return false };
    let file = File::from(file);
    let (mut text, mut buffer) = (Vec::new(), [0; 8192]);
    while (text.len() as u64) < MAX_LIST_BYTES {
        match file.read_at(&mut buffer, text.len() as u64) {
            Ok(0) | Err(_) => break,
            Ok(length) => text.extend_from_slice(&buffer[..length]),
        }
    }
    let wanted = pid.to_string();
    text.split(|byte| *byte == b'\n').any(|line| line == wanted.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_moves_a_process_from_hierarchy_to_hierarchy() {
        let settled = |content: &str| is_settled(CgroupLines::parse(content.as_bytes()), "0123abcd");
        assert!(settled("0::/kubepods/pod1/0123abcd\n"));
        assert!(settled("9:memory:/p/0123abcd\n4:cpu,cpuacct:/p/0123abcd/init\n0::/daemons\n"));
        assert!(!settled("9:memory:/p/0123abcd\n4:cpu,cpuacct:/\n0::/daemons\n"));
        assert!(!settled("9:memory:/\n4:cpu,cpuacct:/p/0123abcd\n0::/p/0123abcd\n"));
        assert!(!settled("0::/\n"));
        assert!(!settled(""));
    }
}
