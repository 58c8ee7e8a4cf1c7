use super::*;

fn accepted(header: &str) -> Option<Format> {
    Format::accepted(std::iter::once(header)).ok()
}

#[test]
fn accept_is_read_with_its_preferences() {
    assert_eq!(Format::accepted(std::iter::empty()).ok(), Some(Format::Json));
    for (header, expected) in [
        ("*/*", Some(Format::Json)),
        ("application/yaml", Some(Format::Yaml)),
        ("text/markdown;q=0.5, Application/YAML;q=0.6", Some(Format::Yaml)),
        ("text/html, application/xhtml+xml, */*;q=0.8", Some(Format::Json)),
        ("application/strategic-merge-patch+yaml", Some(Format::Patch)),
        ("text/*", Some(Format::Markdown)),
        ("application/json;q=0, text/markdown", Some(Format::Markdown)),
        ("application/json;q=0", None),
        ("image/png", None),
    ] {
        assert_eq!(accepted(header), expected, "{header}");
    }
}

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
