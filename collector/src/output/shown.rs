//! Names and quantities for people.

use wire::ContainerUsage;

/// Longer names are cut, so that a row stays a row.
const MAX_NAME: usize = 40;

/// A name that cannot harm a terminal or break a table.
pub(super) fn name(name: &str) -> String {
    let mut name = plain(name);
    if name.chars().count() > MAX_NAME {
        name = name.chars().take(MAX_NAME - 1).collect();
        name.push('…');
    }
    name
}

/// Escapes control characters, invisible characters, and characters that change the direction of text.
pub(super) fn plain(text: &str) -> String {
    let harmful = |c: char| {
        c.is_control()
            || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
    };
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        if harmful(c) {
            plain.extend(c.escape_unicode());
        } else {
            plain.push(c);
        }
    }
    plain
}

/// Cores.
pub(super) fn cores(cores: f64) -> String {
    format!("{cores:.2}")
}

/// CPU time.
pub(super) fn seconds(seconds: f64) -> String {
    match seconds {
        s if s >= 100.0 => format!("{s:.0} s"),
        s if s >= 10.0 => format!("{s:.1} s"),
        s => format!("{s:.2} s"),
    }
}

/// Elapsed time.
pub(super) fn duration(seconds: f64) -> String {
    match seconds {
        s if s >= 3600.0 => format!("{}h {:02}m", (s / 3600.0) as u64, (s % 3600.0 / 60.0) as u64),
        s if s >= 60.0 => format!("{}m {:02}s", (s / 60.0) as u64, (s % 60.0) as u64),
        s if s >= 10.0 || s.fract() == 0.0 => format!("{s:.0}s"),
        s if s >= 0.1 => format!("{s:.1}s"),
        s => format!("{:.0}ms", 1e3 * s),
    }
}

/// Memory.
pub(super) fn bytes(bytes: f64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes;
    let mut unit = 0;
    while value >= 1023.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = usize::from(unit > 0 && value < 99.95);
    format!("{value:.digits$} {}", UNITS[unit])
}

/// The source of a limit that is not the container's own.
pub(super) const ABOVE_ALLOWS: &str = "its pod, slice or node allows";

/// The meaning of the sign in a column of limits.
pub(super) const BOUND_NOTE: &str = "≤: not a limit of its own, but what its pod, slice or node allows.";

/// The limit above it, in cores, if it is tighter than its own limit.
pub(super) fn cpu_bound(usage: &ContainerUsage) -> Option<f64> {
    usage.cpu_bound_cores.filter(|bound| usage.cpu_limit_cores.is_none_or(|own| *bound < own))
}

/// The same for memory, in bytes.
pub(super) fn memory_bound(usage: &ContainerUsage) -> Option<f64> {
    let bound = usage.memory_bound_bytes?;
    usage.memory_limit_bytes.is_none_or(|own| bound < own).then_some(bound as f64)
}

/// The memory that the container needed at its highest use, without page cache, as far as it is known.
pub(super) fn memory_needed(usage: &ContainerUsage) -> Option<String> {
    let known = |figure: Option<u64>| figure.map(|figure| bytes(figure as f64));
    let (least, most) = (known(usage.memory_needed_at_least_bytes), known(usage.memory_needed_at_most_bytes));
    match (least, most) {
        (Some(least), Some(most)) if least != most => Some(format!("{least} to {most}")),
        (_, Some(most)) => Some(most),
        (Some(least), None) => Some(format!("{least} or more")),
        (None, None) => known(usage.processes_memory_bytes).map(|seen| format!("{seen} seen")),
    }
}

/// Its own limit, and a tighter one above it.
pub(super) fn limit(own: Option<String>, bound: Option<String>) -> Option<String> {
    match (own, bound) {
        (None, Some(bound)) => Some(format!("none, ≤ {bound}")),
        (Some(own), Some(bound)) => Some(format!("{own}, ≤ {bound}")),
        (own, None) => own,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_humane() {
        let shown =
            [bytes(0.0), bytes(1023.0), bytes(1023.6), bytes(1536.0), bytes(104_857_600.0), bytes(8.5e12)];
        assert_eq!(shown, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "100 MiB", "7.7 TiB"]);
        let shown = [
            duration(0.03),
            duration(0.2),
            duration(2.0),
            duration(20.005),
            duration(90.0),
            duration(7_260.0),
        ];
        assert_eq!(shown, ["30ms", "0.2s", "2s", "20s", "1m 30s", "2h 01m"]);
        assert_eq!(
            [seconds(0.004), seconds(9.999), seconds(12.34), seconds(123.4)],
            ["0.00 s", "10.00 s", "12.3 s", "123 s"]
        );
    }
}
