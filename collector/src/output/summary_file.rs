//! The file that a CI system shows on the page of a run, such as `$GITHUB_STEP_SUMMARY`. Other steps write to it, too.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

/// GitHub does not show a step's summary that is larger.
const SHOWN_BYTES: u64 = 1 << 20;

/// Appends a section, and creates the file if it does not exist.
pub(super) fn append(path: &Path, markdown: &str) -> io::Result<()> {
    // A job can replace it with a link to a file of the collector, or with a pipe without a reader.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let mut file = OpenOptions::new().append(true).create(true).mode(0o644).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    // After an incomplete line a heading would be part of that line.
    let separator = if metadata.len() > 0 { "\n\n" } else { "" };
    if metadata.len() + (separator.len() + markdown.len()) as u64 > SHOWN_BYTES {
        return Err(io::Error::other("the file would exceed 1 MiB, and GitHub would not show it"));
    }
    file.write_all(format!("{separator}{markdown}").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_stays_and_what_is_no_file_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        append(&at("new.md"), "# One\n").unwrap();
        append(&at("new.md"), "# Two\n").unwrap();
        assert_eq!(std::fs::read_to_string(at("new.md")).unwrap(), "# One\n\n\n# Two\n");

        std::os::unix::fs::symlink(at("new.md"), at("link")).unwrap();
        assert!(append(&at("link"), "x").is_err());
        let mode = rustix::fs::Mode::RWXU;
        rustix::fs::mknodat(rustix::fs::CWD, at("pipe"), rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert!(append(&at("pipe"), "x").is_err());
        assert!(append(directory.path(), "x").is_err());
        std::fs::write(at("large"), vec![b'x'; (1 << 20) - 10]).unwrap();
        assert!(append(&at("large"), "0123456789").unwrap_err().to_string().contains("1 MiB"));
        assert_eq!(std::fs::metadata(at("large")).unwrap().len(), (1 << 20) - 10);
    }
}
