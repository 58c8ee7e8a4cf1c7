//! The eBPF program's events: buffered between passes, then located.

use std::time::{Duration, Instant};

use anyhow::bail;
use rustc_hash::{FxHashMap, FxHashSet};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tracing::{debug, info, warn};

use super::locator::{Event, Locator};
use super::pass::Beginning;
use super::reading::Reading;
use crate::accumulate::Exited;
use crate::attribute::containers::Place;
use crate::attribute::cpu::exits::{CgroupMove, KernelEvents, ProcessExit};
use crate::config::{Config, Ebpf, Mode};
use crate::host::{self, Host};
use crate::sample::bpf::{BpfProgram, CgroupIds, Drained, Exit, FirstExec, ProgramOptions, Unavailable};
use crate::sample::cgroupfs::Hierarchies;
use crate::sample::pid_stat::Comm;
use crate::sample::process_table::{Observation, ProcessKey};

/// How long the last pass waits for outstanding exit records: the kernel frees a process some milliseconds after its
/// end (once an RCU grace period is over).
const LAST_RECORDS_TIMEOUT: Duration = Duration::from_millis(250);
const LAST_RECORDS_POLL: Duration = Duration::from_micros(500);
/// A process that ended longer ago and is not in `/proc` counts as freed, even without a record.
const OVERDUE_NS: u64 = 3_000_000_000;
/// Up to this many processes of an interval, and one in this many, may lack the report that they were freed.
const FEW_UNFREED: u64 = 16;

/// The program, and the records that it wrote since the last pass.
#[derive(Debug)]
pub(super) struct BpfEvents {
    program: AsyncFd<BpfProgram>,
    waiting: Drained,
    /// Places of processes that were ending when a pass first saw them.
    ending: FxHashMap<ProcessKey, Place>,
    /// Processes that had ended but were not freed at the last pass.
    in_flight: FxHashSet<ProcessKey>,
    overdue_ns: u64,
    lost: u64,
}

/// The time of a pass, and the time from which processes count, on the clock of process starts.
#[derive(Debug, Clone, Copy)]
pub(super) struct PassTimes {
    host: Host,
    counted_since_ticks: u64,
    /// When the pass began to read.
    began_ns: u64,
    now_ns: u64,
    /// Whether no pass follows.
    last: bool,
}

impl PassTimes {
    /// The times of a pass that has read the process table.
    pub(super) fn new(host: Host, counted_since_ticks: u64, began: host::Moment, last: bool) -> Self {
        // A time namespace shifts this clock as it shifts the start times in /proc.
        let ns = |at: host::Moment| at.boot.as_nanos() as u64;
        Self { host, counted_since_ticks, began_ns: ns(began), now_ns: ns(host::Moment::now()), last }
    }
}

/// The records up to a pass.
struct Batch {
    drained: Drained,
    /// Processes that were reaped but not freed yet.
    in_flight: Vec<Exit>,
    ended: u64,
    /// Processes reaped in this interval whose record was lost, and incomplete records if they are many.
    lost: u64,
}

/// The records of an interval, each with its container.
#[derive(Debug, Default)]
pub(super) struct Located {
    pub(super) kernel: KernelEvents,
    pub(super) exited: Vec<Exited>,
    pub(super) begun: Vec<Beginning>,
}

impl BpfEvents {
    /// Starts the program, or returns why it does not run. Fails only if the program is required. `root`: only the
    /// descendants of this process are followed.
    pub(super) fn start_if_wanted(
        config: &Config,
        root: Option<u32>,
        host: Host,
        hierarchies: &Hierarchies,
    ) -> anyhow::Result<Result<Self, Unavailable>> {
        let (unified, v1) = hierarchies.root_ids();
        let options = ProgramOptions {
            proc_path: &config.proc_path,
            root,
            tick_ns: host.tick_ns(),
            cgroup_roots: CgroupIds { unified, v1 },
            ring_bytes: config.ebpf_buffer,
            environments: matches!(config.mode, Mode::Node(_)),
            log: config.ebpf_log,
            // A command would inherit the reduced privileges.
            shed_privileges: root.is_none(),
        };
        let events = match config.ebpf {
            Ebpf::Off => Err(Unavailable::Off),
            Ebpf::Auto | Ebpf::Require => Self::start(&options),
        };
        match (&events, config.ebpf) {
            (Ok(_), _) => info!("following processes with eBPF"),
            (Err(reason), Ebpf::Require) => bail!("--ebpf=require: {reason}"),
            (Err(reason), _) => info!(%reason, "measuring from /proc alone, without eBPF"),
        }
        Ok(events)
    }

    fn start(options: &ProgramOptions<'_>) -> Result<Self, Unavailable> {
        let program = BpfProgram::start(options)?;
        // SAFETY: the program keeps the descriptor of its ring buffer open and unchanged until it is dropped.
        let program = unsafe { AsyncFd::register_with_interest(program, Interest::READABLE) };
        let program = program.map_err(|error| Unavailable::Events(error.into()))?;
        Ok(Self {
            program,
            waiting: Drained::default(),
            ending: FxHashMap::default(),
            in_flight: FxHashSet::default(),
            overdue_ns: OVERDUE_NS,
            lost: 0,
        })
    }

    /// Waits until the ring buffer is half full or a container begins, and empties it. Returns whether a container has
    /// begun since the last pass. Cancel-safe.
    pub(super) async fn relieve(&mut self) -> bool {
        match self.program.readable_mut().await {
            Ok(mut ready) => {
                ready.get_inner_mut().drain(&mut self.waiting);
                ready.clear_ready();
            }
            Err(error) => {
                debug!(%error, "cannot wait for the ring buffer; it is read at each pass");
                std::future::pending::<()>().await;
            }
        }
        !self.waiting.begun.is_empty()
    }

    /// Takes the records up to now.
    fn take(&mut self, observations: &[Observation], times: PassTimes) -> Batch {
        let program = self.program.get_mut();
        // The counters are read first, so that the records of everything they count have been written.
        let growth = program.growth();
        let mut reaped: Vec<Exit> = program.exiting().filter(|exit| exit.end_ns < times.began_ns).collect();
        if !reaped.is_empty() {
            let there: FxHashSet<ProcessKey> = observations.iter().map(|one| one.key).collect();
            reaped.retain(|exit| !there.contains(&exit.key));
        }
        program.drain(&mut self.waiting);
        if !reaped.is_empty() {
            // These were freed meanwhile.
            let freed: FxHashSet<ProcessKey> = self.waiting.exits.iter().map(|exit| exit.key).collect();
            reaped.retain(|exit| !freed.contains(&exit.key));
        }
        // Not every freed process leaves a record (a kernel may run no program on top of tasks that it shields). A process
        // that ended long ago and is not in /proc counts as freed. Its CPU time is known to within a tick of the scheduler.
        let (overdue, in_flight): (Vec<Exit>, Vec<Exit>) =
            reaped.into_iter().partition(|exit| exit.end_ns + self.overdue_ns < times.now_ns);
        let overdue: Vec<ProcessKey> = overdue.into_iter().map(|exit| exit.key).collect();
        let missed = if overdue.is_empty() { Vec::new() } else { program.give_up(&overdue) };
        let lost = growth.lost + growth.missed + missed.len() as u64;
        // The reaper's growth includes all CPU time of a process that was reaped in this interval. The others were reaped
        // earlier.
        let of_now = missed.iter().filter(|exit| !self.in_flight.contains(&exit.key)).count() as u64;
        let unfreed = growth.missed + of_now;
        // They have a record from when they ended, which lacks at most a tick of the scheduler. That is less than the
        // rounding of the reaper's growth, unless there are many of them.
        let are_many = unfreed > FEW_UNFREED + growth.ended / FEW_UNFREED;
        let unsettled = growth.lost + if are_many { unfreed } else { 0 };
        self.waiting.exits.extend(missed);
        if lost > 0 && self.lost == 0 {
            warn!(
                lost,
                "records of the eBPF program were lost; the usage of those processes is less precise"
            );
        }
        self.lost += lost;
        let drained = std::mem::take(&mut self.waiting);
        Batch { drained, in_flight, ended: growth.ended, lost: unsettled }
    }

    /// Waits until the kernel has freed every process that has ended by now. It does not wait for zombies, which the pass
    /// saw.
    fn wait_for_last_records(&mut self, observations: &[Observation], now_ns: u64) {
        let zombies: FxHashSet<ProcessKey> =
            observations.iter().filter(|one| one.zombie).map(|one| one.key).collect();
        let program = self.program.get_mut();
        let until = Instant::now() + LAST_RECORDS_TIMEOUT;
        let overdue = |exit: &Exit| exit.end_ns + OVERDUE_NS < now_ns;
        let due = |exit: Exit| !zombies.contains(&exit.key) && !overdue(&exit);
        while program.exiting().any(due) && Instant::now() < until {
            std::thread::sleep(LAST_RECORDS_POLL);
            // The ring buffer could fill up meanwhile.
            program.drain(&mut self.waiting);
        }
        // No record comes later, so the figures of these processes are final.
        self.overdue_ns = 0;
    }

    /// Corrects the places of processes that were already ending when a pass first saw them: `/proc/[pid]/cgroup` reads
    /// `/` from then until they are reaped.
    pub(super) fn place_ending(
        &mut self,
        locator: &mut impl Locator,
        observations: &[Observation],
        places: &mut [Option<Place>],
        unseen: impl Fn(ProcessKey) -> bool,
    ) {
        let before = std::mem::take(&mut self.ending);
        let mut new: FxHashMap<ProcessKey, usize> = FxHashMap::default();
        for (index, process) in observations.iter().enumerate() {
            if let Some(place) = before.get(&process.key) {
                places[index] = Some(*place);
                self.ending.insert(process.key, *place);
            } else if !process.kernel_thread && unseen(process.key) {
                new.insert(process.key, index);
            }
        }
        if new.is_empty() {
            return;
        }
        let program = self.program.get_mut();
        let exiting: Vec<_> = program.exiting().filter(|exit| new.contains_key(&exit.key)).collect();
        // Processes that were freed since the pass saw them are among the records.
        program.drain(&mut self.waiting);
        for exit in exiting.iter().chain(&self.waiting.exits) {
            let Some(index) = new.remove(&exit.key) else { continue };
            let event = Event { cgroups: exit.cgroups, comm: exit.comm, parent: None };
            let found = locator.locate_event(event, &mut |ids| program.cgroup_content(ids));
            if let Some(place) = found {
                places[index] = found;
                self.ending.insert(exit.key, place);
            }
        }
    }

    /// Records lost so far.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    /// Takes the records since the last pass and locates their processes.
    pub(super) fn locate(
        &mut self,
        locator: &mut impl Locator,
        reading: &Reading,
        times: PassTimes,
    ) -> Located {
        if times.last {
            self.wait_for_last_records(&reading.processes, times.now_ns);
        }
        let Batch { drained, in_flight, ended, lost } = self.take(&reading.processes, times);
        let before = std::mem::take(&mut self.in_flight);
        let mut located = Located {
            kernel: KernelEvents { ended, lost, ..KernelEvents::default() },
            exited: Vec::new(),
            begun: Vec::new(),
        };
        if drained.is_empty() && in_flight.is_empty() {
            return located;
        }
        let places: FxHashMap<u32, (ProcessKey, Place)> = reading
            .located()
            .filter_map(|(process, place)| Some((process.key.pid, (process.key, (*place)?))))
            .collect();
        let place_of_pid = |pid: u32| places.get(&pid).map(|(_, place)| *place);
        let program = self.program.get_mut();
        let mut place = |cgroups, comm, parent| {
            locator.locate_event(Event { cgroups, comm, parent }, &mut |ids| program.cgroup_content(ids))
        };
        for moved in &drained.moves {
            let parent = place_of_pid(moved.parent_pid);
            let to = place(moved.cgroups, Comm::new(b""), parent);
            located.kernel.moves.push(CgroupMove {
                key: moved.key,
                from: parent.map(|place| place.container),
                to: to.map(|place| place.container),
                own_ns: moved.own_ns,
            });
        }
        for begun in drained.begun {
            let FirstExec { key, parent_pid, cgroups, environment } = begun;
            let Some(environment) = environment else { continue };
            let Some(place) = place(cgroups, Comm::new(b""), place_of_pid(parent_pid)) else { continue };
            located.begun.push(Beginning { key, parent_pid, place, environment });
        }
        let PassTimes { host, counted_since_ticks, .. } = times;
        for (exit, last) in
            drained.exits.iter().map(|exit| (exit, true)).chain(in_flight.iter().map(|exit| (exit, false)))
        {
            let parent = place_of_pid(exit.parent_pid);
            let seen = places.get(&exit.key.pid).filter(|(key, _)| *key == exit.key).map(|(_, place)| *place);
            // If the name of its cgroup was lost, its place is where a pass saw it, or where its parent is.
            let place = place(exit.cgroups, exit.comm, parent)
                .or(seen)
                .or_else(|| parent.filter(|_| exit.in_parents_cgroups));
            let list = if last { &mut located.kernel.exits } else { &mut located.kernel.in_flight };
            list.push(ProcessExit {
                key: exit.key,
                parent_pid: exit.parent_pid,
                container: place.map(|place| place.container),
                own_ns: exit.own_ns,
                children_ns: exit.reaped_ns,
            });
            if !last {
                self.in_flight.insert(exit.key);
                if before.contains(&exit.key) {
                    continue;
                }
            }
            let start_ns = exit.key.start_ticks.max(counted_since_ticks) * host.tick_ns();
            located.exited.push(Exited {
                key: exit.key,
                parent_pid: exit.parent_pid,
                comm: exit.comm,
                container: place.map(|place| place.container),
                nested: place.and_then(|place| place.nested),
                peak_rss_bytes: exit.peak_rss_pages * host.page_bytes,
                from_ns: exit.start_ns,
                until_ns: exit.end_ns,
                disk_read_bytes: exit.disk_read_bytes,
                disk_written_bytes: exit.disk_written_bytes,
                lived_seconds: exit.end_ns.saturating_sub(start_ns) as f64 / 1e9,
                last,
            });
        }
        located
    }
}
