//! Kubernetes quantities (`resource.Quantity`): `2`, `0.5`, `500m`, `1e3`, `1Gi`, `128M`.

/// Accepted forms, for messages.
const CPU_FORMS: &str = "cores as 2, 0.5 or 500m";
const MEMORY_FORMS: &str =
    "bytes as 134217728, 1e9, 128Mi (Ki, Mi, Gi, Ti, Pi, Ei) or 128M (k, K, M, G, T, P, E)";

/// The last letters of suffixes that make a number larger; `E` before an exponent is never the last.
const MULTIPLES: [char; 8] = ['i', 'k', 'K', 'M', 'G', 'T', 'P', 'E'];

/// Why a text is not a valid quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{input:?} {problem}{hint}; write {accepted}")]
pub struct QuantityError {
    input: String,
    problem: &'static str,
    hint: String,
    accepted: &'static str,
}

/// An exact number: a decimal mantissa, a power of ten and a power of two.
struct Quantity {
    mantissa: u128,
    exponent: i32,
    binary: u32,
}

/// Parses a CPU quantity. Returns cores.
pub fn cpu_cores(text: &str) -> Result<f64, QuantityError> {
    let error =
        |problem| QuantityError { input: text.to_owned(), problem, hint: String::new(), accepted: CPU_FORMS };
    let Quantity { mantissa, exponent, binary } = Quantity::parse(text).map_err(error)?;
    let multiplied = mantissa as f64 * f64::from(binary).exp2();
    // Dividing by a power of ten is exact; multiplying by its inverse is not.
    let power = 10f64.powi(exponent.abs());
    let cores = if exponent < 0 { multiplied / power } else { multiplied * power };
    if !cores.is_finite() || cores > 1e6 {
        return Err(error("is more than a million cores"));
    }
    if cores == 0.0 {
        return Err(error("is zero"));
    }
    Ok(cores)
}

/// Parses a memory quantity. Returns bytes. A multiple such as `0.1Gi` is rounded up to a whole byte, as in Kubernetes. A
/// fraction of a byte, such as `512m`, is an error, although Kubernetes accepts it.
pub fn memory_bytes(text: &str) -> Result<u64, QuantityError> {
    let error = |problem| QuantityError {
        input: text.to_owned(),
        problem,
        hint: String::new(),
        accepted: MEMORY_FORMS,
    };
    let Quantity { mantissa, exponent, binary } = Quantity::parse(text).map_err(error)?;
    let too_large = || error("is more than 64 bits of bytes");
    let multiplied = mantissa.checked_mul(1 << binary).ok_or_else(too_large)?;
    let power = 10u128.checked_pow(exponent.unsigned_abs());
    let is_multiple = text.ends_with(|last: char| MULTIPLES.contains(&last));
    let is_whole = power.is_some_and(|power| exponent >= 0 || multiplied.is_multiple_of(power));
    if mantissa > 0 && !is_whole && !is_multiple {
        let number = text.trim_end_matches('m');
        let meant = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let suffix = if number.len() < text.len() { "Mi" } else { "Gi" };
        let hint = if meant { format!(" (did you mean {number}{suffix}?)") } else { String::new() };
        return Err(QuantityError { hint, ..error("is not a whole number of bytes") });
    }
    let bytes = match power {
        Some(power) if exponent < 0 => multiplied.div_ceil(power),
        Some(power) => multiplied.checked_mul(power).ok_or_else(too_large)?,
        None if exponent < 0 || multiplied == 0 => u128::from(multiplied > 0),
        None => return Err(too_large()),
    };
    match u64::try_from(bytes) {
        Ok(0) => Err(error("is zero")),
        Ok(bytes) => Ok(bytes),
        Err(_) => Err(too_large()),
    }
}

impl Quantity {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, suffix) = text.split_at(split);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.len() + fraction.len() == 0 || fraction.contains('.') {
            return Err(if text.starts_with('-') { "is negative" } else { "is not a quantity" });
        }
        let digits = format!("{whole}{fraction}");
        let mantissa = digits.parse().map_err(|_| "has too many digits")?;
        let (power, binary) = match suffix {
            "" => (0, 0),
            "n" => (-9, 0),
            "u" => (-6, 0),
            "m" => (-3, 0),
            "k" | "K" => (3, 0),
            "M" => (6, 0),
            "G" => (9, 0),
            "T" => (12, 0),
            "P" => (15, 0),
            "E" => (18, 0),
            "Ki" => (0, 10),
            "Mi" => (0, 20),
            "Gi" => (0, 30),
            "Ti" => (0, 40),
            "Pi" => (0, 50),
            "Ei" => (0, 60),
            _ => (decimal_exponent(suffix).ok_or("has an unknown suffix")?, 0),
        };
        Ok(Self { mantissa, exponent: power - fraction.len() as i32, binary })
    }
}

/// `e3`, `E3`, `e-3`, `e+3`.
fn decimal_exponent(suffix: &str) -> Option<i32> {
    let digits = suffix.strip_prefix(['e', 'E'])?;
    let exponent: i32 = digits.parse().ok()?;
    (-30..=30).contains(&exponent).then_some(exponent)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn cpu_in_every_form() {
        let cases = [
            ("2", 2.0),
            ("0.5", 0.5),
            (".5", 0.5),
            ("2.", 2.0),
            ("500m", 0.5),
            ("1500m", 1.5),
            ("0.1", 0.1),
            ("100m", 0.1),
            ("1e3", 1000.0),
            ("1E3", 1000.0),
            ("5e-1", 0.5),
            ("250000u", 0.25),
            ("100000000n", 0.1),
            ("1k", 1000.0),
        ];
        for (text, cores) in cases {
            assert_eq!(cpu_cores(text), Ok(cores), "{text}");
        }
    }

    #[test]
    fn memory_in_every_form() {
        let cases = [
            ("134217728", 134_217_728),
            ("1Ki", 1 << 10),
            ("256Mi", 256 << 20),
            ("1Gi", 1 << 30),
            ("1.5Gi", 3 << 29),
            ("2Ti", 2 << 40),
            ("1Pi", 1 << 50),
            ("1Ei", 1 << 60),
            ("1k", 1_000),
            ("1K", 1_000),
            ("128M", 128_000_000),
            ("1G", 1_000_000_000),
            ("1T", 1_000_000_000_000),
            ("1P", 1_000_000_000_000_000),
            ("1E", 1_000_000_000_000_000_000),
            ("1e3", 1_000),
            ("0.1Gi", 107_374_183),
            ("1.5k", 1_500),
            ("0.5E", 500_000_000_000_000_000),
            ("128974848000m", 128_974_848),
        ];
        for (text, bytes) in cases {
            assert_eq!(memory_bytes(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn bytes_that_are_not_whole_are_a_mistake() {
        for (text, hint) in [
            ("512m", " (did you mean 512Mi?)"),
            ("1.5", " (did you mean 1.5Gi?)"),
            ("0.1", " (did you mean 0.1Gi?)"),
            ("1500m", " (did you mean 1500Mi?)"),
            ("1e-3", ""),
            ("7u", ""),
            ("1n", ""),
        ] {
            let message = memory_bytes(text).unwrap_err().to_string();
            let expected = format!("{text:?} is not a whole number of bytes{hint}; write bytes as");
            assert!(message.starts_with(&expected), "{message}");
        }
    }

    #[test]
    fn what_is_none_is_named_with_what_would_be() {
        for text in [
            "", "x", "-1", "1 Gi", "1GiB", "1gi", "1mi", "1.2.3", "NaN", "inf", "1e", "0x10", "+1", "0",
            "16Ei", "1e30",
        ] {
            let message = memory_bytes(text).unwrap_err().to_string();
            assert!(message.starts_with(&format!("{text:?} ")) && message.contains("128Mi"), "{message}");
        }
        for text in ["", "two", "-500m", "500 m", "0", "0m", "1e9"] {
            let message = cpu_cores(text).unwrap_err().to_string();
            assert!(message.starts_with(&format!("{text:?} ")) && message.contains("500m"), "{message}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in ".{0,40}") {
            let _ = cpu_cores(&text);
            let _ = memory_bytes(&text);
        }

        #[test]
        fn numbers_of_any_length_never_panic(text in "[0-9]{0,45}\\.?[0-9]{0,45}(e-?[0-9]{1,3}|Ei|E|m|n|)") {
            let _ = cpu_cores(&text);
            let _ = memory_bytes(&text);
        }

        #[test]
        fn bytes_come_back(bytes in 1u64..) {
            prop_assert_eq!(memory_bytes(&bytes.to_string()), Ok(bytes));
        }

        #[test]
        fn a_binary_suffix_is_a_power_of_1024(number in 1u64..1000, power in 0usize..5) {
            let suffix = ["", "Ki", "Mi", "Gi", "Ti"][power];
            prop_assert_eq!(memory_bytes(&format!("{number}{suffix}")), Ok(number << (10 * power)));
        }

        #[test]
        fn millicores_are_thousandths(number in 1u64..1_000_000) {
            prop_assert_eq!(cpu_cores(&format!("{number}m")), Ok(number as f64 / 1000.0));
        }
    }
}
