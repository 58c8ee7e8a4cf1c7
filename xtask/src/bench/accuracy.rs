//! How much of the CPU time that the kernel charged to a cgroup (`cpu.stat`) the summary attributes to it.

use std::fmt::Write as _;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::json;
use tests::cgroup::Cgroup;
use tests::privileges::{self, Capabilities};
use wire::{ContainerUsage, Payload};

use crate::build::{self, Programs};
use crate::programs::Running;

/// The promised share, in percent.
const WITHOUT_PRIVILEGE: RangeInclusive<f64> = 98.0..=101.0;
const WITH_EBPF: RangeInclusive<f64> = 99.5..=100.5;

struct Workload {
    name: &'static str,
    /// A shell script; `$1` and `$2` are the cgroups, `$3` an empty directory, `$4` the workload program.
    script: String,
    /// The part that cannot be seen without eBPF.
    note: &'static str,
}

struct Row {
    workload: &'static str,
    container: &'static str,
    truth_seconds: f64,
    proc: Attributed,
    ebpf: Attributed,
    note: &'static str,
}

/// The CPU time that one collector attributes to one container.
struct Attributed {
    seconds: f64,
    percent: f64,
    collector_seconds: f64,
}

pub(crate) fn run(as_json: bool) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("creating the cgroups to compare with needs root; the collectors themselves run as nobody");
    }
    let programs = build::programs(true, build::Object::Required)?;
    let mut rows = Vec::new();
    for workload in workloads()? {
        eprintln!("== {}", workload.name);
        rows.extend(measure(&programs, &workload)?);
    }
    if as_json {
        let attributed = |it: &Attributed| json!({ "seconds": it.seconds, "percent": it.percent, "collector_cpu_seconds": it.collector_seconds });
        let rows = rows.iter().map(|row| {
            json!({
                "workload": row.workload, "container": row.container, "truth_seconds": row.truth_seconds,
                "proc": attributed(&row.proc), "ebpf": attributed(&row.ebpf),
            })
        });
        println!("{}", serde_json::to_string_pretty(&rows.collect::<Vec<_>>())?);
    } else {
        println!("{}", table(&rows));
    }
    let missed = rows.iter().filter(|row| row.missed()).count();
    if missed > 0 {
        bail!(
            "{missed} of {} rows are outside {WITHOUT_PRIVILEGE:?} % without and {WITH_EBPF:?} % with eBPF",
            rows.len()
        );
    }
    Ok(())
}

impl Row {
    fn missed(&self) -> bool {
        let proc = !self.note.is_empty() || WITHOUT_PRIVILEGE.contains(&self.proc.percent);
        !proc || !WITH_EBPF.contains(&self.ebpf.percent)
    }
}

fn workloads() -> Result<Vec<Workload>> {
    let manifest = build::root().join("Cargo.toml");
    let manifest = manifest.to_str().context("the path of the workspace is not UTF-8")?;
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    Ok(vec![
        Workload {
            name: "6,000 x /bin/true",
            script: "i=0; while [ $i -lt 6000 ]; do /bin/true; i=$((i+1)); done".to_owned(),
            note: "",
        },
        Workload {
            name: "make -j2, 300 C files",
            script: "cd \"$3\"; i=0; while [ $i -lt 300 ]; do
                printf '#include <stdio.h>\\nint f%d(int x) { printf(\"%%d\", x); return x * %d; }\\n' $i $i > f$i.c
                i=$((i+1)); done
                printf 'all: $(patsubst %%.c,%%.o,$(wildcard *.c))\\n%%.o: %%.c\\n\\tcc -O1 -c -o $@ $<\\n' > Makefile
                exec make -s -j2 all"
                .to_owned(),
            note: "",
        },
        Workload {
            name: "cargo build of the receiver",
            script: format!(
                "exec {cargo} build --quiet --locked --package receiver --manifest-path {manifest} --target-dir \"$3\""
            ),
            note: "",
        },
        Workload {
            name: "orphans, a mover, SIGCHLD ignored",
            script: "\"$4\" orphans 100 20; \"$4\" mover \"$1\" \"$2\" 4 2500; \"$4\" deaf 100 20".to_owned(),
            note: "unseen in /proc: children of a parent that ignores SIGCHLD, orphans that init reaped, the time of a move",
        },
    ])
}

/// Runs a workload once, with two collectors beside it.
fn measure(programs: &Programs, workload: &Workload) -> Result<Vec<Row>> {
    let cgroups = [Cgroup::new()?, Cgroup::new()?];
    let directory = tempfile::tempdir()?;
    // The collectors run as the user nobody, who must be able to reach their files.
    privileges::open_to_all(directory.path(), 0o777)?;
    let scratch = directory.path().join("scratch");
    std::fs::create_dir(&scratch)?;
    let proc = Beside::start(programs, directory.path(), "proc", Capabilities::None)?;
    let ebpf = Beside::start(programs, directory.path(), "ebpf", Capabilities::Ebpf)?;

    let mut job = Command::new("sh");
    job.args(["-c", &format!("echo $$ > \"$1/cgroup.procs\"\n{}", workload.script), "sh"]);
    job.arg(cgroups[0].path()).arg(cgroups[1].path()).arg(&scratch).arg(&programs.workload);
    let status = job.status()?;
    if !status.success() {
        bail!("{}: {status}", workload.name);
    }
    // Orphans end a moment later.
    cgroups.iter().try_for_each(Cgroup::wait_until_empty)?;
    let (proc, ebpf) = (proc.stop()?, ebpf.stop()?);
    let mut rows = Vec::new();
    for (cgroup, container) in cgroups.iter().zip(["first", "second"]) {
        let truth_seconds = cgroup.cpu_seconds()?;
        if truth_seconds == 0.0 {
            continue;
        }
        rows.push(Row {
            workload: workload.name,
            container,
            truth_seconds,
            proc: attributed(&proc, cgroup, truth_seconds),
            ebpf: attributed(&ebpf, cgroup, truth_seconds),
            note: workload.note,
        });
    }
    Ok(rows)
}

/// A collector beside the workload.
struct Beside {
    running: Running,
    report: PathBuf,
}

impl Beside {
    fn start(
        programs: &Programs,
        directory: &Path,
        source: &str,
        capabilities: Capabilities,
    ) -> Result<Self> {
        let report = directory.join(format!("{source}.json"));
        let mut command = privileges::as_nobody(&programs.collector, directory, capabilities)?;
        command.arg(if source == "ebpf" { "--ebpf=require" } else { "--ebpf=off" });
        command.args(["--interval=2s", "--log-format=json", "--output=json", "--output-file"]).arg(&report);
        let running = Running::start(&mut command)?;
        running.wait_for("measuring")?;
        Ok(Self { running, report })
    }

    fn stop(self) -> Result<Payload> {
        let status = self.running.stop()?;
        if !status.success() {
            bail!("the collector ended with {status}");
        }
        Ok(serde_json::from_slice(&std::fs::read(&self.report)?)?)
    }
}

fn attributed(payload: &Payload, cgroup: &Cgroup, truth_seconds: f64) -> Attributed {
    let is_it = |usage: &&ContainerUsage| usage.id.as_deref() == Some(cgroup.id());
    let usage = payload.containers.iter().find(is_it);
    let seconds = usage.and_then(|usage| usage.cpu_seconds).unwrap_or_default();
    Attributed {
        seconds,
        percent: 100.0 * seconds / truth_seconds,
        collector_seconds: payload.attribution.as_ref().map_or(0.0, |it| it.collector_cpu_seconds),
    }
}

fn table(rows: &[Row]) -> String {
    let mut table = format!(
        "{:<36} {:<9} {:>10} {:>12} {:>12}  {:>13}\n",
        "workload", "container", "cpu.stat", "no privilege", "eBPF", "their own CPU"
    );
    for row in rows {
        let _ = writeln!(
            table,
            "{:<36} {:<9} {:>8.2} s {:>10.2} % {:>10.2} %  {:>4.2} + {:>4.2} s  {}",
            row.workload,
            row.container,
            row.truth_seconds,
            row.proc.percent,
            row.ebpf.percent,
            row.proc.collector_seconds,
            row.ebpf.collector_seconds,
            row.note
        );
    }
    table
        + "Interval 2 s, both collectors beside the same run, as nobody: one without any capability, one with CAP_BPF and \
           CAP_PERFMON. The kernel's count comes from a cgroup v2 made for the run."
}
