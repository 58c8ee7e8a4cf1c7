//! The lowest memory limit under which a workload ends well, found in a real cgroup.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tests::jail::Jail;

use super::workloads::{Scratch, Workload, Workshop};

/// The limit found is at most this factor above one that is too low.
const PRECISION: f64 = 1.02;
/// No workload needs less than this.
const LEAST_BYTES: u64 = 1 << 20;
/// With a sufficient limit a workload takes at most this many times as long as without one, plus `PATIENCE`.
const SLOWER: u32 = 3;
const PATIENCE: Duration = Duration::from_secs(3);

/// Finds the limit, in bytes.
pub(super) fn measure(programs: &Workshop, workload: &Workload, directory: &Path) -> Result<u64> {
    let began = Instant::now();
    let free = Jail::new(None)?;
    if !ends_well(programs, workload, directory, &free, Duration::from_mins(1))? {
        bail!("{}: it fails even without a limit", workload.name);
    }
    let patience = began.elapsed() * SLOWER + PATIENCE;
    let mut enough = free.peak_bytes()?.max(LEAST_BYTES);
    drop(free);
    let fits = |bytes: u64| ends_well(programs, workload, directory, &Jail::new(Some(bytes))?, patience);
    // Not every run needs exactly the same.
    while !fits(enough)? {
        enough += enough / 8;
    }
    let mut too_little = LEAST_BYTES;
    while enough as f64 > too_little as f64 * PRECISION {
        let between = ((enough as f64) * (too_little as f64)).sqrt() as u64;
        if fits(between)? {
            enough = between;
        } else {
            too_little = between;
        }
    }
    Ok(enough)
}

fn ends_well(
    programs: &Workshop,
    workload: &Workload,
    directory: &Path,
    jail: &Jail,
    patience: Duration,
) -> Result<bool> {
    let scratch = Scratch::new(directory)?;
    let enter = |path: &Path| format!("echo 0 > {}/cgroup.procs; ", path.display());
    let enter: String = jail.directories().iter().map(|path| enter(path)).collect();
    let mut command = Command::new("sh");
    scratch.give(programs, &mut command);
    // A child enters the cgroup, which may be too small even for a shell. This shell survives.
    command.args(["-c", &format!("( {enter}exec dash -ec '{}' )", quoted(workload.script))]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn()?;
    let end = Instant::now() + patience;
    let status = loop {
        let status = child.try_wait()?;
        // After an OOM kill the rest of the run does not matter.
        if status.is_some() || Instant::now() > end || jail.oom_kills()? > 0 {
            break status;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    jail.kill()?;
    child.wait()?;
    Ok(status.is_some_and(|status| status.success()) && jail.oom_kills()? == 0)
}

/// Escapes a text for single quotes of a shell.
fn quoted(text: &str) -> String {
    text.replace('\'', r"'\''")
}
