//! The lock of a run's owner: the kernel releases it when the owner dies, for whatever reason.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// Ownership of a run, for as long as this is held.
#[derive(Debug)]
pub struct RunLock {
    path: PathBuf,
    file: File,
}

impl RunLock {
    /// Takes it; `None` if another collector has it.
    pub(super) fn take(path: PathBuf) -> io::Result<Option<Self>> {
        loop {
            let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
            // The previous owner may have removed the file between the two calls: then it locks nothing.
            let inode = |metadata: Metadata| (metadata.dev(), metadata.ino());
            if std::fs::metadata(&path)
                .is_ok_and(|there| file.metadata().is_ok_and(|ours| inode(there) == inode(ours)))
            {
                return Ok(Some(Self { path, file }));
            }
        }
    }

    /// Releases it and removes its file: the run is over.
    pub fn remove(self) {
        super::forget(&self.path);
        drop(self.file);
    }
}
