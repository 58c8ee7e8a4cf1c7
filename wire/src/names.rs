//! Normalises names of CI systems, so that they can be stored.

use sha2::{Digest, Sha256};

/// The longest accepted name, in characters.
pub const MAX_NAME_CHARS: usize = 512;

/// Hexadecimal digits of the hash that tells apart names that were cut.
const HASH_CHARS: usize = 8;

/// Normalises a name as every program here writes it. Whitespace at its ends is dropped, and each sequence of whitespace and
/// control characters becomes one space. A name longer than [`MAX_NAME_CHARS`] is cut to that and ends with `-` and eight
/// hexadecimal digits of its SHA-256, so that two long names stay different.
///
/// A name in YAML's block style ends with a line break, and a name from a template may contain anything. The maker of a token and
/// the collector that pushes with it must get the same name. A name of whitespace becomes empty.
pub fn normal_name(text: &str) -> String {
    cut(spaced(text))
}

/// The first half of [`normal_name`]: whitespace and control characters.
pub(crate) fn spaced(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ")
}

/// The second half of [`normal_name`]: the length.
pub(crate) fn cut(name: String) -> String {
    if name.chars().count() <= MAX_NAME_CHARS {
        return name;
    }
    let digest = Sha256::digest(name.as_bytes());
    let hash: String = digest.iter().take(HASH_CHARS / 2).map(|byte| format!("{byte:02x}")).collect();
    let kept: String = name.chars().take(MAX_NAME_CHARS - HASH_CHARS - 1).collect();
    format!("{kept}-{hash}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_and_control_characters_are_one_blank() {
        for (text, name) in [
            ("build", "build"),
            ("Docker: Build & Push\n", "Docker: Build & Push"),
            (" a\t\r\n b\u{7}c\u{a0}d ", "a b c d"),
            ("a\u{85}\u{2028}b", "a b"),
            (" \n\t", ""),
            ("", ""),
            ("naïve ☃", "naïve ☃"),
        ] {
            assert_eq!(normal_name(text), name, "{text:?}");
        }
    }

    #[test]
    fn long_names_are_cut_and_stay_apart() {
        let fits = "☃".repeat(MAX_NAME_CHARS);
        assert_eq!(normal_name(&fits), fits);
        let [one, other] = ["1", "2"].map(|end| normal_name(&format!("{fits}{end}")));
        assert_ne!(one, other);
        for name in [&one, &other] {
            assert_eq!(name.chars().count(), MAX_NAME_CHARS);
            assert_eq!(&normal_name(name), name);
        }
    }
}
