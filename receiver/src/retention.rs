//! What is deleted: runs that are older than asked for, and those of a job beyond so many.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tracing::{debug, info, warn};

use crate::state::AppState;
use crate::store::StoreError;

/// It is looked for what is to go this often.
const PERIOD: Duration = Duration::from_mins(1);
/// So many jobs are looked at in one query.
const JOBS: u32 = 500;
/// So many runs are deleted in one transaction: a push that comes meanwhile waits for it, some milliseconds.
pub(crate) const PIECE: u32 = 50;
/// After a failure it is tried again when others had their turn.
const PAUSE: Duration = Duration::from_secs(1);

/// How much is kept; everything if nothing is said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retention {
    /// Only runs whose last summary came no longer ago.
    pub age: Option<Duration>,
    /// Only so many runs of a job, the newest.
    pub runs_per_job: Option<u32>,
}

impl Retention {
    /// Whether anything is ever deleted.
    pub fn is_needed(self) -> bool {
        self != Self::default()
    }

    /// The time before which a run is too old.
    fn cutoff(self, now: Timestamp) -> Option<Timestamp> {
        let age = SignedDuration::try_from(self.age?).ok()?;
        now.checked_sub(age).ok()
    }
}

/// Deletes what is to go, until it is aborted.
pub async fn run(state: Arc<AppState>, retention: Retention) {
    let mut clock = tokio::time::interval(PERIOD);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        clock.tick().await;
        let cutoff = retention.cutoff(Timestamp::now());
        match pass(&state, retention.runs_per_job, cutoff).await {
            Ok(0) => debug!("no run is too old or too many"),
            Ok(runs) => info!(runs, "runs were deleted because of their age or number"),
            // The store has told of it already.
            Err(failed @ StoreError::Unusable { .. }) => {
                debug!(error = %failed, "old runs could not be deleted");
                tokio::time::sleep(PAUSE).await;
            }
            Err(failed) => {
                warn!(error = %failed, "old runs could not be deleted; it will be tried again");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Looks at all jobs once and deletes what is to go.
async fn pass(
    state: &AppState,
    runs_per_job: Option<u32>,
    cutoff: Option<Timestamp>,
) -> Result<u64, StoreError> {
    let (mut deleted, mut after) = (0, 0);
    loop {
        let jobs = state.store.jobs_beyond(after, JOBS, runs_per_job, cutoff).await?;
        let Some(last) = jobs.last() else { return Ok(deleted) };
        after = *last;
        for job in jobs {
            loop {
                let piece = state.store.delete_runs(job, PIECE, runs_per_job, cutoff).await?;
                deleted += piece.runs;
                state.metrics.deleted(piece.runs);
                if !piece.more {
                    break;
                }
            }
        }
    }
}
