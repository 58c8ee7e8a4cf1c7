//! Decides when the next pass is due.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Ticks at whole multiples of the interval. A late tick makes one longer interval, never two passes.
#[derive(Debug)]
pub(crate) struct Ticker {
    interval: Duration,
    next: Instant,
}

impl Ticker {
    /// The first tick is one interval from now.
    pub(crate) fn new(interval: Duration) -> Self {
        Self { interval, next: Instant::now() + interval }
    }

    /// Waits for the next tick and returns how many were missed before it. Cancel-safe.
    pub(crate) async fn tick(&mut self) -> u64 {
        sleep_until(self.next).await;
        let late = Instant::now().saturating_duration_since(self.next);
        let missed = (late.as_nanos() / self.interval.as_nanos().max(1)) as u64;
        self.next += self.interval.saturating_mul(u32::try_from(missed + 1).unwrap_or(u32::MAX));
        missed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn late_ticks_are_counted_and_not_made_up_for() {
        let start = Instant::now();
        let mut ticker = Ticker::new(Duration::from_secs(2));
        assert_eq!(ticker.tick().await, 0);
        tokio::time::advance(Duration::from_secs(7)).await;
        assert_eq!(ticker.tick().await, 2, "those of seconds 4 and 6 are one, that of second 8 is in time");
        assert_eq!(ticker.tick().await, 0);
        assert_eq!(start.elapsed(), Duration::from_secs(10));
    }
}
