//! The disk itself, for comparison.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;

const SYNCS: usize = 300;

/// Time to append a page to a file and sync it to the disk: p50 and p99.
pub(crate) fn fdatasync(directory: &Path) -> Result<(Duration, Duration)> {
    let mut file = tempfile::tempfile_in(directory)?;
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let begin = Instant::now();
        file.write_all(&[7; 4096])?;
        file.sync_data()?;
        times.push(begin.elapsed());
    }
    Ok((percentile(&mut times, 50), percentile(&mut times, 99)))
}

/// By nearest rank; zero without any times.
pub(crate) fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort();
    let rank = (times.len() * percent).div_ceil(100).max(1);
    times.get(rank - 1).copied().unwrap_or_default()
}
