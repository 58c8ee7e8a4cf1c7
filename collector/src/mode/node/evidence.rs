//! The processes of each pod that runs a job, with the jobs and steps that they name.

use rustc_hash::FxHashMap;

use super::job_env::{JobEnvironments, Told};
use super::membership::Member;
use super::pods::{PodNumber, Pods, split};
use crate::accumulate::steps::StepNames;
use crate::attribute::containers::Place;
use crate::engine::reading::Reading;
use crate::sample::process_table::{ProcessKey, ProcessTable};

/// Returns the members of each pod that has a job, or in which a process names one, and the steps that processes name.
pub(super) fn members(
    reading: &Reading,
    pods: &Pods,
    environments: &mut JobEnvironments,
    table: &ProcessTable,
) -> (FxHashMap<PodNumber, Vec<Member>>, StepNames) {
    let mut members: FxHashMap<PodNumber, Vec<Member>> = FxHashMap::default();
    let mut add = |place: Place, key: ProcessKey, parent_pid, is_zombie, run| {
        if let Some((number, container)) = split(place.container) {
            let member = Member { key, parent_pid, is_zombie, container, nested: place.nested, run };
            members.entry(number).or_default().push(member);
        }
    };
    for (process, place) in reading.located() {
        let Some(place) = place.filter(|place| split(place.container).is_some()) else { continue };
        add(place, process.key, process.ppid, process.zombie, environments.run_of(process, table));
    }
    for (key, Told { parent_pid, place, run }) in environments.over() {
        add(place, key, parent_pid, false, Some(run));
    }
    let steps = environments.end_pass();
    members.retain(|number, members| {
        pods.get(*number).is_some_and(|pod| !pod.jobs.is_empty())
            || members.iter().any(|one| one.run.is_some())
    });
    (members, steps)
}
