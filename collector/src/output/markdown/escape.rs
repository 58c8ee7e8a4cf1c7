use std::fmt::Write;

use crate::output::shown;

/// Longer texts are logs, not reasons.
const MAX_TEXT: usize = 300;

/// An untrusted name as code, in which Markdown, HTML and mentions have no effect.
pub(super) fn name(text: &str) -> String {
    let name = shown::name(text);
    let tame = |c: char| c.is_ascii_alphanumeric() || " ._+:/#=,()-".contains(c);
    if !name.is_empty() && name.trim() == name && name.chars().all(tame) {
        return format!("`{name}`");
    }
    // A code span cannot hold every name, even less in a table cell. An element can hold references to any character.
    format!("<code>{}</code>", references(&name))
}

/// Untrusted text in a sentence.
pub(super) fn text(text: &str) -> String {
    let plain = shown::plain(text);
    let mut cut: String = plain.chars().take(MAX_TEXT).collect();
    if cut.len() < plain.len() {
        cut.push('…');
    }
    let tame = |c: char| c.is_ascii_alphanumeric() || " .,:;/()='\"+-".contains(c);
    if cut.chars().all(tame) { cut } else { format!("<code>{}</code>", references(&cut)) }
}

/// Replaces every character that could have a meaning with a reference to it.
fn references(text: &str) -> String {
    let mut written = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_alphanumeric() || c == ' ' {
            written.push(c);
        } else {
            let _ = write!(written, "&#{};", u32::from(c));
        }
    }
    written
}
