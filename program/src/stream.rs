//! Writes to the standard streams without a panic.

use std::io::{self, ErrorKind, Write};
use std::time::{Duration, Instant};

/// How long to wait for a slow reader if the stream is non-blocking.
const PATIENCE: Duration = Duration::from_secs(2);
/// Pause before such a stream is tried again.
const PAUSE: Duration = Duration::from_millis(10);

/// Writes a line to standard error, if possible. `eprintln!` panics if the write fails.
pub fn tell(line: &str) {
    let _ = write(&mut io::stderr(), format!("{line}\n").as_bytes());
}

/// Writes all bytes, even if the stream is non-blocking.
///
/// # Errors
/// The stream is closed, has no reader, its disk is full, or it takes nothing for two seconds.
pub fn write(stream: &mut impl Write, mut bytes: &[u8]) -> io::Result<()> {
    let mut blocked_since = None;
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => {
                bytes = &bytes[written..];
                blocked_since = None;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if blocked_since.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
                    return Err(error);
                }
                std::thread::sleep(PAUSE);
            }
            Err(error) => return Err(error),
        }
    }
    stream.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes three bytes at a time, and every other time nothing.
    #[derive(Default)]
    struct Slow {
        taken: Vec<u8>,
        refuses: bool,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.refuses = !self.refuses;
            if self.refuses {
                return Err(ErrorKind::WouldBlock.into());
            }
            let some = &bytes[..bytes.len().min(3)];
            self.taken.extend_from_slice(some);
            Ok(some.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn all_of_it_is_written_however_slowly_it_is_taken() {
        let mut slow = Slow::default();
        write(&mut slow, b"all of it").unwrap();
        assert_eq!(slow.taken, b"all of it");
    }

    #[test]
    fn a_stream_that_takes_nothing_is_an_error() {
        let mut full: &mut [u8] = &mut [0; 2];
        assert_eq!(write(&mut full, b"three").unwrap_err().kind(), ErrorKind::WriteZero);
    }
}
