//! `/proc/stat` (`proc_stat(5)`): CPU time of the whole host.

use std::path::Path;

/// Time of all CPUs since boot, in clock ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuTimes {
    /// `idle` and `iowait`.
    pub idle_ticks: u64,
    /// Everything; `guest` is part of `user` and counts once.
    pub total_ticks: u64,
}

impl CpuTimes {
    /// Reads it; `None` if it cannot be read or parsed.
    pub fn read(proc_path: &Path) -> Option<Self> {
        Self::parse(&std::fs::read(proc_path.join("stat")).ok()?)
    }

    /// Parses the file's content; `None` if the times are missing or all zero, as on gVisor.
    pub fn parse(content: &[u8]) -> Option<Self> {
        let line = content.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"cpu "))?;
        let fields: Vec<u64> = std::str::from_utf8(line)
            .ok()?
            .split_ascii_whitespace()
            .take(8)
            .map(|field| field.parse().ok())
            .collect::<Option<_>>()?;
        let [_user, _nice, _system, idle, rest @ ..] = fields.as_slice() else { return None };
        let total_ticks = fields.iter().try_fold(0u64, |sum, field| sum.checked_add(*field))?;
        let idle_ticks = idle.checked_add(rest.first().copied().unwrap_or_default())?;
        (total_ticks > 0).then_some(Self { idle_ticks, total_ticks })
    }

    /// Share of the time since `before` in which CPUs were busy, in percent, 0 to 100; `None` if no time passed or
    /// a counter fell.
    pub fn busy_percent_since(&self, before: &Self) -> Option<f64> {
        let total = self.total_ticks.checked_sub(before.total_ticks).filter(|total| *total > 0)?;
        // `iowait` may fall (proc_stat(5)): the idle time then counts as 0.
        let idle = self.idle_ticks.saturating_sub(before.idle_ticks).min(total);
        Some(100.0 * (total - idle) as f64 / total as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guest_time_counts_once_and_waiting_is_idle() {
        let before = CpuTimes::parse(b"cpu  100 0 50 800 50 0 0 0 30 0\ncpu0 1 2\n").unwrap();
        assert_eq!(before, CpuTimes { idle_ticks: 850, total_ticks: 1000 });
        let now = CpuTimes::parse(b"cpu  160 0 50 830 60 0 0 0 90 0\n").unwrap();
        assert_eq!(now.busy_percent_since(&before), Some(60.0));
        assert_eq!(before.busy_percent_since(&before), None);
        assert_eq!(before.busy_percent_since(&now), None);
    }

    #[test]
    fn zeros_are_no_reading() {
        for content in
            [b"cpu  0 0 0 0 0 0 0 0 0 0\n".as_slice(), b"", b"cpu 1 2 x 4\n", b"cpu 1 2\n", b"intr 1\n"]
        {
            assert_eq!(CpuTimes::parse(content), None);
        }
    }
}
