//! Deletes runs that are older than the configured age, and the oldest runs of jobs that have too many.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tracing::{debug, info, warn};

use crate::metrics::Metrics;
use crate::store::{Store, StoreError};

/// How often to look for expired runs.
const PERIOD: Duration = Duration::from_mins(1);
/// Jobs per query.
const JOBS: u32 = 500;
/// Runs deleted per transaction. A push that arrives meanwhile waits for it, for a few milliseconds.
pub(crate) const PIECE: u32 = 50;
/// Pause after a failure.
const PAUSE: Duration = Duration::from_secs(1);

/// Which runs are kept; by default all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retention {
    /// Maximum time since the last summary of a run.
    pub age: Option<Duration>,
    /// Maximum number of runs of a job; the newest are kept.
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

/// Deletes expired runs until it is aborted.
pub async fn run(store: Store, metrics: Arc<Metrics>, retention: Retention) {
    let mut clock = tokio::time::interval(PERIOD);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        clock.tick().await;
        let cutoff = retention.cutoff(Timestamp::now());
        match pass(&store, &metrics, retention.runs_per_job, cutoff).await {
            Ok(0) => debug!("no runs to delete"),
            Ok(runs) => info!(runs, "runs were deleted because of their age or number"),
            // The store has logged it already.
            Err(failed @ StoreError::Unusable { .. }) => {
                debug!(error = %failed, "cannot delete old runs");
                tokio::time::sleep(PAUSE).await;
            }
            Err(failed) => {
                warn!(error = %failed, "cannot delete old runs; will retry");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Looks at all jobs once. Returns how many runs it deleted.
async fn pass(
    store: &Store,
    metrics: &Metrics,
    runs_per_job: Option<u32>,
    cutoff: Option<Timestamp>,
) -> Result<u64, StoreError> {
    let (mut deleted, mut after) = (0, 0);
    loop {
        let jobs = store.jobs_beyond(after, JOBS, runs_per_job, cutoff).await?;
        let Some(last) = jobs.last() else { return Ok(deleted) };
        after = *last;
        for job in jobs {
            loop {
                let piece = store.delete_runs(job, PIECE, runs_per_job, cutoff).await?;
                deleted += piece.runs;
                metrics.deleted(piece.runs);
                if !piece.more {
                    break;
                }
            }
        }
    }
}
