//! `/proc/uptime`: seconds since boot, in the reader's time namespace like the start times of processes.

use std::path::Path;

/// Reads it; `None` if it cannot be read or parsed.
pub fn read_seconds(proc_path: &Path) -> Option<f64> {
    parse(&std::fs::read_to_string(proc_path.join("uptime")).ok()?)
}

fn parse(content: &str) -> Option<f64> {
    content.split_ascii_whitespace().next()?.parse().ok()
}

/// The offset of a time namespace to the time since boot, in nanoseconds: `boottime` in `/proc/self/timens_offsets`. Start
/// times in `/proc` include it, those in the kernel's memory do not.
pub fn namespace_offset_ns() -> i64 {
    std::fs::read_to_string("/proc/self/timens_offsets")
        .ok()
        .and_then(|text| parse_offset(&text))
        .unwrap_or(0)
}

fn parse_offset(content: &str) -> Option<i64> {
    let line = content.lines().find(|line| line.starts_with("boottime"))?;
    let mut numbers = line.split_ascii_whitespace().skip(1).map(str::parse::<i64>);
    let (seconds, nanoseconds) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    seconds.checked_mul(1_000_000_000)?.checked_add(nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::{parse, parse_offset};

    #[test]
    fn a_time_namespace_shifts_the_time_since_boot() {
        let content = "monotonic           0         0\nboottime       -86400 500000000\n";
        assert_eq!(parse_offset(content), Some(-86_399_500_000_000));
        assert_eq!(parse_offset("monotonic 0 0\n"), None);
    }

    #[test]
    fn the_first_number_is_the_uptime() {
        assert_eq!(parse("1000.25 2000.00\n"), Some(1000.25));
        assert_eq!(parse(""), None);
        assert_eq!(parse("x 1\n"), None);
    }
}
