//! The pods of a node, and containers that are in no pod: which process is in which.
//!
//! Each has containers of its own, so that nothing of one outlives it. Where all are meant at once (the conserved sum,
//! the eBPF program's records) a container is named by a number that holds both, its group's and its own.

use std::collections::{BTreeMap, HashMap};

use rustc_hash::FxHashMap;
use tracing::debug;

use super::group::Group;
use crate::attribute::ContainerIndex;
use crate::attribute::containers::{Containers, MAX_CONTAINERS, Place};
use crate::attribute::identity::{ContainerIdentity, Identity, identify};
use crate::config::process_map::ProcessMap;
use crate::mode::trace::Locate;
use crate::sample::bpf::CgroupIds;
use crate::sample::cgroup::CgroupLines;
use crate::sample::pid_stat::Comm;
use crate::sample::table::{CgroupId, Observation};

/// The bits of a container's own number.
const OWN_BITS: u32 = 10;
const _: () = assert!(MAX_CONTAINERS + 1 < 1 << OWN_BITS);
/// Groups are numbered round: those that are over leave their numbers.
const NUMBERS: u32 = 1 << (32 - OWN_BITS);
/// So many groups are told apart; a node runs some hundred pods.
const MAX_GROUPS: usize = 10_000;
/// So many cgroups are remembered; more are looked up again.
const MAX_CACHED_CGROUPS: usize = 65_536;
/// Everything in no pod and no container, kernel threads included.
const HOST: Place = Place { container: ContainerIndex(0), nested: None };

/// What makes two processes the same group.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum GroupKey {
    /// The UID of their pod.
    Pod(String),
    /// The id of a container that is in no pod, and of what it started.
    Container(String),
}

impl GroupKey {
    /// The UID, or the id.
    pub(super) fn id(&self) -> &str {
        match self {
            Self::Pod(id) | Self::Container(id) => id,
        }
    }
}

/// One of the groups; never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct GroupNumber(u32);

/// The group of a place, and the place in it; `None`: in none.
pub(super) fn split(container: ContainerIndex) -> Option<(GroupNumber, ContainerIndex)> {
    let group = container.0 >> OWN_BITS;
    (group != 0).then_some((GroupNumber(group), ContainerIndex(container.0 & ((1 << OWN_BITS) - 1))))
}

fn join(group: GroupNumber, place: Place) -> Place {
    Place { container: ContainerIndex(group.0 << OWN_BITS | place.container.0), ..place }
}

/// What a place is in its group, if it is in this one.
fn within(group: GroupNumber, place: Place) -> Option<Place> {
    let (found, container) = split(place.container)?;
    (found == group).then_some(Place { container, ..place })
}

/// Makes what is to be known of a group that is new.
pub(super) trait Found {
    fn group(&mut self, key: &GroupKey, containers: Containers) -> Group;
}

/// All of them.
#[derive(Debug)]
pub(super) struct Groups<F> {
    process_map: ProcessMap,
    found: F,
    by_key: HashMap<GroupKey, GroupNumber>,
    list: BTreeMap<GroupNumber, Group>,
    last: u32,
    by_cgroup: FxHashMap<CgroupId, Option<GroupNumber>>,
    /// The same, for cgroups that the eBPF program told of.
    by_ids: FxHashMap<CgroupIds, Option<GroupNumber>>,
}

impl<F: Found> Groups<F> {
    pub(super) fn new(process_map: ProcessMap, found: F) -> Self {
        Self {
            process_map,
            found,
            by_key: HashMap::new(),
            list: BTreeMap::new(),
            last: 0,
            by_cgroup: FxHashMap::default(),
            by_ids: FxHashMap::default(),
        }
    }

    /// What makes groups.
    pub(super) fn found(&mut self) -> &mut F {
        &mut self.found
    }

    /// What makes groups, and those that it made.
    pub(super) fn found_and_list(&mut self) -> (&F, &mut BTreeMap<GroupNumber, Group>) {
        (&self.found, &mut self.list)
    }

    pub(super) fn get(&self, number: GroupNumber) -> Option<&Group> {
        self.list.get(&number)
    }

    pub(super) fn get_mut(&mut self, number: GroupNumber) -> Option<&mut Group> {
        self.list.get_mut(&number)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (GroupNumber, &Group)> {
        self.list.iter().map(|(number, group)| (*number, group))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (GroupNumber, &mut Group)> {
        self.list.iter_mut().map(|(number, group)| (*number, group))
    }

    /// Forgets one that is over.
    pub(super) fn remove(&mut self, number: GroupNumber) {
        if let Some(group) = self.list.remove(&number) {
            self.by_key.remove(&group.key);
        }
        self.by_cgroup.retain(|_, group| *group != Some(number));
        self.by_ids.retain(|_, group| *group != Some(number));
    }

    /// Where each of a pass's processes is, in their order, for all groups at once; `None` where it cannot be told.
    ///
    /// `content` gives what `/proc/[pid]/cgroup` holds for a cgroup.
    pub(super) fn places<'a>(
        &mut self,
        observations: &[Observation],
        content: impl Fn(CgroupId) -> &'a [u8],
    ) -> Vec<Option<Place>> {
        if self.by_cgroup.len() > MAX_CACHED_CGROUPS {
            self.by_cgroup.clear();
        }
        let mut by_pid: FxHashMap<u32, Option<GroupNumber>> = FxHashMap::default();
        by_pid.reserve(observations.len());
        let mut places = vec![None; observations.len()];
        let mut of_group: BTreeMap<GroupNumber, Vec<usize>> = BTreeMap::new();
        for (at, process) in observations.iter().enumerate() {
            let parent = by_pid.get(&process.ppid).copied();
            let group = match process.cgroup {
                _ if process.kernel_thread => Some(None),
                Some(cgroup) => Some(if let Some(group) = self.by_cgroup.get(&cgroup) {
                    *group
                } else {
                    let group = self.group_of(content(cgroup), parent.flatten());
                    self.by_cgroup.insert(cgroup, group);
                    group
                }),
                // It ended before its cgroup could be read: children start where their parents are.
                None => parent,
            };
            let Some(group) = group else { continue };
            by_pid.insert(process.key.pid, group);
            match group {
                Some(group) => of_group.entry(group).or_default().push(at),
                None => places[at] = Some(HOST),
            }
        }
        let mut of_one = Vec::new();
        for (number, members) in of_group {
            let Some(group) = self.list.get_mut(&number) else { continue };
            of_one.clear();
            of_one.extend(members.iter().map(|at| observations[*at]));
            let found = group.containers.places(&of_one, &content);
            for (at, place) in members.into_iter().zip(found) {
                places[at] = place.map(|place| join(number, place));
            }
        }
        places
    }

    /// The group of a process with these cgroups, whose parent is in the group `parent`; `None`: in none.
    fn group_of(&mut self, content: &[u8], parent: Option<GroupNumber>) -> Option<GroupNumber> {
        let key = match identify(&CgroupLines::parse(content)) {
            Identity::Pod { uid } | Identity::Container(ContainerIdentity { pod_uid: Some(uid), .. }) => {
                GroupKey::Pod(uid)
            }
            Identity::Container(found) => GroupKey::Container(found.container_id),
            Identity::Own | Identity::Host { .. } => return None,
        };
        if let Some(number) = self.by_key.get(&key) {
            return Some(*number);
        }
        // An engine in a pod or container can put what it starts outside; the parents are still in it.
        if matches!(key, GroupKey::Container(_)) && parent.is_some() {
            return parent;
        }
        self.add(key)
    }

    fn add(&mut self, key: GroupKey) -> Option<GroupNumber> {
        if self.list.len() >= MAX_GROUPS {
            debug!(key = key.id(), "there are too many pods to tell apart; this one is not followed");
            return None;
        }
        let number = loop {
            self.last = (self.last + 1) % NUMBERS;
            let number = GroupNumber(self.last);
            if number.0 != 0 && !self.list.contains_key(&number) {
                break number;
            }
        };
        let containers = Containers::new(self.process_map.clone(), false);
        let group = self.found.group(&key, containers);
        self.by_key.insert(key, number);
        self.list.insert(number, group);
        Some(number)
    }
}

impl<F: Found> Locate for Groups<F> {
    fn place_of(
        &mut self,
        cgroups: CgroupIds,
        comm: Comm,
        parent: Option<Place>,
        content: impl FnOnce(CgroupIds) -> Option<Vec<u8>>,
    ) -> Option<Place> {
        let mut content = Some(content);
        let mut read = None;
        let group = if let Some(group) = self.by_ids.get(&cgroups) {
            *group
        } else {
            let found = content.take().and_then(|content| content(cgroups))?;
            let of_parent = parent.and_then(|parent| split(parent.container)).map(|(group, _)| group);
            let group = self.group_of(&found, of_parent);
            if self.by_ids.len() > MAX_CACHED_CGROUPS {
                self.by_ids.clear();
            }
            self.by_ids.insert(cgroups, group);
            read = Some(found);
            group
        };
        let Some(number) = group else { return Some(HOST) };
        let parent = parent.and_then(|parent| within(number, parent));
        let group = self.list.get_mut(&number)?;
        let place = group.containers.place_of(cgroups, comm, parent, |ids| match content {
            Some(content) => content(ids),
            None => read,
        });
        place.map(|place| join(number, place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::table::{CgroupId, ProcessKey};

    const POD: &str = "/kubepods/burstable/pode50f2933-b36b-4e3b-89b1-280707f7bc53";

    struct Plain;

    impl Found for Plain {
        fn group(&mut self, key: &GroupKey, containers: Containers) -> Group {
            Group::new(key.clone(), containers, None, false, None)
        }
    }

    fn groups() -> Groups<Plain> {
        Groups::new(ProcessMap::default(), Plain)
    }

    /// Where the eBPF program's word puts a process.
    fn place(groups: &mut Groups<Plain>, id: u64, path: &str, parent: Option<Place>) -> Option<Place> {
        let content = format!("0::{path}\n").into_bytes();
        let ids = CgroupIds { unified: id, v1: 0 };
        groups.place_of(ids, Comm::new(b"x"), parent, |_| Some(content))
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
            cgroup,
        }
    }

    #[test]
    fn containers_of_a_pod_are_one_group_and_others_their_own() {
        let mut groups = groups();
        let [a, b, c] = ["a", "b", "c"].map(|digit| digit.repeat(64));
        let first = place(&mut groups, 1, &format!("{POD}/{a}"), None).unwrap();
        let second = place(&mut groups, 2, &format!("{POD}/{b}"), None).unwrap();
        let docker = place(&mut groups, 3, &format!("/docker/{c}"), None).unwrap();
        let (one, two) = (split(first.container).unwrap(), split(second.container).unwrap());
        assert_eq!((one.0, one.1, two.1), (two.0, ContainerIndex(0), ContainerIndex(1)));
        assert_ne!(split(docker.container).unwrap().0, one.0);
        assert_eq!(place(&mut groups, 4, "/system.slice/ssh.service", None), Some(HOST));
        assert_eq!(groups.iter().count(), 2);
    }

    #[test]
    fn what_an_engine_in_a_pod_starts_outside_is_in_the_pod() {
        let mut groups = groups();
        let [a, b] = ["a", "b"].map(|digit| digit.repeat(64));
        let pod = place(&mut groups, 1, &format!("{POD}/{a}"), None).unwrap();
        let out = place(&mut groups, 2, &format!("/docker/{b}"), Some(pod)).unwrap();
        assert_eq!(split(out.container), split(pod.container));
        assert!(out.nested.is_some());
        let again = place(&mut groups, 2, &format!("/docker/{b}"), None).unwrap();
        assert_eq!(again, out, "its cgroup is known by now");
    }

    #[test]
    fn a_number_is_not_given_out_again_while_its_pod_lives() {
        let mut groups = groups();
        let id = |index: u32| format!("/docker/{index:064x}");
        let first = place(&mut groups, 1, &id(1), None).unwrap();
        let (number, _) = split(first.container).unwrap();
        groups.last = NUMBERS - 2;
        let numbers: Vec<_> = (2..6)
            .map(|index| {
                split(place(&mut groups, index.into(), &id(index), None).unwrap().container).unwrap().0
            })
            .collect();
        assert_eq!(numbers, [NUMBERS - 1, 2, 3, 4].map(GroupNumber), "1 is taken, and there is no 0");
        groups.remove(number);
        assert_eq!(groups.iter().count(), 4);
        let again = place(&mut groups, 1, &id(1), None).unwrap();
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
        let mut table = crate::sample::table::ProcTable::open(directory.path(), 1024).unwrap();
        let mut seen = table.pass(std::time::Duration::ZERO).unwrap().observations;
        seen.push(observed(8, 7, None));
        seen.push(observed(9, 1, None));
        let mut groups = groups();
        let places = groups.places(&seen, |cgroup| table.cgroup_content(cgroup));
        assert!(places[0].is_some() && places[0] == places[1], "{places:?}");
        assert_eq!(places[2], None);
    }
}
