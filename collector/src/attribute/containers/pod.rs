//! The containers of a pod: their names in it, which of them is the sandbox, and which are restarts of the same one.

use std::collections::{BTreeMap, BTreeSet};

use tracing::debug;

use super::part::Part;
use super::{Container, ContainerKey, Containers, Place};
use crate::attribute::ContainerIndex;
use crate::attribute::identity::Runtime;
use crate::sample::mountinfo::{self, Keeper};
use crate::sample::pid_stat::Comm;
use crate::sample::pod_logs::{LinkedName, LogDirectory};
use crate::sample::process_table::{Observation, ProcessKey};

/// At most this many processes of a container are searched for its name.
const MAX_NAME_TRIES: u8 = 3;
/// A container's runtime is asked for its name this often, since it mounts what shows it while it is looked at.
const MAX_RUNTIME_TRIES: u8 = 100;
/// The logs are searched for a name in this many passes in a row, then only in every `LATER_LOG_TRIES`th pass.
const LOG_TRIES: u8 = 8;
const LATER_LOG_TRIES: u8 = 16;

impl Containers {
    /// Takes a process that was seen at this place as evidence of what the container is, and reads its `mountinfo` if that
    /// can show more. `settled`: an earlier pass saw the process, too.
    pub fn learn_from(
        &mut self,
        process: &Observation,
        place: Place,
        settled: bool,
        mountinfo: impl FnOnce(ProcessKey) -> Vec<u8>,
    ) {
        self.runs(place, process.comm, settled);
        if !self.wants_mountinfo(place, process.comm) {
            return;
        }
        let content = mountinfo(process.key);
        if process.comm.is_runtimes() {
            self.learn_from_runtime(place.container, &content);
        } else {
            self.learn(place.container, &content);
        }
    }

    /// Whether the `mountinfo` of a process of this container, named `comm`, could show the name of the container.
    pub fn wants_mountinfo(&self, place: Place, comm: Comm) -> bool {
        let container = &self[place.container];
        let is_untried = if comm.is_runtimes() {
            container.runtime_tries < MAX_RUNTIME_TRIES
        } else {
            container.name_tries < MAX_NAME_TRIES
        };
        place.nested.is_none()
            && is_untried
            && container.pod_name.is_none()
            && !container.is_certainly(Part::Sandbox)
            && matches!(container.key, ContainerKey::Id(_) | ContainerKey::Own)
    }

    /// Learns the name of a container from the `mountinfo` of a process of its runtime, which prepares it and then becomes
    /// its program. So a program that ends at once has a name, too. The mounts may still be the node's, which show other
    /// pods, but not the files that the kubelet mounts into one container.
    fn learn_from_runtime(&mut self, index: ContainerIndex, content: &[u8]) {
        let container = &mut self.list[index.0 as usize];
        container.runtime_tries += 1;
        let Some(mount) = mountinfo::pod_mount(content) else { return };
        if container.pod_uid.as_ref().is_some_and(|known| *known != mount.pod_uid) {
            return;
        }
        container.evidence.is_asked_for();
        container.pod_uid = Some(mount.pod_uid);
        container.pod_name = Some(mount.container);
        self.unsettled = true;
    }

    /// Learns from the `mountinfo` of one of its processes.
    pub fn learn(&mut self, index: ContainerIndex, content: &[u8]) {
        let owners = mountinfo::network_owners(content);
        let pod = mountinfo::kubelet_pod(content);
        let container = &mut self.list[index.0 as usize];
        container.name_tries += 1;
        let Some(uid) = pod else {
            // A kubelet's runtime keeps these files only for a sandbox. An engine keeps them for each container, also for
            // one that was put into a pod's cgroup.
            let for_sandbox = |keeper| match keeper {
                Keeper::Containerd => true,
                Keeper::Storage => container.runtime == Some(Runtime::Crio),
                Keeper::Docker => false,
            };
            let own = |id: &String| matches!(&container.key, ContainerKey::Id(own) if own == id);
            if container.is_in_pod() && owners.iter().any(|(keeper, id)| own(id) && for_sandbox(*keeper)) {
                container.evidence.is_sandbox();
            }
            if container.key == ContainerKey::Own && container.own_id.is_none() {
                container.own_id = mountinfo::docker_id(content);
            }
            return;
        };
        if container.pod_uid.as_ref().is_some_and(|known| *known != uid) {
            return;
        }
        container.evidence.is_asked_for();
        container.pod_uid = Some(uid);
        if let Some(mount) = mountinfo::pod_mount(content) {
            container.pod_name = Some(mount.container);
        }
        let own = container.id().map(ToOwned::to_owned);
        for (_, owner) in owners.into_iter().filter(|(_, owner)| Some(owner) != own.as_ref()) {
            if let Some(sandbox) = self.by_key.get(&ContainerKey::Id(owner.clone())) {
                self.list[sandbox.0 as usize].evidence.is_sandbox();
            }
            if self.sandboxes.len() < super::MAX_CONTAINERS {
                self.sandboxes.insert(owner);
            }
        }
        self.unsettled = true;
    }

    /// Notes the name of a process of this container. `settled`: the process has had it for a while.
    pub fn runs(&mut self, place: Place, comm: Comm, settled: bool) {
        let container = &mut self.list[place.container.0 as usize];
        let may_be_overhead = container.is_in_pod() || container.key == ContainerKey::Host;
        if place.nested.is_none() && !container.evidence.is_certain() && may_be_overhead {
            container.evidence.runs(comm, settled);
        }
    }

    /// Notes the name of an ended process of this container.
    pub fn ran(&mut self, place: Place, comm: Comm) {
        let container = &mut self.list[place.container.0 as usize];
        if place.nested.is_none() && !container.evidence.is_certain() && container.is_in_pod() {
            container.evidence.ran(comm);
        }
    }

    /// Notes that the first process of the PID namespace, named `comm`, is in this container. If that is not the
    /// collector's own, it is the sandbox of a pod whose containers share the namespace, unless another sandbox is known (a
    /// debugger shares the namespace of the container that it debugs). Without a kubelet, the process must be called
    /// `pause`.
    pub fn holds_the_namespace(&mut self, place: Place, comm: Comm, own: Option<ContainerIndex>) {
        let by_kubelet = own.is_some_and(|own| self[own].is_certainly(Part::Container));
        let container = &mut self.list[place.container.0 as usize];
        let of_pod = by_kubelet && container.is_in_pod() && self.sandboxes.is_empty();
        let other = own != Some(place.container) && matches!(container.key, ContainerKey::Id(_));
        if other && (of_pod || comm.as_bytes() == b"pause") {
            container.evidence.is_sandbox();
        }
    }

    /// The containers that the pod's logs may name, with their ids.
    pub fn nameless(&mut self) -> Vec<(ContainerIndex, String)> {
        let mut nameless = Vec::new();
        for (index, container) in (0..).map(ContainerIndex).zip(&mut self.list) {
            let ContainerKey::Id(id) = &container.key else { continue };
            if container.pod_name.is_some()
                || container.pod_uid.is_none()
                || container.is_certainly(Part::Sandbox)
            {
                continue;
            }
            container.log_tries = container.log_tries.checked_add(1).unwrap_or(LATER_LOG_TRIES);
            if container.log_tries <= LOG_TRIES || container.log_tries.is_multiple_of(LATER_LOG_TRIES) {
                nameless.push((index, id.clone()));
            }
        }
        nameless
    }

    /// Notes that the job's own processes run in this container. If it has no name, it is named for this role, because an
    /// engine gives it another id in each run.
    pub fn runs_the_job(&mut self, index: ContainerIndex) {
        let is_nameless = |one: &Container| one.mapped_name.is_none() && one.pod_name.is_none();
        let container = &self[index];
        if !is_nameless(container)
            || !matches!(container.key, ContainerKey::Id(_))
            || container.role.is_some()
        {
            return;
        }
        let others = self.list.iter().filter(|one| is_nameless(one) && one.role.is_some()).count();
        let role = if others == 0 { "job".to_owned() } else { format!("job-{}", others + 1) };
        self.list[index.0 as usize].role = Some(role);
    }

    /// Names a container as its pod's logs do.
    pub fn name(&mut self, index: ContainerIndex, linked: LinkedName) {
        let container = &mut self.list[index.0 as usize];
        debug!(id = container.id(), name = linked.container, "a container is named by its log");
        container.evidence.is_asked_for();
        container.pod_name.get_or_insert(linked.container);
        container.restart = linked.restart;
        self.unsettled = true;
    }

    /// Names the containers that can have only one name, given the directories that the pod made for logs. A container that
    /// may still turn out to be another one waits.
    pub fn name_what_is_left(&mut self, directories: &[LogDirectory]) {
        let indexes = (0..).map(ContainerIndex);
        let of_pod = indexes
            .zip(&self.list)
            .filter(|(_, one)| matches!(one.key, ContainerKey::Id(_)) && one.is_in_pod());
        let (named, nameless): (Vec<_>, Vec<_>) = of_pod.partition(|(_, one)| one.pod_name.is_some());
        let nameless: Vec<ContainerIndex> = nameless
            .into_iter()
            .map(|(index, _)| index)
            .filter(|index| self.part(*index) != Part::Sandbox)
            .collect();
        let is_taken = |name: &String| named.iter().any(|(_, one)| one.pod_name.as_ref() == Some(name));
        let (taken, left): (Vec<_>, Vec<_>) = directories.iter().partition(|one| is_taken(&one.container));
        let is_one = |index: &ContainerIndex| self.part(*index) == Part::Container;
        let (name, of): (&str, Vec<ContainerIndex>) = match (directories, &left[..]) {
            // The pod has one container, which may have been started several times.
            ([only], _) => (&only.container, nameless.into_iter().filter(is_one).collect()),
            // Otherwise a named container may have been started again, or another nameless one may be the sandbox.
            (_, [only]) if nameless.len() == 1 && !taken.iter().any(|one| one.restarted) => {
                (&only.container, nameless.into_iter().filter(is_one).collect())
            }
            _ => return,
        };
        for index in of {
            debug!(id = self[index].id(), name, "a container is named by what is left");
            self.list[index.0 as usize].pod_name = Some(name.to_owned());
            self.unsettled = true;
        }
    }

    /// Merges the incarnations of restarted containers: those of one pod and one name. `living`: the containers with
    /// processes.
    ///
    /// If only `CGROUP_PROCESS_MAP` names them, the earlier one must have ended: containers that run at the same time are
    /// not the same.
    pub fn unite(&mut self, living: &BTreeSet<ContainerIndex>) {
        self.passes += 1;
        for index in living {
            self.list[index.0 as usize].lived = self.passes;
        }
        if !std::mem::take(&mut self.unsettled) {
            return;
        }
        // A container beside the collector's own in a pod has no UID in its path.
        let own_pod = self.by_key.get(&ContainerKey::Own).and_then(|own| self[*own].pod_uid.clone());
        for container in self.list.iter_mut().filter(|one| one.in_pod && one.pod_uid.is_none()) {
            container.pod_uid.clone_from(&own_pod);
        }
        let mut first: BTreeMap<(Option<&str>, &str), ContainerIndex> = BTreeMap::new();
        let mut same = Vec::new();
        let mut waits = false;
        for (index, container) in self.iter() {
            let name = container.mapped_name.as_deref().or(container.pod_name.as_deref());
            let of_pod = matches!(container.key, ContainerKey::Id(_) | ContainerKey::Own)
                && container.pod_uid.is_some();
            let Some(name) =
                name.filter(|_| of_pod && container.same_as.is_none() && !self.is_overhead(index))
            else {
                continue;
            };
            let before = *first.entry((container.pod_uid.as_deref(), name)).or_insert(index);
            let ended = || !living.iter().any(|one| self.root(*one) == before);
            let is_same = match (&self[before].pod_name, &container.pod_name) {
                _ if before == index => continue,
                (Some(one), Some(other)) => one == other,
                (None, None) => ended(),
                _ => false,
            };
            if is_same {
                same.push((index, before));
            }
            waits |= !is_same;
        }
        self.unsettled = waits;
        for (index, before) in same {
            for container in &mut self.list {
                if container.same_as == Some(index) {
                    container.same_as = Some(before);
                }
            }
            self.list[index.0 as usize].same_as = Some(before);
        }
    }

    /// The first incarnation of this container, or the container itself.
    pub fn root(&self, index: ContainerIndex) -> ContainerIndex {
        self[index].same_as.unwrap_or(index)
    }

    /// Whether any container was restarted.
    pub fn has_restarts(&self) -> bool {
        self.list.iter().any(|one| one.same_as.is_some())
    }

    /// This container and its restarts, in their order.
    pub fn incarnations(&self, root: ContainerIndex) -> impl Iterator<Item = (ContainerIndex, &Container)> {
        self.iter().filter(move |(index, one)| *index == root || one.same_as == Some(root))
    }

    /// The last incarnation. One that no pass saw can have a higher index than the living one.
    pub fn newest(&self, root: ContainerIndex) -> &Container {
        let newest = self.incarnations(root).max_by_key(|(index, one)| (one.restart, one.lived, *index));
        newest.map_or(&self[root], |(_, newest)| newest)
    }

    /// The number of its restarts: the other ids seen, or the count in the logs if some ids were not seen.
    pub fn restarts(&self, root: ContainerIndex) -> u64 {
        let ids = self.incarnations(root).count() as u64;
        let counts = || self.incarnations(root).filter_map(|(_, one)| one.restart);
        let counted = counts().max().zip(counts().min()).map_or(0, |(last, first)| u64::from(last - first));
        ids.saturating_sub(1).max(counted)
    }

    /// Whether it is not one of a pod's containers but the sandbox or something beside them. A container that
    /// `CGROUP_PROCESS_MAP` names is one.
    pub fn is_overhead(&self, index: ContainerIndex) -> bool {
        let container = &self[index];
        match container.key {
            ContainerKey::Pod(_) | ContainerKey::Shared => true,
            // If only runtimes were seen outside containers, they were on their way into one, as for `kubectl exec`.
            ContainerKey::Host => {
                container.mapped_name.is_none() && container.evidence.part() == Part::Unknown
            }
            ContainerKey::Id(_) => container.mapped_name.is_none() && self.part(index) == Part::Sandbox,
            _ => false,
        }
    }

    /// Whether both are containers of one pod, or beside its containers. If no pod is known, whether both are containers.
    pub fn are_of_one_pod(&self, one: ContainerIndex, other: ContainerIndex) -> bool {
        let of_pod =
            |index| matches!(self[index].key, ContainerKey::Id(_) | ContainerKey::Own | ContainerKey::Pod(_));
        of_pod(one) && of_pod(other) && self[one].pod_uid == self[other].pod_uid
    }

    fn part(&self, index: ContainerIndex) -> Part {
        let container = &self[index];
        let part = container.evidence.part();
        // A pod has one sandbox. If it is known, a container that only looks like one is a normal container.
        let is_other = || {
            let of_pod =
                |one: &&Container| one.pod_uid == container.pod_uid && one.is_certainly(Part::Sandbox);
            self.list.iter().any(|one| of_pod(&one))
        };
        if part == Part::Sandbox && !container.evidence.is_certain() && is_other() {
            Part::Container
        } else {
            part
        }
    }
}

impl Container {
    fn is_in_pod(&self) -> bool {
        self.in_pod || self.pod_uid.is_some()
    }

    fn is_certainly(&self, part: Part) -> bool {
        self.evidence.is_certain() && self.evidence.part() == part
    }
}

#[cfg(test)]
mod tests;
