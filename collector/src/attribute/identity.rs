//! Container identity from cgroup paths.
//!
//! One rule covers every form that runtimes write: a path segment names a container if the part after its last `:` is
//! `[prefix-]<64 hex digits>[.suffix]`, or `<32 hex digits>-<digits>` as ECS writes it. Mounts and conmon, which only look
//! after a container, do not count.

use serde::{Deserialize, Serialize};

use crate::sample::cgroup::CgroupLines;

/// Container runtimes that cgroup paths distinguish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Runtime {
    /// Docker Engine.
    Docker,
    /// containerd, mostly through Kubernetes' CRI.
    Containerd,
    /// CRI-O.
    Crio,
    /// Podman.
    Podman,
    /// Amazon ECS.
    Ecs,
}

impl std::fmt::Display for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Docker => "docker",
            Self::Containerd => "containerd",
            Self::Crio => "crio",
            Self::Podman => "podman",
            Self::Ecs => "ecs",
        })
    }
}

/// The location of a process according to its cgroups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// At the root of the collector's own cgroup namespace. If that is a container's private one, this is the collector's
    /// own container, otherwise no container.
    Own,
    /// In no container.
    Host {
        /// Its cgroup.
        path: String,
    },
    /// In the cgroup of a pod but in none of its containers, like the conmon that CRI-O keeps beside them.
    Pod {
        /// UID of the pod.
        uid: String,
    },
    /// In a container.
    Container(ContainerIdentity),
}

/// What a cgroup path says about a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerIdentity {
    /// The innermost container's id.
    pub id: String,
    /// The container that its use is reported for: the outermost one in its pod, or the outermost of all if the path names
    /// no pod. It differs from `id` only for Docker in Docker.
    pub container_id: String,
    /// The runtime of `container_id`.
    pub runtime: Option<Runtime>,
    /// UID of the pod.
    pub pod_uid: Option<String>,
    /// How many levels the path goes up from the reader's cgroup namespace root.
    levels_up: usize,
}

impl ContainerIdentity {
    /// Whether the path leads out of any pod: up from the reader's own container beyond its pod, or down from the root
    /// without a pod.
    pub fn leaves_pod(&self) -> bool {
        self.pod_uid.is_none() && self.levels_up != 1
    }
}

/// Locates a process by its cgroups.
///
/// On a hybrid host the container can be in the v1 hierarchies only, or in v2 only, so the line that names the most
/// containers decides.
pub fn identify(lines: &CgroupLines<'_>) -> Identity {
    let found = lines.iter().filter_map(|line| Some((container(line.path)?, line.is_unified())));
    let best =
        found.max_by_key(|((identity, depth), unified)| (*depth, identity.pod_uid.is_some(), *unified));
    if let Some(((identity, _), _)) = best {
        return Identity::Container(identity);
    }
    if let Some(uid) = lines.iter().find_map(|line| line.path.split('/').filter_map(pod).next_back()) {
        return Identity::Pod { uid };
    }
    // Without a container, the v2 path names the service if it is not the root; otherwise any line that is not the root
    // does.
    let mut paths: Vec<_> = lines.iter().map(|line| (!line.is_unified(), line.path)).collect();
    paths.sort_by_key(|(v1, path)| (is_root(path), *v1));
    match paths.first() {
        Some((_, path)) if !is_root(path) => Identity::Host { path: (*path).to_owned() },
        _ => Identity::Own,
    }
}

fn is_root(path: &str) -> bool {
    path.is_empty() || path == "/"
}

/// The container of one path, and how many containers deep it is.
fn container(path: &str) -> Option<(ContainerIdentity, usize)> {
    let mut levels_up = 0;
    let mut pod_uid = None;
    // The containers below the last pod on the path. Those above it hold the pod.
    let mut in_pod: Vec<(&str, Option<Runtime>)> = Vec::new();
    let mut depth = 0;
    let mut parent = "";
    for segment in path.split('/').filter(|segment| !segment.is_empty()) {
        if segment == ".." {
            levels_up += 1;
        }
        if let Some(uid) = pod(segment) {
            pod_uid = Some(uid);
            in_pod.clear();
        }
        if let Some((id, runtime)) = container_segment(segment, parent) {
            in_pod.push((id, runtime));
            depth += 1;
        }
        parent = segment;
    }
    let (id, _) = *in_pod.last()?;
    let (container_id, runtime) = in_pod[0];
    let identity = ContainerIdentity {
        id: id.to_owned(),
        container_id: container_id.to_owned(),
        runtime,
        pod_uid,
        levels_up,
    };
    Some((identity, depth))
}

/// Id and runtime, if this segment names a container.
fn container_segment<'a>(segment: &'a str, parent: &str) -> Option<(&'a str, Option<Runtime>)> {
    if segment.ends_with(".mount") || segment.contains("-conmon-") || segment.starts_with("conmon-") {
        return None;
    }
    let (before, name) = match segment.rsplit_once(':') {
        Some((before, name)) => (before, name),
        None => ("", segment),
    };
    if is_ecs(name) {
        return Some((name, Some(Runtime::Ecs)));
    }
    let name = name.split_once('.').map_or(name, |(name, _suffix)| name);
    let (prefix, id) = name.rsplit_once('-').unwrap_or(("", name));
    if id.len() != 64 || !id.bytes().all(is_lower_hex) {
        return None;
    }
    let hint = |text: &str| {
        Some(match text.rsplit(':').next().unwrap_or(text) {
            text if text.starts_with("cri-containerd") || text == "containerd" => Runtime::Containerd,
            text if text.starts_with("libpod") => Runtime::Podman,
            text if text.starts_with("crio") => Runtime::Crio,
            "docker" => Runtime::Docker,
            _ => return None,
        })
    };
    Some((id, [prefix, before, parent].into_iter().find_map(hint)))
}

fn is_ecs(name: &str) -> bool {
    name.split_once('-').is_some_and(|(task, number)| {
        task.len() == 32
            && task.bytes().all(is_lower_hex)
            && !number.is_empty()
            && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// The UID of a `pod<uid>` segment: a UUID, with `_` where systemd needs it, or the 32 hex digits of a static pod.
fn pod(segment: &str) -> Option<String> {
    let at = segment.rfind("pod")?;
    let before = &segment[..at];
    if !(before.is_empty() || before.ends_with('-')) {
        return None;
    }
    let uid = &segment[at + 3..];
    // A runtime may write the container behind the slice in one segment, after a colon.
    let uid = uid.split_once(':').map_or(uid, |(uid, _)| uid);
    let uid = uid.strip_suffix(".slice").unwrap_or(uid);
    if uid.len() == 32 && uid.bytes().all(is_lower_hex) {
        return Some(uid.to_owned());
    }
    let uuid = uid.replace('_', "-");
    let groups: Vec<&str> = uuid.split('-').collect();
    let is_uuid = groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
        && groups.iter().all(|group| group.bytes().all(is_lower_hex));
    is_uuid.then_some(uuid)
}

fn is_lower_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identify_text(text: &str) -> Identity {
        identify(&CgroupLines::parse(text.as_bytes()))
    }

    /// Every path form seen so far, with its expected identity.
    #[test]
    fn every_known_form_is_told() {
        let table = include_str!("../../tests/data/cgroup-paths.tsv");
        let mut rows = 0;
        for row in table.lines().skip(1) {
            let [source, path, id, runtime, pod_uid, ..] = row.split('\t').collect::<Vec<_>>()[..] else {
                panic!("{row} has too few columns")
            };
            let text = format!("0::{path}\n");
            match identify_text(&text) {
                Identity::Container(found) => {
                    assert_eq!(found.id, id, "{source}: {path}");
                    assert_eq!(found.pod_uid.unwrap_or_default(), pod_uid, "{source}: {path}");
                    let inner =
                        container_segment(path.rsplit('/').find(|part| part.contains(id)).unwrap(), {
                            let parts: Vec<&str> = path.split('/').collect();
                            let at = parts.iter().rposition(|part| part.contains(id)).unwrap();
                            if at > 0 { parts[at - 1] } else { "" }
                        });
                    let told = inner.unwrap().1.map_or(String::new(), |runtime| runtime.to_string());
                    if !runtime.is_empty() {
                        assert_eq!(told, runtime, "{source}: {path}");
                    }
                }
                Identity::Own => assert_eq!((id, runtime), ("", "self"), "{source}: {path}"),
                Identity::Host { .. } => assert_eq!((id, runtime), ("", ""), "{source}: {path}"),
                Identity::Pod { uid } => assert_eq!((id, uid.as_str()), ("", pod_uid), "{source}: {path}"),
            }
            rows += 1;
        }
        assert!(rows > 30, "only {rows} rows");
    }

    fn id(digit: char) -> String {
        digit.to_string().repeat(64)
    }

    fn found(text: &str) -> ContainerIdentity {
        match identify_text(text) {
            Identity::Container(found) => found,
            other => panic!("{text} is {other:?}"),
        }
    }

    #[test]
    fn docker_in_docker_belongs_to_the_container_in_the_pod() {
        let (dind, job) = (id('a'), id('b'));
        let sibling = found(&format!("0::/../cri-containerd-{dind}.scope/docker/{job}"));
        assert_eq!((sibling.id, sibling.container_id), (job.clone(), dind.clone()));
        let pod = "kubepods/burstable/pod6a4ce4a0-ba47-11ea-b2a7-0cc47ac5979e";
        let node = id('c');
        let kind = found(&format!("0::/docker/{node}/kubelet/{pod}/{dind}/docker/{job}"));
        assert_eq!((kind.id.as_str(), kind.container_id.as_str()), (job.as_str(), dind.as_str()));
        assert!(!kind.leaves_pod());
        assert!(found(&format!("0::/../../../docker/{job}")).leaves_pod());
        assert!(found(&format!("0::/docker/{job}")).leaves_pod());
        assert!(!found(&format!("0::/../{job}")).leaves_pod());
    }

    #[test]
    fn on_a_hybrid_host_the_line_with_the_container_decides() {
        let container = id('d');
        let v1 = format!(
            "12:memory:/kubepods/pod6a4ce4a0-ba47-11ea-b2a7-0cc47ac5979e/{container}\n0::/system.slice/containerd.service\n"
        );
        assert_eq!(found(&v1).id, container);
        let v2 = format!("5:cpu,cpuacct:/\n1:name=systemd:/\n0::/docker/{container}\n");
        assert_eq!(found(&v2).id, container);
    }

    #[test]
    fn what_looks_after_a_pods_containers_is_in_the_pod_and_in_none_of_them() {
        let (uid, id) = ("6a4ce4a0-ba47-11ea-b2a7-0cc47ac5979e", id('e'));
        let slice = format!("/kubepods.slice/kubepods-pod{}.slice", uid.replace('-', "_"));
        for path in
            [format!("{slice}/crio-conmon-{id}.scope"), slice, format!("/kubepods/besteffort/pod{uid}")]
        {
            let found = identify_text(&format!("0::{path}\n"));
            assert_eq!(found, Identity::Pod { uid: uid.to_owned() }, "{path}");
        }
    }

    #[test]
    fn no_container() {
        assert_eq!(identify_text("0::/\n"), Identity::Own);
        assert_eq!(identify_text(""), Identity::Own);
        let service = "3:cpu:/\n0::/system.slice/ssh.service\n";
        assert_eq!(identify_text(service), Identity::Host { path: "/system.slice/ssh.service".to_owned() });
        let v1_only = "3:cpu:/user.slice\n0::/\n";
        assert_eq!(identify_text(v1_only), Identity::Host { path: "/user.slice".to_owned() });
    }
}
