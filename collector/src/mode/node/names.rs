//! Names of containers, from the logs of their pods.

use super::follow::Finder;
use super::groups::{GroupKey, Groups};

impl Groups<Finder> {
    /// Names containers that nothing else names by the logs of their pods. Those that are too short for anything but the
    /// eBPF program's word have them, too.
    pub(super) fn name_by_logs(&mut self) {
        let nameless: Vec<_> = self
            .iter_mut()
            .filter(|(_, group)| matches!(group.key, GroupKey::Pod(_)))
            .map(|(number, group)| (number, group.containers.nameless()))
            .filter(|(_, nameless)| !nameless.is_empty())
            .collect();
        if nameless.is_empty() {
            return;
        }
        let (logs, list) = self.found_and_list();
        let links = logs.logs.links();
        for (number, nameless) in nameless {
            let Some(group) = list.get_mut(&number) else { continue };
            let mut left = false;
            for (index, id) in nameless {
                match links.container(&id) {
                    Some(linked) => group.containers.name(index, linked),
                    None => left = true,
                }
            }
            if left {
                group.containers.name_what_is_left(&logs.logs.of_pod(group.key.id()));
            }
        }
    }
}
