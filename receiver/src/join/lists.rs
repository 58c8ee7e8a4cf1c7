//! Joins the lists of processes and commands: those of a container come from the part that its figures are taken from.

use std::collections::BTreeMap;

use jiff::Timestamp;
use wire::{CommandUsage, ProcessCpu, ProcessMemory, StepUsage};

use super::containers::Chosen;
use super::{Part, descending};

/// The processes and commands that used the most.
#[derive(Debug)]
pub(super) struct Lists {
    pub(super) by_cpu: Vec<ProcessCpu>,
    pub(super) by_memory: Vec<ProcessMemory>,
    pub(super) commands: Vec<CommandUsage>,
}

pub(super) fn lists(parts: &[Part], base: usize, chosen: &[Chosen]) -> Lists {
    let names = names(parts, chosen);
    // What is in no container comes from the base part, like everything else outside the containers.
    let place = |part: usize, name: Option<&str>| match name {
        Some(name) => names.get(&(part, name)).map(|name| Some((*name).to_owned())),
        None => (part == base).then_some(None),
    };
    let mut by_cpu = taken(
        parts,
        |part| &part.payload.top_cpu_processes,
        |part, one| Some(ProcessCpu { container: place(part, one.container.as_deref())?, ..one.clone() }),
    );
    by_cpu.0.sort_by(|one, other| {
        descending(one.cpu_seconds, other.cpu_seconds)
            .then_with(|| other.peak_cpu_percent.total_cmp(&one.peak_cpu_percent))
            .then_with(|| (one.pid, &one.name).cmp(&(other.pid, &other.name)))
    });
    let mut by_memory = taken(
        parts,
        |part| &part.payload.top_mem_processes,
        |part, one| Some(ProcessMemory { container: place(part, one.container.as_deref())?, ..one.clone() }),
    );
    by_memory.0.sort_by(|one, other| {
        let peaks = other.peak_mem_bytes.cmp(&one.peak_mem_bytes);
        peaks.then_with(|| (one.pid, &one.name).cmp(&(other.pid, &other.name)))
    });
    let mut commands = taken(
        parts,
        |part| &part.payload.top_commands,
        |part, one| Some(CommandUsage { container: place(part, one.container.as_deref())?, ..one.clone() }),
    );
    let seconds = |one: &CommandUsage| one.cpu_seconds + one.unseen_children_cpu_seconds.unwrap_or(0.0);
    commands.0.sort_by(|one, other| {
        descending(Some(seconds(one)), Some(seconds(other)))
            .then_with(|| (&one.name, &one.container).cmp(&(&other.name, &other.container)))
    });
    Lists { by_cpu: first(by_cpu), by_memory: first(by_memory), commands: first(commands) }
}

/// The steps of the part that found the most, from the beginning of the joined run.
pub(super) fn steps(parts: &[Part], order: &[usize], start: Timestamp) -> Vec<StepUsage> {
    // Of equal ones the first, whose figures are the best.
    let best = order.iter().rev().max_by_key(|at| parts[**at].payload.steps.len());
    let Some(payload) = best.map(|at| &parts[*at].payload) else { return Vec::new() };
    let late = payload.start_time.duration_since(start).as_secs_f64().max(0.0);
    let later = |step: &StepUsage| StepUsage {
        begin_seconds: step.begin_seconds + late,
        end_seconds: step.end_seconds + late,
        ..step.clone()
    };
    payload.steps.iter().map(later).collect()
}

/// For each container whose figures are taken from a part, its name there and its name in the joined run.
fn names<'a>(parts: &'a [Part], chosen: &'a [Chosen]) -> BTreeMap<(usize, &'a str), &'a str> {
    let name = |chosen: &'a Chosen| ((chosen.part, &*chosen.container(parts).name), &*chosen.name);
    chosen.iter().map(name).collect()
}

/// The entries to keep from all parts, and the length of the longest list.
fn taken<T>(
    parts: &[Part],
    list: impl Fn(&Part) -> &Vec<T>,
    take: impl Fn(usize, &T) -> Option<T>,
) -> (Vec<T>, usize) {
    let all = parts.iter().enumerate().flat_map(|(at, part)| list(part).iter().map(move |one| (at, one)));
    let longest = parts.iter().map(|part| list(part).len()).max().unwrap_or(0);
    (all.filter_map(|(part, one)| take(part, one)).collect(), longest)
}

fn first<T>((mut list, longest): (Vec<T>, usize)) -> Vec<T> {
    list.truncate(longest);
    list
}
