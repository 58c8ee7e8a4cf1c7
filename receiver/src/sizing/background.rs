//! Recomputes the figures of jobs in the background, a few at a time, with pauses in between.

use std::time::{Duration, Instant};

use tracing::{debug, info, warn};

use super::job_figures::JobFigures;
use super::parameters::SizingParameters;
use crate::store::{StaleJob, Store, StoreError, StoredFigures};

/// Jobs per step. Reading them takes some milliseconds, and writing them less.
const JOBS: u32 = 16;
/// A pause is this many times as long as the step before it, so that it uses at most a quarter of a CPU …
const REST: u32 = 3;
/// … and at least this long.
const SHORTEST_REST: Duration = Duration::from_millis(50);
/// Pause between two checks when nothing is stale.
const PAUSE: Duration = Duration::from_secs(1);
/// Delay of the first retry after an error. Each further retry doubles it …
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// … up to this.
const LAST_RETRY: Duration = Duration::from_mins(1);

/// Refreshes until it is dropped. A write at that moment is finished or not begun.
pub async fn refresh(store: Store) {
    let parameters = SizingParameters::default();
    let mut after = 0;
    let mut retry = FIRST_RETRY;
    let mut failed = false;
    loop {
        let began = Instant::now();
        let pause = match step(&store, after, &parameters).await {
            Ok(last) => {
                if std::mem::take(&mut failed) {
                    info!("the figures of jobs are updated again");
                }
                retry = FIRST_RETRY;
                // After the last job, begin again with the first.
                after = last.unwrap_or(0);
                let rest = (began.elapsed() * REST).max(SHORTEST_REST);
                if last.is_some() { rest } else { rest.max(PAUSE) }
            }
            // Leave the disk to pushes.
            Err(StoreError::Busy) => PAUSE,
            Err(error) => {
                // Log it once, not each time: pushes report the same disk.
                if !std::mem::replace(&mut failed, true) {
                    warn!(error = %error, "cannot update the figures of jobs; will retry");
                }
                let pause = retry;
                retry = (retry * 2).min(LAST_RETRY);
                pause
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// Refreshes some jobs after this row. Returns the row of the last one, or `None` if there was none.
async fn step(store: &Store, after: i64, parameters: &SizingParameters) -> Result<Option<i64>, StoreError> {
    let jobs = store.stale_jobs(after, JOBS, parameters.runs).await?;
    let Some(last) = jobs.last().map(|job| job.state.id) else { return Ok(None) };
    let count = jobs.len();
    let compute = move |parameters: &SizingParameters| {
        let stored = |job: &StaleJob| {
            let figures = JobFigures::of(&job.runs, parameters);
            let (waste, risk) = (figures.waste(), figures.risk());
            Ok(StoredFigures { state: job.state, figures: serde_json::to_string(&figures)?, waste, risk })
        };
        jobs.iter().map(stored).collect::<serde_json::Result<Vec<_>>>()
    };
    let parameters = parameters.clone();
    let figures = tokio::task::spawn_blocking(move || compute(&parameters)).await;
    let figures = figures.map_err(|error| StoreError::Failed(error.to_string()))?;
    let figures = figures.map_err(|error| StoreError::Failed(error.to_string()))?;
    store.store_figures(figures).await?;
    debug!(jobs = count, "figures");
    Ok(Some(last))
}
