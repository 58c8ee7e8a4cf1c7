use super::*;

#[test]
fn what_is_quoted_or_commented_stays_on_its_line() {
    for text in ["a\nb: c", "a\r\u{85}\u{2028}\u{2029}b", "\u{202e}x", "\u{feff}", "\t#", "\u{0}"] {
        for written in [text::quoted(text), text::comment("", text)] {
            let inner = written.trim_end_matches('\n');
            assert!(inner.chars().all(|c| c == '\u{fffd}' || (' '..='~').contains(&c)), "{written:?}");
        }
    }
    assert_eq!(text::quoted("a\"b\\ü☃"), "\"a\\\"b\\\\ü☃\"");
}
