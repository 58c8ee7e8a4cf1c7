//! Failing disks: one that loses power and returns errors, and one that is small.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A directory on a disk that loses unsynced data.
#[derive(Debug)]
pub struct Disk {
    directory: tempfile::TempDir,
    library: PathBuf,
}

/// When such a disk syncs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Syncs {
    /// As the program requests.
    AsAsked,
    /// The log only when the database is written to, as SQLite does with `synchronous=NORMAL`. The control, which loses data.
    Lazy,
}

/// The operation that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failing {
    /// Syncs.
    Sync,
    /// Writes.
    Write,
}

impl Failing {
    fn file(self) -> &'static str {
        match self {
            Self::Sync => "fail-sync",
            Self::Write => "fail-write",
        }
    }
}

impl Disk {
    /// A new, empty disk. Its library is compiled with `cc`.
    ///
    /// # Panics
    /// If the directory or the library cannot be made.
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let source = directory.path().join("shim.c");
        let library = directory.path().join("shim.so");
        std::fs::write(&source, include_str!("shim.c")).expect("write");
        let mut cc = Command::new("cc");
        cc.args(["-O2", "-Wall", "-shared", "-fPIC", "-o"])
            .arg(&library)
            .arg(&source)
            .args(["-ldl", "-lpthread"]);
        assert!(cc.status().expect("cc").success(), "the shim does not compile");
        for name in ["files", "shadows"] {
            std::fs::create_dir(directory.path().join(name)).expect("create");
        }
        Self { directory, library }
    }

    fn files(&self) -> PathBuf {
        self.directory.path().join("files")
    }

    fn shadows(&self) -> PathBuf {
        self.directory.path().join("shadows")
    }

    /// A path for a database.
    pub fn database(&self) -> PathBuf {
        self.files().join("db")
    }

    /// Runs a program on this disk.
    pub fn under(&self, command: &mut Command, syncs: Syncs) {
        command.env("LD_PRELOAD", &self.library);
        command.env("DISK_FILES", self.files()).env("DISK_SHADOWS", self.shadows());
        if syncs == Syncs::Lazy {
            command.env("DISK_LAZY", "1");
        }
    }

    /// Makes the disk fail from now on, or work again.
    ///
    /// # Panics
    /// If the switch cannot be set.
    pub fn fail(&self, what: Failing, fails: bool) {
        let file = self.shadows().join(what.file());
        if fails { std::fs::write(file, "") } else { std::fs::remove_file(file) }.expect("switch");
    }

    /// Loses power and restores it. No program may be running on the disk.
    ///
    /// # Panics
    /// If the files cannot be replaced.
    pub fn lose_power(&self) {
        for (from, to) in [(self.files(), None), (self.shadows(), Some(self.files()))] {
            for entry in std::fs::read_dir(from).expect("list").flatten() {
                match &to {
                    None => std::fs::remove_file(entry.path()).expect("remove"),
                    Some(to) => std::fs::rename(entry.path(), to.join(entry.file_name())).expect("rename"),
                }
            }
        }
    }
}

impl Default for Disk {
    fn default() -> Self {
        Self::new()
    }
}

/// A small file system in memory; needs root.
#[derive(Debug)]
pub struct Small {
    directory: tempfile::TempDir,
}

impl Small {
    /// A file system of this size.
    ///
    /// # Panics
    /// If it cannot be mounted.
    pub fn new(bytes: u64) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "none"]).arg(directory.path());
        assert!(mount.status().expect("mount").success(), "a small file system cannot be mounted");
        Self { directory }
    }

    /// Its mount point.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Uses up all free space; dropping the file frees it.
    ///
    /// # Panics
    /// If the file cannot be created.
    pub fn fill(&self) -> tempfile::NamedTempFile {
        use std::io::Write;
        let mut ballast = tempfile::NamedTempFile::new_in(self.path()).expect("a file");
        for size in [1 << 16, 1 << 12, 1] {
            while ballast.as_file_mut().write_all(&vec![0; size]).is_ok() {}
        }
        ballast
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(self.directory.path()).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} is still mounted", self.directory.path().display());
        }
    }
}
