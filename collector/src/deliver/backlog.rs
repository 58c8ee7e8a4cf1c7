//! What lies in the spool, pushed.

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

/// Pushes everything that is due, oldest first, but what belongs to the run `except`. A receiver that cannot be reached is
/// not tried again for each.
pub async fn deliver(spool: &Spool, pusher: &Pusher, except: Option<&str>) -> std::io::Result<Tally> {
    let mut tally = Tally::default();
    let mut reachable = true;
    for entry in spool.entries()? {
        if !entry.kind.is_due() || Some(entry.id.as_str()) == except {
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
    let body = match std::fs::read(&entry.path) {
        Ok(body) => Bytes::from(body),
        // Another collector delivered it, or a later summary took its place.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return true,
        Err(error) => {
            warn!(%file, %error, "a summary in the spool cannot be read");
            tally.kept += 1;
            return true;
        }
    };
    match pusher.push(body, Instant::now() + PATIENCE).await {
        Ok(stored) => {
            spool.remove_entry(entry);
            info!(%file, id = stored.id, superseded = stored.superseded, "a summary from the spool was delivered");
            *if stored.superseded { &mut tally.superseded } else { &mut tally.delivered } += 1;
            true
        }
        Err(error) if error.is_conflict() && entry.kind != Kind::Final => {
            spool.remove_entry(entry);
            info!(%file, "the receiver has a summary of this run already that is as late as the one in the spool");
            tally.superseded += 1;
            true
        }
        Err(error) if error.is_final() => {
            match spool.refuse(entry, &error.to_string()) {
                Ok(aside) => {
                    error!(%file, %error, aside = %aside.display(), "a summary from the spool is set aside");
                }
                Err(cause) => error!(%file, %error, %cause, "a summary from the spool cannot be set aside"),
            }
            tally.refused += 1;
            true
        }
        Err(error) => {
            warn!(%file, %error, "a summary stays in the spool");
            tally.kept += 1;
            matches!(error, PushError::Refused { .. })
        }
    }
}
