//! Daemons that these commands start: waiting until they answer, and reading their logs.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

/// The apiserver's first start takes longest.
const PATIENCE: Duration = Duration::from_mins(2);

/// Polls until the answer is yes.
pub(crate) fn wait(what: &str, mut is_there: impl FnMut() -> Result<bool>) -> Result<()> {
    let until = Instant::now() + PATIENCE;
    while !is_there()? {
        ensure!(Instant::now() < until, "{what} did not come up within {} s", PATIENCE.as_secs());
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// The end of a log.
pub(crate) fn last_lines(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let last: Vec<_> = text.lines().rev().take(8).collect();
    last.into_iter().rev().collect::<Vec<_>>().join("\n")
}

/// A socket path has at most 107 characters; `/docker.sock` is the longest name here.
pub(crate) fn ensure_room_for_sockets(directory: &Path) -> Result<()> {
    ensure!(
        directory.as_os_str().len() + "/docker.sock".len() <= 107,
        "the path {} is too long: sockets below it may have at most 107 characters",
        directory.display()
    );
    Ok(())
}
