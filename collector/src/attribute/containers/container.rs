//! One container: what makes it one, and what it is called.

use serde::{Deserialize, Serialize};

use super::part::Evidence;
use crate::attribute::ContainerIndex;
use crate::attribute::identity::Runtime;

/// An id is shown as its first twelve digits, as Docker does.
const SHORT_ID: usize = 12;

/// What makes two cgroups the same container.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) enum ContainerKey {
    /// A container's id.
    Id(String),
    /// A cgroup that `CGROUP_PROCESS_MAP` gave a name, and all below it.
    Path(String),
    /// The root of the collector's own cgroup namespace.
    Own,
    /// Everything in the pod of this UID and in none of its containers.
    Pod(String),
    /// Everything in no container.
    Host,
    /// Kernel threads.
    Kernel,
    /// What came when there were too many to tell apart.
    Rest,
}

/// Which cgroup a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupKind<'a> {
    /// That of the container with this id.
    Container(&'a str),
    /// This one.
    Path(&'a str),
    /// The root of the collector's own cgroup namespace.
    Own,
    /// None.
    None,
}

/// One container of the run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Container {
    pub(super) key: ContainerKey,
    pub(super) mapped_name: Option<String>,
    pub(super) pod_name: Option<String>,
    /// What it does for the job, where nobody gives it a name.
    pub(super) role: Option<String>,
    /// The id of the collector's own container, which no cgroup path shows.
    pub(super) own_id: Option<String>,
    pub(super) name_tries: u8,
    pub(super) log_tries: u8,
    /// Whether its cgroup is in a pod, as far as its path tells.
    pub(super) in_pod: bool,
    pub(super) evidence: Evidence,
    /// The container that this one is after a restart.
    pub(super) same_as: Option<ContainerIndex>,
    /// The how many-th restart it is, where its pod's logs tell.
    pub(super) restart: Option<u32>,
    /// The last pass in which something of it lived.
    pub(super) lived: u64,
    /// Its runtime, where the cgroup path tells it.
    pub runtime: Option<Runtime>,
    /// UID of its pod.
    pub pod_uid: Option<String>,
    /// What `/proc/[pid]/cgroup` held for the first process seen in it.
    pub cgroup_content: Vec<u8>,
}

impl Container {
    /// One of which nothing is known yet but what makes it one.
    pub(super) fn new(key: ContainerKey) -> Self {
        Self {
            key,
            mapped_name: None,
            pod_name: None,
            role: None,
            own_id: None,
            name_tries: 0,
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

    /// Its name: as mapped, else as its pod calls it, else by its role, else its short id, else `host`.
    pub fn name(&self) -> &str {
        let given = self.mapped_name.as_deref().or(self.pod_name.as_deref()).or(self.role.as_deref());
        given.unwrap_or(match &self.key {
            _ if self.id().is_some() => self.id().map_or("", |id| id.get(..SHORT_ID).unwrap_or(id)),
            ContainerKey::Kernel => "kernel",
            ContainerKey::Pod(_) => "pod",
            ContainerKey::Rest => "(other)",
            _ => "host",
        })
    }

    /// Its id, for what is one.
    pub fn id(&self) -> Option<&str> {
        match &self.key {
            ContainerKey::Id(id) => Some(id),
            _ => self.own_id.as_deref(),
        }
    }

    /// Which cgroup's own files tell about it and nothing else.
    pub fn cgroup(&self) -> CgroupKind<'_> {
        match &self.key {
            ContainerKey::Id(id) => CgroupKind::Container(id),
            ContainerKey::Path(path) => CgroupKind::Path(path),
            ContainerKey::Own => CgroupKind::Own,
            ContainerKey::Pod(_) | ContainerKey::Host | ContainerKey::Kernel | ContainerKey::Rest => {
                CgroupKind::None
            }
        }
    }
}
