//! The time from SIGTERM to the receiver's answer, with a day of a hundred containers to sum up.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tests::day;

use crate::build::{self, Object};
use crate::programs::{Receiver, Running};

/// The promised 99th percentile.
const PROMISED: Duration = Duration::from_millis(500);
const SCOPE: [(&str, &str); 5] = [
    ("GITHUB_REPOSITORY_OWNER", "bench"),
    ("GITHUB_REPOSITORY", "bench/flush"),
    ("GITHUB_WORKFLOW", "ci.yml"),
    ("GITHUB_JOB", "build"),
    ("GITHUB_RUN_ID", "1"),
];

pub(crate) fn run(rounds: usize) -> Result<()> {
    if rounds == 0 {
        bail!("--rounds is 0; at least 1 is accepted");
    }
    let programs = build::programs(true, Object::IfPossible)?;
    let directory = tempfile::tempdir()?;
    let receiver = Receiver::start(&programs.receiver, &directory.path().join("metrics.db"))?;
    let token = receiver.push_token(&json!({ "organization": "bench" }))?;
    println!("SIGTERM to acknowledged, 24 h and {} containers, {rounds} rounds each", day::CONTAINERS);
    let mut missed = false;
    let cases = [("the most exact samples", day::LARGEST_EXACT), ("a pass a second, histograms", day::WHOLE)];
    for (name, passes) in cases {
        let day = day::Day::of(passes);
        let spool = directory.path().join("spool");
        let (mut acknowledged, mut ended) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            day.checkpoint(&spool, &day::identity(&SCOPE))?;
            let mut command = Command::new(&programs.collector);
            command.envs(SCOPE).env("COLLECTOR_PUSH_TOKEN", &token).arg("--spool-dir").arg(&spool);
            command.arg(format!("--push-endpoint={}/api/v1/metrics", receiver.base));
            command
                .args(["--interval=1s", "--log-format=json", "--output=text"])
                .stdout(std::process::Stdio::null());
            let collector = Running::start(&mut command)?;
            collector.wait_for("going on with the run of a collector that was killed")?;
            collector.wait_for("measuring")?;
            let begin = Instant::now();
            let pid = Pid::from_raw(collector.pid().cast_signed()).context("no PID")?;
            kill_process(pid, Signal::TERM)?;
            collector.wait_for("the receiver has the summary")?;
            acknowledged.push(begin.elapsed());
            let status = collector.wait()?;
            ended.push(begin.elapsed());
            if !status.success() {
                bail!("the collector ended with {status}");
            }
        }
        let p99 = percentile(&mut acknowledged, 99).context("no rounds")?;
        missed |= p99 > PROMISED;
        println!(
            "{name:<28} p50 {:>6.1} ms  p99 {:>6.1} ms  (ended: p50 {:.1} ms, p99 {:.1} ms)",
            ms(percentile(&mut acknowledged, 50).context("no rounds")?),
            ms(p99),
            ms(percentile(&mut ended, 50).context("no rounds")?),
            ms(percentile(&mut ended, 99).context("no rounds")?),
        );
    }
    receiver.stop()?;
    if missed {
        bail!("missed: p99 under {} ms", PROMISED.as_millis());
    }
    Ok(())
}

/// By nearest rank.
pub(super) fn percentile(times: &mut [Duration], percent: usize) -> Option<Duration> {
    times.sort_unstable();
    times.get((times.len() * percent).div_ceil(100).max(1) - 1).copied()
}

pub(super) fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
