//! The cost of the eBPF program for the job that it follows, and for the collector that reads it.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::clock::cpu_time;
use crate::build::{self, Programs};
use crate::programs::Running;

/// The promised bounds.
const SLOWER_COMPILE_PERCENT: f64 = 1.0;
const SLOWER_LOOP_PERCENT: f64 = 3.0;
const NS_PER_EVENT: f64 = 1000.0;
const COLLECTOR_PERCENT_OF_A_CORE: f64 = 2.0;
/// Processes that end per second while the collector's own CPU time is measured.
const EXITS_PER_SECOND: u32 = 2000;
const EXITS_SECONDS: u32 = 20;

/// The kernel counts the run time of eBPF programs while this is 1.
const STATISTICS: &str = "/proc/sys/kernel/bpf_stats_enabled";

pub(crate) fn run(rounds: usize) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("loading the eBPF program and turning on the kernel's statistics of it need root");
    }
    if rounds < 3 {
        bail!("--rounds is {rounds}; a median needs at least 3");
    }
    let programs = build::programs(true, build::Object::Required)?;
    let directory = tempfile::tempdir()?;
    let sources = directory.path().to_str().context("the temporary directory is not UTF-8")?;
    make_sources(directory.path())?;
    let compile = format!("make -s -B -j2 -C {sources} all");
    let mut missed = Vec::new();
    let mut judge = |what: String, figure: f64, bound: f64, unit: &str| {
        let met = figure <= bound;
        println!(
            "{what:<52} {figure:>9.2} {unit:<3} wanted at most {bound}{}",
            if met { "" } else { "  MISSED" }
        );
        if !met {
            missed.push(what);
        }
    };

    let fork_loop = "i=0; while [ $i -lt 2000 ]; do /bin/true; i=$((i+1)); done";
    for (name, script, bound) in [
        ("make -j2, 150 C files", compile.as_str(), SLOWER_COMPILE_PERCENT),
        ("2,000 x /bin/true", fork_loop, SLOWER_LOOP_PERCENT),
    ] {
        let slower = slower_percent(&programs, script, rounds)?;
        judge(format!("{name}: slower, median of {rounds} pairs"), slower, bound, "%");
    }

    let before = std::fs::read_to_string(STATISTICS).unwrap_or_default();
    std::fs::write(STATISTICS, "1").with_context(|| format!("cannot turn on {STATISTICS}"))?;
    let collector = start(&programs)?;
    shell(fork_loop)?;
    shell(&compile)?;
    let costs = per_event(collector.pid());
    std::fs::write(STATISTICS, before)?;
    collector.stop()?;
    for (name, (ns, events)) in costs? {
        judge(format!("{name}, {events} events"), ns, NS_PER_EVENT, "ns");
    }

    let collector = start(&programs)?;
    let before = cpu_time(collector.pid())?;
    let mut exits = Command::new(&programs.workload);
    exits.args(["exits", &EXITS_PER_SECOND.to_string(), &EXITS_SECONDS.to_string()]);
    let begin = Instant::now();
    build::checked(&mut exits)?;
    let seconds = begin.elapsed().as_secs_f64();
    // The last pass reads the rest.
    std::thread::sleep(Duration::from_secs(2));
    let used = cpu_time(collector.pid())?.saturating_sub(before).as_secs_f64();
    collector.stop()?;
    let rate = f64::from(EXITS_PER_SECOND * EXITS_SECONDS) / seconds;
    let percent = 100.0 * used / f64::from(EXITS_SECONDS) * f64::from(EXITS_PER_SECOND)
        / rate.min(f64::from(EXITS_PER_SECOND));
    judge(
        format!("collector at {rate:.0} exits/s, a pass every 2 s"),
        percent,
        COLLECTOR_PERCENT_OF_A_CORE,
        "%",
    );
    if !missed.is_empty() {
        bail!("missed: {}", missed.join("; "));
    }
    Ok(())
}

/// How much longer a script takes with a collector attached: the median of pairs that run with and without in turn.
fn slower_percent(programs: &Programs, script: &str, rounds: usize) -> Result<f64> {
    shell(script)?;
    let mut percents = Vec::new();
    for round in 0..rounds {
        let with = || -> Result<Duration> {
            let collector = start(programs)?;
            let taken = shell(script)?;
            collector.stop()?;
            Ok(taken)
        };
        // The order alternates, because the first of a pair may find a warmer or colder machine.
        let (with, without) = if round % 2 == 0 {
            let with = with()?;
            (with, shell(script)?)
        } else {
            let without = shell(script)?;
            (with()?, without)
        };
        percents.push(100.0 * (with.as_secs_f64() / without.as_secs_f64() - 1.0));
    }
    percents.sort_by(f64::total_cmp);
    eprintln!("{script}: {percents:.1?}");
    Ok(percents[percents.len() / 2])
}

fn start(programs: &Programs) -> Result<Running> {
    let mut command = Command::new(&programs.collector);
    command.args(["--ebpf=require", "--interval=2s", "--log-format=json", "--output=none"]);
    let collector = Running::start(&mut command)?;
    collector.wait_for("measuring")?;
    Ok(collector)
}

fn shell(script: &str) -> Result<Duration> {
    let begin = Instant::now();
    let status = Command::new("sh").args(["-c", script]).status()?;
    if !status.success() {
        bail!("{script}: {status}");
    }
    Ok(begin.elapsed())
}

/// Nanoseconds per run and number of runs of each program that a process holds, by name: `run_time_ns` and `run_cnt` in fdinfo.
fn per_event(pid: u32) -> Result<BTreeMap<String, (f64, u64)>> {
    let names: BTreeMap<u32, String> = aya::programs::loaded_programs()
        .flatten()
        .map(|program| (program.id(), program.name_as_str().unwrap_or_default().to_owned()))
        .collect();
    let mut costs = BTreeMap::new();
    for file in std::fs::read_dir(format!("/proc/{pid}/fdinfo"))?.flatten() {
        let Ok(text) = std::fs::read_to_string(file.path()) else { continue };
        let field = |name: &str| -> Option<u64> {
            text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse().ok())
        };
        let (Some(id), Some(ns), Some(runs)) = (field("prog_id"), field("run_time_ns"), field("run_cnt"))
        else {
            continue;
        };
        let Some(name) = names.get(&(id as u32)) else { continue };
        if runs > 100 {
            costs.insert(name.clone(), (ns as f64 / runs as f64, runs));
        }
    }
    if costs.is_empty() {
        bail!("the kernel counted no runs of the eBPF program");
    }
    Ok(costs)
}

fn make_sources(directory: &std::path::Path) -> Result<()> {
    for index in 0..150 {
        let source =
            format!("#include <stdio.h>\nint f{index}(int x) {{ printf(\"%d\", x); return x * {index}; }}\n");
        std::fs::write(directory.join(format!("f{index}.c")), source)?;
    }
    let makefile = "all: $(patsubst %.c,%.o,$(wildcard *.c))\n%.o: %.c\n\tcc -O1 -c -o $@ $<\n";
    std::fs::write(directory.join("Makefile"), makefile)?;
    Ok(())
}
