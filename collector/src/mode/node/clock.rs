//! Between the clock of process starts (ticks since boot, as `/proc` has them) and the boot clock.

use std::time::Duration;

use crate::host::{Host, Instant};

/// One moment in both.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    pub(super) host: Host,
    /// When measuring began.
    pub(super) began_ticks: u64,
    pub(super) started: Instant,
}

impl Clock {
    /// Ticks since boot at this moment of the boot clock.
    pub(super) fn ticks_at(self, boot: Duration) -> f64 {
        let since = boot.saturating_sub(self.started.boot).as_secs_f64();
        self.began_ticks as f64 + since * self.host.ticks_per_second as f64
    }

    /// The moment of the boot clock at which a process started, but none after `now`.
    pub(super) fn boot_at(self, ticks: u64, now: Duration) -> Duration {
        let ago = (self.ticks_at(now) - ticks as f64).max(0.0) / self.host.ticks_per_second as f64;
        now.saturating_sub(Duration::from_secs_f64(ago))
    }
}
