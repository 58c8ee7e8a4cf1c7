//! Paths of the cgroups that the eBPF program reported, by the ids in its records.

use std::collections::HashMap;

use collector_ebpf::{CgroupIds, CgroupRecord, NAME_LEN};

/// How many cgroups are remembered, plus up to as many that were not needed lately. The program itself remembers 4,096
/// cgroups and reports a forgotten one again.
const RECENT: usize = 8_192;

#[derive(Debug, PartialEq, Eq, Hash, Clone, Copy)]
struct Id {
    id: u64,
    v1: bool,
}

/// Paths from the roots of the mounted hierarchies downwards.
#[derive(Debug)]
pub(super) struct CgroupPaths {
    roots: CgroupIds,
    recent: HashMap<Id, String>,
    older: HashMap<Id, String>,
}

impl CgroupPaths {
    pub(super) fn new(roots: CgroupIds) -> Self {
        Self { roots, recent: HashMap::new(), older: HashMap::new() }
    }

    pub(super) fn learn(&mut self, record: &CgroupRecord) {
        let v1 = record.v1 == 1;
        let root = if v1 { self.roots.v1 } else { self.roots.unified };
        self.keep(Id { id: record.ids[0], v1 }, path(record, root));
    }

    /// The content that `/proc/[pid]/cgroup` would have.
    pub(super) fn content(&mut self, ids: CgroupIds) -> Option<Vec<u8>> {
        let mut content = String::new();
        for (id, v1, start) in [(ids.v1, true, "1:cpuacct:"), (ids.unified, false, "0::")] {
            let Some(path) = self.path(Id { id, v1 }) else { continue };
            content.push_str(start);
            content.push_str(path);
            content.push('\n');
        }
        (!content.is_empty()).then(|| content.into_bytes())
    }

    fn path(&mut self, id: Id) -> Option<&str> {
        if let Some(path) = self.older.remove(&id) {
            self.keep(id, path);
        }
        self.recent.get(&id).map(String::as_str)
    }

    fn keep(&mut self, id: Id, path: String) {
        if self.recent.len() >= RECENT {
            self.older = std::mem::take(&mut self.recent);
        }
        self.recent.insert(id, path);
    }
}

/// The path from the cgroup with the id `root` if that is an ancestor, otherwise from the hierarchy's root.
fn path(record: &CgroupRecord, root: u64) -> String {
    let levels = record.names.iter().zip(&record.ids).take(record.depth as usize);
    let below: Vec<_> = levels.take_while(|(_, id)| **id != root).map(|(name, _)| text(name)).collect();
    let path: String =
        below.iter().rev().filter(|name| !name.is_empty()).map(|name| format!("/{name}")).collect();
    if path.is_empty() { "/".to_owned() } else { path }
}

fn text(name: &[u8; NAME_LEN]) -> String {
    String::from_utf8_lossy(name.split(|&byte| byte == 0).next().unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use collector_ebpf::{PATH_DEPTH, kind};

    use super::*;

    fn record(v1: u64, levels: &[(u64, &str)]) -> CgroupRecord {
        let mut record = CgroupRecord {
            kind: kind::CGROUP,
            depth: levels.len() as u32,
            v1,
            ids: [0; PATH_DEPTH],
            names: [[0; NAME_LEN]; PATH_DEPTH],
        };
        for (at, (id, name)) in levels.iter().enumerate() {
            record.ids[at] = *id;
            record.names[at][..name.len()].copy_from_slice(name.as_bytes());
        }
        record
    }

    fn content(paths: &mut CgroupPaths, unified: u64, v1: u64) -> Option<String> {
        paths.content(CgroupIds { unified, v1 }).map(|content| String::from_utf8(content).unwrap())
    }

    #[test]
    fn a_path_reads_as_in_proc() {
        let mut paths = CgroupPaths::new(CgroupIds { unified: 1, v1: 1 });
        paths.learn(&record(0, &[(30, "job.scope"), (20, "system.slice"), (1, "")]));
        paths.learn(&record(1, &[(7, "job"), (1, "")]));
        paths.learn(&record(0, &[(1, "")]));
        assert_eq!(content(&mut paths, 30, 7).unwrap(), "1:cpuacct:/job\n0::/system.slice/job.scope\n");
        assert_eq!(content(&mut paths, 1, 0).unwrap(), "0::/\n");
        assert_eq!(content(&mut paths, 31, 8), None, "nobody told of it");
    }

    #[test]
    fn in_a_cgroup_namespace_paths_begin_at_its_root() {
        let mut paths = CgroupPaths::new(CgroupIds { unified: 20, v1: 0 });
        paths.learn(&record(0, &[(20, "abc"), (10, "docker"), (1, "")]));
        paths.learn(&record(0, &[(30, "init"), (20, "abc"), (10, "docker"), (1, "")]));
        paths.learn(&record(0, &[(21, "def"), (10, "docker"), (1, "")]));
        assert_eq!(content(&mut paths, 20, 0).unwrap(), "0::/\n");
        assert_eq!(content(&mut paths, 30, 0).unwrap(), "0::/init\n");
        assert_eq!(content(&mut paths, 21, 0).unwrap(), "0::/docker/def\n", "another container");
    }

    #[test]
    fn what_is_asked_for_is_not_forgotten() {
        let mut paths = CgroupPaths::new(CgroupIds::default());
        for id in 1..=40_000 {
            paths.learn(&record(0, &[(id, "x"), (u64::MAX, "")]));
            assert!(content(&mut paths, 1, 0).is_some());
            assert!(paths.recent.len() + paths.older.len() <= 2 * RECENT);
        }
        assert!(content(&mut paths, 2, 0).is_none());
    }
}
