//! Addresses of pages: encodes any name as part of a path, and decodes it again.

use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::store::RunFilter;

/// Everything but the unreserved characters of RFC 3986.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// Characters that must not be in a header.
const UNPRINTABLE: &AsciiSet = &CONTROLS.add(b' ');

/// Encodes a value in a query.
pub(super) fn value(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// Encodes a name as one part of a path. Browsers remove `.` and `..` from a path even if they are encoded, so such
/// names get a `~` in front, and so do names that begin with one.
pub(super) fn part(name: &str) -> String {
    let mark = if matches!(name, "." | "..") || name.starts_with('~') { "~" } else { "" };
    format!("{mark}{}", value(name))
}

/// The name that was encoded as this part.
pub(super) fn name(part: &str) -> &str {
    part.strip_prefix('~').unwrap_or(part)
}

/// The address of a job's page.
pub(super) fn job(parts: [&str; 4]) -> String {
    format!("/jobs/{}", parts.map(part).join("/"))
}

/// A page of a job with the runs that pass the filter, and with ids below `before`.
pub(super) fn filtered(job: &str, filter: &RunFilter, before: Option<i64>) -> String {
    let RunFilter { variant, git_ref, event, result } = filter;
    let fields = [("variant", variant), ("ref", git_ref), ("event", event), ("result", result)];
    let given = fields.into_iter().filter_map(|(name, text)| Some((name, value(text.as_ref()?))));
    let all = given.chain(before.map(|before| ("before", before.to_string())));
    let query: Vec<String> = all.map(|(name, value)| format!("{name}={value}")).collect();
    if query.is_empty() { job.to_owned() } else { format!("{job}?{}", query.join("&")) }
}

/// Where to go after signing in. Only our own pages are allowed.
pub(super) fn next(text: &str) -> Option<String> {
    let local = text.starts_with('/')
        && !text.starts_with("//")
        && !text.contains(|character: char| character == '\\' || character.is_control())
        && !text.starts_with("/sign-");
    local.then(|| utf8_percent_encode(text, UNPRINTABLE).to_string())
}

#[cfg(test)]
mod tests {
    use percent_encoding::percent_decode_str;

    use super::*;

    #[test]
    fn any_name_is_a_part_and_comes_back() {
        for text in
            ["build", "a/b", "..", ".", "~", "~..", "...", "%2F", "<script>", "ü ☃", "a?b#c", "\u{202e}x"]
        {
            let part = part(text);
            assert!(!part.contains(['/', '?', '#', '<']) && part != "." && part != "..", "{part}");
            assert_eq!(name(&percent_decode_str(&part).decode_utf8().unwrap()), text);
        }
        assert_eq!(job(["my-org", "my/repo", "ci.yml", ".."]), "/jobs/my-org/my%2Frepo/ci.yml/~..");
    }

    #[test]
    fn one_goes_on_only_to_pages_of_ours() {
        assert_eq!(next("/runs/1?x=y").as_deref(), Some("/runs/1?x=y"));
        assert_eq!(next("/jobs/ü").as_deref(), Some("/jobs/%C3%BC"));
        for elsewhere in [
            "",
            "runs",
            "//evil.example",
            "/\\evil.example",
            "https://evil.example",
            "/a\r\nx: y",
            "/sign-out",
            "/\t/x",
        ] {
            assert_eq!(next(elsewhere), None, "{elsewhere:?}");
        }
    }
}
