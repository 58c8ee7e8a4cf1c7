//! Real runs in cgroups with real limits and real OOM kills, measured by the shipped collector.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use receiver::store::CompleteRun;
use serde_json::{Value, json};
use tests::jail::Jail;
use tests::replay::{History, Past, Rule};
use wire::{ContainerSummary, ContainerUsage, Payload};

use super::table;
use crate::build::Programs;
use crate::programs::{Receiver, Running};

const MIB: u64 = 1 << 20;
/// Runs of each workload.
const RUNS: usize = 9;
/// The first run that a recommendation is made for.
const FIRST: usize = 3;

/// The job holds its memory for this long, which is several passes of the collector.
const PASSES: Duration = Duration::from_millis(500);

/// A job: its work in the nth run, and the limit of that run.
struct Workload {
    name: &'static str,
    /// A shell script; `$1` is an empty directory, `$2` the workload program, `$3` bytes to hold. Its standard input ends
    /// when it has run for long enough.
    script: &'static str,
    /// Memory to hold in each run, in MiB.
    hold_mib: fn(usize) -> u64,
    limit_mib: fn(usize) -> Option<u64>,
    /// Whether the job writes files. If so, the cgroup's peak is higher than its need.
    files: bool,
}

const WORKLOADS: [Workload; 6] = [
    Workload {
        name: "holds 200 MiB",
        script: "\"$2\" burn 300 & exec \"$2\" idle 1 \"$3\"",
        hold_mib: |at| 200 + (at as u64 * 7) % 5,
        limit_mib: |_| None,
        files: false,
    },
    Workload {
        name: "holds 20 MiB more each time",
        script: "\"$2\" burn 300 & exec \"$2\" idle 1 \"$3\"",
        hold_mib: |at| 100 + 20 * at as u64,
        limit_mib: |_| None,
        files: false,
    },
    Workload {
        name: "120 MiB, each third time 300",
        script: "\"$2\" threads 2 300 & exec \"$2\" idle 1 \"$3\"",
        hold_mib: |at| if at % 3 == 1 { 300 } else { 120 },
        limit_mib: |_| None,
        files: false,
    },
    Workload {
        name: "240 MiB, limit 160 and later 280",
        script: "\"$2\" burn 300 & exec \"$2\" idle 1 \"$3\"",
        hold_mib: |_| 240,
        limit_mib: |at| Some(if at < 5 { 160 } else { 280 }),
        files: false,
    },
    Workload {
        name: "writes 300 MiB, holds 110",
        script: "head -c 314572800 /dev/zero > \"$1/file\"; exec \"$2\" idle 1 \"$3\"",
        hold_mib: |_| 110,
        limit_mib: |_| Some(400),
        files: true,
    },
    Workload {
        name: "make -j2, 24 C files",
        script: "cd \"$1\"; i=0; while [ $i -lt 24 ]; do
            printf '#include <stdio.h>\\nint f%d(int x) { printf(\"%%d\", x); return x * %d; }\\n' $i $i > f$i.c
            i=$((i+1)); done
            printf 'all: $(patsubst %%.c,%%.o,$(wildcard *.c))\\n%%.o: %%.c\\n\\tcc -O1 -c -o $@ $<\\n' > Makefile
            make -s -j2 all; exec \"$2\" idle 1 \"$3\"",
        hold_mib: |_| 4,
        limit_mib: |_| None,
        files: true,
    },
];

/// Records all histories, replays them, and repeats each next run under its recommendation.
pub(super) fn run(programs: &Programs) -> Result<()> {
    let mut histories = Vec::new();
    for workload in &WORKLOADS {
        eprintln!("== {}", workload.name);
        let runs = (0..RUNS).map(|at| record(programs, workload, at)).collect::<Result<Vec<_>>>()?;
        histories.push((workload, runs));
    }
    println!("\nReal runs, measured by the collector in cgroups: {RUNS} runs each.\n");
    let replayed = histories.iter().map(|(workload, runs)| {
        let runs = runs.iter().map(|(past, _)| past.clone()).collect();
        History { name: workload.name.to_owned(), runs }
    });
    table(&replayed.collect::<Vec<_>>());
    println!("\nThe next runs again, under the limit recommended; killed by the kernel:\n");
    println!("{:<36} {:>8} {:>8} {:>8}", "workload", "ours", "krr", "VPA");
    for (workload, runs) in &histories {
        eprintln!("== {} under each limit", workload.name);
        let past: Vec<_> = runs.iter().map(|(past, _)| past.clone()).collect();
        let mut killed = [0; 3];
        for at in FIRST..RUNS {
            for (rule, count) in Rule::ALL.into_iter().zip(&mut killed) {
                let limit = rule.recommend(&past[..at]).bytes as u64;
                *count += usize::from(is_killed(programs, workload, at, limit)?);
            }
        }
        let [ours, krr, vpa] = killed.map(|killed| format!("{killed}/{}", RUNS - FIRST));
        println!("{:<36} {ours:>8} {krr:>8} {vpa:>8}", workload.name);
    }
    example(programs, &histories[3].1)
}

/// Runs a workload once, with the collector beside it.
fn record(programs: &Programs, workload: &Workload, at: usize) -> Result<(Past, Payload)> {
    let directory = tempfile::tempdir()?;
    let report = directory.path().join("report.json");
    let mut collector = Command::new(&programs.collector);
    collector.args(["--ebpf=off", "--interval=100ms", "--log-format=json", "--output=json", "--output-file"]);
    let collector = Running::start(collector.arg(&report))?;
    collector.wait_for("measuring")?;
    let jail = Jail::new((workload.limit_mib)(at).map(|limit| limit * MIB))?;
    work(programs, workload, at, &jail, directory.path(), PASSES)?;
    let status = collector.stop()?;
    if !status.success() {
        bail!("the collector ended with {status}");
    }
    let payload: Payload = serde_json::from_slice(&std::fs::read(&report)?)?;
    let usage = payload.containers.iter().find(|usage| usage.id.as_deref() == Some(jail.id()));
    let usage = usage.with_context(|| format!("{}: the container was not seen", workload.name))?;
    let facts = ContainerSummary {
        name: "job".to_owned(),
        ..ContainerSummary::new(usage, payload.collector.as_ref())
    };
    let working_set = facts.working_set_peak_bytes.context("no working set")?;
    let charged = facts.cgroup_memory_peak_bytes.context("no peak of the cgroup")? as f64;
    // If the limit kept the job from its memory, the memory that it wanted to hold is the need.
    let hold = ((workload.hold_mib)(at) * MIB) as f64;
    let need_bytes = if workload.files { working_set } else { charged }.max(hold);
    let run = CompleteRun {
        failed: false,
        id: at as i64 + 1,
        job_id: 1,
        run_id: (at + 1).to_string(),
        duration_seconds: payload.duration_seconds,
        cpu_seconds: None,
        received_at: payload.end_time,
        containers: vec![facts],
    };
    // As if the runs were four hours apart.
    Ok((Past { run, need_bytes, at_hours: at as f64 * 4.0 }, payload))
}

/// Repeats a run under another limit.
fn is_killed(programs: &Programs, workload: &Workload, at: usize, limit: u64) -> Result<bool> {
    let directory = tempfile::tempdir()?;
    let jail = Jail::new(Some(limit))?;
    work(programs, workload, at, &jail, directory.path(), Duration::ZERO)?;
    Ok(jail.oom_kills()? > 0)
}

fn work(
    programs: &Programs,
    workload: &Workload,
    at: usize,
    jail: &Jail,
    directory: &Path,
    linger: Duration,
) -> Result<()> {
    let scratch = directory.join("scratch");
    std::fs::create_dir(&scratch)?;
    let enter: String = jail
        .directories()
        .iter()
        .map(|path| format!("echo $$ > {}/cgroup.procs\n", path.display()))
        .collect();
    let mut job = Command::new("sh");
    job.args(["-c", &format!("{enter}{}", workload.script), "sh"]).arg(&scratch).arg(&programs.workload);
    job.arg(((workload.hold_mib)(at) * MIB).to_string());
    let mut child = job.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    // The job writes a line before it takes its memory. A moment later it has the memory or is killed.
    let mut ready = [0; 1];
    let mut stdout = child.stdout.take().context("standard output")?;
    let _ = std::io::Read::read(&mut stdout, &mut ready)?;
    jail.wait_until_held((workload.hold_mib)(at) * MIB)?;
    std::thread::sleep(linger);
    if let Some(mut stdin) = child.stdin.take() {
        // The job may have been killed.
        let _ = stdin.flush();
    }
    child.wait()?;
    Ok(())
}

/// Prints the shipped receiver's answer after these runs.
fn example(programs: &Programs, runs: &[(Past, Payload)]) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let receiver = Receiver::start(&programs.receiver, &directory.path().join("db"))?;
    let scope =
        json!({"organization": "my-org", "repository": "my-repo", "workflow": "ci.yml", "job": "build"});
    let token = receiver.push_token(&scope)?;
    for (past, payload) in runs {
        let mut body: Value = scope.clone();
        let mut payload = payload.clone();
        // Only the job, not the other containers of this machine.
        let is_it = |usage: &ContainerUsage| {
            usage.working_set_bytes.map(|stats| stats.peak) == past.run.containers[0].working_set_peak_bytes
        };
        payload.containers.retain(is_it);
        for usage in &mut payload.containers {
            "job".clone_into(&mut usage.name);
        }
        body["run_id"] = json!(past.run.run_id);
        body["payload"] = serde_json::to_value(&payload)?;
        let url = format!("{}/api/v1/metrics", receiver.base);
        ureq::post(&url).header("authorization", &format!("Bearer {token}")).send_json(&body)?;
    }
    let path = "api/v1/sizing/repo/my-org/my-repo/ci.yml/build?format=yaml";
    let mut answer = ureq::get(format!("{}/{path}", receiver.base))
        .header("authorization", &format!("Bearer {}", receiver.read_token))
        .call()?;
    println!("\nWhat the receiver answers after the runs of \"{}\", GET /{path}:\n", WORKLOADS[3].name);
    println!("{}", answer.body_mut().read_to_string()?);
    receiver.stop()
}
