//! Durations as in Go (`time.ParseDuration`): `2s`, `500ms`, `1m30s`, `1.5s`; and days and weeks as in Prometheus: `7d`,
//! `2w`. A day has 24 hours.

use std::time::Duration;

/// Nanoseconds in each unit.
const UNITS: [(&str, u128); 9] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60 * 1_000_000_000),
    ("h", 3_600 * 1_000_000_000),
    ("d", 86_400 * 1_000_000_000),
    ("w", 7 * 86_400 * 1_000_000_000),
];

/// A thousand years: every clock can be set that far ahead.
const LONGEST: u128 = 1000 * 365 * 86_400 * 1_000_000_000;

/// Why a text is not a valid duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{input:?} {problem}: write it as 500ms, 1.5s, 1m30s or 7d (units: ns, us, ms, s, m, h, d, w)")]
pub struct DurationError {
    input: String,
    problem: &'static str,
}

/// Parses a duration that is not negative.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let error = |problem| DurationError { input: text.to_owned(), problem };
    let nanoseconds = nanoseconds(text).ok_or_else(|| error("is not a duration"))?;
    if nanoseconds > LONGEST {
        return Err(error("is more than 1000 years"));
    }
    Ok(Duration::new((nanoseconds / 1_000_000_000) as u64, (nanoseconds % 1_000_000_000) as u32))
}

/// Parses a duration that is longer than 0.
pub fn positive(text: &str) -> Result<Duration, DurationError> {
    match parse(text) {
        Ok(Duration::ZERO) => Err(DurationError { input: text.to_owned(), problem: "is zero" }),
        parsed => parsed,
    }
}

fn nanoseconds(text: &str) -> Option<u128> {
    if text == "0" {
        return Some(0);
    }
    let (mut rest, mut sum) = (text, 0u128);
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, behind) = rest.split_at(number);
        let unit = behind.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(unit);
        let (_, factor) = UNITS.into_iter().find(|(name, _)| *name == unit)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
            return None;
        }
        let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        // In every unit, more digits than these are below a nanosecond.
        let fraction = &fraction[..fraction.len().min(18)];
        let part = fraction.parse::<u128>().unwrap_or_default() * factor / 10u128.pow(fraction.len() as u32);
        sum = whole.checked_mul(factor)?.checked_add(part)?.checked_add(sum)?;
        rest = behind;
    }
    (!text.is_empty()).then_some(sum)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn takes_what_go_takes() {
        let cases = [
            ("2s", 2_000_000),
            ("500ms", 500_000),
            ("1m30s", 90_000_000),
            ("1.5s", 1_500_000),
            (".5s", 500_000),
            ("1h", 3_600_000_000),
            ("2h45m0.5s", 9_900_500_000),
            ("10us", 10),
            ("10µs", 10),
            ("0", 0),
            ("0s", 0),
            ("7d", 604_800_000_000),
            ("1.5d", 129_600_000_000),
            ("2w1d", 1_296_000_000_000),
        ];
        for (text, micros) in cases {
            assert_eq!(parse(text), Ok(Duration::from_micros(micros)), "{text}");
        }
    }

    #[test]
    fn names_what_it_does_not_take() {
        for text in [
            "",
            "2",
            "-2s",
            "2 s",
            "s",
            "2 d",
            "1y",
            "1mo",
            "2 seconds",
            "1s30",
            "two",
            "2s ",
            "+2s",
            "1.2.3s",
            "PT2S",
        ] {
            let message = parse(text).unwrap_err().to_string();
            assert!(message.starts_with(&format!("{text:?} is not a duration")), "{message}");
        }
    }

    #[test]
    fn no_clock_need_count_further() {
        for text in ["1001000w", "99999999999999999999999999999s", "9999999999999999h"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn no_time_can_be_refused() {
        assert_eq!(positive("1ns"), Ok(Duration::from_nanos(1)));
        for text in ["0", "0s", "0.0000000001s"] {
            assert!(positive(text).unwrap_err().to_string().contains("is zero"), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_comes_back(hours in 0u64..100, minutes in 0u64..60, ms in 0u64..60_000) {
            let text = format!("{hours}h{minutes}m{}.{:03}s", ms / 1000, ms % 1000);
            let expected = Duration::from_millis((hours * 60 + minutes) * 60_000 + ms);
            prop_assert_eq!(parse(&text), Ok(expected));
        }

        #[test]
        fn never_panics(text in ".{0,20}") {
            let _ = parse(&text);
        }
    }
}
