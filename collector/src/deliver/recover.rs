//! Runs whose collectors were killed: one to continue, or last summaries to deliver.

use std::io::{self, Read};

use tracing::{info, warn};

use super::checkpoint::{Checkpoint, CheckpointError, Head, MAX_BYTES};
use super::spool::{Kind, RunLock, Spool};

/// A run to continue.
#[derive(Debug)]
pub struct Recovered {
    /// Its state.
    pub checkpoint: Checkpoint,
    /// Held by this collector now.
    pub lock: RunLock,
}

/// Reads the checkpoints that no collector holds. Returns the latest one that `is_ours`, to be continued; the others become
/// summaries in the spool. An unusable one is set aside.
pub fn recover(spool: &Spool, is_ours: impl Fn(&Head) -> bool) -> io::Result<Option<Recovered>> {
    let mut ours = recover_all(spool, is_ours)?;
    let latest = ours.pop();
    for other in ours {
        close(spool, other)?;
    }
    Ok(latest)
}

/// The same for a collector with many runs at once: returns all that `is_ours`, the latest last.
pub fn recover_all(spool: &Spool, is_ours: impl Fn(&Head) -> bool) -> io::Result<Vec<Recovered>> {
    let mut ours: Vec<Recovered> = Vec::new();
    for id in spool.checkpoints()? {
        let Some(lock) = spool.lock(&id)? else { continue };
        let path = spool.checkpoint_path(&id);
        let checkpoint = match read(&path) {
            Ok(checkpoint) if checkpoint.head.summary_id == id => checkpoint,
            // Its owner has just finished the run.
            Err(Unusable::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
                lock.remove();
                continue;
            }
            // Too little memory or a failing disk: the content may be good.
            Err(Unusable::Io(error)) => {
                warn!(file = %path.display(), %error, "a checkpoint cannot be read and stays where it is");
                continue;
            }
            Ok(_) => {
                set_aside(spool, &id, lock, &"it belongs to another run");
                continue;
            }
            Err(error) => {
                set_aside(spool, &id, lock, &error);
                continue;
            }
        };
        let found = Recovered { checkpoint, lock };
        if is_ours(&found.checkpoint.head) {
            ours.push(found);
        } else {
            close(spool, found)?;
        }
    }
    ours.sort_by_key(|one| one.checkpoint.head.written);
    Ok(ours)
}

/// Turns a run's checkpoint into its last summary.
pub fn close(spool: &Spool, Recovered { checkpoint, lock }: Recovered) -> io::Result<()> {
    let id = checkpoint.head.summary_id.clone();
    let submission = checkpoint.into_submission();
    let put = spool.put(&id, Kind::Recovered, &serde_json::to_vec(&submission)?);
    let path = match put {
        Ok(path) => path,
        Err(error) => {
            warn!(id, %error, "the last summary of a run whose collector was killed cannot be put into the spool");
            return Ok(());
        }
    };
    spool.remove_checkpoint(&id);
    lock.remove();
    info!(run_id = submission.run_id, file = %path.display(), "the collector of this run was killed; its last summary is in the spool");
    Ok(())
}

fn set_aside(spool: &Spool, id: &str, lock: RunLock, reason: &dyn std::fmt::Display) {
    match spool.set_aside_checkpoint(id) {
        Ok(path) => warn!(file = %path.display(), %reason, "a checkpoint cannot be used and is set aside"),
        Err(error) => warn!(id, %reason, %error, "a checkpoint cannot be used and cannot be set aside"),
    }
    lock.remove();
}

/// Why a checkpoint cannot be used.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Content(#[from] CheckpointError),
}

fn read(path: &std::path::Path) -> Result<Checkpoint, Unusable> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(Checkpoint::decode(&bytes)?)
}
