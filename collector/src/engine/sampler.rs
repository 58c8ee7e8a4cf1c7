//! Reads the machine once each interval: the process table, the eBPF program's events, the host's CPU time and memory.
//!
//! This is the one place where the pure modules meet clocks and files. A pass has two halves, so that a mode can act
//! between them: [`Sampler::read`] reads the process table, [`Sampler::account`] charges the CPU time used.

use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context;
use tokio::time::sleep_until;
use tracing::warn;
use wire::CollectorInfo;

use super::bpf_events::{BpfEvents, Located, PassTimes};
use super::clock::Clock;
use super::endings::Endings;
use super::locator::{Earlier, Locator};
use super::memory_follower::MemoryFollower;
use super::pass::{Cost, Pass};
use super::reading::Reading;
use super::ticker::Ticker;
use crate::accumulate::Present;
use crate::attribute::containers::Place;
use crate::attribute::cpu::{CpuLedger, ProcessTimes};
use crate::config::Config;
use crate::host::{self, Host, Moment};
use crate::sample::bpf::Unavailable;
use crate::sample::cgroupfs::Hierarchies;
use crate::sample::meminfo::MemInfo;
use crate::sample::process_table::{Observation, ProcessKey, ProcessTable};
use crate::sample::system_stat::CpuTimes;
use crate::sample::{hidepid, uptime};

/// The share of a core that looks between samples may use.
const LOOKS_SHARE: f64 = 0.005;
/// The shortest time between two looks. A container's first process that lives for less is seen only by chance.
const LEAST_LOOK: Duration = Duration::from_millis(50);
/// The same while a container starts: its runtime may execute the program at any moment, and the program may end soon.
const LOOK_AT_START: Duration = Duration::from_millis(5);
/// A container counts as starting for this long after a runtime's process has started.
const STARTING: Duration = Duration::from_secs(1);
/// The share of a core that passes may use while containers begin and end one after the other. CPU time above it, up to
/// `WAKES_BURST`, delays nothing.
const WAKES_SHARE: f64 = 0.05;
const WAKES_BURST: Duration = Duration::from_millis(100);
/// After this time a runtime or a shell has executed the program that its process was started for.
const SETTLED: Duration = Duration::from_millis(200);
/// The shortest time between two looks if the eBPF program reports processes. Looks then only find memory use and new
/// containers.
const LEAST_LOOK_WITH_EVENTS: Duration = Duration::from_millis(100);

/// Reads the machine and keeps the CPU time that is already accounted for.
#[derive(Debug)]
pub(crate) struct Sampler {
    proc_path: PathBuf,
    /// The process whose descendants are measured. At the first reading it has none.
    root: Option<u32>,
    interval: Duration,
    ticker: Option<Ticker>,
    /// Whether the pass that is due is a sample and not a look between samples.
    sample_is_due: bool,
    /// The earliest time of the next look.
    next_look: tokio::time::Instant,
    /// The earliest time at which the beginning or end of a container may cause a pass.
    next_wake: tokio::time::Instant,
    /// Whether a container has begun since the last pass.
    has_begun: bool,
    /// CPU time of passes beyond [`WAKES_SHARE`].
    overspent: Duration,
    /// CPU time of a pass: a moving average in which later passes count more.
    usual_cost: Duration,
    endings: Rc<Endings>,
    clock: Clock,
    /// Processes that started earlier and that no pass saw do not count.
    counted_since_ticks: u64,
    table: ProcessTable,
    events: Option<BpfEvents>,
    ledger: CpuLedger,
    last: Option<Moment>,
    host_cpu: Option<CpuTimes>,
    own_cpu: Duration,
    /// Passes that were due since the last one but did not happen.
    missed: u64,
    lost_records: u64,
    warned_of_unreadable: bool,
    /// Follows the memory of processes, if the cgroup of some container cannot be read.
    memory: Option<MemoryFollower>,
}

impl Sampler {
    /// Opens the files to read. If `root` is set, only the descendants of this process are measured, and their cgroups do
    /// not matter. `open_files` is the number of descriptors that processes may take.
    pub(crate) fn start(
        config: &Config,
        mode: &str,
        root: Option<u32>,
        open_files: u64,
        hierarchies: &Hierarchies,
    ) -> anyhow::Result<(Self, CollectorInfo)> {
        let host = Host::read();
        let table = ProcessTable::open(&config.proc_path, open_files)
            .with_context(|| format!("cannot open the proc tree {}", config.proc_path.display()))?;
        let table = if root.is_some() { table.without_cgroups() } else { table };
        let started = Moment::now();
        // The clock of process starts; it differs from the boot clock in a time namespace.
        let uptime = uptime::read_seconds(&config.proc_path).unwrap_or(started.boot.as_secs_f64());
        let began_ticks = (uptime * host.ticks_per_second as f64) as u64;
        let events = BpfEvents::start_if_wanted(config, root, host, hierarchies)?;
        let info = collector_info(config, mode, events.as_ref().err());
        let sampler = Self {
            proc_path: config.proc_path.clone(),
            root,
            interval: config.interval,
            ticker: None,
            sample_is_due: false,
            next_look: tokio::time::Instant::now() + LEAST_LOOK,
            next_wake: tokio::time::Instant::now(),
            has_begun: false,
            overspent: Duration::ZERO,
            usual_cost: Duration::ZERO,
            endings: Rc::new(Endings::new()),
            clock: Clock { host, began_ticks, started },
            counted_since_ticks: began_ticks,
            table,
            events: events.ok(),
            ledger: CpuLedger::new(began_ticks, host.tick_ns()),
            last: None,
            host_cpu: None,
            own_cpu: host::own_cpu_time(),
            missed: 0,
            lost_records: 0,
            warned_of_unreadable: false,
            memory: None,
        };
        Ok((sampler, info))
    }

    pub(crate) fn clock(&self) -> Clock {
        self.clock
    }

    pub(crate) fn table(&self) -> &ProcessTable {
        &self.table
    }

    /// The ends of processes that wake the sampler.
    pub(crate) fn endings(&self) -> Rc<Endings> {
        Rc::clone(&self.endings)
    }

    /// The collector's own CPU time up to the last pass, or up to its start if there was no pass.
    pub(crate) fn own_cpu(&self) -> Duration {
        self.own_cpu
    }

    /// Waits until the next pass is due, and reads the eBPF program's events before their buffer is full. A sample is due
    /// at each interval, the first one interval after the first call. Looks between samples are as frequent as the cost of
    /// a pass allows. A look is also due when a container begins or its first process has ended. Cancel-safe.
    pub(crate) async fn due(&mut self) {
        let ticker = self.ticker.get_or_insert_with(|| Ticker::new(self.interval));
        loop {
            tokio::select! {
                biased;
                missed = ticker.tick() => {
                    self.missed += missed;
                    self.sample_is_due = true;
                    return;
                }
                () = self.endings.wait(self.next_wake) => return,
                () = sleep_until(self.next_wake), if self.has_begun => return,
                () = sleep_until(self.next_look) => return,
                begun = relieve(self.events.as_mut()) => self.has_begun = begun,
            }
        }
    }

    /// Decides when to look next. All looks together may use [`LOOKS_SHARE`] of a core, and passes caused by containers
    /// that begin or end [`WAKES_SHARE`]. `something_starts`: some container holds only its runtime.
    fn plan_look(&mut self, cost: Duration, since_last: Duration, something_starts: bool) {
        self.usual_cost = (self.usual_cost * 7 + cost) / 8;
        let least = if self.events.is_some() { LEAST_LOOK_WITH_EVENTS } else { LEAST_LOOK };
        let pause = self.usual_cost.max(cost / 4).mul_f64(1.0 / LOOKS_SHARE);
        let now = tokio::time::Instant::now();
        self.next_look = now + pause.clamp(least, self.interval.max(least));
        self.overspent = (self.overspent + cost).saturating_sub(since_last.mul_f64(WAKES_SHARE));
        let excess = self.overspent.saturating_sub(WAKES_BURST);
        self.next_wake = now + excess.mul_f64(1.0 / WAKES_SHARE).min(self.interval);
        if something_starts {
            self.next_look = self.next_look.min(self.next_wake.max(now + LOOK_AT_START));
        }
    }

    /// Whether passes read the memory of processes one by one from now on.
    pub(crate) fn follow_memory(&mut self, wanted: bool) {
        if wanted != self.memory.is_some() {
            self.memory = wanted.then(MemoryFollower::new);
        }
    }

    /// Continues a run whose processes started at these ticks or later.
    pub(crate) fn count_since(&mut self, began_ticks: u64) {
        self.counted_since_ticks = began_ticks;
    }

    /// Counts all CPU time that the processes of the first reading ever used. Returns how long before the collector the
    /// first of them started.
    pub(crate) fn count_from_nothing(&mut self, reading: &mut Reading, earlier: &Earlier) -> Duration {
        let Clock { began_ticks, started, .. } = self.clock;
        let ticks = began_ticks.saturating_sub(earlier.first_ticks) as f64;
        let before = Duration::from_secs_f64(ticks * self.clock.tick_seconds()).min(started.boot);
        self.counted_since_ticks = earlier.first_ticks;
        self.ledger.count_from_nothing();
        reading.elapsed = reading.at.boot.saturating_sub(started.boot) + before;
        before
    }

    /// Reads the process table and locates every process.
    pub(crate) fn read(&mut self, locator: &mut impl Locator) -> io::Result<Reading> {
        let at = Moment::now();
        self.has_begun = false;
        self.endings.are_seen();
        let elapsed = self.last.map_or(Duration::ZERO, |last| at.monotonic.saturating_sub(last.monotonic));
        let of_root = match self.root {
            Some(root) if self.last.is_none() => Some(self.table.pass_of(root, at.monotonic)),
            Some(root) => self.table.pass_of_ended_children(root, at.monotonic),
            None => None,
        };
        let read = match of_root {
            Some(read) => read,
            None => self.table.pass(at.monotonic)?,
        };
        if read.forbidden + read.garbled > 0 && !std::mem::replace(&mut self.warned_of_unreadable, true) {
            warn!(
                forbidden = read.forbidden,
                garbled = read.garbled,
                "some processes cannot be read, and their usage is not counted; is proc mounted with hidepid?"
            );
        }
        let mut processes = read.observations;
        let mut places = locator.locate(&mut processes, &self.table);
        let (ledger, clock) = (&self.ledger, self.clock);
        if let Some(events) = self.events.as_mut().filter(|_| locator.uses_cgroups()) {
            events.place_ending(locator, &processes, &mut places, |key| !ledger.knows(key));
        }
        let reading = Reading { at, elapsed, began_ticks: self.clock.began_ticks, processes, places };
        let settled_ticks = clock.ticks_at(at.boot) - SETTLED.as_secs_f64() / clock.tick_seconds();
        let is_settled = |key: ProcessKey| ledger.knows(key) && (key.start_ticks as f64) < settled_ticks;
        locator.learn(&reading, is_settled, &self.table);
        Ok(reading)
    }

    /// Accounts for the CPU time used since the previous reading. `last`: no pass follows, so it waits for outstanding
    /// events.
    pub(crate) fn account(&mut self, reading: &Reading, locator: &mut impl Locator, last: bool) -> Pass {
        let host = self.clock.host;
        let events = self.events.as_mut().map(|events| {
            let times = PassTimes::new(host, self.counted_since_ticks, reading.at, last);
            let mut located = events.locate(locator, reading, times);
            // Processes that ended before measuring began do not count.
            located.exited.retain(|exited| {
                let counts =
                    exited.key.start_ticks >= self.counted_since_ticks || self.ledger.knows(exited.key);
                counts && self.last.is_some()
            });
            located
        });
        let tick_ns = host.tick_ns();
        let seen: Vec<ProcessTimes> =
            reading.located().map(|(process, place)| seen(process, *place, tick_ns)).collect();
        let charges = self.ledger.advance(&seen, events.as_ref().map(|events| &events.kernel));
        let present = self.present(reading, locator);
        let memory = self
            .memory
            .as_mut()
            .map(|memory| memory.look(&reading.processes, &present, &self.table, &self.proc_path));
        let between = !std::mem::take(&mut self.sample_is_due) && !last && self.last.is_some();
        let (host_cpu_percent, host_memory_bytes) = if between { (None, None) } else { self.read_host() };
        let cost = self.take_cost();
        let starting =
            self.clock.ticks_at(reading.at.boot) - STARTING.as_secs_f64() / self.clock.tick_seconds();
        self.plan_look(cost.collector_cpu, reading.elapsed, reading.something_starts(starting));
        self.last = Some(reading.at);
        let (exited, begun) = match events {
            Some(Located { exited, begun, .. }) => (Some(exited), begun),
            None => (None, Vec::new()),
        };
        Pass {
            at: reading.at.boot,
            between,
            elapsed_seconds: reading.elapsed.as_secs_f64(),
            present,
            exited,
            begun,
            charges,
            host_cpu_percent,
            host_memory_bytes,
            cost,
            memory: memory.unwrap_or_default(),
            ..Pass::default()
        }
    }

    fn present(&self, reading: &Reading, locator: &impl Locator) -> Vec<Present> {
        let now_ticks = self.clock.ticks_at(reading.at.boot);
        let tick = self.clock.tick_seconds();
        let longest = reading.elapsed.as_secs_f64().max(tick);
        let counted = reading.located().filter(|(process, _)| locator.counts(process));
        let present = counted.map(|(process, place)| Present {
            key: process.key,
            parent_pid: process.ppid,
            comm: process.comm,
            container: place.map(|place| place.container).or_else(|| self.ledger.container_of(process.key)),
            nested: place.and_then(|place| place.nested),
            rss_bytes: process.rss_pages * self.clock.host.page_bytes,
            age_seconds: ((now_ticks - process.key.start_ticks as f64) * tick).clamp(tick, longest),
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

    /// The cost since the previous pass.
    fn take_cost(&mut self) -> Cost {
        let lost = self.events.as_ref().map_or(0, BpfEvents::lost);
        let own_cpu = host::own_cpu_time();
        let cost = Cost {
            missed_samples: std::mem::take(&mut self.missed),
            lost_records: lost - self.lost_records,
            collector_cpu: own_cpu.saturating_sub(self.own_cpu),
        };
        (self.lost_records, self.own_cpu) = (lost, own_cpu);
        cost
    }
}

/// Waits until the buffer of the eBPF program should be emptied, and empties it.
async fn relieve(events: Option<&mut BpfEvents>) -> bool {
    match events {
        Some(events) => events.relieve().await,
        None => std::future::pending().await,
    }
}

fn seen(process: &Observation, place: Option<Place>, tick_ns: u64) -> ProcessTimes {
    ProcessTimes {
        key: process.key,
        ppid: process.ppid,
        zombie: process.zombie,
        own_ns: (process.own_ticks * tick_ns).max(process.final_ns.unwrap_or(0)),
        children_ns: process.reaped_ticks * tick_ns,
        container: place.map(|place| place.container),
    }
}

/// Describes the collector for the summary. `reason`: why the eBPF program does not run.
fn collector_info(config: &Config, mode: &str, reason: Option<&Unavailable>) -> CollectorInfo {
    let info = CollectorInfo {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        mode: mode.to_owned(),
        source: if reason.is_none() { "ebpf" } else { "proc" }.to_owned(),
        source_reason: reason.map(ToString::to_string),
        account_reason: None,
        hidden: hidepid::hidden(&config.proc_path),
        interval_seconds: config.interval.as_secs_f64(),
        cpu_count: std::thread::available_parallelism().map_or(1, |count| count.get() as u32),
        memory_total_bytes: MemInfo::read(&config.proc_path).map(|meminfo| meminfo.total_bytes),
        kernel: Some(host::kernel_release()),
        node_name: config.node_name.clone(),
        instance_type: config.instance_type.clone(),
        warnings: Vec::new(),
    };
    if let Some(hidden) = &info.hidden {
        warn!(hidden, "the usage of some processes is not counted");
    }
    info
}
