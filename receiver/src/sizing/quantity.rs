//! Quantities as Kubernetes writes them: read exactly, written rounded up.

/// Bytes of a MiB.
pub const MIB: u64 = 1 << 20;
/// Bytes of a GiB.
pub const GIB: f64 = (1u64 << 30) as f64;

/// The most that is accepted: no machine has more.
const MOST_CORES: f64 = 1e6;
const MOST_BYTES: f64 = (1u64 << 50) as f64;

/// CPU such as `2`, `0.5` or `500m`; more than 0.
pub fn cores(text: &str) -> Option<f64> {
    let (number, unit) = match text.strip_suffix('m') {
        Some(millis) => (millis, 1e-3),
        None => (text, 1.0),
    };
    Some(decimal(number)? * unit).filter(|cores| *cores > 0.0 && *cores <= MOST_CORES)
}

/// Memory such as `512Mi`, `2G` or plain bytes; more than 0.
pub fn bytes(text: &str) -> Option<u64> {
    const UNITS: [(&str, f64); 8] = [
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
    ];
    let found = UNITS.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)));
    let (number, factor) = found.unwrap_or((text, 1.0));
    let bytes = (decimal(number)? * factor).ceil();
    (1.0..=MOST_BYTES).contains(&bytes).then_some(bytes as u64)
}

/// Digits with at most one point; neither signs nor exponents.
fn decimal(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    (plain && text.starts_with(|first: char| first.is_ascii_digit())).then(|| text.parse().ok())?
}

/// Rounded up to a thousandth of a core.
pub fn round_cores(cores: f64) -> f64 {
    // What rounding of binary fractions does to a whole thousandth must not add one.
    (cores * 1e3 - 1e-6).ceil().max(0.0) / 1e3
}

/// Rounded up to a MiB.
pub fn round_bytes(bytes: f64) -> u64 {
    ((bytes / MIB as f64 - 1e-9).ceil().max(0.0) as u64).saturating_mul(MIB)
}

/// As Kubernetes writes it: `2`, `1250m`.
pub fn write_cores(cores: f64) -> String {
    let millis = (round_cores(cores) * 1e3).round() as u64;
    if millis.is_multiple_of(1000) { (millis / 1000).to_string() } else { format!("{millis}m") }
}

/// As Kubernetes writes it: `1946Mi`, `2Gi`.
pub fn write_bytes(bytes: u64) -> String {
    let mib = bytes.div_ceil(MIB);
    if mib.is_multiple_of(1024) && mib > 0 { format!("{}Gi", mib / 1024) } else { format!("{mib}Mi") }
}

/// For a sentence: `1.9 GiB`, `320 MiB`.
pub fn say_bytes(bytes: f64) -> String {
    let mib = bytes / MIB as f64;
    if mib >= 1024.0 {
        format!("{:.1} GiB", mib / 1024.0)
    } else if mib >= 10.0 {
        format!("{mib:.0} MiB")
    } else {
        format!("{mib:.1} MiB")
    }
}

/// For a sentence: `1.25 cores`, `0.012 cores`.
pub fn say_cores(cores: f64) -> String {
    let unit = if cores == 1.0 { "core" } else { "cores" };
    if cores >= 0.1 { format!("{cores:.2} {unit}") } else { format!("{cores:.3} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read() {
        assert_eq!(cores("2"), Some(2.0));
        assert_eq!(cores("500m"), Some(0.5));
        assert_eq!(cores("0.25"), Some(0.25));
        assert_eq!(bytes("512Mi"), Some(512 << 20));
        assert_eq!(bytes("1.5Gi"), Some(3 << 29));
        assert_eq!(bytes("2G"), Some(2_000_000_000));
        assert_eq!(bytes("17"), Some(17));
        for text in
            ["", "m", "-1", "+1", "1e3", "inf", "NaN", "0", "1_000", "2 ", "1..2", ".5", "1e999", "9999999"]
        {
            assert_eq!(cores(text), None, "{text}");
        }
        for text in ["", "Mi", "-1Gi", "1GiB", "1g", "0", "0Mi", "1e9", "99999999Ti"] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }

    #[test]
    fn quantities_are_written_rounded_up() {
        let written = [0.0101, 0.010, 2.0, 1.2345, 0.3 * 1.15].map(write_cores);
        assert_eq!(written, ["11m", "10m", "2", "1235m", "345m"]);
        assert_eq!(
            [1, MIB, MIB + 1, 2 << 30, 1946 << 20].map(write_bytes),
            ["1Mi", "1Mi", "2Mi", "2Gi", "1946Mi"]
        );
        for millis in 1..100_000u32 {
            let text = format!("{millis}m");
            let read = cores(&text).unwrap();
            assert_eq!(cores(&write_cores(read)), cores(&write_cores(round_cores(read))), "{text}");
            assert!((cores(&write_cores(read)).unwrap() - read).abs() < 1e-9, "{text}");
        }
    }
}
