//! `/proc/uptime`: seconds since boot, in the reader's time namespace like the start times of processes.

use std::path::Path;

/// Reads it; `None` if that cannot be done or it does not tell.
pub fn read_seconds(proc_path: &Path) -> Option<f64> {
    parse(&std::fs::read_to_string(proc_path.join("uptime")).ok()?)
}

fn parse(content: &str) -> Option<f64> {
    content.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn the_first_number_is_the_uptime() {
        assert_eq!(parse("1000.25 2000.00\n"), Some(1000.25));
        assert_eq!(parse(""), None);
        assert_eq!(parse("x 1\n"), None);
    }
}
