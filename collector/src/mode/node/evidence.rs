//! The jobs that the processes of a node name.

use std::rc::Rc;

use rustc_hash::FxHashMap;

use super::job_env::{JobEnvironments, Told};
use super::pods::{PodNumber, Pods, split};
use crate::attribute::ci_job::JobEvidence;
use crate::attribute::containers::Place;
use crate::engine::reading::Reading;
use crate::run_identity::RunIdentity;
use crate::sample::process_table::ProcessTable;

/// How many ancestors of a process are searched for the current job of its pod.
const MAX_ANCESTORS: usize = 256;

/// The evidence of a pass, by pod.
pub(super) fn job_evidence(
    reading: &Reading,
    pods: &Pods,
    environments: &mut JobEnvironments,
    table: &ProcessTable,
) -> FxHashMap<PodNumber, Vec<JobEvidence>> {
    let mut evidence: FxHashMap<PodNumber, Vec<JobEvidence>> = FxHashMap::default();
    // Processes of another job than their pod's current one.
    let mut foreign = Vec::new();
    let mut runs: FxHashMap<u32, (Option<Rc<RunIdentity>>, u32)> = FxHashMap::default();
    let mut add = |run: Rc<RunIdentity>, place: Place, start_ticks: u64, ppid: u32| {
        let Some((number, container)) = split(place.container) else { return };
        let current = pods.get(number).and_then(|pod| pod.job.as_ref()).map(|job| &job.run);
        let of_pod = evidence.entry(number).or_default();
        if let Some(current) = current.filter(|current| **current != run) {
            foreign.push((number, of_pod.len(), ppid, Rc::clone(current)));
        }
        let container = place.nested.is_none().then_some(container);
        of_pod.push(JobEvidence { run, start_ticks, within: false, container });
    };
    for (process, place) in reading.located() {
        let Some(place) = place.filter(|place| split(place.container).is_some()) else { continue };
        let run = environments.run_of(process, table);
        runs.insert(process.key.pid, (run.clone(), process.ppid));
        if let Some(run) = run {
            add(run, place, process.key.start_ticks, process.ppid);
        }
    }
    for (key, Told { parent_pid, place, run }) in environments.over() {
        add(run, place, key.start_ticks, parent_pid);
    }
    for (number, at, ppid, current) in foreign {
        let mut above = ppid;
        for _ in 0..MAX_ANCESTORS {
            let Some((run, ppid)) = runs.get(&above) else { break };
            if run.as_ref() == Some(&current) {
                if let Some(one) = evidence.get_mut(&number).and_then(|of_pod| of_pod.get_mut(at)) {
                    one.within = true;
                }
                break;
            }
            above = *ppid;
        }
    }
    environments.end_pass();
    evidence
}
