//! Reads a small file that stays open, and finds values in it.

use std::fs::File;
use std::os::unix::fs::FileExt;

pub(super) fn content(file: Option<&File>) -> Option<String> {
    let mut buffer = [0; 8192];
    let length = file?.read_at(&mut buffer, 0).ok().filter(|length| *length > 0)?;
    Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

/// The value after `name ` at the start of a line.
pub(super) fn keyed(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}
