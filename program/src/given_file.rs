//! Files that the configuration names. Other work waits for each read and write, so none may take forever, not even on a FIFO or
//! a device.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::stream;

/// Far more than all certificates of a distribution.
const MOST_BYTES: usize = 4 << 20;
/// How long the other end of a pipe, such as a shell's `<(…)`, may take.
const PATIENCE: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(5);

/// Reads a whole file. A FIFO without a writer is empty.
///
/// # Errors
/// The file cannot be read, has more than 4 MiB, or is a pipe that has not ended after two seconds.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = open(OpenOptions::new().read(true), path)?;
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

/// Reads a whole text file.
///
/// # Errors
/// As for [`read`], or the file is not UTF-8.
pub fn read_text(path: &Path) -> io::Result<String> {
    String::from_utf8(read(path)?).map_err(|error| io::Error::new(ErrorKind::InvalidData, error.utf8_error()))
}

/// Creates or truncates a file and writes the content to it.
///
/// # Errors
/// The file cannot be written, or is a pipe without a reader or whose reader takes nothing for two seconds.
pub fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    let mut file = open(&mut options, path)?;
    stream::write(&mut file, content)
}

/// Opens a file without waiting for the other end of a pipe.
fn open(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    options.custom_flags(flags).open(path).map_err(|error| {
        let is_unread = error.raw_os_error() == Some(Errno::NXIO.raw_os_error());
        if is_unread { io::Error::new(ErrorKind::BrokenPipe, "nothing reads from it") } else { error }
    })
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
    fn what_is_written_is_there_or_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        for text in ["a longer one", "short"] {
            write(&file, text.as_bytes()).unwrap();
            assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
        }
        let fifo = directory.path().join("fifo");
        mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        assert_eq!(write(&fifo, b"x").unwrap_err().kind(), ErrorKind::BrokenPipe, "nobody reads");
        let mut reader = OpenOptions::new().read(true).write(true).open(&fifo).unwrap();
        write(&fifo, b"all").unwrap();
        let mut taken = [0; 3];
        reader.read_exact(&mut taken).unwrap();
        assert_eq!(&taken, b"all");
        let more_than_a_pipe_holds = vec![0; 2 << 20];
        assert_eq!(write(&fifo, &more_than_a_pipe_holds).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(write(Path::new("/dev/full"), b"x").unwrap_err().kind(), ErrorKind::StorageFull);
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
