//! The containers of a run: their cgroups and their names.

mod container;
mod part;
mod pod;

use std::collections::{BTreeSet, HashMap};

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use self::container::ContainerKey;
pub use self::container::{CgroupKind, Container};
use self::part::Evidence;
use super::ContainerIndex;
use super::identity::{Identity, Runtime, identify};
use crate::config::process_map::ProcessMap;
use crate::sample::bpf::CgroupIds;
use crate::sample::cgroup::CgroupLines;
use crate::sample::pid_stat::Comm;
use crate::sample::process_table::{CgroupId, Observation};

/// At most this many containers are distinguished, which is less than a receiver accepts. Further ones are counted in one
/// last container.
pub(crate) const MAX_CONTAINERS: usize = 900;
/// At most this many nested containers are distinguished.
const MAX_NESTED: usize = 10_000;
/// A cache of more cgroups than this is cleared.
const MAX_CACHED_CGROUPS: usize = 8_192;
/// Where a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The container that its use counts for.
    pub container: ContainerIndex,
    /// The container inside that one, if there is one; see [`Containers::nested_id`].
    pub nested: Option<u32>,
}

/// The data that a checkpoint keeps of a run's containers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SavedContainers {
    list: Vec<Container>,
    nested: Vec<String>,
    sandboxes: BTreeSet<String>,
}

impl SavedContainers {
    /// The first container: one of a pod's, or the one that holds the others.
    pub fn first(&self) -> Option<&Container> {
        self.list.first()
    }

    /// How many containers there are, those inside others included.
    pub fn count(&self) -> usize {
        self.list.len() + self.nested.len()
    }

    /// Whether both are the containers of one pod at different times: containers are only ever added.
    pub fn is_same_list(&self, other: &Self) -> bool {
        let keys_agree = self.list.iter().zip(&other.list).all(|(one, other)| one.key == other.key);
        keys_agree && self.nested.iter().zip(&other.nested).all(|(one, other)| one == other)
    }
}

/// All containers of the run.
#[derive(Debug)]
pub struct Containers {
    process_map: ProcessMap,
    /// Whether the root of the collector's cgroup namespace is its own container and not the machine.
    own_is_container: bool,
    list: Vec<Container>,
    by_key: HashMap<ContainerKey, ContainerIndex>,
    by_cgroup: FxHashMap<CgroupId, Place>,
    /// The same, for cgroups that the eBPF program reported.
    by_ids: FxHashMap<CgroupIds, Place>,
    nested: Vec<String>,
    nested_by_id: HashMap<String, u32>,
    /// The ids of sandboxes, as pods' containers name them.
    sandboxes: BTreeSet<String>,
    /// Whether containers may have turned out to be the same since the last check.
    unsettled: bool,
    /// The number of passes.
    passes: u64,
}

impl Containers {
    /// An empty set; `process_map` will name its containers. `own_is_container`: whether the collector has a cgroup
    /// namespace of its own, so that its root is a container.
    pub fn new(process_map: ProcessMap, own_is_container: bool) -> Self {
        Self {
            process_map,
            own_is_container,
            list: Vec::new(),
            by_key: HashMap::new(),
            by_cgroup: FxHashMap::default(),
            by_ids: FxHashMap::default(),
            nested: Vec::new(),
            nested_by_id: HashMap::new(),
            sandboxes: BTreeSet::new(),
            unsettled: false,
            passes: 0,
        }
    }

    /// A single container of this name; its index is 0.
    pub fn single(name: &str) -> Self {
        let mut containers = Self::new(ProcessMap::default(), false);
        let index = containers.index(ContainerKey::Host, None, &[]);
        containers.list[index.0 as usize].mapped_name = Some(name.to_owned());
        containers
    }

    /// Returns the data that a checkpoint keeps.
    pub fn save(&self) -> SavedContainers {
        SavedContainers {
            list: self.list.clone(),
            nested: self.nested.clone(),
            sandboxes: self.sandboxes.clone(),
        }
    }

    /// Restores what a checkpoint kept, into an empty set. Returns false if the checkpoint contradicts itself.
    #[must_use]
    pub fn restore(&mut self, kept: SavedContainers) -> bool {
        let SavedContainers { list, nested, sandboxes } = kept;
        let indexes = (0..).map(ContainerIndex);
        self.by_key = list.iter().map(|container| container.key.clone()).zip(indexes).collect();
        self.nested_by_id = nested.iter().cloned().zip(0..).collect();
        let distinct = (self.by_key.len(), self.nested_by_id.len()) == (list.len(), nested.len());
        let bounded = list.len() <= MAX_CONTAINERS + 1 && nested.len() <= MAX_NESTED;
        let earlier = |(at, one): (usize, &Container)| {
            // A container comes after its first incarnation, which is not a restart itself.
            one.same_as.is_none_or(|index| {
                let root = index.0 as usize;
                root < at && list[root].same_as.is_none()
            })
        };
        let restarts = list.iter().enumerate().all(earlier) && sandboxes.len() <= MAX_CONTAINERS;
        self.passes = list.iter().map(|one| one.lived).max().unwrap_or_default().min(u64::MAX / 2);
        (self.list, self.nested, self.sandboxes) = (list, nested, sandboxes);
        self.unsettled = true;
        distinct && bounded && restarts
    }

    /// The number of nested containers.
    pub fn nested_len(&self) -> usize {
        self.nested.len()
    }

    /// Locates the processes of a pass, in their order; `None` if the container is unknown.
    ///
    /// `content` returns the content of `/proc/[pid]/cgroup` for a cgroup.
    pub fn places<'a>(
        &mut self,
        observations: &[Observation],
        content: impl Fn(CgroupId) -> &'a [u8],
    ) -> Vec<Option<Place>> {
        if !self.process_map.is_empty() {
            for process in observations {
                if let Some(cgroup) = process.cgroup
                    && self.process_map.container_for(process.comm).is_some()
                {
                    self.apply_process_map(process.comm, content(cgroup));
                }
            }
        }
        if self.by_cgroup.len() > MAX_CACHED_CGROUPS {
            self.by_cgroup.clear();
        }
        let mut by_pid: FxHashMap<u32, Place> = FxHashMap::default();
        by_pid.reserve(observations.len());
        let mut places = Vec::with_capacity(observations.len());
        for process in observations {
            let parent = by_pid.get(&process.ppid).copied();
            let place = match process.cgroup {
                _ if process.kernel_thread => {
                    Some(Place { container: self.index(ContainerKey::Kernel, None, &[]), nested: None })
                }
                Some(cgroup) => Some(if let Some(place) = self.by_cgroup.get(&cgroup) {
                    *place
                } else {
                    let parent = parent.filter(|_| process.ppid != 1);
                    let place = self.resolve(content(cgroup), parent);
                    self.by_cgroup.insert(cgroup, place);
                    place
                }),
                // It ended before its cgroup could be read. A child starts in the container of its parent.
                None => parent,
            };
            by_pid.extend(place.map(|place| (process.key.pid, place)));
            places.push(place);
        }
        places
    }

    /// Locates a process that the eBPF program reported; `None` if its container is unknown.
    ///
    /// `parent` is the place of its parent. `content` returns what `/proc/[pid]/cgroup` would hold for its cgroups.
    pub fn place_of(
        &mut self,
        cgroups: CgroupIds,
        comm: Comm,
        parent: Option<Place>,
        content: impl FnOnce(CgroupIds) -> Option<Vec<u8>>,
    ) -> Option<Place> {
        let mapped = !self.process_map.is_empty() && self.process_map.container_for(comm).is_some();
        if !mapped && let Some(place) = self.by_ids.get(&cgroups) {
            return Some(*place);
        }
        let content = content(cgroups)?;
        if mapped {
            self.apply_process_map(comm, &content);
        }
        let place = self.resolve(&content, parent);
        if self.by_ids.len() > MAX_CACHED_CGROUPS {
            self.by_ids.clear();
        }
        self.by_ids.insert(cgroups, place);
        Some(place)
    }

    /// All containers, each with its index.
    pub fn iter(&self) -> impl Iterator<Item = (ContainerIndex, &Container)> {
        (0..).map(ContainerIndex).zip(&self.list)
    }

    /// The id of a container inside another.
    pub fn nested_id(&self, nested: u32) -> &str {
        &self.nested[nested as usize]
    }

    /// The number of containers.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are no containers.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// If the process map has the name of a process, it names the cgroup of the process and all cgroups below it.
    fn apply_process_map(&mut self, comm: Comm, content: &[u8]) {
        let Some(name) = self.process_map.container_for(comm) else { return };
        let name = name.to_owned();
        let lines = CgroupLines::parse(content);
        let key = match identify(&lines) {
            Identity::Container(container) => ContainerKey::Id(container.container_id),
            Identity::Own => ContainerKey::Own,
            // A pod's cgroup outside its containers has no name.
            Identity::Pod { .. } => return,
            Identity::Host { path } => ContainerKey::Path(path),
        };
        let known = self.by_key.contains_key(&key);
        let index = match &key {
            ContainerKey::Path(_) => self.index(key, None, content),
            _ => self.resolve(content, None).container,
        };
        self.list[index.0 as usize].mapped_name.get_or_insert(name);
        if !known {
            // Cgroups at or below this one belonged to other containers until now.
            self.unsettled = true;
            self.by_cgroup.clear();
            self.by_ids.clear();
        }
    }

    fn resolve(&mut self, content: &[u8], parent: Option<Place>) -> Place {
        let lines = CgroupLines::parse(content);
        match identify(&lines) {
            Identity::Own => {
                let key = if self.own_is_container || self.by_key.contains_key(&ContainerKey::Own) {
                    ContainerKey::Own
                } else {
                    ContainerKey::Host
                };
                Place { container: self.index(key, None, content), nested: None }
            }
            Identity::Host { path } => {
                // Engines inside a container with its own namespace use cgroups below its root (`/init`).
                let inside = self.own_is_container && !path.starts_with("/..");
                let elsewhere = if inside { ContainerKey::Own } else { ContainerKey::Host };
                let key = self.mapped_path(&path).unwrap_or(elsewhere);
                Place { container: self.index(key, None, content), nested: None }
            }
            Identity::Pod { uid } => {
                let container = self.index(ContainerKey::Pod(uid.clone()), Some((None, Some(uid))), content);
                Place { container, nested: None }
            }
            Identity::Container(found) => {
                // Docker in Docker can put its containers outside the pod, but their parents are still in it. Without pods,
                // a child in another container was only moved there.
                if found.leaves_pod()
                    && let Some(parent) = parent
                    && self[parent.container].in_pod
                    && self[parent.container].id() != Some(&found.container_id)
                {
                    return Place { container: parent.container, nested: self.nest(&found.id) };
                }
                let nested = if found.id == found.container_id { None } else { self.nest(&found.id) };
                let key = ContainerKey::Id(found.container_id.clone());
                let in_pod = !found.leaves_pod();
                let container = self.index(key, Some((found.runtime, found.pod_uid)), content);
                self.list[container.0 as usize].in_pod |= in_pod;
                Place { container, nested }
            }
        }
    }

    /// The nearest cgroup at or above `path` that the process map named.
    fn mapped_path(&self, path: &str) -> Option<ContainerKey> {
        if self.process_map.is_empty() {
            return None;
        }
        let mut at = Some(path);
        while let Some(path) = at {
            let key = ContainerKey::Path(path.to_owned());
            if self.by_key.contains_key(&key) {
                return Some(key);
            }
            at = path.rsplit_once('/').map(|(parent, _)| parent).filter(|parent| !parent.is_empty());
        }
        None
    }

    fn nest(&mut self, id: &str) -> Option<u32> {
        if let Some(&nested) = self.nested_by_id.get(id) {
            return Some(nested);
        }
        if self.nested.len() >= MAX_NESTED {
            return None;
        }
        let nested = self.nested.len() as u32;
        self.nested.push(id.to_owned());
        self.nested_by_id.insert(id.to_owned(), nested);
        Some(nested)
    }

    /// Whether jobs have shared this pod.
    pub fn is_shared(&self) -> bool {
        self.by_key.contains_key(&ContainerKey::Shared)
    }

    /// The part of a pod's overhead that its jobs share.
    pub fn shared(&mut self) -> ContainerIndex {
        self.index(ContainerKey::Shared, None, &[])
    }

    fn index(
        &mut self,
        key: ContainerKey,
        known: Option<(Option<Runtime>, Option<String>)>,
        content: &[u8],
    ) -> ContainerIndex {
        if let Some(&index) = self.by_key.get(&key) {
            return index;
        }
        if self.list.len() >= MAX_CONTAINERS && key != ContainerKey::Rest {
            return self.index(ContainerKey::Rest, None, &[]);
        }
        let index = ContainerIndex(self.list.len() as u32);
        let (runtime, pod_uid) = known.unwrap_or_default();
        let mut evidence = Evidence::default();
        if matches!(&key, ContainerKey::Id(id) if self.sandboxes.contains(id)) {
            evidence.is_sandbox();
        }
        self.unsettled = true;
        let container = Container {
            evidence,
            runtime,
            pod_uid,
            cgroup_content: content.to_owned(),
            ..Container::new(key.clone())
        };
        self.list.push(container);
        self.by_key.insert(key, index);
        index
    }
}

impl std::ops::Index<ContainerIndex> for Containers {
    type Output = Container;

    fn index(&self, index: ContainerIndex) -> &Container {
        &self.list[index.0 as usize]
    }
}
