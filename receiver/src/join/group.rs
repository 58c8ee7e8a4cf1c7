//! Decides which summaries belong to the same run.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use wire::Payload;

use super::Part;

/// Names that two collectors share if they watch the same containers: the UID of the pod or, without one, the ids of
/// the containers. Empty if no other collector can have reported the same containers: in a summary of `collector run`,
/// or of a collector that sees more than one pod.
pub fn places(payload: &Payload) -> BTreeSet<&str> {
    let mode = payload.collector.as_ref().map_or("", |collector| collector.mode.as_str());
    if mode != "sidecar" && mode != "node" {
        return BTreeSet::new();
    }
    let pods: BTreeSet<&str> =
        payload.containers.iter().filter_map(|container| container.pod_uid.as_deref()).collect();
    match pods.len() {
        0 => payload.containers.iter().filter_map(|container| container.id.as_deref()).collect(),
        1 => pods,
        _ => BTreeSet::new(),
    }
}

/// Groups the summaries of a job by run: those of a sidecar and of the node's collector belong together if they watched
/// the same pod at the same time and do not name different runs. The groups, and the indices in each, are in ascending
/// order.
pub fn groups(parts: &[Part]) -> Vec<Vec<usize>> {
    let seen: Vec<BTreeSet<&str>> = parts.iter().map(|part| places(&part.payload)).collect();
    let mut group: Vec<usize> = (0..parts.len()).collect();
    for sidecar in (0..parts.len()).filter(|at| parts[*at].mode() == "sidecar") {
        for node in matches(parts, &seen, sidecar) {
            let (from, to) = (group[node], group[sidecar]);
            group.iter_mut().filter(|other| **other == from).for_each(|other| *other = to);
        }
    }
    let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (at, group) in group.into_iter().enumerate() {
        groups.entry(group).or_default().push(at);
    }
    let (one, several): (Vec<_>, Vec<_>) =
        groups.into_values().partition(|group| is_one_run(group.iter().map(|at| &parts[*at])));
    let alone = several.into_iter().flatten().map(|at| vec![at]);
    let mut groups: Vec<Vec<usize>> = one.into_iter().chain(alone).collect();
    groups.sort();
    groups
}

/// What the node's collector reported about the containers that a sidecar watched.
fn matches(parts: &[Part], seen: &[BTreeSet<&str>], sidecar: usize) -> Vec<usize> {
    let part = &parts[sidecar];
    let nodes: Vec<usize> = (0..parts.len())
        .filter(|at| parts[*at].mode() == "node" && !seen[*at].is_disjoint(&seen[sidecar]))
        .filter(|at| overlap(&parts[*at], part).is_some() && name_the_same(&parts[*at], part))
        .collect();
    // A sidecar in the PID namespace of a machine sees what the node's collector reports as several jobs.
    if nodes.iter().any(|at| seen[*at] != seen[nodes[0]]) {
        return vec![];
    }
    // In a pod that runs one job after another, a sidecar that names no run belongs to the run that it saw most of.
    let mut shared: BTreeMap<(&str, Option<u32>), i128> = BTreeMap::new();
    for other in nodes.iter().map(|at| &parts[*at]).filter(|other| !other.is_unnamed()) {
        *shared.entry((&other.run_id, other.run_attempt)).or_default() += overlap(other, part).unwrap_or(0);
    }
    let most = shared.iter().rev().max_by_key(|(_, shared)| **shared).map(|(named, _)| *named);
    let is_it = |other: &Part| other.is_unnamed() || most == Some((&*other.run_id, other.run_attempt));
    nodes.into_iter().filter(|at| is_it(&parts[*at])).collect()
}

/// Nanoseconds for which both watched; `None` if one began after the other had ended.
fn overlap(one: &Part, other: &Part) -> Option<i128> {
    let began = one.payload.start_time.max(other.payload.start_time);
    let ended = one.payload.end_time.min(other.payload.end_time);
    let nanoseconds = |time: Timestamp| time.as_nanosecond();
    (began <= ended).then(|| nanoseconds(ended) - nanoseconds(began))
}

fn name_the_same(one: &Part, other: &Part) -> bool {
    let named = one.run_id == other.run_id || one.is_unnamed() || other.is_unnamed();
    let variants = one.variant().zip(other.variant());
    named
        && one.run_attempt.zip(other.run_attempt).is_none_or(|(one, other)| one == other)
        && variants.is_none_or(|(one, other)| one == other)
}

fn is_one_run<'a>(parts: impl Iterator<Item = &'a Part> + Clone) -> bool {
    let names = parts.clone().filter(|part| !part.is_unnamed()).map(|part| &part.run_id);
    let attempts = parts.clone().filter_map(|part| part.run_attempt);
    let variants = parts.filter_map(Part::variant);
    names.collect::<BTreeSet<_>>().len() <= 1
        && attempts.collect::<BTreeSet<_>>().len() <= 1
        && variants.collect::<BTreeSet<_>>().len() <= 1
}
