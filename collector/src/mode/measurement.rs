//! One run being measured: a pass over everything each interval, a summary at any time.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use tracing::{debug, warn};
use wire::{CollectorInfo, Payload};

use crate::accumulate::{Accumulator, PassFacts, Present};
use crate::attribute::ContainerIndex;
use crate::attribute::conserved::{ConservedSum, Seen};
use crate::attribute::containers::{Containers, Place};
use crate::config::Config;
use crate::config::limits::Limits;
use crate::host::{self, Host, Instant};
use crate::mode::watch::CgroupWatches;
use crate::sample::cgroup;
use crate::sample::meminfo::MemInfo;
use crate::sample::system_stat::CpuTimes;
use crate::sample::table::{Observation, ProcTable};
use crate::sample::uptime;
use crate::summarise::Run;

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

    start_time: Timestamp,
    started: Instant,
    began_ticks: u64,
    last: Option<Instant>,
    host_cpu: Option<CpuTimes>,
    missed_samples: u64,
    unreadable: u64,
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
    /// Begins: the first pass is the baseline.
    pub fn begin(config: &Config, whose: Whose, open_files_limit: u64) -> anyhow::Result<Self> {
        let host = Host::read();
        let table = ProcTable::open(&config.proc_path, open_files_limit)
            .with_context(|| format!("cannot open the proc tree {}", config.proc_path.display()))?;
        let started = Instant::now();
        // What start times of processes count from; the boot clock is the same but for a time namespace.
        let uptime = uptime::read_seconds(&config.proc_path).unwrap_or(started.boot.as_secs_f64());
        let began_ticks = (uptime * host.ticks_per_second as f64) as u64;
        let meminfo = MemInfo::read(&config.proc_path);
        let (mode, containers) = match &whose {
            Whose::All => (
                "sidecar",
                Containers::new(config.process_map.clone(), cgroup::has_own_namespace(&config.proc_path)),
            ),
            Whose::DescendantsOf { .. } => ("run", Containers::single("run")),
        };
        let info = CollectorInfo {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            mode: mode.to_owned(),
            source: "proc".to_owned(),
            source_reason: Some("built without eBPF".to_owned()),
            interval_seconds: config.interval.as_secs_f64(),
            cpu_count: std::thread::available_parallelism().map_or(1, |count| count.get() as u32),
            memory_total_bytes: meminfo.map(|meminfo| meminfo.total_bytes),
            kernel: Some(host::kernel_release()),
        };
        let mut measurement = Self {
            proc_path: config.proc_path.clone(),
            host,
            top: config.top,
            limits: config.limits.clone(),
            whose,
            info,
            table,
            containers,
            conserved: ConservedSum::new(began_ticks),
            accumulator: Accumulator::new(host, config.interval.as_secs_f64(), config.top),
            cgroups: CgroupWatches::find(&config.proc_path, config.cgroup_path.as_deref()),
            start_time: Timestamp::now(),
            started,
            began_ticks,
            last: None,
            host_cpu: None,
            missed_samples: 0,
            unreadable: 0,
        };
        measurement.pass().with_context(|| format!("cannot list {}", config.proc_path.display()))?;
        Ok(measurement)
    }

    /// Reads everything once and charges what was used since the pass before.
    pub fn pass(&mut self) -> io::Result<()> {
        let now = Instant::now();
        let elapsed = self.last.map_or(Duration::ZERO, |last| now.monotonic.saturating_sub(last.monotonic));
        let pass = self.table.pass(now.monotonic)?;
        self.note_unreadable(pass.forbidden, pass.garbled);
        let (processes, places) = self.select(pass.observations);

        let seen: Vec<Seen> =
            processes.iter().zip(&places).map(|(process, place)| seen(process, *place)).collect();
        let charges = self.conserved.advance(&seen);
        let elapsed_seconds = elapsed.as_secs_f64();
        let present = self.present(&processes, &places, elapsed_seconds, now);
        let (host_cpu_percent, host_memory_bytes) = self.read_host();
        self.accumulator.add(&PassFacts {
            at_seconds: self.since_start(now).as_secs_f64(),
            elapsed_seconds,
            present: &present,
            charges: &charges,
            host_cpu_percent,
            host_memory_bytes,
        });
        for (container, bytes) in self.cgroups.read(&self.containers, self.last.is_none()) {
            self.accumulator.add_working_set(container, bytes, elapsed_seconds);
        }
        self.last = Some(now);
        debug!(
            pass = self.accumulator.passes(),
            processes = processes.len(),
            charged_ticks = charges.iter().map(|charge| charge.ticks).sum::<u64>(),
            elapsed_seconds,
            "pass"
        );
        Ok(())
    }

    /// Passes that were due and did not happen, because one before was late.
    pub fn count_missed(&mut self, missed: u64) {
        self.missed_samples += missed;
    }

    /// The summary of the run up to the last pass.
    pub fn payload(&self, complete: bool) -> Payload {
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
            lost_records: 0,
            collector_cpu: host::own_cpu_time(),
            complete,
        };
        run.payload()
    }

    fn since_start(&self, now: Instant) -> Duration {
        now.boot.saturating_sub(self.started.boot)
    }

    /// The processes that count, and where they are.
    fn select(&mut self, observations: Vec<Observation>) -> (Vec<Observation>, Vec<Option<Place>>) {
        let Whose::DescendantsOf { pid, members, .. } = &mut self.whose else {
            let table = &self.table;
            let places = self.containers.places(&observations, |cgroup| table.cgroup_content(cgroup));
            self.learn_names(&observations, &places);
            return (observations, places);
        };
        let processes = crate::attribute::descendants::descendants(observations, *pid, members);
        let place = Some(Place { container: ContainerIndex(0), nested: None });
        let places = vec![place; processes.len()];
        (processes, places)
    }

    fn learn_names(&mut self, observations: &[Observation], places: &[Option<Place>]) {
        for (process, place) in observations.iter().zip(places) {
            if let Some(place) = place
                && !process.zombie
                && self.containers.wants_mountinfo(*place)
            {
                let content = self.table.read_file(process.key, "mountinfo").unwrap_or_default();
                self.containers.learn(place.container, &content);
            }
        }
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

fn seen(process: &Observation, place: Option<Place>) -> Seen {
    Seen {
        key: process.key,
        ppid: process.ppid,
        zombie: process.zombie,
        own_ticks: process.own_ticks,
        reaped_ticks: process.reaped_ticks,
        container: place.map(|place| place.container),
    }
}
