//! What lies in the spool, pushed.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::push::{PushError, Pusher};
use super::spool::{Entry, Kind, Spool};

/// So long one summary is tried before the receiver counts as out of reach.
const PATIENCE: Duration = Duration::from_secs(20);

/// What became of the summaries that lay there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// The receiver has them now.
    pub delivered: u64,
    /// It had a later one of the same run already.
    pub superseded: u64,
    /// It will never take them: they are set aside.
    pub refused: u64,
    /// They lie there still.
    pub kept: u64,
}

/// Pushes everything that is due, oldest first, but what belongs to a run that `except` names. A receiver that cannot be reached is
/// not tried again for each.
pub async fn deliver(spool: &Spool, pusher: &Pusher, except: impl Fn(&str) -> bool) -> io::Result<Tally> {
    let mut tally = Tally::default();
    let mut reachable = true;
    for entry in spool.entries()? {
        if !entry.kind.is_due() || except(&entry.id) {
            continue;
        }
        if reachable {
            reachable = push(spool, pusher, &entry, &mut tally).await;
        } else {
            tally.kept += 1;
        }
    }
    Ok(tally)
}

/// Pushes one; false: the receiver cannot be reached.
async fn push(spool: &Spool, pusher: &Pusher, entry: &Entry, tally: &mut Tally) -> bool {
    let file = entry.path.display();
    let path = entry.path.clone();
    let body = match beside(move || std::fs::read(path)).await {
        Ok(body) => Bytes::from(body),
        // Another collector delivered it, or a later summary took its place.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return true,
        Err(error) => {
            warn!(%file, %error, "a summary in the spool cannot be read");
            tally.kept += 1;
            return true;
        }
    };
    let result = pusher.push(body, Instant::now() + PATIENCE).await;
    let (spool, done) = (spool.clone(), entry.clone());
    match result {
        Ok(stored) => {
            info!(%file, id = stored.id, superseded = stored.superseded, "a summary from the spool was delivered");
            *if stored.superseded { &mut tally.superseded } else { &mut tally.delivered } += 1;
        }
        Err(error) if error.is_conflict() && entry.kind != Kind::Final => {
            info!(%file, "the receiver has a summary of this run already that is as late as the one in the spool");
            tally.superseded += 1;
        }
        Err(error) if error.is_final() => {
            let reason = error.to_string();
            match beside(move || spool.refuse(&done, &reason)).await {
                Ok(aside) => {
                    error!(%file, %error, aside = %aside.display(), "a summary from the spool is set aside");
                }
                Err(cause) => error!(%file, %error, %cause, "a summary from the spool cannot be set aside"),
            }
            tally.refused += 1;
            return true;
        }
        Err(error) => {
            warn!(%file, %error, "a summary stays in the spool");
            tally.kept += 1;
            return !matches!(error, PushError::OutOfTime { .. });
        }
    }
    let removed = beside(move || {
        spool.remove_entry(&done);
        Ok(())
    });
    if let Err(error) = removed.await {
        warn!(%file, %error, "a summary that was delivered stays in the spool");
    }
    true
}

/// Does something with files on a thread: a disk may be slow, and a pass must not wait for it.
async fn beside<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
