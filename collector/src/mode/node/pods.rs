//! The pods of a node and the containers in no pod: finds the place of each process.
//!
//! Each pod has its own containers, so that nothing of a pod outlives it. The sampler sees all pods at once: its container
//! numbers combine the pod's number and the container's own.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rustc_hash::FxHashMap;
use tracing::debug;

use super::pod::{Pod, PodKey};
use crate::accumulate::{Exited, Present};
use crate::attribute::ContainerIndex;
use crate::attribute::containers::{Containers, MAX_CONTAINERS, Place};
use crate::attribute::cpu::Charge;
use crate::attribute::identity::{ContainerIdentity, Identity, identify};
use crate::config::process_map::ProcessMap;
use crate::deliver::recover::Recovered;
use crate::engine::locator::{Content, Event, Locator};
use crate::engine::pass::{Cost, Pass};
use crate::engine::reading::Reading;
use crate::sample::bpf::CgroupIds;
use crate::sample::cgroup::CgroupLines;
use crate::sample::pod_logs::PodLogs;
use crate::sample::process_table::{CgroupId, Observation, ProcessKey, ProcessTable};

/// The bits of a container's own number.
const OWN_BITS: u32 = 10;
const _: () = assert!(MAX_CONTAINERS + 1 < 1 << OWN_BITS);
/// Numbers are assigned in turn; a pod that is over returns its number.
const NUMBERS: u32 = 1 << (32 - OWN_BITS);
/// At most this many pods are followed; a node runs some hundred.
const MAX_PODS: usize = 10_000;
/// How many cgroups are remembered; the others are looked up again.
const MAX_CACHED_CGROUPS: usize = 65_536;
/// Everything in no pod and no container, kernel threads included.
const HOST: Place = Place { container: ContainerIndex(0), nested: None };

/// The number of a pod; never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct PodNumber(u32);

/// Returns the pod and the container's own index; `None` if the container is in no pod.
pub(super) fn split(container: ContainerIndex) -> Option<(PodNumber, ContainerIndex)> {
    let pod = container.0 >> OWN_BITS;
    (pod != 0).then_some((PodNumber(pod), ContainerIndex(container.0 & ((1 << OWN_BITS) - 1))))
}

fn join(pod: PodNumber, place: Place) -> Place {
    Place { container: ContainerIndex(pod.0 << OWN_BITS | place.container.0), ..place }
}

/// Returns the place within this pod, if it is in this pod.
fn within(pod: PodNumber, place: Place) -> Option<Place> {
    let (found, container) = split(place.container)?;
    (found == pod).then_some(Place { container, ..place })
}

/// The inputs for new pods.
#[derive(Debug)]
struct Discovery {
    process_map: ProcessMap,
    logs: PodLogs,
    /// Whether the pods that are found existed when measuring began.
    at_the_beginning: bool,
    /// Runs to continue.
    recovered: HashMap<PodKey, Vec<Recovered>>,
}

impl Discovery {
    fn pod(&mut self, key: &PodKey) -> Pod {
        let name = match key {
            PodKey::Pod(uid) => self.logs.pod(uid),
            PodKey::Container(_) => None,
        };
        let mut containers = Containers::new(self.process_map.clone(), false);
        let mut recovered = self.recovered.remove(key).unwrap_or_default();
        // Containers are only ever added: the longest list has those of every run.
        let longest =
            recovered.iter().map(|one| &one.checkpoint.head.containers).max_by_key(|list| list.count());
        // A checkpoint was checked when it was read.
        if !longest.is_some_and(|longest| containers.restore(longest.clone())) {
            recovered.clear();
        }
        Pod::new(key.clone(), containers, name, self.at_the_beginning, recovered)
    }
}

/// All pods.
#[derive(Debug)]
pub(super) struct Pods {
    discovery: Discovery,
    by_key: HashMap<PodKey, PodNumber>,
    list: BTreeMap<PodNumber, Pod>,
    last: u32,
    by_cgroup: FxHashMap<CgroupId, Option<PodNumber>>,
    /// The same for cgroups that the eBPF program reported.
    by_ids: FxHashMap<CgroupIds, Option<PodNumber>>,
}

impl Pods {
    /// Starts without pods. `recovered` are runs to continue if their pods still exist.
    pub(super) fn new(
        process_map: ProcessMap,
        logs: PodLogs,
        recovered: HashMap<PodKey, Vec<Recovered>>,
    ) -> Self {
        Self {
            discovery: Discovery { process_map, logs, at_the_beginning: true, recovered },
            by_key: HashMap::new(),
            list: BTreeMap::new(),
            last: 0,
            by_cgroup: FxHashMap::default(),
            by_ids: FxHashMap::default(),
        }
    }

    /// The first pass is over: pods that are found from now on are new. Returns the runs whose pods were not found.
    pub(super) fn end_beginning(&mut self) -> Vec<Recovered> {
        self.discovery.at_the_beginning = false;
        std::mem::take(&mut self.discovery.recovered).into_values().flatten().collect()
    }

    pub(super) fn get(&self, number: PodNumber) -> Option<&Pod> {
        self.list.get(&number)
    }

    pub(super) fn get_mut(&mut self, number: PodNumber) -> Option<&mut Pod> {
        self.list.get_mut(&number)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (PodNumber, &Pod)> {
        self.list.iter().map(|(number, pod)| (*number, pod))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (PodNumber, &mut Pod)> {
        self.list.iter_mut().map(|(number, pod)| (*number, pod))
    }

    /// Forgets a pod that is over.
    fn remove(&mut self, number: PodNumber) {
        if let Some(pod) = self.list.remove(&number) {
            self.by_key.remove(&pod.key);
        }
        self.by_cgroup.retain(|_, pod| *pod != Some(number));
        self.by_ids.retain(|_, pod| *pod != Some(number));
    }

    /// Forgets the pods that are over.
    pub(super) fn remove_ended(&mut self) {
        let over: Vec<_> = self.iter().filter(|(_, pod)| pod.is_over()).map(|(number, _)| number).collect();
        for number in over {
            self.remove(number);
        }
    }

    /// Returns the place of each process, in the same order; `None` if it is unknown.
    ///
    /// `content` returns the content of `/proc/[pid]/cgroup` for a cgroup.
    fn places<'a>(
        &mut self,
        observations: &[Observation],
        content: impl Fn(CgroupId) -> &'a [u8],
    ) -> Vec<Option<Place>> {
        if self.by_cgroup.len() > MAX_CACHED_CGROUPS {
            self.by_cgroup.clear();
        }
        let mut by_pid: FxHashMap<u32, Option<PodNumber>> = FxHashMap::default();
        by_pid.reserve(observations.len());
        let mut places = vec![None; observations.len()];
        let mut of_pod: BTreeMap<PodNumber, Vec<usize>> = BTreeMap::new();
        for (at, process) in observations.iter().enumerate() {
            let parent = by_pid.get(&process.ppid).copied();
            let pod = match process.cgroup {
                _ if process.kernel_thread => Some(None),
                Some(cgroup) => Some(if let Some(pod) = self.by_cgroup.get(&cgroup) {
                    *pod
                } else {
                    let pod = self.pod_of(content(cgroup), parent.flatten());
                    self.by_cgroup.insert(cgroup, pod);
                    pod
                }),
                // It ended before its cgroup could be read. Children start in the cgroups of their parents.
                None => parent,
            };
            let Some(pod) = pod else { continue };
            by_pid.insert(process.key.pid, pod);
            match pod {
                Some(pod) => of_pod.entry(pod).or_default().push(at),
                None => places[at] = Some(HOST),
            }
        }
        let mut of_one = Vec::new();
        for (number, members) in of_pod {
            let Some(pod) = self.list.get_mut(&number) else { continue };
            of_one.clear();
            of_one.extend(members.iter().map(|at| observations[*at]));
            let found = pod.containers.places(&of_one, &content);
            for (at, place) in members.into_iter().zip(found) {
                places[at] = place.map(|place| join(number, place));
            }
        }
        places
    }

    /// The pod of a process with these cgroups, whose parent is in the pod `parent`; `None` if it is in no pod.
    fn pod_of(&mut self, content: &[u8], parent: Option<PodNumber>) -> Option<PodNumber> {
        let key = match identify(&CgroupLines::parse(content)) {
            Identity::Pod { uid } | Identity::Container(ContainerIdentity { pod_uid: Some(uid), .. }) => {
                PodKey::Pod(uid)
            }
            Identity::Container(found) => PodKey::Container(found.container_id),
            Identity::Own | Identity::Host { .. } => return None,
        };
        if let Some(number) = self.by_key.get(&key) {
            return Some(*number);
        }
        // An engine in a pod or container can start containers outside of it; their parents are still in it.
        if matches!(key, PodKey::Container(_)) && parent.is_some() {
            return parent;
        }
        self.add(key)
    }

    fn add(&mut self, key: PodKey) -> Option<PodNumber> {
        if self.list.len() >= MAX_PODS {
            debug!(key = key.id(), "there are too many pods to tell apart; this one is not followed");
            return None;
        }
        let number = loop {
            self.last = (self.last + 1) % NUMBERS;
            let number = PodNumber(self.last);
            if number.0 != 0 && !self.list.contains_key(&number) {
                break number;
            }
        };
        let pod = self.discovery.pod(&key);
        self.by_key.insert(key, number);
        self.list.insert(number, pod);
        Some(number)
    }

    /// Names containers by their pods' logs if nothing else names them, including containers that only the eBPF program
    /// saw.
    fn name_by_logs(&mut self) {
        let nameless: Vec<_> = self
            .list
            .iter_mut()
            .filter(|(_, pod)| matches!(pod.key, PodKey::Pod(_)))
            .map(|(number, pod)| (*number, pod.containers.nameless()))
            .filter(|(_, nameless)| !nameless.is_empty())
            .collect();
        if nameless.is_empty() {
            return;
        }
        let links = self.discovery.logs.links();
        for (number, nameless) in nameless {
            let Some(pod) = self.list.get_mut(&number) else { continue };
            let mut left = false;
            for (index, id) in nameless {
                match links.container(&id) {
                    Some(linked) => pod.containers.name(index, linked),
                    None => left = true,
                }
            }
            if left {
                pod.containers.name_what_is_left(&self.discovery.logs.of_pod(pod.key.id()));
            }
        }
    }

    /// Splits a pass by pod. Also returns the CPU time whose container is unknown, in nanoseconds.
    pub(super) fn share_out(&self, pass: Pass) -> (BTreeMap<PodNumber, Pass>, u64) {
        let mut unattributed_ns = 0;
        let followed = self.list.values().filter(|pod| !pod.jobs.is_empty()).count();
        let collector_cpu = pass.cost.collector_cpu / u32::try_from(followed.max(1)).unwrap_or(u32::MAX);
        let cost = Cost { collector_cpu, ..pass.cost };
        let mut shares: BTreeMap<PodNumber, Pass> =
            self.list.keys().map(|number| (*number, pass.without_processes(cost))).collect();
        for process in pass.present {
            let Some((number, own)) = process.container.and_then(split) else { continue };
            let Some(share) = shares.get_mut(&number) else { continue };
            share.present.push(Present { container: Some(own), ..process });
        }
        for process in pass.exited.into_iter().flatten() {
            let Some((number, own)) = process.container.and_then(split) else { continue };
            let Some(share) = shares.get_mut(&number) else { continue };
            share.exited.get_or_insert_default().push(Exited { container: Some(own), ..process });
        }
        for charge in pass.charges {
            let Some(container) = charge.container else {
                unattributed_ns += charge.ns;
                continue;
            };
            let Some((number, own)) = split(container) else { continue };
            let Some(share) = shares.get_mut(&number) else { continue };
            share.charges.push(Charge { container: Some(own), ..charge });
        }
        (shares, unattributed_ns)
    }
}

impl Locator for Pods {
    fn locate(&mut self, processes: &mut Vec<Observation>, table: &ProcessTable) -> Vec<Option<Place>> {
        self.places(processes, |cgroup| table.cgroup_content(cgroup))
    }

    fn learn(&mut self, reading: &Reading, seen_before: impl Fn(ProcessKey) -> bool, table: &ProcessTable) {
        let mut living: FxHashMap<PodNumber, BTreeSet<ContainerIndex>> = FxHashMap::default();
        for (process, place) in reading.located() {
            let Some(place) = place.filter(|_| !process.zombie) else { continue };
            let Some((number, own)) = split(place.container) else { continue };
            let Some(pod) = self.list.get_mut(&number) else { continue };
            living.entry(number).or_default().insert(own);
            let place = Place { container: own, ..place };
            pod.containers.learn_from(process, place, seen_before(process.key), |key| {
                table.read_file(key, "mountinfo").unwrap_or_default()
            });
        }
        self.name_by_logs();
        for (number, pod) in &mut self.list {
            pod.containers.unite(living.get(number).unwrap_or(&BTreeSet::new()));
        }
    }

    fn locate_event(&mut self, event: Event, content: Content<'_>) -> Option<Place> {
        let Event { cgroups, comm, parent } = event;
        let mut read = None;
        let pod = if let Some(pod) = self.by_ids.get(&cgroups) {
            *pod
        } else {
            let found = content(cgroups)?;
            let of_parent = parent.and_then(|parent| split(parent.container)).map(|(pod, _)| pod);
            let pod = self.pod_of(&found, of_parent);
            if self.by_ids.len() > MAX_CACHED_CGROUPS {
                self.by_ids.clear();
            }
            self.by_ids.insert(cgroups, pod);
            read = Some(found);
            pod
        };
        let Some(number) = pod else { return Some(HOST) };
        let parent = parent.and_then(|parent| within(number, parent));
        let pod = self.list.get_mut(&number)?;
        let place = pod.containers.place_of(cgroups, comm, parent, |ids| read.or_else(|| content(ids)));
        place.map(|place| join(number, place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::pid_stat::Comm;

    const POD: &str = "/kubepods/burstable/pode50f2933-b36b-4e3b-89b1-280707f7bc53";

    fn pods() -> Pods {
        Pods::new(ProcessMap::default(), PodLogs::at("/nowhere/pods".as_ref()), HashMap::new())
    }

    /// The place of a process that the eBPF program reported.
    fn place(pods: &mut Pods, id: u64, path: &str, parent: Option<Place>) -> Option<Place> {
        let content = format!("0::{path}\n").into_bytes();
        let ids = CgroupIds { unified: id, v1: 0 };
        let event = Event { cgroups: ids, comm: Comm::new(b"x"), parent };
        pods.locate_event(event, &mut |_| Some(content.clone()))
    }

    fn observed(pid: u32, ppid: u32, cgroup: Option<CgroupId>) -> Observation {
        Observation {
            key: ProcessKey { pid, start_ticks: 1 },
            ppid,
            comm: Comm::new(b"x"),
            zombie: false,
            kernel_thread: false,
            own_ticks: 0,
            final_ns: None,
            reaped_ticks: 0,
            rss_pages: 0,
            minor_faults: 0,
            stack_start: 0,
            cgroup,
        }
    }

    #[test]
    fn containers_of_a_pod_are_together_and_others_alone() {
        let mut pods = pods();
        let [a, b, c] = ["a", "b", "c"].map(|digit| digit.repeat(64));
        let first = place(&mut pods, 1, &format!("{POD}/{a}"), None).unwrap();
        let second = place(&mut pods, 2, &format!("{POD}/{b}"), None).unwrap();
        let docker = place(&mut pods, 3, &format!("/docker/{c}"), None).unwrap();
        let (one, two) = (split(first.container).unwrap(), split(second.container).unwrap());
        assert_eq!((one.0, one.1, two.1), (two.0, ContainerIndex(0), ContainerIndex(1)));
        assert_ne!(split(docker.container).unwrap().0, one.0);
        assert_eq!(place(&mut pods, 4, "/system.slice/ssh.service", None), Some(HOST));
        assert_eq!(pods.iter().count(), 2);
    }

    #[test]
    fn what_an_engine_in_a_pod_starts_outside_is_in_the_pod() {
        let mut pods = pods();
        let [a, b] = ["a", "b"].map(|digit| digit.repeat(64));
        let pod = place(&mut pods, 1, &format!("{POD}/{a}"), None).unwrap();
        let out = place(&mut pods, 2, &format!("/docker/{b}"), Some(pod)).unwrap();
        assert_eq!(split(out.container), split(pod.container));
        assert!(out.nested.is_some());
        let again = place(&mut pods, 2, &format!("/docker/{b}"), None).unwrap();
        assert_eq!(again, out, "its cgroup is known by now");
    }

    #[test]
    fn a_number_is_not_given_out_again_while_its_pod_lives() {
        let mut pods = pods();
        let id = |index: u32| format!("/docker/{index:064x}");
        let first = place(&mut pods, 1, &id(1), None).unwrap();
        let (number, _) = split(first.container).unwrap();
        pods.last = NUMBERS - 2;
        let numbers: Vec<_> = (2..6)
            .map(|index| {
                split(place(&mut pods, index.into(), &id(index), None).unwrap().container).unwrap().0
            })
            .collect();
        assert_eq!(numbers, [NUMBERS - 1, 2, 3, 4].map(PodNumber), "1 is taken, and there is no 0");
        pods.remove(number);
        assert_eq!(pods.iter().count(), 4);
        let again = place(&mut pods, 1, &id(1), None).unwrap();
        assert_ne!(split(again.container).unwrap().0, number);
    }

    #[test]
    fn who_ended_before_it_could_be_read_is_where_its_parent_is() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("7")).unwrap();
        let id = "a".repeat(64);
        let put = |name: &str, content: &str| std::fs::write(directory.path().join(name), content).unwrap();
        put("7/stat", "7 (x) S 1 7 7 0 -1 0 0 0 0 0 1 0 0 0 20 0 1 0 5 0 1\n");
        put("7/cgroup", &format!("0::{POD}/{id}\n"));
        let mut table = ProcessTable::open(directory.path(), 1024).unwrap();
        let mut seen = table.pass(std::time::Duration::ZERO).unwrap().observations;
        seen.push(observed(8, 7, None));
        seen.push(observed(9, 1, None));
        let mut pods = pods();
        let places = pods.places(&seen, |cgroup| table.cgroup_content(cgroup));
        assert!(places[0].is_some() && places[0] == places[1], "{places:?}");
        assert_eq!(places[2], None);
    }
}
