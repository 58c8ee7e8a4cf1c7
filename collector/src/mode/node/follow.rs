//! One pass over the node after another: read once, then shared out among its pods.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context as _;
use rustc_hash::FxHashMap;
use tracing::{debug, warn};

use super::clock::Clock;
use super::environments::Environments;
use super::group::{Context, End, Group, JobRun};
use super::groups::{Found, GroupKey, GroupNumber, Groups, split};
use super::samples::{Cost, Facts, GroupPass};
use crate::accumulate::{Exited, Present};
use crate::attribute::ContainerIndex;
use crate::attribute::conserved::{Charge, ConservedSum, Seen};
use crate::attribute::containers::{Containers, Place};
use crate::attribute::jobs::Sighting;
use crate::config::{Config, NodeConfig, RunIdentity};
use crate::deliver::push::Pusher;
use crate::deliver::recover::Recovered;
use crate::deliver::spool::Spool;
use crate::host::{self, Host, Instant};
use crate::mode::measurement::{collector_info, seen, start_trace};
use crate::mode::trace::{PassTimes, Placed, Trace};
use crate::mode::watch::CgroupWatches;
use crate::sample::cgroupfs::Hierarchies;
use crate::sample::meminfo::MemInfo;
use crate::sample::pod_logs::PodLogs;
use crate::sample::system_stat::CpuTimes;
use crate::sample::table::{Observation, ProcTable};
use crate::sample::uptime;

/// Descriptors that the cgroups' files may take; processes have the others.
const CGROUP_DESCRIPTORS: u64 = 16_384;
/// So far up the ancestors of a process its job is looked for.
const MAX_ANCESTORS: usize = 256;

/// What makes pods known.
#[derive(Debug)]
pub(super) struct Finder {
    pub(super) logs: PodLogs,
    /// Whether what is found was there when measuring began.
    at_the_beginning: bool,
    /// Runs to go on with.
    recovered: HashMap<GroupKey, Recovered>,
}

impl Found for Finder {
    fn group(&mut self, key: &GroupKey, mut containers: Containers) -> Group {
        let pod = match key {
            GroupKey::Pod(uid) => self.logs.pod(uid),
            GroupKey::Container(_) => None,
        };
        let recovered = self.recovered.remove(key).filter(|recovered| {
            // A checkpoint was checked when it was read.
            containers.restore(recovered.checkpoint.head.containers.clone())
        });
        Group::new(key.clone(), containers, pod, self.at_the_beginning, recovered.map(Box::new))
    }
}

/// The node as it is followed.
#[derive(Debug)]
pub(super) struct Follower {
    config: Rc<Config>,
    pusher: Option<Pusher>,
    spool: Option<Spool>,
    pub(super) facts: Facts,
    clock: Clock,
    table: ProcTable,
    pub(super) trace: Option<Trace>,
    conserved: ConservedSum,
    pub(super) groups: Groups<Finder>,
    environments: Environments,
    hierarchies: Rc<Hierarchies>,
    last: Option<Instant>,
    host_cpu: Option<CpuTimes>,
    own_cpu: Duration,
    missed: u64,
    unreadable: bool,
    pub(super) totals: Totals,
}

/// What the node's metrics count.
#[derive(Debug, Default, Clone)]
pub(super) struct Totals {
    pub(super) passes: u64,
    pub(super) missed_passes: u64,
    pub(super) lost_records: u64,
    pub(super) unattributed_ns: u64,
    pub(super) processes: usize,
    pub(super) last_pass: Duration,
    pub(super) forbidden: u64,
    pub(super) ended: BTreeMap<End, u64>,
}

impl Follower {
    /// Begins with the pass that all others are compared with. `recovered`: runs to go on with if their pods are still
    /// there; those whose pods are not are given back.
    pub(super) fn begin(
        config: &Rc<Config>,
        node: &NodeConfig,
        pusher: Option<Pusher>,
        spool: Option<Spool>,
        open_files_limit: u64,
        recovered: HashMap<GroupKey, Recovered>,
    ) -> anyhow::Result<(Self, Vec<Recovered>)> {
        let host = Host::read();
        let for_processes = open_files_limit - (open_files_limit / 2).min(CGROUP_DESCRIPTORS);
        let table = ProcTable::open(&config.proc_path, for_processes)
            .with_context(|| format!("cannot open the proc tree {}", config.proc_path.display()))?;
        let started = Instant::now();
        let uptime = uptime::read_seconds(&config.proc_path).unwrap_or(started.boot.as_secs_f64());
        let began_ticks = (uptime * host.ticks_per_second as f64) as u64;
        let cgroups = CgroupWatches::find(&config.proc_path, config.cgroup_path.as_deref());
        let trace = start_trace(config, None, host, &cgroups)?;
        let info = collector_info(config, "node", trace.as_ref().err());
        let logs = PodLogs::at(&node.pod_logs_path);
        let finder = Finder { logs, at_the_beginning: true, recovered };
        let mut follower = Self {
            facts: Facts { info, limits: config.limits.clone(), top: config.top },
            clock: Clock { host, began_ticks, started },
            table,
            trace: trace.ok(),
            conserved: ConservedSum::new(began_ticks, host.tick_ns()),
            groups: Groups::new(config.process_map.clone(), finder),
            environments: Environments::new(node.variables.clone()),
            hierarchies: cgroups.hierarchies(),
            last: None,
            host_cpu: None,
            own_cpu: host::own_cpu_time(),
            missed: 0,
            unreadable: false,
            totals: Totals::default(),
            config: Rc::clone(config),
            pusher,
            spool,
        };
        let ended = follower.pass(node, false);
        let ended = ended.with_context(|| format!("cannot list {}", config.proc_path.display()))?;
        debug_assert!(ended.is_empty(), "nothing ends in the first pass");
        let finder = follower.groups.found();
        finder.at_the_beginning = false;
        let left = std::mem::take(&mut finder.recovered).into_values().collect();
        Ok((follower, left))
    }

    /// Passes that were due and did not happen.
    pub(super) fn count_missed(&mut self, missed: u64) {
        self.missed += missed;
        self.totals.missed_passes += missed;
    }

    /// Reads everything once; tells the runs that are over, with the numbers of their groups.
    pub(super) fn pass(
        &mut self,
        node: &NodeConfig,
        last: bool,
    ) -> io::Result<Vec<(GroupNumber, JobRun, End)>> {
        let now = Instant::now();
        let elapsed = self.last.map_or(Duration::ZERO, |last| now.monotonic.saturating_sub(last.monotonic));
        let pass = self.table.pass(now.monotonic)?;
        if pass.forbidden + pass.garbled > 0 && !self.unreadable {
            warn!(
                forbidden = pass.forbidden,
                garbled = pass.garbled,
                "some processes cannot be read, and what they use is not counted"
            );
            self.unreadable = true;
        }
        let processes = pass.observations;
        let places = self.places(&processes);
        let lost_before = self.trace.as_ref().map_or(0, Trace::lost);
        let placed = self.placed(&processes, &places, now, last);
        let tick_ns = self.clock.host.tick_ns();
        let all: Vec<Seen> =
            processes.iter().zip(&places).map(|(process, place)| seen(process, *place, tick_ns)).collect();
        let charges = self.conserved.advance(&all, placed.as_ref().map(|placed| &placed.traced));
        let sightings = self.sightings(&processes, &places);
        let lost = self.trace.as_ref().map_or(0, Trace::lost) - lost_before;
        let exited = placed.map(|placed| placed.exited);
        let shares = self.share_out(now, elapsed, &processes, &places, exited.as_deref(), &charges, lost);
        let ended = self.advance(node, now, shares, &sightings);
        self.last = Some(now);
        self.missed = 0;
        self.totals.passes += 1;
        self.totals.lost_records += lost;
        self.totals.processes = processes.len();
        self.totals.last_pass = Instant::now().monotonic.saturating_sub(now.monotonic);
        self.totals.forbidden = self.environments.forbidden;
        for (_, _, end) in &ended {
            *self.totals.ended.entry(*end).or_default() += 1;
        }
        debug!(
            pass = self.totals.passes,
            processes = processes.len(),
            pods = self.groups.iter().count(),
            ended = ended.len(),
            took = ?self.totals.last_pass,
            "pass"
        );
        Ok(ended)
    }

    fn places(&mut self, processes: &[Observation]) -> Vec<Option<Place>> {
        let table = &self.table;
        let mut places = self.groups.places(processes, |cgroup| table.cgroup_content(cgroup));
        if let Some(trace) = &mut self.trace {
            let unseen = |key| !self.conserved.knows(key);
            trace.place_ending(&mut self.groups, processes, &mut places, unseen);
        }
        self.learn_names(processes, &places);
        places
    }

    /// What the eBPF program told since the pass before; this one began at `began`.
    fn placed(
        &mut self,
        processes: &[Observation],
        places: &[Option<Place>],
        began: Instant,
        last: bool,
    ) -> Option<Placed> {
        let Clock { host, began_ticks, .. } = self.clock;
        let trace = self.trace.as_mut()?;
        let times = PassTimes::new(host, began_ticks, began, last);
        let mut placed = trace.place(&mut self.groups, (processes, places), None, times);
        // What ended before measuring began is nobody's.
        placed.exited.retain(|exited| {
            let ours = exited.key.start_ticks >= began_ticks || self.conserved.knows(exited.key);
            ours && self.last.is_some()
        });
        Some(placed)
    }

    fn learn_names(&mut self, processes: &[Observation], places: &[Option<Place>]) {
        let mut living: FxHashMap<GroupNumber, BTreeSet<ContainerIndex>> = FxHashMap::default();
        for (process, place) in processes.iter().zip(places) {
            let Some((place, (number, own))) = place.and_then(|place| Some((place, split(place.container)?)))
            else {
                continue;
            };
            let Some(group) = self.groups.get_mut(number).filter(|_| !process.zombie) else { continue };
            living.entry(number).or_default().insert(own);
            let place = Place { container: own, ..place };
            group.containers.runs(place, process.comm, self.conserved.knows(process.key));
            if group.containers.wants_mountinfo(place, process.comm) {
                let content = self.table.read_file(process.key, "mountinfo").unwrap_or_default();
                group.containers.learn(own, &content);
            }
        }
        self.groups.name_by_logs();
        for (number, group) in self.groups.iter_mut() {
            group.containers.unite(living.get(&number).unwrap_or(&BTreeSet::new()));
        }
    }

    /// The processes of each pod that say whose they are.
    fn sightings(
        &mut self,
        processes: &[Observation],
        places: &[Option<Place>],
    ) -> FxHashMap<GroupNumber, Vec<Sighting>> {
        let mut sightings: FxHashMap<GroupNumber, Vec<Sighting>> = FxHashMap::default();
        let mut foreign = Vec::new();
        let mut runs: FxHashMap<u32, (Option<Rc<RunIdentity>>, u32)> = FxHashMap::default();
        for (process, place) in processes.iter().zip(places) {
            let Some((number, _)) = place.and_then(|place| split(place.container)) else { continue };
            let run = self.environments.run_of(process, &self.table);
            runs.insert(process.key.pid, (run.clone(), process.ppid));
            let Some(run) = run else { continue };
            let current = self.groups.get(number).and_then(|group| group.job.as_ref()).map(|job| &job.run);
            let of_pod = sightings.entry(number).or_default();
            if let Some(current) = current.filter(|current| **current != run) {
                foreign.push((number, of_pod.len(), process.ppid, Rc::clone(current)));
            }
            of_pod.push(Sighting { run, start_ticks: process.key.start_ticks, within: false });
        }
        for (number, at, ppid, current) in foreign {
            let mut above = ppid;
            for _ in 0..MAX_ANCESTORS {
                let Some((run, ppid)) = runs.get(&above) else { break };
                if run.as_ref() == Some(&current) {
                    if let Some(one) = sightings.get_mut(&number).and_then(|of_pod| of_pod.get_mut(at)) {
                        one.within = true;
                    }
                    break;
                }
                above = *ppid;
            }
        }
        self.environments.end_pass();
        sightings
    }

    /// What the pass brought, pod by pod.
    #[expect(clippy::too_many_arguments, reason = "they are what a pass read, each used once")]
    fn share_out(
        &mut self,
        now: Instant,
        elapsed: Duration,
        processes: &[Observation],
        places: &[Option<Place>],
        exited: Option<&[Exited]>,
        charges: &[Charge],
        lost: u64,
    ) -> FxHashMap<GroupNumber, GroupPass> {
        let (host_cpu_percent, host_memory_bytes) = self.read_host();
        let own_cpu = host::own_cpu_time();
        let used = own_cpu.saturating_sub(self.own_cpu);
        self.own_cpu = own_cpu;
        let followed = self.groups.iter().filter(|(_, group)| group.job.is_some()).count();
        let cost = Cost {
            missed_samples: self.missed,
            lost_records: lost,
            collector_cpu: used / u32::try_from(followed.max(1)).unwrap_or(u32::MAX),
        };
        let empty = || GroupPass {
            at: now.boot,
            elapsed: elapsed.as_secs_f64(),
            host_cpu_percent,
            host_memory_bytes,
            exited: exited.is_some().then(Vec::new),
            cost,
            ..GroupPass::default()
        };
        let mut shares: FxHashMap<GroupNumber, GroupPass> = FxHashMap::default();
        let now_ticks = self.clock.ticks_at(now.boot);
        let tick = 1.0 / self.clock.host.ticks_per_second as f64;
        for (process, place) in processes.iter().zip(places) {
            let container = place.map(|place| place.container);
            let Some((number, own)) =
                container.or_else(|| self.conserved.container_of(process.key)).and_then(split)
            else {
                continue;
            };
            shares.entry(number).or_insert_with(empty).present.push(Present {
                key: process.key,
                comm: process.comm,
                container: Some(own),
                nested: place.and_then(|place| place.nested),
                rss_bytes: process.rss_pages * self.clock.host.page_bytes,
                age_seconds: ((now_ticks - process.key.start_ticks as f64) * tick)
                    .clamp(tick, elapsed.as_secs_f64().max(tick)),
            });
        }
        for process in exited.unwrap_or_default() {
            let Some((number, own)) = process.container.and_then(split) else { continue };
            let share = shares.entry(number).or_insert_with(empty);
            share.exited.get_or_insert_default().push(Exited { container: Some(own), ..*process });
        }
        for charge in charges {
            let Some(container) = charge.container else {
                self.totals.unattributed_ns += charge.ns;
                continue;
            };
            let Some((number, own)) = split(container) else { continue };
            let share = shares.entry(number).or_insert_with(empty);
            share.charges.push(Charge { container: Some(own), ..*charge });
        }
        for (number, _) in self.groups.iter() {
            shares.entry(number).or_insert_with(empty);
        }
        shares
    }

    /// Gives each pod its share; tells the runs that are over.
    fn advance(
        &mut self,
        node: &NodeConfig,
        now: Instant,
        mut shares: FxHashMap<GroupNumber, GroupPass>,
        sightings: &FxHashMap<GroupNumber, Vec<Sighting>>,
    ) -> Vec<(GroupNumber, JobRun, End)> {
        let context = Context {
            config: &self.config,
            node,
            pusher: self.pusher.as_ref(),
            spool: self.spool.as_ref(),
            hierarchies: &self.hierarchies,
            clock: self.clock,
            now: now.boot,
        };
        let mut ended = Vec::new();
        for (number, group) in self.groups.iter_mut() {
            let Some(share) = shares.remove(&number) else { continue };
            let seen = sightings.get(&number).map_or(&[][..], Vec::as_slice);
            ended.extend(group.advance(share, seen, &context).map(|(job, end)| (number, job, end)));
        }
        ended
    }

    /// Forgets pods of which nothing is left.
    pub(super) fn forget_pods(&mut self) {
        let over: Vec<_> =
            self.groups.iter().filter(|(_, group)| group.is_over()).map(|(number, _)| number).collect();
        for number in over {
            self.groups.remove(number);
        }
    }

    /// Waits until records of the eBPF program should be read before the next pass, and reads them.
    pub(super) async fn relieve(trace: Option<&mut Trace>) {
        match trace {
            Some(trace) => trace.relieve().await,
            None => std::future::pending().await,
        }
    }

    fn read_host(&mut self) -> (Option<f64>, Option<u64>) {
        let times = CpuTimes::read(&self.config.proc_path);
        let percent = match (&self.host_cpu, &times) {
            (Some(before), Some(now)) => now.busy_percent_since(before),
            _ => None,
        };
        self.host_cpu = times;
        (percent, MemInfo::read(&self.config.proc_path).map(|meminfo| meminfo.used_bytes()))
    }
}
