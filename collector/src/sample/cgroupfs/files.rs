//! Reads a small file that stays open.

use std::fs::File;
use std::os::unix::fs::FileExt;

pub(super) fn content(file: Option<&File>) -> Option<String> {
    let mut buffer = [0; 8192];
    let length = file?.read_at(&mut buffer, 0).ok().filter(|length| *length > 0)?;
    Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
}
