//! How long the receiver takes for each of its pages, with many jobs and runs stored.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tests::{faults, fill};

use super::flush::{ms, percentile};
use crate::build::{self, Object};
use crate::programs::Receiver;

/// The promised 99th percentile of the overview.
const PROMISED: Duration = Duration::from_millis(100);
/// The receiver computes the jobs' figures in the background, within this time.
const PATIENCE: Duration = Duration::from_mins(20);

pub(crate) fn run(jobs: u64, runs: u64, requests: usize, receiver: Option<&Path>) -> Result<()> {
    if requests == 0 || jobs == 0 || runs < jobs {
        bail!("at least 1 request, 1 job and a run for each job are accepted");
    }
    let program = match receiver {
        Some(receiver) => receiver.to_owned(),
        None => build::programs(true, Object::IfPossible)?.receiver,
    };
    let directory = tempfile::tempdir()?;
    let database = directory.path().join("metrics.db");
    Receiver::start(&program, &database)?.stop()?;
    let begin = Instant::now();
    fill::fill_jobs(&database, jobs, runs);
    println!("{jobs} jobs and {runs} runs stored in {:.0} s", begin.elapsed().as_secs_f64());
    let receiver = Receiver::start(&program, &database)?;
    let begin = Instant::now();
    while stale(&database)? > 0 {
        ensure!(begin.elapsed() < PATIENCE, "the figures of jobs were not computed in {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
    println!("their figures computed in {:.0} s", begin.elapsed().as_secs_f64());
    let browser = Browser::sign_in(&receiver)?;
    let mut slowest = Duration::ZERO;
    for (name, path) in [
        ("overview, by waste", "/"),
        ("overview, by risk", "/?sort=risk"),
        ("overview, by last run", "/?sort=last-run"),
        ("overview, by name", "/?sort=name"),
        ("overview, a search", "/?q=job-99"),
        ("overview, a search in vain", "/?q=nothing+like+that"),
        ("overview, one workflow", "/?organization=my-org&repository=my-repo&workflow=ci.yml"),
        ("job", "/jobs/my-org/my-repo/ci.yml/job-7"),
        ("run", "/runs/1"),
        ("two runs compared", "/compare?a=1&b=2"),
    ] {
        let mut times = Vec::with_capacity(requests);
        let mut bytes = 0;
        for _ in 0..requests {
            let begin = Instant::now();
            bytes = browser.get(path)?.len();
            times.push(begin.elapsed());
        }
        let p50 = percentile(&mut times, 50).context("no requests")?;
        let p99 = percentile(&mut times, 99).context("no requests")?;
        println!("{name:<28} p50 {:>6.2} ms  p99 {:>6.2} ms  {:>4} KiB", ms(p50), ms(p99), bytes / 1024);
        if name.starts_with("overview") {
            slowest = slowest.max(p99);
        }
    }
    receiver.stop()?;
    if slowest > PROMISED {
        bail!("missed: the overview's p99 under {} ms", PROMISED.as_millis());
    }
    Ok(())
}

/// The number of jobs whose figures are not computed yet.
fn stale(database: &Path) -> Result<i64> {
    Ok(faults::open(database).query_row("SELECT count(*) FROM jobs WHERE stale > 0", [], |row| row.get(0))?)
}

/// A signed-in client.
struct Browser {
    agent: ureq::Agent,
    base: String,
    cookie: String,
}

impl Browser {
    fn sign_in(receiver: &Receiver) -> Result<Self> {
        let agent: ureq::Agent = ureq::Agent::config_builder().max_redirects(0).build().into();
        let answer = agent
            .post(format!("{}/sign-in", receiver.base))
            .content_type("application/x-www-form-urlencoded")
            .send(format!("token={}", receiver.read_token))?;
        let cookie = answer.headers().get("set-cookie").context("no cookie")?.to_str()?;
        let cookie = cookie.split(';').next().unwrap_or_default().to_owned();
        Ok(Self { agent, base: receiver.base.clone(), cookie })
    }

    /// Fetches a whole page, from the request to the last byte.
    fn get(&self, path: &str) -> Result<String> {
        let mut answer =
            self.agent.get(format!("{}{path}", self.base)).header("Cookie", &self.cookie).call()?;
        ensure!(answer.status() == 200, "{path}: {}", answer.status());
        Ok(answer.body_mut().read_to_string()?)
    }
}
