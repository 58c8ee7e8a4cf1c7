//! The memory that is recommended after three runs, compared with the least memory that the job ends well with.

mod modes;
mod need;
mod workloads;

use std::fmt::Write as _;

use anyhow::{Result, bail, ensure};
use serde_json::json;

pub(crate) use self::modes::Mode;
use self::modes::{Advice, Observers};
use self::workloads::{WORKLOADS, Workload, Workshop};
use crate::build::{self, Object};

const MIB: f64 = 1024.0 * 1024.0;
/// Enough runs for a recommendation.
const RUNS: usize = 3;
/// The promised bounds: at least the need, and at most this many times the need. The first holds if the collector can read
/// the kernel's account or has the eBPF program, the second otherwise.
const MOST_WHERE_TOLD: f64 = 1.35;
const MOST: f64 = 2.0;
/// No recommendation is lower than this.
const FLOOR: f64 = 32.0 * MIB;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Print the table as JSON.
    #[arg(long)]
    json: bool,
    /// Only these workloads; can be repeated.
    #[arg(long = "workload", value_name = "NAME")]
    workloads: Vec<String>,
    /// Only these modes; can be repeated.
    #[arg(long = "mode", value_name = "MODE")]
    modes: Vec<Mode>,
}

struct MemoryRow {
    workload: &'static Workload,
    mode: Mode,
    need: u64,
    advice: Advice,
}

/// The result of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Kept,
    TooLittle,
    TooMuch,
    /// Nothing is recommended, although the job could be measured.
    Nothing,
    /// Nothing is recommended, because nothing of the job was seen.
    NotSeen,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("creating cgroups with limits needs root");
    }
    for name in &options.workloads {
        ensure!(
            WORKLOADS.iter().any(|workload| workload.name == name),
            "there is no workload {name}; the workloads are: {}",
            WORKLOADS.map(|workload| workload.name).join(", ")
        );
    }
    let built = build::programs(false, Object::IfPossible)?;
    let wanted = |mode: &Mode| options.modes.is_empty() || options.modes.contains(mode);
    let mut modes = vec![Mode::Run, Mode::Sidecar, Mode::OtherUser, Mode::NodeEbpf, Mode::Node];
    modes.retain(wanted);
    if !built.has_object() && modes.contains(&Mode::NodeEbpf) {
        eprintln!("not measured: {}: the eBPF program cannot be built here", Mode::NodeEbpf.name());
        modes.retain(|mode| *mode != Mode::NodeEbpf);
    }
    let directory = tempfile::tempdir()?;
    let programs = Workshop::find(&built.workload);
    let mut observers = Observers::start(&built, &modes, directory.path())?;
    let mut rows = Vec::new();
    for workload in &WORKLOADS {
        if !options.workloads.is_empty() && !options.workloads.iter().any(|name| name == workload.name) {
            continue;
        }
        if let Some(lack) = programs.lack(workload) {
            eprintln!("not measured: {}: {lack}", workload.name);
            continue;
        }
        eprintln!("== {}", workload.what);
        let need = need::measure(&programs, workload, directory.path())?;
        eprintln!("needs {:.1} MiB", need as f64 / MIB);
        for _ in 0..RUNS {
            observers.measure(&programs, workload)?;
        }
        for (mode, advice) in observers.advice(workload)? {
            rows.push(MemoryRow { workload, mode, need, advice });
        }
    }
    observers.stop()?;
    if options.json {
        println!("{}", serde_json::to_string_pretty(&rows.iter().map(MemoryRow::json).collect::<Vec<_>>())?);
    } else {
        println!("{}", table(&rows));
    }
    let broken = rows.iter().filter(|row| row.verdict().is_broken()).count();
    ensure!(broken == 0, "{broken} of {} rows break the promise", rows.len());
    Ok(())
}

impl MemoryRow {
    fn ratio(&self) -> Option<f64> {
        self.advice.bytes.map(|bytes| bytes as f64 / self.need as f64)
    }

    fn verdict(&self) -> Verdict {
        let most = if self.mode.is_told() { MOST_WHERE_TOLD } else { MOST };
        match self.advice.bytes {
            None if self.mode.is_told() => Verdict::Nothing,
            None => Verdict::NotSeen,
            Some(bytes) if bytes < self.need => Verdict::TooLittle,
            Some(bytes) if bytes as f64 > (self.need as f64 * most).max(FLOOR) => Verdict::TooMuch,
            Some(_) => Verdict::Kept,
        }
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "workload": self.workload.name, "mode": self.mode.name(), "need_bytes": self.need,
            "runs": self.advice.runs, "used_bytes": self.advice.used_bytes,
            "recommended_bytes": self.advice.bytes, "ratio": self.ratio(), "figure": self.advice.figure,
            "certainty": self.advice.certainty, "broken": self.verdict().is_broken(),
        })
    }
}

impl Verdict {
    fn is_broken(self) -> bool {
        !matches!(self, Self::Kept | Self::NotSeen)
    }

    fn says(self) -> &'static str {
        match self {
            Self::Kept => "",
            Self::TooLittle => "BROKEN: less than it needs",
            Self::TooMuch => "BROKEN: too much",
            Self::Nothing => "BROKEN: nothing is recommended",
            Self::NotSeen => "not seen",
        }
    }
}

fn table(rows: &[MemoryRow]) -> String {
    let mut table = format!(
        "{:<37} {:<10} {:>9} {:>9} {:>11} {:>6}  {:<12} {:<8}\n",
        "workload", "mode", "need", "used", "recommended", "ratio", "by", "certainty"
    );
    let mib = |bytes: Option<u64>| bytes.map_or("-".to_owned(), |bytes| format!("{:.1}", bytes as f64 / MIB));
    let mut last = "";
    for row in rows {
        let name = if row.workload.what == last { "" } else { row.workload.what };
        last = row.workload.what;
        let ratio = row.ratio().map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
        let line = format!(
            "{name:<37} {:<10} {:>9} {:>9} {:>11} {ratio:>6}  {:<12} {:<9} {}",
            row.mode.name(),
            mib(Some(row.need)),
            mib(row.advice.used_bytes),
            mib(row.advice.bytes),
            row.advice.figure,
            row.advice.certainty,
            row.verdict().says()
        );
        let _ = writeln!(table, "{}", line.trim_end());
    }
    let _ = write!(
        table,
        "MiB. The need is the lowest limit under which it succeeds, to 2 %; recommended after {RUNS} runs. Promised: no less than \
         the need; no more than {MOST_WHERE_TOLD} times it, or {:.0} MiB, where the account can be read or the eBPF program runs, \
         and {MOST} times elsewhere.",
        FLOOR / MIB
    );
    table
}
