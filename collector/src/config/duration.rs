//! Durations as Go writes them (`time.ParseDuration`): `2s`, `500ms`, `1m30s`, `1.5s`.

use std::time::Duration;

use jiff::SignedDuration;

/// Units that Go knows; jiff knows more and would take `2 days`.
const UNITS: [&str; 7] = ["ns", "us", "µs", "ms", "s", "m", "h"];

/// Not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no duration: write it as 500ms, 2s, 1.5s or 1m30s (units: ns, us, ms, s, m, h)")]
pub struct DurationError(String);

/// Parses a duration that is not negative.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let error = || DurationError(text.to_owned());
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut units = text.split(|c: char| c.is_ascii_digit() || c == '.').filter(|unit| !unit.is_empty());
    if !text.starts_with(|c: char| c.is_ascii_digit() || c == '.') || !units.all(|unit| UNITS.contains(&unit))
    {
        return Err(error());
    }
    // Go takes `.5s`, jiff wants the zero.
    let zero = if text.starts_with('.') { "0" } else { "" };
    let parsed: SignedDuration = format!("{zero}{text}").parse().map_err(|_| error())?;
    Duration::try_from(parsed).map_err(|_| error())
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
        ];
        for (text, micros) in cases {
            assert_eq!(parse(text), Ok(Duration::from_micros(micros)), "{text}");
        }
    }

    #[test]
    fn names_what_it_does_not_take() {
        for text in
            ["", "2", "-2s", "2 s", "s", "2d", "2 seconds", "1s30", "two", "2s ", "+2s", "1.2.3s", "PT2S"]
        {
            let message = parse(text).unwrap_err().to_string();
            assert!(message.starts_with(&format!("{text:?} is no duration")), "{message}");
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
