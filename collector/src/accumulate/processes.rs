//! Processes over the run: the live ones, the heaviest of those that ended, and all of them by command name.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use super::{Exited, Present};
use crate::attribute::ContainerIndex;
use crate::attribute::cpu::{Charge, Source};
use crate::config::MAX_TOP;
use crate::sample::pid_stat::Comm;
use crate::sample::process_table::ProcessKey;

/// At most this many command names are distinguished. The rest share one entry in each container.
const MAX_COMMANDS: usize = 4096;
/// The name of that entry.
const OTHER: &[u8] = b"(other)";
/// The name for processes that no pass saw and whose parents ended before them.
const ORPHANS: &[u8] = b"(orphans)";

/// One process over its life, as far as it was seen.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct ProcessRun {
    /// Which process.
    pub key: ProcessKey,
    /// The last command name seen.
    pub comm: Comm,
    /// The last container seen.
    pub container: Option<ContainerIndex>,
    /// The last container inside that container.
    pub nested: Option<u32>,
    /// Own CPU time since measuring began.
    pub cpu_ns: u64,
    /// CPU time of its children that no pass saw.
    pub children_ns: u64,
    /// Highest own CPU use in one interval, in cores.
    pub peak_cores: f64,
    /// For how long it was seen.
    pub seen_seconds: f64,
    /// Highest resident set size.
    pub peak_rss_bytes: u64,
    /// Bytes that it caused to be read from disks, and written, if its final record has come.
    pub disk_bytes: [u64; 2],
    interval_ns: u64,
    pass: u64,
    /// Whether a record of its end has come.
    has_ended: bool,
    /// Whether its final record has come.
    ended: bool,
}

/// All processes of one name in one container.
#[derive(Debug, Default, Clone, Copy, Serialize, Deserialize)]
pub struct CommandRun {
    /// The number of processes.
    pub processes: u64,
    /// Their own CPU time.
    pub cpu_ns: u64,
    /// CPU time of their children that no pass saw.
    pub children_ns: u64,
    /// Highest resident set size of one of them.
    pub peak_rss_bytes: u64,
    /// The most of them that were seen at the same time.
    pub at_once: u64,
    /// Bytes that they caused to be read from disks, and written, as far as their final records have come.
    pub disk_bytes: [u64; 2],
}

/// A command name in a container.
pub type CommandKey = (Option<ContainerIndex>, Comm);

/// All processes of the run.
#[derive(Debug, Serialize, Deserialize)]
pub struct Processes {
    top: usize,
    pass: u64,
    live: FxHashMap<ProcessKey, ProcessRun>,
    ended: EndedProcesses,
    /// The most processes of each command at the same time. A process that is about to execute another program has its
    /// parent's name, so some of these commands never have a process of their own.
    at_once: HashMap<CommandKey, u64>,
}

/// The data kept of ended processes.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
struct EndedProcesses {
    by_cpu: Vec<ProcessRun>,
    by_memory: Vec<ProcessRun>,
    commands: HashMap<CommandKey, CommandRun>,
    nested: HashMap<(ContainerIndex, u32), u64>,
}

/// The processes of a summary.
#[derive(Debug)]
pub struct ProcessReport {
    /// By CPU time, highest first.
    pub by_cpu: Vec<ProcessRun>,
    /// By peak RSS, highest first.
    pub by_memory: Vec<ProcessRun>,
    /// Every command, by CPU time including its unseen children, highest first.
    pub commands: Vec<(CommandKey, CommandRun)>,
    /// The number of processes in each nested container.
    pub nested: HashMap<(ContainerIndex, u32), u64>,
}

impl Processes {
    /// Keeps the `top` processes of each kind.
    pub fn new(top: usize) -> Self {
        Self {
            top,
            pass: 0,
            live: FxHashMap::default(),
            ended: EndedProcesses::default(),
            at_once: HashMap::new(),
        }
    }

    /// Adds a process that is present in this pass.
    pub(super) fn see(&mut self, process: &Present, elapsed: f64) {
        let run = self.live.entry(process.key).or_insert_with(|| ProcessRun::new(process.key, process.comm));
        run.comm = process.comm;
        run.container = process.container.or(run.container);
        run.nested = process.nested;
        run.peak_rss_bytes = run.peak_rss_bytes.max(process.rss_bytes);
        run.seen_seconds += elapsed.min(process.age_seconds);
        run.pass = self.pass;
    }

    /// Counts the processes of each command that are present at the same time.
    pub(super) fn count_at_once(&mut self, present: &[Present]) {
        let mut counts: FxHashMap<CommandKey, u64> = FxHashMap::default();
        for process in present {
            *counts.entry((process.container, process.comm)).or_default() += 1;
        }
        for (command, count) in counts {
            self.were_at_once(command, count);
        }
    }

    fn were_at_once(&mut self, command: CommandKey, count: u64) {
        let is_full = self.at_once.len() >= MAX_COMMANDS;
        match self.at_once.entry(command) {
            Entry::Occupied(mut most) => *most.get_mut() = count.max(*most.get()),
            Entry::Vacant(most) if !is_full => drop(most.insert(count)),
            Entry::Vacant(_) => {}
        }
    }

    /// Adds processes that ended, whether a pass saw them or not.
    pub(super) fn end_all(&mut self, exited: &[Exited]) {
        let mut lives: FxHashMap<CommandKey, Vec<(u64, i64)>> = FxHashMap::default();
        for process in exited {
            let command = (process.container, process.comm);
            if self.end(process) && process.from_ns < process.until_ns {
                lives.entry(command).or_default().extend([(process.from_ns, 1), (process.until_ns, -1)]);
            }
        }
        for (command, mut changes) in lives {
            // An end at the same moment as a start comes first: the two were not at once.
            changes.sort_unstable();
            let (mut now, mut most) = (0, 0);
            for (_, change) in changes {
                now += change;
                most = now.max(most);
            }
            self.were_at_once(command, most.unsigned_abs());
        }
    }

    /// Adds a process that ended. Returns whether this is its first record.
    fn end(&mut self, process: &Exited) -> bool {
        let run = self.live.entry(process.key).or_insert_with(|| ProcessRun {
            nested: process.nested,
            ..ProcessRun::new(process.key, process.comm)
        });
        run.comm = process.comm;
        run.container = process.container.or(run.container);
        run.peak_rss_bytes = run.peak_rss_bytes.max(process.peak_rss_bytes);
        run.seen_seconds = run.seen_seconds.max(process.lived_seconds);
        run.disk_bytes = [process.disk_read_bytes, process.disk_written_bytes];
        run.ended = process.last;
        if !process.last {
            run.pass = self.pass;
        }
        !std::mem::replace(&mut run.has_ended, true)
    }

    /// Charges CPU time to a process and returns its nested container.
    pub(super) fn charge(&mut self, charge: &Charge) -> Option<u32> {
        let ns = charge.ns;
        let Some(run) = self.live.get_mut(&charge.process) else {
            // This is the collector itself, in run mode: it reaps the orphans of its command.
            let key = (charge.container, Comm::new(ORPHANS));
            self.ended.commands.entry(key).or_default().children_ns += ns;
            return None;
        };
        if charge.source == Source::Reaped && charge.container != run.container && charge.container.is_some()
        {
            // A sandbox adopts the orphans of other containers, which are not its own.
            let key = (charge.container, Comm::new(ORPHANS));
            self.ended.commands.entry(key).or_default().children_ns += ns;
            return None;
        }
        if charge.source == Source::Reaped {
            run.children_ns += ns;
        } else {
            run.cpu_ns += ns;
            run.interval_ns += ns;
        }
        run.nested
    }

    /// Moves everything of one container to another.
    pub(super) fn relabel(&mut self, from: ContainerIndex, to: ContainerIndex) {
        let EndedProcesses { by_cpu, by_memory, commands, .. } = &mut self.ended;
        for run in self.live.values_mut().chain(by_cpu).chain(by_memory) {
            run.container = run.container.map(|container| if container == from { to } else { container });
        }
        let of_it: Vec<CommandKey> =
            commands.keys().filter(|(container, _)| *container == Some(from)).copied().collect();
        for key in of_it {
            let Some(run) = commands.remove(&key) else { continue };
            let command = commands.entry((Some(to), key.1)).or_default();
            command.processes += run.processes;
            command.cpu_ns += run.cpu_ns;
            command.children_ns += run.children_ns;
            command.peak_rss_bytes = command.peak_rss_bytes.max(run.peak_rss_bytes);
            add_disk(command, run.disk_bytes);
        }
        let of_it: Vec<CommandKey> =
            self.at_once.keys().filter(|(container, _)| *container == Some(from)).copied().collect();
        for key in of_it {
            let count = self.at_once.remove(&key).unwrap_or_default();
            self.were_at_once((Some(to), key.1), count);
        }
        let nested = &mut self.ended.nested;
        let of_it: Vec<u32> =
            nested.keys().filter(|(container, _)| *container == from).map(|(_, inner)| *inner).collect();
        for inner in of_it {
            let count = nested.remove(&(from, inner)).unwrap_or_default();
            *nested.entry((to, inner)).or_default() += count;
        }
    }

    /// Closes the pass: a process that was not present has ended. Its exit record may come up to `patience` passes later.
    pub(super) fn end_pass(&mut self, elapsed: f64, interval: f64, patience: u64) {
        let (pass, top, ended) = (self.pass, self.top, &mut self.ended);
        self.live.retain(|_, run| {
            let used = super::seconds(run.interval_ns);
            run.peak_cores = run.peak_cores.max(super::distribution::rate(used, elapsed, interval));
            run.interval_ns = 0;
            let patience = if run.ended { 0 } else { patience };
            let gone = run.pass.saturating_add(patience) < pass;
            if gone {
                ended.add(run, top);
            }
            !gone
        });
        self.pass += 1;
    }

    /// Whether the data of a checkpoint is possible: every container is one of `containers`, and every nested one is among
    /// `nested`.
    pub(super) fn is_sound(&self, containers: u32, nested: u32) -> bool {
        let place = |container: Option<ContainerIndex>, inner: Option<u32>| {
            container.is_none_or(|index| index.0 < containers) && inner.is_none_or(|inner| inner < nested)
        };
        let EndedProcesses { by_cpu, by_memory, commands, nested: counts } = &self.ended;
        self.top <= MAX_TOP
            && commands.len() <= MAX_COMMANDS + containers as usize + 2
            && self
                .live
                .values()
                .chain(by_cpu)
                .chain(by_memory)
                .all(|run| place(run.container, run.nested) && run.pass <= self.pass)
            && super::adds_up(commands.values().flat_map(|run| [run.processes, run.cpu_ns, run.children_ns]))
            && super::adds_up(self.live.values().flat_map(|run| [run.cpu_ns, run.children_ns]))
            && super::adds_up(counts.values().copied())
            && commands.keys().all(|(container, _)| place(*container, None))
            && self.at_once.len() <= MAX_COMMANDS
            && self.at_once.keys().all(|(container, _)| place(*container, None))
            && counts.keys().all(|(container, inner)| place(Some(*container), Some(*inner)))
    }

    /// The heaviest processes and all commands, living and ended.
    pub fn report(&self) -> ProcessReport {
        let mut all = self.ended.clone();
        for run in self.live.values() {
            all.add(run, self.top);
        }
        all.trim(self.top);
        for (key, command) in &mut all.commands {
            command.at_once = self.at_once.get(key).copied().unwrap_or_default().min(command.processes);
        }
        let mut commands: Vec<_> = all.commands.into_iter().collect();
        commands.sort_unstable_by_key(|(key, run)| (std::cmp::Reverse(run.cpu_ns + run.children_ns), *key));
        ProcessReport { by_cpu: all.by_cpu, by_memory: all.by_memory, commands, nested: all.nested }
    }
}

impl ProcessRun {
    fn new(key: ProcessKey, comm: Comm) -> Self {
        Self {
            key,
            comm,
            container: None,
            nested: None,
            cpu_ns: 0,
            children_ns: 0,
            peak_cores: 0.0,
            seen_seconds: 0.0,
            peak_rss_bytes: 0,
            disk_bytes: [0; 2],
            interval_ns: 0,
            pass: 0,
            has_ended: false,
            ended: false,
        }
    }
}

fn add_disk(command: &mut CommandRun, disk_bytes: [u64; 2]) {
    let sum = command.disk_bytes.iter_mut().zip(disk_bytes);
    sum.for_each(|(sum, bytes)| *sum = sum.saturating_add(bytes));
}

impl EndedProcesses {
    fn add(&mut self, run: &ProcessRun, top: usize) {
        let mut key = (run.container, run.comm);
        if self.commands.len() >= MAX_COMMANDS && !self.commands.contains_key(&key) {
            key = (run.container, Comm::new(OTHER));
        }
        let command = self.commands.entry(key).or_default();
        command.processes += 1;
        command.cpu_ns += run.cpu_ns;
        command.children_ns += run.children_ns;
        command.peak_rss_bytes = command.peak_rss_bytes.max(run.peak_rss_bytes);
        add_disk(command, run.disk_bytes);
        if let (Some(container), Some(nested)) = (run.container, run.nested) {
            *self.nested.entry((container, nested)).or_default() += 1;
        }
        if run.cpu_ns > 0 {
            self.by_cpu.push(*run);
        }
        if run.peak_rss_bytes > 0 {
            self.by_memory.push(*run);
        }
        if self.by_cpu.len().max(self.by_memory.len()) > 4 * top + 64 {
            self.trim(top);
        }
    }

    fn trim(&mut self, top: usize) {
        self.by_cpu.sort_unstable_by_key(|run| (std::cmp::Reverse(run.cpu_ns), run.key));
        self.by_cpu.truncate(top);
        self.by_memory.sort_unstable_by_key(|run| (std::cmp::Reverse(run.peak_rss_bytes), run.key));
        self.by_memory.truncate(top);
    }
}
