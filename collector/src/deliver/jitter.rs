//! Random pauses.

use std::time::Duration;

/// Between half of the pause and all of it, so that collectors whose jobs ended together do not push again at the same
/// time.
pub(super) fn jittered(pause: Duration) -> Duration {
    let random = uuid::Uuid::new_v4().as_u128() as u32;
    pause / 2 + (pause / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
}
