//! Converts between process start times (clock ticks since boot, as in `/proc/[pid]/stat`) and the boot clock.

use std::time::Duration;

use crate::host::{Host, Moment};

/// One moment on both scales.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    pub(crate) host: Host,
    /// When this collector began to measure.
    pub(crate) began_ticks: u64,
    pub(crate) started: Moment,
}

impl Clock {
    /// Converts a moment of the boot clock to ticks since boot.
    pub(crate) fn ticks_at(self, boot: Duration) -> f64 {
        let since = boot.saturating_sub(self.started.boot).as_secs_f64();
        self.began_ticks as f64 + since * self.host.ticks_per_second as f64
    }

    /// Returns the moment of the boot clock at which a process started, at most `now`.
    pub(crate) fn boot_at(self, ticks: u64, now: Duration) -> Duration {
        let ago = (self.ticks_at(now) - ticks as f64).max(0.0) / self.host.ticks_per_second as f64;
        now.saturating_sub(Duration::from_secs_f64(ago))
    }

    /// Length of a tick.
    pub(crate) fn tick_seconds(self) -> f64 {
        1.0 / self.host.ticks_per_second as f64
    }
}
