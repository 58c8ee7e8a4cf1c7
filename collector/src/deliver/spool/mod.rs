//! A directory of summaries that no receiver has yet, and of checkpoints of runs in progress.
//!
//! Every file is complete or absent, and readable only by its owner:
//!
//! | name | content |
//! |---|---|
//! | `<summary id>.final.json` | a run's last summary: exactly the body of a push |
//! | `<summary id>.recovered.json` | the last summary of a run whose collector was killed, made from its checkpoint |
//! | `<summary id>.interim.json` | a summary of a run that continued |
//! | `<summary id>.checkpoint` | see [`super::checkpoint`] |
//! | `<summary id>.lock` | held by the collector that owns the run |
//! | `<summary id>.refused.json` | set aside: the receiver will never accept it, and why |
//! | `<summary id>.unreadable` | set aside: an unusable checkpoint |

mod atomic;
mod lock;

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde_json::value::RawValue;
use tracing::{info, warn};

pub use self::atomic::AtomicFile;
pub use self::lock::RunLock;
use crate::config::SpoolConfig;

/// Kind of a spool file, in the order in which files are dropped if there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Set aside: a checkpoint that cannot be used.
    Unreadable,
    /// Set aside: the receiver will never accept it.
    Refused,
    /// A summary of a run that continued.
    Interim,
    /// Made from the checkpoint of a collector that was killed.
    Recovered,
    /// A run's last summary.
    Final,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Unreadable, Self::Refused, Self::Interim, Self::Recovered, Self::Final];

    fn suffix(self) -> &'static str {
        match self {
            Self::Unreadable => ".unreadable",
            Self::Refused => ".refused.json",
            Self::Interim => ".interim.json",
            Self::Recovered => ".recovered.json",
            Self::Final => ".final.json",
        }
    }

    /// Whether it is due to be pushed.
    pub fn is_due(self) -> bool {
        matches!(self, Self::Interim | Self::Recovered | Self::Final)
    }
}

/// A file of the spool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolEntry {
    /// Its path.
    pub path: PathBuf,
    /// The summary's id.
    pub id: String,
    /// Its kind.
    pub kind: Kind,
    /// Size in bytes.
    pub bytes: u64,
    modified: SystemTime,
}

/// Content of the file of a refused summary.
#[derive(Serialize)]
struct Refused<'a> {
    reason: &'a str,
    time: jiff::Timestamp,
    summary: Box<RawValue>,
}

/// A spool directory.
#[derive(Debug, Clone)]
pub struct Spool {
    directory: PathBuf,
    max_bytes: u64,
    max_age: Duration,
}

impl Spool {
    /// Opens it; creates it, for its owner only, if it does not exist.
    pub fn open(config: &SpoolConfig) -> io::Result<Self> {
        let SpoolConfig { directory, max_bytes, max_age, .. } = config.clone();
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        Ok(Self { directory, max_bytes, max_age })
    }

    /// Path of this run's checkpoint.
    pub fn checkpoint_path(&self, id: &str) -> PathBuf {
        self.directory.join(format!("{id}.checkpoint"))
    }

    fn path(&self, id: &str, kind: Kind) -> PathBuf {
        self.directory.join(format!("{id}{}", kind.suffix()))
    }

    /// Writes a summary in place of this run's earlier ones; returns its path.
    ///
    /// Drops files that are too old, and more if there is no room: in the order of [`Kind`], the oldest of each kind first.
    pub fn put(&self, id: &str, kind: Kind, body: &[u8]) -> io::Result<PathBuf> {
        let bytes = body.len() as u64;
        if bytes > self.max_bytes {
            let error = format!("the summary has {bytes} bytes, --spool-max-bytes is {}", self.max_bytes);
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, error));
        }
        self.make_room(bytes, id);
        let path = self.path(id, kind);
        AtomicFile::write(&path, body)?;
        // A late interim summary removes nothing.
        for other in Kind::ALL.into_iter().filter(|other| other.is_due() && *other < kind) {
            forget(&self.path(id, other));
        }
        Ok(path)
    }

    /// Removes this run's files that are due to be pushed.
    pub fn remove(&self, id: &str) {
        for kind in Kind::ALL.into_iter().filter(|kind| kind.is_due()) {
            forget(&self.path(id, kind));
        }
    }

    /// Removes one file.
    pub fn remove_entry(&self, entry: &SpoolEntry) {
        forget(&entry.path);
    }

    /// Sets aside a summary that the receiver will never accept, with the reason.
    pub fn refuse(&self, entry: &SpoolEntry, reason: &str) -> io::Result<PathBuf> {
        let body = fs::read(&entry.path)?;
        let summary = serde_json::from_slice(&body)
            .or_else(|_| serde_json::value::to_raw_value(&String::from_utf8_lossy(&body)))?;
        let refused = Refused { reason, time: jiff::Timestamp::now(), summary };
        let path = self.path(&entry.id, Kind::Refused);
        AtomicFile::write(&path, &serde_json::to_vec(&refused)?)?;
        forget(&entry.path);
        Ok(path)
    }

    /// The files, oldest first.
    pub fn entries(&self) -> io::Result<Vec<SpoolEntry>> {
        let mut entries = Vec::new();
        for file in fs::read_dir(&self.directory)?.flatten() {
            let name = file.file_name().to_string_lossy().into_owned();
            let known = Kind::ALL.into_iter().find_map(|kind| Some((id(&name, kind.suffix())?, kind)));
            let (Some((id, kind)), Ok(metadata)) = (known, file.metadata()) else { continue };
            let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            entries.push(SpoolEntry { path: file.path(), id, kind, bytes: metadata.len(), modified });
        }
        entries.sort_by(|one, other| (one.modified, &one.path).cmp(&(other.modified, &other.path)));
        Ok(entries)
    }

    /// The ids of runs that have a checkpoint.
    pub fn checkpoints(&self) -> io::Result<Vec<String>> {
        let names = fs::read_dir(&self.directory)?.flatten().map(|file| file.file_name());
        let mut ids: Vec<_> = names.filter_map(|name| id(name.to_str()?, ".checkpoint")).collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// Sets aside an unusable checkpoint.
    pub fn set_aside_checkpoint(&self, id: &str) -> io::Result<PathBuf> {
        let path = self.path(id, Kind::Unreadable);
        fs::rename(self.checkpoint_path(id), &path)?;
        Ok(path)
    }

    /// Removes a run's checkpoint.
    pub fn remove_checkpoint(&self, id: &str) {
        forget(&self.checkpoint_path(id));
    }

    /// Claims a run; `None` if another collector has it.
    pub fn lock(&self, id: &str) -> io::Result<Option<RunLock>> {
        RunLock::take(self.directory.join(format!("{id}.lock")))
    }

    /// Removes files that are too old, and unfinished files of killed collectors.
    pub fn tidy(&self) {
        self.make_room(0, "");
        let names =
            fs::read_dir(&self.directory).into_iter().flatten().flatten().map(|file| file.file_name());
        let of_the_living = names.filter_map(|name| {
            let text = name.to_str()?;
            Some((id(text, ".tmp").or_else(|| id(text, ".lock"))?, name))
        });
        for (id, name) in of_the_living {
            // A collector that writes one of these holds the run's lock.
            if let Ok(Some(lock)) = self.lock(&id) {
                if name.to_string_lossy().ends_with(".tmp") {
                    forget(&self.directory.join(name));
                }
                if !self.checkpoint_path(&id).exists() {
                    lock.remove();
                }
            }
        }
    }

    /// Makes room for `bytes` of this run, whose own files are about to be replaced.
    fn make_room(&self, bytes: u64, id: &str) {
        let Ok(mut entries) = self.entries() else { return };
        entries.retain(|entry| entry.id != id);
        let now = SystemTime::now();
        let age = |entry: &SpoolEntry| now.duration_since(entry.modified).unwrap_or_default();
        let mut total = bytes + entries.iter().map(|entry| entry.bytes).sum::<u64>();
        // Stable: the oldest of a kind stay first.
        entries.sort_by_key(|entry| entry.kind);
        let (mut dropped, mut dropped_bytes) = (0, 0);
        for entry in entries {
            let too_old = age(&entry) > self.max_age;
            if !too_old && total <= self.max_bytes {
                continue;
            }
            total -= entry.bytes;
            forget(&entry.path);
            warn!(file = %entry.path.display(), kind = ?entry.kind, too_old, "an undelivered file was dropped from the spool");
            dropped += 1;
            dropped_bytes += entry.bytes;
        }
        if dropped > 0 {
            info!(dropped, dropped_bytes, "the spool was reduced to its limits");
        }
    }
}

/// The id in a name of this form; ids are UUIDs, so no name leads elsewhere.
fn id(name: &str, suffix: &str) -> Option<String> {
    let id = name.strip_suffix(suffix)?.trim_start_matches('.');
    let id = id.split('.').next()?;
    uuid::Uuid::parse_str(id).ok().filter(|uuid| uuid.to_string() == id).map(|_| id.to_owned())
}

/// Removes a file; it may be gone already.
fn forget(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        warn!(file = %path.display(), %error, "a file of the spool cannot be removed");
    }
}

#[cfg(test)]
mod tests;
