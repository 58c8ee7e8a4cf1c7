//! Untrusted names, in text that other programs parse.

use std::fmt::Write as _;

use super::super::recommendation::{Sizing, Window};

/// The scope in words: `my-org/my-repo, workflow ci.yml, job build`.
pub(super) fn subject(sizing: &Sizing) -> String {
    let mut subject = sizing.repository.clone();
    for (what, name) in [("workflow", &sizing.workflow), ("job", &sizing.job)] {
        if let Some(name) = name {
            let _ = write!(subject, ", {what} {name}");
        }
    }
    subject
}

/// The window in words: `20 complete runs, 2026-02-06 to 2026-02-09`.
pub(super) fn window(window: &Window) -> String {
    let day = |time: jiff::Timestamp| time.strftime("%Y-%m-%d").to_string();
    let runs =
        if window.runs == 1 { "1 complete run".to_owned() } else { format!("{} complete runs", window.runs) };
    match window.oldest.zip(window.newest) {
        Some((oldest, newest)) => format!("{runs}, {} to {}", day(oldest), day(newest)),
        None => runs,
    }
}

/// Text on one line for every parser, without characters that change the writing direction.
pub(super) fn line(text: &str) -> String {
    text.chars().map(|c| if is_plain(c) { c } else { '\u{fffd}' }).collect()
}

/// A YAML comment.
pub(super) fn comment(indent: &str, text: &str) -> String {
    format!("{indent}# {}\n", line(text))
}

/// A YAML scalar, always in double quotes, with everything unusual escaped.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                quoted.push('\\');
                quoted.push(c);
            }
            c if is_plain(c) => quoted.push(c),
            c => {
                let _ = write!(quoted, "\\U{:08X}", u32::from(c));
            }
        }
    }
    quoted.push('"');
    quoted
}

/// Whether a character is visible, does not end a line and does not change the writing direction.
fn is_plain(c: char) -> bool {
    let turns = matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    let private = matches!(c, '\u{e000}'..='\u{f8ff}' | '\u{fff0}'..='\u{fffc}' | '\u{fffe}'..='\u{ffff}' | '\u{e0000}'..);
    c == ' ' || !(c.is_whitespace() || c.is_control() || turns || private)
}
