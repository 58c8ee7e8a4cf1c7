//! One run being measured: a pass over everything each interval, a summary at any time.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use jiff::Timestamp;
use tracing::{debug, info, warn};
use wire::{CollectorInfo, Payload};

use crate::accumulate::{Accumulator, PassFacts, Present};
use crate::attribute::ContainerIndex;
use crate::attribute::conserved::{ConservedSum, Seen};
use crate::attribute::containers::{Containers, Place};
use crate::config::limits::Limits;
use crate::config::{Config, Ebpf};
use crate::deliver::checkpoint::Checkpoint;
use crate::host::{self, Host, Instant};
use crate::mode::pods;
use crate::mode::trace::{PassTimes, Placed, Trace};
use crate::mode::watch::CgroupWatches;
use crate::sample::bpf::{CgroupIds, Options, Unavailable};
use crate::sample::meminfo::MemInfo;
use crate::sample::system_stat::CpuTimes;
use crate::sample::table::{Observation, ProcTable};
use crate::sample::uptime;
use crate::sample::{cgroup, visibility};
use crate::summarise::Run;

mod resume;
mod whole_pod;

use self::resume::Before;
use self::whole_pod::own_pid;

/// What the measurement looks at and how often.
#[derive(Debug)]
pub struct Measurement {
    proc_path: PathBuf,
    host: Host,
    top: usize,
    limits: BTreeMap<String, Limits>,
    whose: Whose,
    info: CollectorInfo,

    table: ProcTable,
    containers: Containers,
    conserved: ConservedSum,
    accumulator: Accumulator,
    cgroups: CgroupWatches,
    trace: Option<Trace>,

    start_time: Timestamp,
    started: Instant,
    began_ticks: u64,
    last: Option<Instant>,
    host_cpu: Option<CpuTimes>,
    missed_samples: u64,
    unreadable: u64,
    before: Before,
    /// Whether it goes on with a run from a checkpoint.
    resumed: bool,
    /// The collector's own PID and container, as far as they are in sight.
    own_pid: Option<u32>,
    own: Option<ContainerIndex>,
}

/// Whose processes count.
#[derive(Debug)]
pub enum Whose {
    /// Everything in sight.
    All,
    /// The descendants of one process, and what they leave to it; all of it is one container.
    DescendantsOf {
        /// That process.
        pid: u32,
        /// Those seen so far and not yet gone.
        members: std::collections::HashSet<crate::sample::table::ProcessKey>,
    },
}

impl Measurement {
    /// Begins: the first pass is the baseline, for a run that is gone on with, too.
    pub fn begin(
        config: &Config,
        whose: Whose,
        open_files_limit: u64,
        recovered: Option<Checkpoint>,
    ) -> anyhow::Result<Self> {
        let host = Host::read();
        let table = ProcTable::open(&config.proc_path, open_files_limit)
            .with_context(|| format!("cannot open the proc tree {}", config.proc_path.display()))?;
        let started = Instant::now();
        // What start times of processes count from; the boot clock is the same but for a time namespace.
        let uptime = uptime::read_seconds(&config.proc_path).unwrap_or(started.boot.as_secs_f64());
        let began_ticks = (uptime * host.ticks_per_second as f64) as u64;
        let (mode, containers) = match &whose {
            Whose::All => (
                "sidecar",
                Containers::new(config.process_map.clone(), cgroup::has_own_namespace(&config.proc_path)),
            ),
            Whose::DescendantsOf { .. } => ("run", Containers::single("run")),
        };
        // The descendants of one process are one container, wherever they are.
        let table = if matches!(whose, Whose::All) { table } else { table.without_cgroups() };
        let mut cgroups = CgroupWatches::find(&config.proc_path, config.cgroup_path.as_deref());
        let root = match &whose {
            Whose::All => None,
            Whose::DescendantsOf { pid, .. } => {
                cgroups.share_own(&config.proc_path);
                Some(*pid)
            }
        };
        let trace = start_trace(config, root, host, &cgroups)?;
        let info = collector_info(config, mode, trace.as_ref().err());
        let mut measurement = Self {
            proc_path: config.proc_path.clone(),
            host,
            top: config.top,
            limits: config.limits.clone(),
            whose,
            info,
            table,
            containers,
            conserved: ConservedSum::new(began_ticks, host.tick_ns()),
            accumulator: Accumulator::new(config.interval.as_secs_f64(), config.top),
            cgroups,
            trace: trace.ok(),
            start_time: Timestamp::now(),
            started,
            began_ticks,
            last: None,
            host_cpu: None,
            missed_samples: 0,
            unreadable: 0,
            before: Before::default(),
            resumed: false,
            own_pid: own_pid(&config.proc_path),
            own: None,
        };
        if let Some(checkpoint) = recovered {
            measurement.go_on_from(checkpoint)?;
        }
        measurement.pass().with_context(|| format!("cannot list {}", config.proc_path.display()))?;
        Ok(measurement)
    }

    /// Reads everything once and charges what was used since the pass before.
    pub fn pass(&mut self) -> io::Result<()> {
        self.pass_and(|| (), false)
    }

    /// The last pass; `after_reading` happens once everything has been read, so that a process that it does away with
    /// was still there to be seen.
    pub fn last_pass<T>(&mut self, after_reading: impl FnOnce() -> T) -> io::Result<T> {
        self.pass_and(after_reading, true)
    }

    /// Waits until records of the eBPF program should be read before the next pass, and reads them.
    pub async fn relieve(&mut self) {
        match &mut self.trace {
            Some(trace) => trace.relieve().await,
            None => std::future::pending().await,
        }
    }

    fn pass_and<T>(&mut self, after_reading: impl FnOnce() -> T, last: bool) -> io::Result<T> {
        let now = Instant::now();
        let elapsed = self.last.map_or(Duration::ZERO, |last| now.monotonic.saturating_sub(last.monotonic));
        let pass = self.table.pass(now.monotonic)?;
        self.note_unreadable(pass.forbidden, pass.garbled);
        let (processes, places) = self.select(pass.observations);
        let ages = if self.last.is_none() { self.reach_back(&processes, &places) } else { BTreeMap::new() };
        let elapsed = if ages.is_empty() { elapsed } else { self.since_start(now) };
        let done = after_reading();
        let mut placed = self.placed(&processes, &places, now, last);

        let tick_ns = self.host.tick_ns();
        let seen: Vec<Seen> =
            processes.iter().zip(&places).map(|(process, place)| seen(process, *place, tick_ns)).collect();
        if let Some(placed) = &mut placed {
            // What ended before measuring began is none of ours.
            placed.exited.retain(|exited| {
                let ours = exited.key.start_ticks >= self.began_ticks || self.conserved.knows(exited.key);
                ours && self.last.is_some()
            });
        }
        let mut charges = self.conserved.advance(&seen, placed.as_ref().map(|placed| &placed.traced));
        let elapsed_seconds = elapsed.as_secs_f64();
        let mut present = self.present(&processes, &places, elapsed_seconds, now);
        let (host_cpu_percent, host_memory_bytes) = self.read_host();
        let exited = placed.as_mut().map(|placed| placed.exited.as_mut_slice()).unwrap_or_default();
        pods::learn_from_ended(&mut self.containers, exited);
        pods::give_orphans_back(&self.containers, &present, &mut charges, self.own);
        pods::by_root(&self.containers, &mut present, &mut charges, exited);
        pods::unite(&self.containers, &mut self.accumulator);
        let facts = PassFacts {
            at_seconds: self.since_start(now).as_secs_f64(),
            elapsed_seconds,
            present: &present,
            exited: placed.as_ref().map(|placed| placed.exited.as_slice()),
            charges: &charges,
            host_cpu_percent,
            host_memory_bytes,
        };
        self.accumulator.add_since(&facts, &ages);
        let interval = self.info.interval_seconds;
        let moment = if ages.is_empty() { elapsed_seconds } else { elapsed_seconds.min(interval) };
        for (container, bytes) in self.cgroups.read(&self.containers, self.last.is_none()) {
            let container = self.containers.root(container);
            self.accumulator.add_working_set(container, bytes, moment);
        }
        self.last = Some(now);
        debug!(
            pass = self.accumulator.passes(),
            processes = processes.len(),
            exits = placed.as_ref().map(|placed| placed.traced.exits.len()),
            charged_ns = charges.iter().map(|charge| charge.ns).sum::<u64>(),
            elapsed_seconds,
            "pass"
        );
        Ok(done)
    }

    /// What the eBPF program told since the pass before; this one began at `began`.
    fn placed(
        &mut self,
        processes: &[Observation],
        places: &[Option<Place>],
        began: Instant,
        last: bool,
    ) -> Option<Placed> {
        let trace = self.trace.as_mut()?;
        let times = PassTimes::new(self.host, self.began_ticks, began, last);
        let single = match self.whose {
            Whose::All => None,
            Whose::DescendantsOf { .. } => Some(Place { container: ContainerIndex(0), nested: None }),
        };
        Some(trace.place(&mut self.containers, (processes, places), single, times))
    }

    /// Passes that were due and did not happen, because one before was late.
    pub fn count_missed(&mut self, missed: u64) {
        self.missed_samples += missed;
    }

    /// The summary of the run up to the last pass.
    pub fn payload(&self, complete: bool) -> Payload {
        self.with_run(complete, |run| run.payload())
    }

    fn with_run<T>(&self, complete: bool, work: impl FnOnce(Run<'_>) -> T) -> T {
        let figures = self.cgroups.figures();
        let run = Run {
            accumulator: &self.accumulator,
            containers: &self.containers,
            cgroups: &figures,
            limits: &self.limits,
            collector: self.info.clone(),
            start_time: self.start_time,
            duration: self.since_start(self.last.unwrap_or(self.started)),
            top: self.top,
            missed_samples: self.missed_samples,
            lost_records: self.lost_records(),
            collector_cpu: self.collector_cpu(),
            complete,
        };
        work(run)
    }

    fn since_start(&self, now: Instant) -> Duration {
        now.boot.saturating_sub(self.started.boot)
    }

    /// The processes that count, and where they are.
    fn select(&mut self, observations: Vec<Observation>) -> (Vec<Observation>, Vec<Option<Place>>) {
        let Whose::DescendantsOf { pid, members, .. } = &mut self.whose else {
            let table = &self.table;
            let mut places = self.containers.places(&observations, |cgroup| table.cgroup_content(cgroup));
            if let Some(trace) = &mut self.trace {
                let unseen = |key| !self.conserved.knows(key);
                trace.place_ending(&mut self.containers, &observations, &mut places, unseen);
            }
            self.learn_names(&observations, &places);
            return (observations, places);
        };
        let processes = crate::attribute::descendants::descendants(observations, *pid, members);
        let place = Some(Place { container: ContainerIndex(0), nested: None });
        let places = vec![place; processes.len()];
        (processes, places)
    }

    fn learn_names(&mut self, observations: &[Observation], places: &[Option<Place>]) {
        let mut living = BTreeSet::new();
        let mut first = None;
        for (process, place) in observations.iter().zip(places) {
            let Some(place) = place.filter(|_| !process.zombie && !process.kernel_thread) else { continue };
            living.insert(place.container);
            if Some(process.key.pid) == self.own_pid {
                self.own = Some(place.container);
            }
            if process.key.pid == 1 {
                first = Some((place, process.comm));
            }
            self.containers.runs(place, process.comm, self.conserved.knows(process.key));
            if self.containers.wants_mountinfo(place, process.comm) {
                let content = self.table.read_file(process.key, "mountinfo").unwrap_or_default();
                self.containers.learn(place.container, &content);
            }
        }
        if let Some((place, comm)) = first {
            self.containers.holds_the_namespace(place, comm, self.own);
        }
        self.containers.unite(&living);
    }

    fn present(
        &self,
        processes: &[Observation],
        places: &[Option<Place>],
        elapsed_seconds: f64,
        now: Instant,
    ) -> Vec<Present> {
        let now_ticks =
            self.began_ticks as f64 + self.since_start(now).as_secs_f64() * self.host.ticks_per_second as f64;
        let tick = 1.0 / self.host.ticks_per_second as f64;
        let counted = |process: &Observation| !matches!(self.whose, Whose::DescendantsOf { pid, .. } if pid == process.key.pid);
        let present =
            processes.iter().zip(places).filter(|(process, _)| counted(process)).map(|(process, place)| {
                Present {
                    key: process.key,
                    comm: process.comm,
                    container: place
                        .map(|place| place.container)
                        .or_else(|| self.conserved.container_of(process.key)),
                    nested: place.and_then(|place| place.nested),
                    rss_bytes: process.rss_pages * self.host.page_bytes,
                    age_seconds: ((now_ticks - process.key.start_ticks as f64) * tick)
                        .clamp(tick, elapsed_seconds.max(tick)),
                }
            });
        present.collect()
    }

    fn read_host(&mut self) -> (Option<f64>, Option<u64>) {
        let times = CpuTimes::read(&self.proc_path);
        let percent = match (&self.host_cpu, &times) {
            (Some(before), Some(now)) => now.busy_percent_since(before),
            _ => None,
        };
        self.host_cpu = times;
        (percent, MemInfo::read(&self.proc_path).map(|meminfo| meminfo.used_bytes()))
    }

    /// Says once that some processes cannot be read: what they use is then missing.
    fn note_unreadable(&mut self, forbidden: u64, garbled: u64) {
        if self.unreadable == 0 && forbidden + garbled > 0 {
            warn!(
                forbidden,
                garbled,
                "some processes cannot be read, and what they use is not counted; is proc mounted with hidepid?"
            );
        }
        self.unreadable = self.unreadable.max(forbidden + garbled);
    }
}

/// What is told of this collector. `reason`: why the eBPF program does not run.
pub(super) fn collector_info(config: &Config, mode: &str, reason: Option<&Unavailable>) -> CollectorInfo {
    let info = CollectorInfo {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        mode: mode.to_owned(),
        source: if reason.is_none() { "ebpf" } else { "proc" }.to_owned(),
        source_reason: reason.map(ToString::to_string),
        hidden: visibility::hidden(&config.proc_path),
        interval_seconds: config.interval.as_secs_f64(),
        cpu_count: std::thread::available_parallelism().map_or(1, |count| count.get() as u32),
        memory_total_bytes: MemInfo::read(&config.proc_path).map(|meminfo| meminfo.total_bytes),
        kernel: Some(host::kernel_release()),
        warnings: Vec::new(),
    };
    if let Some(hidden) = &info.hidden {
        warn!(hidden, "what some processes use is not counted");
    }
    info
}

/// Starts the eBPF program, or tells why it does not run; that is an error only where it is required. `root`: only
/// the descendants of this process are followed.
pub(super) fn start_trace(
    config: &Config,
    root: Option<u32>,
    host: Host,
    cgroups: &CgroupWatches,
) -> anyhow::Result<Result<Trace, Unavailable>> {
    let (unified, v1) = cgroups.root_ids();
    let options = Options {
        proc_path: &config.proc_path,
        root,
        tick_ns: host.tick_ns(),
        cgroup_roots: CgroupIds { unified, v1 },
        ring_bytes: config.ebpf_buffer,
        log: config.ebpf_log,
        // A command would inherit what is left.
        shed_privileges: root.is_none(),
    };
    let trace = match config.ebpf {
        Ebpf::Off => Err(Unavailable::Off),
        Ebpf::Auto | Ebpf::Require => Trace::start(&options),
    };
    match (&trace, config.ebpf) {
        (Ok(_), _) => info!("following processes with eBPF"),
        (Err(reason), Ebpf::Require) => bail!("--ebpf=require: {reason}"),
        (Err(reason), _) => info!(%reason, "measuring from /proc alone, without eBPF"),
    }
    Ok(trace)
}

pub(super) fn seen(process: &Observation, place: Option<Place>, tick_ns: u64) -> Seen {
    Seen {
        key: process.key,
        ppid: process.ppid,
        zombie: process.zombie,
        own_ns: (process.own_ticks * tick_ns).max(process.final_ns.unwrap_or(0)),
        reaped_ns: process.reaped_ticks * tick_ns,
        container: place.map(|place| place.container),
    }
}
