//! One container: its key and its name.

use serde::{Deserialize, Serialize};

use super::part::Evidence;
use crate::attribute::ContainerIndex;
use crate::attribute::identity::Runtime;

/// An id is shown as its first twelve digits, as Docker does.
const SHORT_ID: usize = 12;

/// The key of a container. Cgroups with the same key are the same container.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) enum ContainerKey {
    /// A container's id.
    Id(String),
    /// A cgroup that `CGROUP_PROCESS_MAP` names, and all cgroups below it.
    Path(String),
    /// The root of the collector's own cgroup namespace.
    Own,
    /// Everything in the pod of this UID but in none of its containers.
    Pod(String),
    /// Processes that several jobs of a pod share, in whichever container they are.
    Shared,
    /// Everything outside containers.
    Host,
    /// Kernel threads.
    Kernel,
    /// Everything beyond the maximum number of containers.
    Rest,
}

/// The cgroup of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupKind<'a> {
    /// The cgroup of the container with this id.
    Container(&'a str),
    /// The cgroup at this path.
    Path(&'a str),
    /// The root of the collector's own cgroup namespace.
    Own,
    /// No cgroup of its own.
    None,
}

/// One container of the run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Container {
    pub(super) key: ContainerKey,
    pub(super) mapped_name: Option<String>,
    pub(super) pod_name: Option<String>,
    /// Its role in the job, if it has no other name.
    pub(super) role: Option<String>,
    /// The id of the collector's own container, which no cgroup path shows.
    pub(super) own_id: Option<String>,
    pub(super) name_tries: u8,
    /// The same for processes of its runtime.
    pub(super) runtime_tries: u8,
    pub(super) log_tries: u8,
    /// Whether its cgroup is in a pod, as far as its path shows.
    pub(super) in_pod: bool,
    pub(super) evidence: Evidence,
    /// The first incarnation, if this container is a restart.
    pub(super) same_as: Option<ContainerIndex>,
    /// Its restart number, if its pod's logs show it.
    pub(super) restart: Option<u32>,
    /// The last pass in which a process of it lived.
    pub(super) lived: u64,
    /// Its runtime, if the cgroup path shows it.
    pub runtime: Option<Runtime>,
    /// UID of its pod.
    pub pod_uid: Option<String>,
    /// The content of `/proc/[pid]/cgroup` of the first process seen in it.
    pub cgroup_content: Vec<u8>,
}

impl Container {
    /// A container of which only the key is known.
    pub(super) fn new(key: ContainerKey) -> Self {
        Self {
            key,
            mapped_name: None,
            pod_name: None,
            role: None,
            own_id: None,
            name_tries: 0,
            runtime_tries: 0,
            log_tries: 0,
            in_pod: false,
            evidence: Evidence::default(),
            same_as: None,
            restart: None,
            lived: 0,
            runtime: None,
            pod_uid: None,
            cgroup_content: Vec::new(),
        }
    }

    /// Its name: the mapped one, else the one in its pod, else its role, else its short id, else a fixed one such as
    /// `host`.
    pub fn name(&self) -> &str {
        let given = self.mapped_name.as_deref().or(self.pod_name.as_deref()).or(self.role.as_deref());
        given.unwrap_or(match &self.key {
            _ if self.id().is_some() => self.id().map_or("", |id| id.get(..SHORT_ID).unwrap_or(id)),
            ContainerKey::Kernel => "kernel",
            ContainerKey::Pod(_) => "pod",
            ContainerKey::Shared => "shared",
            ContainerKey::Rest => "(other)",
            _ => "host",
        })
    }

    /// Its id, if it has one.
    pub fn id(&self) -> Option<&str> {
        match &self.key {
            ContainerKey::Id(id) => Some(id),
            _ => self.own_id.as_deref(),
        }
    }

    /// Whether it is a container, and not the machine's processes, kernel threads or a whole command.
    pub fn is_in_container(&self) -> bool {
        matches!(
            self.key,
            ContainerKey::Id(_) | ContainerKey::Own | ContainerKey::Pod(_) | ContainerKey::Shared
        )
    }

    /// The cgroup whose own files cover this container and nothing else.
    pub fn cgroup(&self) -> CgroupKind<'_> {
        match &self.key {
            ContainerKey::Id(id) => CgroupKind::Container(id),
            ContainerKey::Path(path) => CgroupKind::Path(path),
            ContainerKey::Own => CgroupKind::Own,
            ContainerKey::Pod(_)
            | ContainerKey::Shared
            | ContainerKey::Host
            | ContainerKey::Kernel
            | ContainerKey::Rest => CgroupKind::None,
        }
    }
}
