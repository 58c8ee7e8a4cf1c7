//! Quantities as Kubernetes writes them, rounded up.

/// Bytes in a MiB.
pub const MIB: u64 = 1 << 20;
/// Bytes in a GiB.
pub const GIB: f64 = (1u64 << 30) as f64;

/// Rounds up to a thousandth of a core.
pub fn round_cores(cores: f64) -> f64 {
    // The rounding error of a binary fraction must not add a thousandth to a whole number of them.
    (cores * 1e3 - 1e-6).ceil().max(0.0) / 1e3
}

/// Rounds up to a MiB.
pub fn round_bytes(bytes: f64) -> u64 {
    ((bytes / MIB as f64 - 1e-9).ceil().max(0.0) as u64).saturating_mul(MIB)
}

/// Formats cores as Kubernetes does: `2`, `1250m`.
pub fn write_cores(cores: f64) -> String {
    let millis = (round_cores(cores) * 1e3).round() as u64;
    if millis.is_multiple_of(1000) { (millis / 1000).to_string() } else { format!("{millis}m") }
}

/// Formats bytes as Kubernetes does: `1946Mi`, `2Gi`.
pub fn write_bytes(bytes: u64) -> String {
    let mib = bytes.div_ceil(MIB);
    if mib.is_multiple_of(1024) && mib > 0 { format!("{}Gi", mib / 1024) } else { format!("{mib}Mi") }
}

/// Formats bytes for a sentence: `1.9 GiB`, `320 MiB`.
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

/// Formats cores for a sentence: `1.25 cores`, `0.012 cores`.
pub fn say_cores(cores: f64) -> String {
    let unit = if cores == 1.0 { "core" } else { "cores" };
    if cores >= 0.1 { format!("{cores:.2} {unit}") } else { format!("{cores:.3} {unit}") }
}

#[cfg(test)]
mod tests {
    use program::quantity::cpu_cores;

    use super::*;

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
            let read = cpu_cores(&text).unwrap();
            assert_eq!(write_cores(read), write_cores(round_cores(read)), "{text}");
            assert_eq!(cpu_cores(&write_cores(read)), Ok(read), "{text}");
        }
    }
}
