//! `/proc/[pid]/cgroup` (cgroups(7)): the cgroup of a process in every hierarchy, as the reader's cgroup namespace
//! shows it.

use std::path::Path;

/// Link to the machine's cgroup namespace, which has a fixed number (`PROC_CGROUP_INIT_INO` of
/// `include/linux/proc_ns.h`).
const MACHINE_NAMESPACE: &str = "cgroup:[4026531835]";

/// Whether the collector has a cgroup namespace of its own.
pub fn has_own_namespace(proc_path: &Path) -> bool {
    let namespace = std::fs::read_link(proc_path.join("self/ns/cgroup"));
    namespace.is_ok_and(|namespace| namespace.as_os_str() != MACHINE_NAMESPACE)
}

/// The lines of the file.
#[derive(Debug, Clone, Copy)]
pub struct CgroupLines<'a> {
    content: &'a [u8],
}

/// One line: `hierarchy:controllers:path`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CgroupLine<'a> {
    /// Controllers of a v1 hierarchy separated by commas, or `name=…`; empty for the v2 hierarchy.
    pub controllers: &'a str,
    /// The cgroup, relative to the root of the reader's cgroup namespace: `/`, `/x`, or `/../x` outside it.
    pub path: &'a str,
}

impl<'a> CgroupLines<'a> {
    /// Takes the whole content of the file.
    pub fn parse(content: &'a [u8]) -> Self {
        Self { content }
    }

    /// The well-formed lines, in file order.
    pub fn iter(self) -> impl Iterator<Item = CgroupLine<'a>> {
        self.content.split(|&byte| byte == b'\n').filter_map(|line| {
            // A path may hold colons; the first two end the other fields.
            let mut fields = std::str::from_utf8(line).ok()?.splitn(3, ':');
            let hierarchy = fields.next()?;
            if hierarchy.is_empty() || !hierarchy.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            Some(CgroupLine { controllers: fields.next()?, path: fields.next()? })
        })
    }
}

impl CgroupLine<'_> {
    /// Whether this is the v2 hierarchy.
    pub fn is_unified(&self) -> bool {
        self.controllers.is_empty()
    }

    /// Whether this v1 hierarchy has the controller.
    pub fn has_controller(&self, controller: &str) -> bool {
        self.controllers.split(',').any(|one| one == controller)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_on_the_first_two_colons_only() {
        let content =
            b"12:cpu,cpuacct:/kubepods.slice:cri-containerd:0ca2\n1:name=systemd:/a\n0::/b\n\nx:y:z\n7\n";
        let lines: Vec<_> = CgroupLines::parse(content).iter().collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0].path, "/kubepods.slice:cri-containerd:0ca2");
        assert!(lines[0].has_controller("cpuacct") && !lines[0].has_controller("cpus"));
        assert_eq!((lines[1].controllers, lines[1].path), ("name=systemd", "/a"));
        assert!(lines[2].is_unified());
    }
}
