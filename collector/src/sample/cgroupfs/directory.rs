//! A cgroup's directory, and how its files are opened.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::rc::Rc;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use super::files::content;

/// One cgroup in one hierarchy.
#[derive(Debug, Clone)]
pub(super) enum Directory {
    /// Below a mount of the collector's own.
    Mounted(PathBuf),
    /// Opened through the mounts of a process that is not trusted.
    Held(Rc<OwnedFd>),
}

impl Directory {
    /// Opens one of its files for reading; `None` if there is none or it is not a file of the cgroup.
    pub(super) fn open(&self, name: &str) -> Option<File> {
        match self {
            Self::Mounted(path) => File::open(path.join(name)).ok(),
            Self::Held(directory) => open_below(directory.as_fd(), name),
        }
    }

    /// Reads one of its files.
    pub(super) fn read(&self, name: &str) -> Option<String> {
        content(self.open(name).as_ref())
    }
}

impl PartialEq for Directory {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Mounted(one), Self::Mounted(other)) => one == other,
            (Self::Held(one), Self::Held(other)) => Rc::ptr_eq(one, other),
            _ => false,
        }
    }
}

/// Opens a regular file below a cgroup directory. The mount's owner may have put anything there, so this follows no link,
/// enters no mount and opens nothing that blocks.
fn open_below(directory: impl AsFd, name: &str) -> Option<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let file = File::from(openat2(directory, name, flags, Mode::empty(), resolve).ok()?);
    let kind = file.metadata().ok()?.mode() & 0o170_000;
    (kind == 0o100_000).then_some(file)
}
