//! Formats figures for people. `assets/page.js` formats those of the charts in the same way.

use jiff::Timestamp;

/// Three significant digits, at most three decimals, no trailing zeros.
pub(super) fn significant(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return if value == 0.0 { "0" } else { "–" }.to_owned();
    }
    let digits = (2 - value.abs().log10().floor() as i32).clamp(0, 3) as usize;
    let text = format!("{value:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// `1.9 GiB`.
pub(super) fn bytes(value: f64) -> String {
    let mut value = value;
    let mut unit = "B";
    for next in ["KiB", "MiB", "GiB", "TiB", "PiB"] {
        if value.abs() < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    format!("{} {unit}", significant(value))
}

/// Introduces a limit that is not the container's own.
pub(super) const ABOVE_ALLOWS: &str = "its pod, slice or node allows";

/// Shown instead of a limit if only something above the container has one.
pub(super) fn no_limit(bound: &str) -> String {
    format!("no limit of its own; {ABOVE_ALLOWS} {bound}")
}

/// `1.5 cores`.
pub(super) fn cores(value: f64) -> String {
    let text = significant(value);
    if text == "1" { "1 core".to_owned() } else { format!("{text} cores") }
}

/// `2 h 10 min`.
pub(super) fn seconds(value: f64) -> String {
    let total = value.round() as u64;
    let (hours, minutes, rest) = (total / 3600, total / 60 % 60, total % 60);
    match (hours, minutes, rest) {
        (0, 0, _) if value < 10.0 => format!("{} s", significant(value)),
        (0, 0, rest) => format!("{rest} s"),
        (0, minutes, 0) => format!("{minutes} min"),
        (0, minutes, rest) => format!("{minutes} min {rest} s"),
        (hours, 0, _) => format!("{} h", count(hours)),
        (hours, minutes, _) => format!("{} h {minutes} min", count(hours)),
    }
}

/// `1,234,567`.
pub(super) fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A share of 1, in percent.
pub(super) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    match percent {
        _ if percent == 0.0 => "0 %".to_owned(),
        // Almost everything must not be shown as 100 %, nor almost nothing as 0 %.
        _ if percent > 99.95 && percent < 100.0 => "99.9 %".to_owned(),
        _ if percent > 0.0 && percent < 0.1 => "< 0.1 %".to_owned(),
        _ if percent.abs() < 10.0 || (percent > 99.0 && percent < 100.0) => {
            format!("{} %", format!("{percent:.1}").trim_end_matches(".0"))
        }
        _ => format!("{percent:.0} %"),
    }
}

/// Makes a sentence with names from outside safe to show: a bidirectional control character in a name would reorder all
/// of it.
pub(super) fn sentence(text: &str) -> String {
    let turns = |c: char| matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if turns(c) || c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// A time to read and to sort by.
#[derive(Debug, Clone)]
pub(super) struct DisplayTime {
    /// Machine-readable form.
    pub(super) machine: String,
    /// `2026-02-06 14:30 UTC`.
    pub(super) full: String,
    /// `3 h ago`.
    pub(super) ago: String,
}

impl DisplayTime {
    pub(super) fn new(time: Timestamp, now: Timestamp) -> Self {
        let full = time.strftime("%Y-%m-%d %H:%M UTC").to_string();
        let passed = now.as_second() - time.as_second();
        let ago = match passed {
            ..60 => "just now".to_owned(),
            60..3600 => format!("{} min ago", passed / 60),
            3600..86_400 => format!("{} h ago", passed / 3600),
            86_400..5_184_000 => format!("{} d ago", passed / 86_400),
            _ => time.strftime("%Y-%m-%d").to_string(),
        };
        Self { machine: time.to_string(), full, ago }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        for (value, text) in [
            (0.0, "0"),
            (0.0004, "0"),
            (0.0125, "0.013"),
            (0.25, "0.25"),
            (1.0, "1"),
            (1.985, "1.99"),
            (12.34, "12.3"),
            (100.0, "100"),
            (1023.4, "1023"),
            (f64::NAN, "–"),
        ] {
            assert_eq!(significant(value), text, "{value}");
        }
        assert_eq!(bytes(18_567_168.0), "17.7 MiB");
        assert_eq!(bytes(1024.0 * 1024.0 * 1024.0), "1 GiB");
        assert_eq!(bytes(512.0), "512 B");
        assert_eq!((cores(1.0), cores(0.25)), ("1 core".to_owned(), "0.25 cores".to_owned()));
        let times = [0.5, 20.0, 60.0, 185.0, 3600.0, 7812.0, 86_400.0 * 60.0].map(seconds);
        assert_eq!(times, ["0.5 s", "20 s", "1 min", "3 min 5 s", "1 h", "2 h 10 min", "1,440 h"]);
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        let shares = [0.0, 0.0004, 0.05, 0.123, 0.9996, 0.9999, 1.0, 1.5, -0.2].map(percent);
        assert_eq!(shares, ["0 %", "< 0.1 %", "5 %", "12 %", "99.9 %", "99.9 %", "100 %", "150 %", "-20 %"]);
    }

    #[test]
    fn a_name_turns_no_sentence() {
        assert_eq!(sentence("peak of run \u{202e}exe.txt + 15 %"), "peak of run \u{fffd}exe.txt + 15 %");
        assert_eq!(sentence("شغل ü 1\n2"), "شغل ü 1\u{fffd}2");
    }

    #[test]
    fn times_are_near_or_dates() {
        let now: Timestamp = "2026-02-06T14:30:00Z".parse().unwrap();
        let ago = |text: &str| DisplayTime::new(text.parse().unwrap(), now).ago;
        assert_eq!(ago("2026-02-06T14:29:30Z"), "just now");
        assert_eq!(ago("2026-02-06T14:31:00Z"), "just now");
        assert_eq!(ago("2026-02-06T13:45:00Z"), "45 min ago");
        assert_eq!(ago("2026-02-04T13:45:00Z"), "2 d ago");
        assert_eq!(ago("2025-02-04T13:45:00Z"), "2025-02-04");
    }
}
