//! Files that the configuration names. A command waits for them, so that none may take for ever: not a FIFO, not a device.

use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

/// Far more than all certificates of a distribution.
const MOST_BYTES: usize = 4 << 20;
/// How long the other end of a pipe, such as a shell's `<(…)`, may take.
const PATIENCE: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(5);

/// Reads a whole file. A FIFO that nobody has open for writing is empty.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let mut file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let end = Instant::now() + PATIENCE;
    let mut content = Vec::new();
    let mut space = vec![0; 64 * 1024];
    loop {
        match file.read(&mut space) {
            Ok(0) => return Ok(content),
            Ok(count) => content.extend_from_slice(&space[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() < end => {
                std::thread::sleep(POLL);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return Err(io::Error::new(
                    ErrorKind::TimedOut,
                    format!("it did not end within {PATIENCE:?}"),
                ));
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if content.len() > MOST_BYTES {
            return Err(io::Error::new(ErrorKind::FileTooLarge, "it is larger than 4 MiB"));
        }
    }
}

/// The same of text.
pub(super) fn read_text(path: &Path) -> io::Result<String> {
    String::from_utf8(read(path)?).map_err(|error| io::Error::new(ErrorKind::InvalidData, error.utf8_error()))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    #[test]
    fn nothing_takes_for_ever() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("fifo");
        mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        assert_eq!(read(&fifo).unwrap(), b"", "nobody writes");
        let mut writer = OpenOptions::new().read(true).write(true).open(&fifo).unwrap();
        writer.write_all(b"half").unwrap();
        assert_eq!(read(&fifo).unwrap_err().kind(), ErrorKind::TimedOut, "nobody closes it");
        assert_eq!(read(Path::new("/dev/zero")).unwrap_err().kind(), ErrorKind::FileTooLarge);
        assert_eq!(read(directory.path()).unwrap_err().kind(), ErrorKind::IsADirectory);
    }

    #[test]
    fn a_pipe_is_read_to_its_end() {
        let (reader, mut writer) = io::pipe().unwrap();
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&reader));
        let writing = std::thread::spawn(move || {
            for part in ["t0", "ken", "\n"] {
                std::thread::sleep(Duration::from_millis(30));
                writer.write_all(part.as_bytes()).unwrap();
            }
        });
        assert_eq!(read_text(Path::new(&path)).unwrap(), "t0ken\n");
        writing.join().unwrap();
    }
}
