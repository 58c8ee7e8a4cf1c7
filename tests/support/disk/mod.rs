//! Disks that fail: one that loses power and answers with errors, and one that is small.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A directory on a disk that forgets what was not synced.
#[derive(Debug)]
pub struct Disk {
    directory: tempfile::TempDir,
    library: PathBuf,
}

/// How such a disk is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Syncs {
    /// As the program asks for it.
    AsAsked,
    /// A log only when the database is written to: what SQLite does with `synchronous=NORMAL`, the control that loses.
    Lazy,
}

/// What fails.
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
    /// A new one, empty. Its library is compiled with `cc`.
    ///
    /// # Panics
    /// If that cannot be done.
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

    /// Where a database may be.
    pub fn database(&self) -> PathBuf {
        self.files().join("db")
    }

    /// Puts a program on it.
    pub fn under(&self, command: &mut Command, syncs: Syncs) {
        command.env("LD_PRELOAD", &self.library);
        command.env("DISK_FILES", self.files()).env("DISK_SHADOWS", self.shadows());
        if syncs == Syncs::Lazy {
            command.env("DISK_LAZY", "1");
        }
    }

    /// Has it fail from now on, or no longer.
    ///
    /// # Panics
    /// If that cannot be done.
    pub fn fail(&self, what: Failing, fails: bool) {
        let file = self.shadows().join(what.file());
        if fails { std::fs::write(file, "") } else { std::fs::remove_file(file) }.expect("switch");
    }

    /// The power goes, and comes back; no program may run on it.
    ///
    /// # Panics
    /// If that cannot be done.
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
    /// Of so many bytes.
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

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Takes all the room that is left; what is returned gives it back.
    ///
    /// # Panics
    /// If the file cannot be made.
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
