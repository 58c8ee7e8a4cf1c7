//! The cost of one process in one pass: the collector, the floor, and other tools, side by side on the same processes.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::fs::{Mode, OFlags, open, openat};
use rustix::io::read;

use super::clock::{children_cpu_time, cpu_time, own_cpu_time};
use crate::build::{self, Programs, checked};
use crate::programs::Running;

const INTERVAL: Duration = Duration::from_secs(1);
/// Rounds; every tool is measured once in each.
const ROUNDS: usize = 3;

/// Processes that do nothing until this is dropped.
struct Idle {
    child: Child,
}

impl Idle {
    fn start(programs: &Programs, count: usize, bytes: usize) -> Result<Self> {
        let mut command = Command::new(&programs.workload);
        command.args(["idle".to_owned(), count.to_string(), bytes.to_string()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut ready = [0; 6];
        child
            .stdout
            .as_mut()
            .context("no output")?
            .read_exact(&mut ready)
            .context("the idle processes did not start")?;
        Ok(Self { child })
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// The figures of one tool that reads the process table.
struct Figure {
    name: &'static str,
    /// CPU time per process and pass in each round, in microseconds.
    micros: Vec<f64>,
}

impl Figure {
    fn new(name: &'static str) -> Self {
        Self { name, micros: Vec::new() }
    }

    fn add(&mut self, cpu: Duration, passes: u32) -> Result<()> {
        self.micros.push(cpu.as_secs_f64() * 1e6 / f64::from(passes) / pids()?.len() as f64);
        Ok(())
    }

    fn median(&self) -> f64 {
        let mut sorted = self.micros.clone();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    }
}

pub(crate) fn run(passes: u32) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("installing the tools to compare with needs root");
    }
    let programs = build::programs(true, build::Object::IfPossible)?;
    let peers = Peers::prepare()?;
    let mut failed = Vec::new();

    eprintln!("== 1,000 idle processes, 1 MB touched each");
    let idle = Idle::start(&programs, 1000, 1_000_000)?;
    let exporter = peers.start_exporter()?;
    let [mut ours, mut floor, mut pidstat, mut psutil, mut process_exporter] =
        ["collector", "open+read+close", "pidstat", "psutil", "process-exporter"].map(Figure::new);
    for round in 1..=ROUNDS {
        eprintln!("round {round} of {ROUNDS}");
        ours.add(collector(&programs, passes, None)?, passes)?;
        floor.add(open_read_close(passes)?, passes)?;
        // pidstat reads the table once more than it reports.
        pidstat.add(Peers::pidstat(passes)?, passes + 1)?;
        psutil.add(peers.psutil(passes)?, passes)?;
        process_exporter.add(exporter.scrapes(3)?, 3)?;
    }
    for figure in [&ours, &floor, &pidstat, &psutil, &process_exporter] {
        println!("{:<18} {:>8.2} us per process and pass", figure.name, figure.median());
    }
    let mut target = |what: &str, ratio: f64, at_least: Option<f64>, at_most: Option<f64>| {
        let met = at_least.is_none_or(|bound| ratio >= bound) && at_most.is_none_or(|bound| ratio <= bound);
        let wanted = at_least
            .map(|bound| format!("at least {bound}"))
            .or(at_most.map(|bound| format!("at most {bound}")));
        println!(
            "{what:<48} {ratio:>7.2}  wanted {}{}",
            wanted.unwrap_or_default(),
            if met { "" } else { "  MISSED" }
        );
        if !met {
            failed.push(what.to_owned());
        }
    };
    target("collector / floor", ours.median() / floor.median(), None, Some(1.0));
    target("pidstat / collector", pidstat.median() / ours.median(), Some(7.0), None);
    target("psutil / collector", psutil.median() / ours.median(), Some(9.0), None);
    target("process-exporter / collector", process_exporter.median() / ours.median(), Some(40.0), None);
    drop(exporter);

    let [mut limited, mut floor] = ["", ""].map(Figure::new);
    for _ in 0..ROUNDS {
        limited.add(collector(&programs, passes, Some(1024))?, passes)?;
        floor.add(open_read_close(passes)?, passes)?;
    }
    target("collector / floor, 1,024 descriptors", limited.median() / floor.median(), None, Some(1.3));
    drop(idle);

    eprintln!("== 10,000 idle processes");
    let _idle = Idle::start(&programs, 10_000, 4096)?;
    let [mut ours, mut floor] = ["", ""].map(Figure::new);
    for _ in 0..ROUNDS {
        ours.add(collector(&programs, passes, None)?, passes)?;
        floor.add(open_read_close(passes)?, passes)?;
    }
    target("collector / floor, 10,000 processes", ours.median() / floor.median(), None, Some(1.0));
    if !failed.is_empty() {
        bail!("missed: {}", failed.join("; "));
    }
    Ok(())
}

fn pids() -> Result<Vec<String>> {
    let entries =
        std::fs::read_dir("/proc")?.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    Ok(entries.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())).collect())
}

/// The collector beside the idle processes. Its start and first passes, which learn every process, do not count.
fn collector(programs: &Programs, passes: u32, open_files: Option<u32>) -> Result<Duration> {
    let mut command = match open_files {
        None => Command::new(&programs.collector),
        Some(limit) => {
            let mut command = Command::new("prlimit");
            command.arg(format!("--nofile={limit}:{limit}")).arg(&programs.collector);
            command
        }
    };
    command.args(["--interval=1s", "--log-format=json", "--log-level=debug", "--output=none"]);
    let running = Running::start(&mut command)?;
    for _ in 0..4 {
        running.wait_for("pass")?;
    }
    let before = cpu_time(running.pid())?;
    for _ in 0..passes {
        running.wait_for("pass")?;
    }
    let used = cpu_time(running.pid())?.saturating_sub(before);
    running.stop()?;
    Ok(used)
}

/// The floor: open, read and close `stat` of every process, in as many passes at the same interval.
fn open_read_close(passes: u32) -> Result<Duration> {
    let proc = open("/proc", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let paths: Vec<std::ffi::CString> = pids()?
        .into_iter()
        .map(|pid| Ok(std::ffi::CString::new(format!("{pid}/stat"))?))
        .collect::<Result<_>>()?;
    let mut used = Duration::ZERO;
    let mut buffer = [0; 4096];
    for pass in 0..=passes {
        let before = own_cpu_time()?;
        for path in &paths {
            if let Ok(file) = openat(&proc, path.as_c_str(), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            {
                let _ = read(&file, &mut buffer);
            }
        }
        // The first pass warms up.
        if pass > 0 {
            used += own_cpu_time()?.saturating_sub(before);
        }
        sleep(INTERVAL);
    }
    Ok(used)
}

/// The tools to compare with.
struct Peers {
    directory: tempfile::TempDir,
}

/// A process-exporter that listens on loopback.
struct Exporter {
    child: Child,
    url: String,
}

impl Peers {
    fn prepare() -> Result<Self> {
        if !Path::new("/usr/bin/pidstat").exists() {
            crate::setup::apt_install(&["sysstat"])?;
        }
        let directory = tempfile::tempdir()?;
        let at = directory.path();
        checked(Command::new("python3").args(["-m", "venv"]).arg(at.join("venv")))?;
        checked(Command::new(at.join("venv/bin/pip")).args(["install", "--quiet", "psutil"]))?;
        // Only unpacked: installing the package would start a service.
        checked(
            Command::new("apt-get")
                .args(["download", "--quiet", "prometheus-process-exporter"])
                .stdout(std::io::stderr())
                .current_dir(at),
        )?;
        let package = std::fs::read_dir(at)?
            .flatten()
            .find(|entry| entry.file_name().to_string_lossy().ends_with(".deb"));
        let package = package.context("apt-get downloaded no process-exporter package")?.path();
        checked(Command::new("dpkg").arg("-x").arg(package).arg(at.join("exporter")))?;
        Ok(Self { directory })
    }

    fn pidstat(passes: u32) -> Result<Duration> {
        let mut pidstat = Command::new("pidstat");
        pidstat.args(["-u", "-r", "-p", "ALL", "1", &passes.to_string()]).stdout(Stdio::null());
        children_cpu(&mut pidstat)
    }

    fn psutil(&self, passes: u32) -> Result<Duration> {
        let script = format!(
            "import psutil, time\n\
             attrs = ['name', 'ppid', 'status', 'num_threads', 'cpu_times', 'memory_info', 'create_time']\n\
             list(psutil.process_iter(attrs))\n\
             begin = time.process_time()\n\
             for _ in range({passes}):\n    list(psutil.process_iter(attrs))\n    time.sleep(1)\n\
             print(time.process_time() - begin)"
        );
        let output =
            Command::new(self.directory.path().join("venv/bin/python")).args(["-c", &script]).output()?;
        Ok(Duration::from_secs_f64(String::from_utf8(output.stdout)?.trim().parse()?))
    }

    fn start_exporter(&self) -> Result<Exporter> {
        let at = self.directory.path();
        let config = at.join("config.yml");
        std::fs::write(&config, "process_names:\n  - name: '{{.Comm}}'\n    cmdline: ['.+']\n")?;
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        drop(listener);
        let mut command = Command::new(at.join("exporter/usr/bin/prometheus-process-exporter"));
        command.arg(format!("-web.listen-address={address}")).arg("-config.path").arg(&config);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let exporter = Exporter { child, url: format!("http://{address}/metrics") };
        let deadline = Instant::now() + Duration::from_secs(30);
        // The first scrape learns every process and does not count.
        while exporter.scrape().is_err() {
            if Instant::now() > deadline {
                bail!("process-exporter did not answer in 30 s");
            }
            sleep(Duration::from_millis(100));
        }
        Ok(exporter)
    }
}

impl Exporter {
    fn scrape(&self) -> Result<()> {
        ureq::get(&self.url).call()?.body_mut().read_to_string()?;
        Ok(())
    }

    fn scrapes(&self, count: u32) -> Result<Duration> {
        let before = cpu_time(self.child.id())?;
        for _ in 0..count {
            self.scrape()?;
            sleep(INTERVAL);
        }
        Ok(cpu_time(self.child.id())?.saturating_sub(before))
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// CPU time of a program from its start to its end.
fn children_cpu(command: &mut Command) -> Result<Duration> {
    let before = children_cpu_time()?;
    let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
    if !status.success() {
        bail!("{command:?}: {status}");
    }
    std::io::stdout().flush()?;
    Ok(children_cpu_time()?.saturating_sub(before))
}
