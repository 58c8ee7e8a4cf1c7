//! The share of the CPU time that the kernel charged to a cgroup (`cpu.stat`) which the summary attributes to it.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::json;
use tests::cgroup::Cgroup;
use wire::Payload;

use crate::build::{self, Programs};
use crate::programs::Running;

/// The user that the collector runs as: `nobody`.
const UNPRIVILEGED: &str = "65534";

struct Workload {
    name: &'static str,
    /// A shell script; `$1` and `$2` are the cgroups, `$3` an empty directory, `$4` the workload program.
    script: String,
    /// What the table says of it.
    note: &'static str,
}

struct Row {
    workload: &'static str,
    container: &'static str,
    truth_seconds: f64,
    attributed_seconds: f64,
    collector_seconds: f64,
    note: &'static str,
}

pub(crate) fn run(as_json: bool) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!(
            "this makes cgroups to compare with, which needs root; the collector itself then runs as nobody"
        );
    }
    let programs = build::programs(true, build::Object::Required)?;
    let mut rows = Vec::new();
    for workload in workloads()? {
        eprintln!("== {}", workload.name);
        rows.extend(measure(&programs, &workload)?);
    }
    if as_json {
        let rows = rows.iter().map(|row| {
            json!({
                "workload": row.workload, "container": row.container, "truth_seconds": row.truth_seconds,
                "attributed_seconds": row.attributed_seconds, "percent": row.percent(),
                "collector_cpu_seconds": row.collector_seconds,
            })
        });
        println!("{}", serde_json::to_string_pretty(&rows.collect::<Vec<_>>())?);
    } else {
        println!("{}", table(&rows));
    }
    let missed: Vec<_> =
        rows.iter().filter(|row| row.note.is_empty() && !(98.0..=101.0).contains(&row.percent())).collect();
    if !missed.is_empty() {
        bail!("{} of the figures are outside 98 to 101 %", missed.len());
    }
    Ok(())
}

impl Row {
    fn percent(&self) -> f64 {
        100.0 * self.attributed_seconds / self.truth_seconds
    }
}

fn workloads() -> Result<Vec<Workload>> {
    let manifest = build::root().join("Cargo.toml");
    let manifest = manifest.to_str().context("the path of the workspace is not UTF-8")?;
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    Ok(vec![
        Workload {
            name: "3,000 x /bin/true",
            script: "i=0; while [ $i -lt 3000 ]; do /bin/true; i=$((i+1)); done".to_owned(),
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
            note: "lost: children of a parent that ignores SIGCHLD (2 s), orphans that init reaped; a move is seen at the next pass",
        },
    ])
}

fn measure(programs: &Programs, workload: &Workload) -> Result<Vec<Row>> {
    let cgroups = [Cgroup::new()?, Cgroup::new()?];
    let directory = tempfile::tempdir()?;
    // The collector runs as nobody: what it needs must be where nobody may look.
    open_to_all(directory.path(), 0o777)?;
    let collector = directory.path().join("collector");
    std::fs::copy(&programs.collector, &collector)?;
    open_to_all(&collector, 0o755)?;
    let report = directory.path().join("report.json");
    let scratch = directory.path().join("scratch");
    std::fs::create_dir(&scratch)?;
    let mut command = Command::new("setpriv");
    command.args(["--reuid", UNPRIVILEGED, "--regid", UNPRIVILEGED, "--clear-groups"]).arg(&collector);
    command.args(["--interval=2s", "--log-format=json", "--output=json", "--output-file"]).arg(&report);
    let running = Running::start(&mut command)?;
    running.wait_for("measuring")?;

    let mut job = Command::new("sh");
    job.args(["-c", &format!("echo $$ > \"$1/cgroup.procs\"\n{}", workload.script), "sh"]);
    job.arg(cgroups[0].path()).arg(cgroups[1].path()).arg(&scratch).arg(&programs.workload);
    let status = job.status()?;
    if !status.success() {
        bail!("{}: {status}", workload.name);
    }
    // Orphans end a moment later.
    cgroups.iter().try_for_each(Cgroup::wait_until_empty)?;
    let status = running.stop()?;
    if !status.success() {
        bail!("the collector ended with {status}");
    }
    let payload: Payload = serde_json::from_slice(&std::fs::read(&report)?)?;
    let mut rows = Vec::new();
    for (cgroup, container) in cgroups.iter().zip(["first", "second"]) {
        let truth_seconds = cgroup.cpu_seconds()?;
        if truth_seconds == 0.0 {
            continue;
        }
        let usage = payload.containers.iter().find(|usage| usage.id.as_deref() == Some(cgroup.id()));
        rows.push(Row {
            workload: workload.name,
            container,
            truth_seconds,
            attributed_seconds: usage.and_then(|usage| usage.cpu_seconds).unwrap_or_default(),
            collector_seconds: payload.attribution.as_ref().map_or(0.0, |it| it.collector_cpu_seconds),
            note: workload.note,
        });
    }
    Ok(rows)
}

fn open_to_all(path: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    Ok(std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?)
}

fn table(rows: &[Row]) -> String {
    let mut table = format!(
        "{:<36} {:<9} {:>10} {:>12} {:>8}  {:>13}\n",
        "workload", "container", "cpu.stat", "attributed", "share", "collector CPU"
    );
    for row in rows {
        let _ = writeln!(
            table,
            "{:<36} {:<9} {:>8.2} s {:>10.2} s {:>6.1} %  {:>11.2} s  {}",
            row.workload,
            row.container,
            row.truth_seconds,
            row.attributed_seconds,
            row.percent(),
            row.collector_seconds,
            row.note
        );
    }
    table
        + "Interval 2 s, collector as nobody and without eBPF, the kernel's count from a cgroup v2 made for the run."
}
