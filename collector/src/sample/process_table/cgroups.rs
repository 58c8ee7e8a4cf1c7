//! Contents of `cgroup` files, each kept once.

use std::collections::{HashMap, HashSet};

/// One distinct content of `/proc/[pid]/cgroup`; see [`ProcessTable::cgroup_content`](super::ProcessTable::cgroup_content).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CgroupId(u32);

/// Every distinct content of a `cgroup` file once.
#[derive(Debug, Default)]
pub(super) struct CgroupContents {
    by_content: HashMap<Box<[u8]>, CgroupId>,
    by_id: HashMap<CgroupId, Box<[u8]>>,
    next: u32,
    /// The unused ones are dropped once there are more than this.
    sweep_at: usize,
}

impl CgroupContents {
    /// The content with this id; empty if it is unknown.
    pub(super) fn get(&self, id: CgroupId) -> &[u8] {
        self.by_id.get(&id).map_or(&[], |content| content)
    }

    /// The id of this content.
    pub(super) fn intern(&mut self, content: &[u8]) -> CgroupId {
        if let Some(&id) = self.by_content.get(content) {
            return id;
        }
        let id = CgroupId(self.next);
        self.next = self.next.wrapping_add(1);
        self.by_content.insert(content.into(), id);
        self.by_id.insert(id, content.into());
        id
    }

    /// Drops contents that are not `used`, once there are enough of them.
    pub(super) fn forget_unused(&mut self, used: impl Iterator<Item = CgroupId>) {
        if self.by_id.len() <= self.sweep_at.max(256) {
            return;
        }
        let used: HashSet<CgroupId> = used.collect();
        self.by_id.retain(|id, _| used.contains(id));
        self.by_content.retain(|_, id| used.contains(id));
        self.sweep_at = self.by_id.len() * 2;
    }
}
