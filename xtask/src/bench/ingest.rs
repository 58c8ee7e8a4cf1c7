//! Pushes per second and their latency, compared with Debian's pushgateway and the disk itself.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tests::http::Client;

use super::disk::{fdatasync, percentile};
use super::pushgateway::{GROUPS, Gateway, metrics};
use crate::build;
use crate::programs::random;

const CONNECTIONS: [u32; 3] = [1, 16, 64];
/// Rows stored before the measurement.
const ROWS: [u64; 3] = [0, 100_000, 1_000_000];
/// Rounds; every subject is measured once in each.
const ROUNDS: usize = 5;
/// Pushes per second during the queries.
const BACKGROUND_RATE: u32 = 500;
const BACKGROUND_CLIENTS: u32 = 4;
const QUERY: &str = "/api/v1/metrics/repo/my-org/my-repo/ci.yml/build?limit=100";

/// One run of wrk.
#[derive(Debug, Clone, Copy, Default)]
struct Figure {
    /// Acknowledged pushes.
    requests: u64,
    rate: f64,
    p50: Duration,
    p99: Duration,
    failed: u64,
    /// The disk's p50 just before this run.
    disk: Duration,
}

/// The figures of one server that accepts pushes, by connections.
struct Subject {
    name: String,
    figures: [Vec<Figure>; 3],
}

impl Subject {
    fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), figures: Default::default() }
    }

    /// The median of each column.
    fn median(&self, connections: usize) -> Figure {
        let figures = &self.figures[connections];
        let time = |column: fn(&Figure) -> Duration| {
            percentile(&mut figures.iter().map(column).collect::<Vec<_>>(), 50)
        };
        let mut rates: Vec<_> = figures.iter().map(|figure| figure.rate).collect();
        rates.sort_by(f64::total_cmp);
        Figure {
            requests: figures.iter().map(|figure| figure.requests).sum(),
            rate: rates.get(rates.len() / 2).copied().unwrap_or_default(),
            p50: time(|figure| figure.p50),
            p99: time(|figure| figure.p99),
            failed: figures.iter().map(|figure| figure.failed).sum(),
            disk: time(|figure| figure.disk),
        }
    }

    /// The median of the two rates' ratio in each round. A ratio, because other load on the machine affects both.
    fn median_ratio(&self, other: &Self, connections: usize) -> f64 {
        let rounds = self.figures[connections].iter().zip(&other.figures[connections]);
        let mut ratios: Vec<_> = rounds.map(|(one, other)| one.rate / other.rate).collect();
        ratios.sort_by(f64::total_cmp);
        ratios.get(ratios.len() / 2).copied().unwrap_or_default()
    }

    fn best_rate(&self) -> f64 {
        (0..CONNECTIONS.len()).map(|at| self.median(at).rate).fold(0.0, f64::max)
    }

    fn print(&self) {
        for (at, connections) in CONNECTIONS.iter().enumerate() {
            let figure = self.median(at);
            println!(
                "{:<34} {connections:>5} {:>10.0}/s {:>10.2} ms {:>10.2} ms {:>12.2} ms {:>7}",
                self.name,
                figure.rate,
                millis(figure.p50),
                millis(figure.p99),
                millis(figure.disk),
                figure.failed
            );
        }
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

pub(crate) fn run(seconds: u64) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("installing wrk and the pushgateway needs root");
    }
    let program = build::programs(true, build::Object::IfPossible)?.receiver;
    if crate::setup::find("wrk").is_none() {
        crate::setup::apt_install(&["wrk"])?;
    }
    let directory = tempfile::tempdir()?;
    let bench = Bench { program, directory: directory.path().to_owned(), seconds };
    bench.prepare()?;
    let gateway = Gateway::start(directory.path())?;
    let [mut empty, mut some, mut many] =
        ROWS.map(|rows| Subject::new(format!("receiver, {rows} runs stored")));
    let mut peer = Subject::new(format!("pushgateway, {GROUPS} groups"));
    for round in 1..=ROUNDS {
        eprintln!("round {round} of {ROUNDS}");
        for (at, connections) in CONNECTIONS.into_iter().enumerate() {
            // Subjects that are compared with each other run one after the other.
            for (rows, subject) in [(ROWS[0], &mut empty), (ROWS[2], &mut many), (ROWS[1], &mut some)] {
                subject.figures[at].push(bench.receiver(rows, connections)?);
            }
            peer.figures[at].push(bench.wrk(&gateway.address, connections, "pushgateway", "-")?);
        }
    }
    println!(
        "{:<34} {:>5} {:>12} {:>13} {:>13} {:>15} {:>7}",
        "", "conns", "pushes", "p50", "p99", "fdatasync p50", "failed"
    );
    for subject in [&empty, &some, &many, &peer] {
        subject.print();
    }
    drop(gateway);
    let (query_p50, query_p99, rate) = bench.queries()?;
    println!(
        "the newest 100 runs of a job, {} runs stored, {rate:.0} pushes/s: p50 {:.2} ms, p99 {:.2} ms",
        ROWS[2],
        millis(query_p50),
        millis(query_p99)
    );

    let mut failed = Vec::new();
    let mut target = |what: &str, value: f64, met: bool, wanted: &str| {
        println!("{what:<60} {value:>8.2}  wanted {wanted}{}", if met { "" } else { "  MISSED" });
        if !met {
            failed.push(what.to_owned());
        }
    };
    let ratio = [&empty, &some, &many].map(Subject::best_rate).into_iter().fold(f64::INFINITY, f64::min)
        / peer.best_rate();
    target(
        "receiver's best rate (lowest of three) / pushgateway's best",
        ratio,
        ratio >= 100.0,
        "at least 100",
    );
    for subject in [&empty, &some, &many] {
        let one = subject.median(0);
        let limit = one.disk.mul_f64(1.5) + Duration::from_millis(1);
        let wanted = format!("at most {:.2}, 1.5 x fdatasync + 1 ms", millis(limit));
        target(
            &format!("{}: p50 of a single push, ms", subject.name),
            millis(one.p50),
            one.p50 <= limit,
            &wanted,
        );
    }
    for (at, connections) in CONNECTIONS.iter().enumerate() {
        let share = many.median_ratio(&empty, at);
        target(
            &format!("rate with {} runs / rate of an empty database, {connections} conns", ROWS[2]),
            share,
            share >= 0.8,
            "at least 0.8",
        );
    }
    target(
        "query beside pushes: p99, ms",
        millis(query_p99),
        query_p99 < Duration::from_millis(10),
        "under 10",
    );
    let refused: u64 =
        [&empty, &some, &many].iter().map(|it| (0..3).map(|at| it.median(at).failed).sum::<u64>()).sum();
    target("failed pushes to the receiver", refused as f64, refused == 0, "0");
    if !failed.is_empty() {
        bail!("missed: {}", failed.join("; "));
    }
    Ok(())
}

struct Bench {
    program: PathBuf,
    directory: PathBuf,
    seconds: u64,
}

impl Bench {
    fn pristine(&self, rows: u64) -> PathBuf {
        self.directory.join(format!("{rows}.db"))
    }

    /// Makes a database of each size: the receiver creates it, and the rows are inserted directly.
    fn prepare(&self) -> Result<()> {
        std::fs::write(self.directory.join("ingest.lua"), include_str!("ingest.lua"))?;
        let body = tests::faults::body("RUN", 1, true);
        std::fs::write(self.directory.join("receiver"), body)?;
        std::fs::write(self.directory.join("pushgateway"), metrics())?;
        for rows in ROWS {
            let database = self.pristine(rows);
            Server::start(&self.program, &database)?.stop()?;
            if rows > 0 {
                eprintln!("storing {rows} runs");
                tests::fill::fill(&database, rows);
            }
        }
        Ok(())
    }

    /// Puts a receiver with `rows` rows under load for a while. The database is unchanged afterwards, except the largest one.
    fn receiver(&self, rows: u64, connections: u32) -> Result<Figure> {
        let pristine = self.pristine(rows);
        let database = if rows < ROWS[2] {
            let copy = self.directory.join("db");
            std::fs::copy(&pristine, &copy)?;
            copy
        } else {
            // A copy would take longer than the measurement, and a few more rows make no difference at this size.
            pristine
        };
        // So that the next measurement does not pay for these writes.
        rustix::fs::sync();
        let server = Server::start(&self.program, &database)?;
        let token = server.push_token()?;
        let before = newest(&database)?;
        let figure = self.wrk(&server.address, connections, "receiver", &token)?;
        server.stop()?;
        let stored = newest(&database)? - before;
        // Pushes that wrk cut off at the end are stored as well.
        if stored < figure.requests {
            bail!("{} pushes were acknowledged and {stored} runs stored", figure.requests);
        }
        Ok(figure)
    }

    fn wrk(&self, address: &str, connections: u32, target: &str, token: &str) -> Result<Figure> {
        let (disk, _) = fdatasync(&self.directory)?;
        let mut wrk = Command::new("wrk");
        wrk.args(["--timeout=30s", "--latency"]).arg(format!("--duration={}s", self.seconds));
        wrk.arg(format!("--connections={connections}")).arg(format!("--threads={}", connections.min(2)));
        wrk.arg("--script").arg(self.directory.join("ingest.lua")).arg(format!("http://{address}"));
        wrk.arg("--").args([target, token]).arg(self.directory.join(target)).arg(random()?);
        let output = wrk.output().context("cannot run wrk")?;
        let stdout = String::from_utf8(output.stdout)?;
        let line = stdout.lines().find(|line| line.starts_with('{'));
        let line =
            line.with_context(|| format!("wrk: {stdout}{}", String::from_utf8_lossy(&output.stderr)))?;
        let told: Value = serde_json::from_str(line)?;
        let number =
            |name: &str| told[name].as_u64().with_context(|| format!("wrk reported no {name}: {told}"));
        let failed = number("failed")?;
        let requests = number("requests")?.saturating_sub(failed);
        Ok(Figure {
            requests,
            rate: requests as f64 / (number("microseconds")? as f64 / 1e6),
            p50: Duration::from_micros(number("p50")?),
            p99: Duration::from_micros(number("p99")?),
            failed,
            disk,
        })
    }

    /// Requests a job's newest runs again and again while others push: p50, p99, and the pushes per second.
    fn queries(&self) -> Result<(Duration, Duration, f64)> {
        let server = Server::start(&self.program, &self.pristine(ROWS[2]))?;
        let token = server.push_token()?;
        let begin = Instant::now();
        let time = Duration::from_secs(self.seconds * 2);
        let pushers: Vec<_> = (0..BACKGROUND_CLIENTS)
            .map(|_| {
                let (address, token) = (server.address.clone(), token.clone());
                std::thread::spawn(move || -> Result<u32> {
                    let mut client = Client::connect(&address)?;
                    let mut pushed = 0;
                    while begin.elapsed() < time {
                        let due = Duration::from_secs(1) * BACKGROUND_CLIENTS / BACKGROUND_RATE * pushed;
                        sleep(due.saturating_sub(begin.elapsed()));
                        let body = tests::faults::body(&tests::faults::summary_id(), 1, true);
                        let answer = client.send("POST", "/api/v1/metrics", &token, &body)?;
                        if answer.status != 201 {
                            bail!("a push was answered with {}: {}", answer.status, answer.body);
                        }
                        pushed += 1;
                    }
                    Ok(pushed)
                })
            })
            .collect();
        let mut client = Client::connect(&server.address)?;
        let mut times = Vec::new();
        while begin.elapsed() < time {
            let asked = Instant::now();
            let answer = client.send("GET", QUERY, &server.read_token, "")?;
            times.push(asked.elapsed());
            if answer.status != 200 || answer.body.len() < 100_000 {
                bail!("the query was answered with {}: {:.200}", answer.status, answer.body);
            }
            // Far from saturation: the latency of one query counts here, not the throughput.
            sleep(Duration::from_millis(10));
        }
        let mut pushed = 0;
        for pusher in pushers {
            pushed += pusher.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
        }
        let rate = f64::from(pushed) / begin.elapsed().as_secs_f64();
        server.stop()?;
        Ok((percentile(&mut times, 50), percentile(&mut times, 99), rate))
    }
}

/// The id of the newest run; ids count up.
fn newest(database: &Path) -> Result<u64> {
    let id = tests::faults::open(database)
        .query_row("SELECT max(id) FROM runs", [], |row| row.get::<_, Option<i64>>(0));
    Ok(id?.unwrap_or_default().cast_unsigned())
}

/// A receiver that logs every request to a file.
struct Server {
    child: Child,
    address: String,
    read_token: String,
}

impl Server {
    fn start(program: &Path, database: &Path) -> Result<Self> {
        let log = database.with_extension("log");
        let read_token = random()?;
        let mut command = Command::new(program);
        command.args(["--addr=127.0.0.1:0", "--log-format=json"]).arg("--db").arg(database);
        command.env("RECEIVER_READ_TOKEN", &read_token).env("RECEIVER_HMAC_KEY", random()?);
        let child = command.stderr(File::create(&log)?).spawn()?;
        let mut server = Self { child, address: String::new(), read_token };
        let deadline = Instant::now() + Duration::from_secs(30);
        while server.address.is_empty() {
            let text = std::fs::read_to_string(&log)?;
            let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let listening = lines.into_iter().find(|line| line["message"] == "listening");
            server.address =
                listening.and_then(|line| Some(line["address"].as_str()?.to_owned())).unwrap_or_default();
            if Instant::now() > deadline {
                bail!("the receiver did not listen in 30 s: {text}");
            }
            sleep(Duration::from_millis(5));
        }
        Ok(server)
    }

    fn push_token(&self) -> Result<String> {
        let answer: Value = ureq::post(format!("http://{}/api/v1/token", self.address))
            .header("Authorization", format!("Bearer {}", self.read_token))
            .send_json(serde_json::json!({"organization": "my-org"}))?
            .body_mut()
            .read_json()?;
        answer["token"].as_str().map(str::to_owned).context("the receiver answered without a token")
    }

    fn stop(mut self) -> Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let status = self.child.wait()?;
        if status.success() { Ok(()) } else { bail!("the receiver ended with {status}") }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
