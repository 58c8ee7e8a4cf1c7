//! The eBPF program beside the passes: its records kept until the next pass, then placed.

use std::time::{Duration, Instant};

use rustc_hash::{FxHashMap, FxHashSet};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tracing::{debug, warn};

use crate::accumulate::Exited;
use crate::attribute::conserved::traced::{Ended, Moved, Traced};
use crate::attribute::containers::{Containers, Place};
use crate::host::{self, Host};
use crate::sample::bpf::{CgroupIds, Drained, Exit, Options, Tracer, Unavailable};
use crate::sample::pid_stat::Comm;
use crate::sample::table::{Observation, ProcessKey};

/// For so long the last records are waited for: the kernel frees a process some milliseconds after its end (once an
/// RCU grace period is over).
const LAST_WORDS: Duration = Duration::from_millis(250);
/// For so long the kernel has time to tell that it freed a process.
const OVERDUE_NS: u64 = 3_000_000_000;
const LAST_WORDS_POLL: Duration = Duration::from_micros(500);

/// The program, and what it told since the last pass.
#[derive(Debug)]
pub(super) struct Trace {
    tracer: AsyncFd<Tracer>,
    waiting: Drained,
    /// Where processes are that were ending when they were first seen.
    ending: FxHashMap<ProcessKey, Place>,
    /// Those that had ended and were not freed at the last pass.
    in_flight: FxHashSet<ProcessKey>,
    /// A process that is gone from /proc for so long was freed, told or not.
    overdue_ns: u64,
    lost: u64,
}

/// When a pass was, and since when measuring goes on, in the clock of the starts of processes.
#[derive(Debug, Clone, Copy)]
pub(super) struct PassTimes {
    pub(super) host: Host,
    pub(super) measuring_since_ticks: u64,
    /// When it began to read.
    pub(super) began_ns: u64,
    pub(super) now_ns: u64,
    /// Whether there is none after it.
    pub(super) last: bool,
}

impl PassTimes {
    /// Of a pass that has read what there is.
    pub(super) fn new(host: Host, measuring_since_ticks: u64, began: host::Instant, last: bool) -> Self {
        // A time namespace shifts this clock as it does the starts in /proc.
        let ns = |at: host::Instant| at.boot.as_nanos() as u64;
        Self { host, measuring_since_ticks, began_ns: ns(began), now_ns: ns(host::Instant::now()), last }
    }
}

/// What was told up to a pass.
struct Told {
    drained: Drained,
    /// Those that were waited for and not freed.
    in_flight: Vec<Exit>,
    ended: u64,
    /// Of how many not all was told, that were waited for since the pass before.
    lost: u64,
}

/// Who tells where a process is; see [`Containers::place_of`].
pub(super) trait Locate {
    /// Where a process is that the eBPF program told of; `None` where it cannot be told.
    fn place_of(
        &mut self,
        cgroups: CgroupIds,
        comm: Comm,
        parent: Option<Place>,
        content: impl FnOnce(CgroupIds) -> Option<Vec<u8>>,
    ) -> Option<Place>;
}

impl Locate for Containers {
    fn place_of(
        &mut self,
        cgroups: CgroupIds,
        comm: Comm,
        parent: Option<Place>,
        content: impl FnOnce(CgroupIds) -> Option<Vec<u8>>,
    ) -> Option<Place> {
        Self::place_of(self, cgroups, comm, parent, content)
    }
}

/// What a pass learns from the records.
#[derive(Debug, Default)]
pub(super) struct Placed {
    pub(super) traced: Traced,
    pub(super) exited: Vec<Exited>,
}

impl Trace {
    pub(super) fn start(options: &Options<'_>) -> Result<Self, Unavailable> {
        let tracer = Tracer::start(options)?;
        // SAFETY: the tracer keeps the descriptor of its ring buffer open and the same until it is dropped.
        let tracer = unsafe { AsyncFd::register_with_interest(tracer, Interest::READABLE) };
        let tracer = tracer.map_err(|error| Unavailable::Events(error.into()))?;
        Ok(Self {
            tracer,
            waiting: Drained::default(),
            ending: FxHashMap::default(),
            in_flight: FxHashSet::default(),
            overdue_ns: OVERDUE_NS,
            lost: 0,
        })
    }

    /// Waits until the ring buffer is half full, and empties it. Cancelling loses nothing.
    pub(super) async fn relieve(&mut self) {
        match self.tracer.readable_mut().await {
            Ok(mut ready) => {
                ready.get_inner_mut().drain(&mut self.waiting);
                ready.clear_ready();
            }
            Err(error) => {
                debug!(%error, "the ring buffer cannot be waited for; it is read at each pass");
                std::future::pending::<()>().await;
            }
        }
    }

    /// Takes what was told up to now.
    fn take(&mut self, observations: &[Observation], times: PassTimes) -> Told {
        let tracer = self.tracer.get_mut();
        // What is counted before the records are read has been written by then.
        let growth = tracer.growth();
        let mut reaped: Vec<Exit> = tracer.exiting().filter(|exit| exit.end_ns < times.began_ns).collect();
        if !reaped.is_empty() {
            let there: FxHashSet<ProcessKey> = observations.iter().map(|one| one.key).collect();
            reaped.retain(|exit| !there.contains(&exit.key));
        }
        tracer.drain(&mut self.waiting);
        if !reaped.is_empty() {
            // They were freed meanwhile.
            let freed: FxHashSet<ProcessKey> = self.waiting.exits.iter().map(|exit| exit.key).collect();
            reaped.retain(|exit| !freed.contains(&exit.key));
        }
        // Not every free is told (a kernel may run no program on top of tasks that it shields): who ended long ago and is
        // not there any more was freed. What it had used is known but for its last moments, a tick of the scheduler at most.
        let (overdue, in_flight): (Vec<Exit>, Vec<Exit>) =
            reaped.into_iter().partition(|exit| exit.end_ns + self.overdue_ns < times.now_ns);
        let overdue: Vec<ProcessKey> = overdue.into_iter().map(|exit| exit.key).collect();
        let missed = if overdue.is_empty() { Vec::new() } else { tracer.give_up(&overdue) };
        let lost = growth.lost + growth.missed + missed.len() as u64;
        // Who was waited for in this interval has all that it used in its reaper's growth; of the others that was before.
        let of_now = missed.iter().filter(|exit| !self.in_flight.contains(&exit.key)).count() as u64;
        let unsettled = growth.lost + growth.missed + of_now;
        self.waiting.exits.extend(missed);
        if lost > 0 && self.lost == 0 {
            warn!(
                lost,
                "records of the eBPF program were lost; what those processes used is known less precisely"
            );
        }
        self.lost += lost;
        let drained = std::mem::take(&mut self.waiting);
        Told { drained, in_flight, ended: growth.ended, lost: unsettled }
    }

    /// Waits until the kernel has freed what had ended by now, but for what still waits to be waited for: that was
    /// seen.
    fn wait_for_last_words(&mut self, observations: &[Observation], now_ns: u64) {
        let zombies: FxHashSet<ProcessKey> =
            observations.iter().filter(|one| one.zombie).map(|one| one.key).collect();
        let tracer = self.tracer.get_mut();
        let until = Instant::now() + LAST_WORDS;
        let overdue = |exit: &Exit| exit.end_ns + OVERDUE_NS < now_ns;
        let due = |exit: Exit| !zombies.contains(&exit.key) && !overdue(&exit);
        while tracer.exiting().any(due) && Instant::now() < until {
            std::thread::sleep(LAST_WORDS_POLL);
            // Else the ring buffer could fill up meanwhile.
            tracer.drain(&mut self.waiting);
        }
        // There is no later: what ended and is not told of by now is taken as it is.
        self.overdue_ns = 0;
    }

    /// Corrects where processes are that no pass had seen and that were ending when this one saw them: their cgroups
    /// read `/` by then, and as long as nobody waits for them.
    pub(super) fn place_ending(
        &mut self,
        containers: &mut impl Locate,
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
        let tracer = self.tracer.get_mut();
        let exiting: Vec<_> = tracer.exiting().filter(|exit| new.contains_key(&exit.key)).collect();
        // What was freed since the pass saw it is among the records.
        tracer.drain(&mut self.waiting);
        for exit in exiting.iter().chain(&self.waiting.exits) {
            let Some(index) = new.remove(&exit.key) else { continue };
            let found = containers.place_of(exit.cgroups, exit.comm, None, |ids| tracer.cgroup_content(ids));
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

    /// What was told since the last pass, with the places of what it is about. `single`: everything is there.
    pub(super) fn place(
        &mut self,
        containers: &mut impl Locate,
        seen: (&[Observation], &[Option<Place>]),
        single: Option<Place>,
        times: PassTimes,
    ) -> Placed {
        if times.last {
            self.wait_for_last_words(seen.0, times.now_ns);
        }
        let Told { drained, in_flight, ended, lost } = self.take(seen.0, times);
        let before = std::mem::take(&mut self.in_flight);
        let mut placed = Placed { traced: Traced { ended, lost, ..Traced::default() }, exited: Vec::new() };
        if drained.exits.is_empty() && drained.moves.is_empty() && in_flight.is_empty() {
            return placed;
        }
        let places: FxHashMap<u32, (ProcessKey, Place)> = seen
            .0
            .iter()
            .zip(seen.1)
            .filter_map(|(process, place)| Some((process.key.pid, (process.key, (*place)?))))
            .collect();
        let place_of_pid = |pid: u32| places.get(&pid).map(|(_, place)| *place);
        let tracer = self.tracer.get_mut();
        let mut place = |cgroups: CgroupIds, comm: Comm, parent: Option<Place>| {
            single.or_else(|| containers.place_of(cgroups, comm, parent, |ids| tracer.cgroup_content(ids)))
        };
        for moved in &drained.moves {
            let parent = place_of_pid(moved.parent_pid);
            let to = place(moved.cgroups, Comm::new(b""), parent);
            placed.traced.moves.push(Moved {
                key: moved.key,
                from: parent.map(|place| place.container),
                to: to.map(|place| place.container),
                own_ns: moved.own_ns,
            });
        }
        let PassTimes { host, measuring_since_ticks, .. } = times;
        for (exit, last) in
            drained.exits.iter().map(|exit| (exit, true)).chain(in_flight.iter().map(|exit| (exit, false)))
        {
            let parent = place_of_pid(exit.parent_pid);
            let seen = places.get(&exit.key.pid).filter(|(key, _)| *key == exit.key).map(|(_, place)| *place);
            // Without its cgroup's name, which was lost: where it was seen, or where its parent is.
            let place = place(exit.cgroups, exit.comm, parent)
                .or(seen)
                .or_else(|| parent.filter(|_| exit.in_parents_cgroups));
            let told = if last { &mut placed.traced.exits } else { &mut placed.traced.in_flight };
            told.push(Ended {
                key: exit.key,
                parent_pid: exit.parent_pid,
                container: place.map(|place| place.container),
                own_ns: exit.own_ns,
                reaped_ns: exit.reaped_ns,
            });
            if !last {
                self.in_flight.insert(exit.key);
                if before.contains(&exit.key) {
                    continue;
                }
            }
            let start_ns = exit.key.start_ticks.max(measuring_since_ticks) * host.tick_ns();
            placed.exited.push(Exited {
                key: exit.key,
                comm: exit.comm,
                container: place.map(|place| place.container),
                nested: place.and_then(|place| place.nested),
                peak_rss_bytes: exit.peak_rss_pages * host.page_bytes,
                lived_seconds: exit.end_ns.saturating_sub(start_ns) as f64 / 1e9,
                last,
            });
        }
        placed
    }
}
