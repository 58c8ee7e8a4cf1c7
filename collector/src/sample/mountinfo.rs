//! `/proc/[pid]/mountinfo` (`proc_pid_mountinfo(5)`). The kubelet mounts a container's termination log from a directory
//! that names the pod and the container. Docker mounts a container's `hostname` from one that names the container. Each
//! runtime of a kubelet mounts `resolv.conf` from one that names the pod's sandbox, in the sandbox itself and in each
//! container.

/// The names in the kubelet's mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodMount {
    /// UID of the pod.
    pub pod_uid: String,
    /// Name of the container in its pod.
    pub container: String,
}

/// The pod and the container's name, from a mount of `…/pods/<uid>/containers/<name>/<file>`, wherever it is mounted.
pub fn pod_mount(content: &[u8]) -> Option<PodMount> {
    roots(content).find_map(|root| {
        let parts: Vec<&str> = root.split('/').collect();
        parts.windows(5).find_map(|window| match window {
            ["pods", uid, "containers", name, _file] if !uid.is_empty() && !name.is_empty() => {
                Some(PodMount { pod_uid: (*uid).to_owned(), container: (*name).to_owned() })
            }
            _ => None,
        })
    })
}

/// UID of the pod, from any kubelet mount in one of its containers: `…/pods/<uid>/containers/…`, `…/pods/<uid>/etc-hosts`,
/// `…/pods/<uid>/volumes/…`. A sandbox has no such mount.
pub fn kubelet_pod(content: &[u8]) -> Option<String> {
    roots(content).find_map(|root| {
        let parts: Vec<&str> = root.split('/').collect();
        parts.windows(3).find_map(|window| match window {
            ["pods", uid, "containers" | "etc-hosts" | "volumes" | "volume-subpaths"] if !uid.is_empty() => {
                Some((*uid).to_owned())
            }
            _ => None,
        })
    })
}

/// The runtime that keeps a container's `resolv.conf` and `hostname`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeper {
    /// containerd, only for a kubelet, in `…/sandboxes/<id>/`.
    Containerd,
    /// CRI-O and Podman, in `…/overlay-containers/<id>/userdata/`.
    Storage,
    /// Docker, in `…/containers/<id>/`.
    Docker,
}

/// Ids of containers whose `resolv.conf` or `hostname` is mounted there. For a container of a pod, this is the sandbox.
pub fn network_owners(content: &[u8]) -> Vec<(Keeper, String)> {
    let mut owners: Vec<(Keeper, String)> = Vec::new();
    for root in roots(content) {
        let parts: Vec<&str> = root.split('/').collect();
        let [.., before, one, two, file] = parts[..] else { continue };
        let (keeper, id) = match (before, one, two) {
            (_, "sandboxes", id) => (Keeper::Containerd, id),
            (_, "containers", id) => (Keeper::Docker, id),
            (storage, id, "userdata") if storage.ends_with("-containers") => (Keeper::Storage, id),
            _ => continue,
        };
        let of_network = matches!(file, "hostname" | "hosts" | "resolv.conf");
        if of_network && is_id(id) && !owners.iter().any(|(_, owner)| owner == id) {
            owners.push((keeper, id.to_owned()));
        }
    }
    owners
}

fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The id of a Docker container, from a mount of `…/containers/<64 hex digits>/hostname` and the like.
///
/// A mount of `sandboxes/<id>/hostname` does not count: it names the pod's pause container.
pub fn docker_id(content: &[u8]) -> Option<String> {
    roots(content).find_map(|root| {
        let parts: Vec<&str> = root.split('/').collect();
        parts.windows(3).find_map(|window| match window {
            ["containers", id, "hostname" | "hosts" | "resolv.conf"] if is_id(id) => Some((*id).to_owned()),
            _ => None,
        })
    })
}

/// The fourth field of each line (the mounted part of the file system), unescaped.
fn roots(content: &[u8]) -> impl Iterator<Item = String> {
    content.split(|&byte| byte == b'\n').filter_map(|line| {
        let root = line.split(|&byte| byte == b' ').nth(3)?;
        Some(String::from_utf8_lossy(&unescape(root)).into_owned())
    })
}

/// Undoes `\040` and the like (`mangle_path` of `fs/seq_file.c`).
pub fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let octal = (byte == b'\\').then(|| tail.get(..3)).flatten();
        let octal = octal.filter(|digits| digits.iter().all(|digit| (b'0'..=b'7').contains(digit)));
        if let Some(digits) = octal {
            plain.push(
                digits.iter().fold(0u8, |value, digit| value.wrapping_mul(8).wrapping_add(digit - b'0')),
            );
            rest = &tail[3..];
        } else {
            plain.push(byte);
            rest = tail;
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_the_termination_log_wherever_the_kubelet_keeps_it() {
        let cases = [
            (
                "2783 2777 8:1 /var/lib/kubelet/pods/e50f2933-b36b-4e3b-89b1-280707f7bc53/containers/bash2/3404dd90 /dev/termination-log rw,relatime - ext4 /dev/sda1 rw",
                "bash2",
            ),
            (
                "2324 1443 253:3 /data/kubelet/pods/94598a35-ad1e-4a00-91b1-1db37e8f52f6/containers/tikv/0981845c /dev/termination-log rw - xfs /dev/vg1 rw",
                "tikv",
            ),
            (
                "571 566 254:1 /docker/volumes/minikube/_data/lib/kubelet/pods/u/containers/my-shell/0447d6c5 /x rw - ext4 /dev/vda1 rw",
                "my-shell",
            ),
            ("1 2 8:1 /kub\\040elet/pods/u/containers/a\\040b/1 /x rw - ext4 /dev/sda1 rw", "a b"),
        ];
        for (line, name) in cases {
            let content = format!("22 1 0:21 / /proc rw - proc proc rw\n{line}\n");
            assert_eq!(pod_mount(content.as_bytes()).unwrap().container, name);
        }
        let mount = pod_mount(cases[0].0.as_bytes()).unwrap();
        assert_eq!(mount.pod_uid, "e50f2933-b36b-4e3b-89b1-280707f7bc53");
    }

    #[test]
    fn each_runtime_names_the_sandbox() {
        let (sandbox, own) = ("a".repeat(64), "b".repeat(64));
        let line = |root: &str| format!("1 2 8:1 {root} /x rw - ext4 d rw\n");
        let storage = "/containers/storage/overlay-containers";
        for (keeper, mounts) in [
            // containerd with its state in the usual place, and in k3s's.
            (
                Keeper::Containerd,
                line(&format!(
                    "/var/lib/containerd/io.containerd.grpc.v1.cri/sandboxes/{sandbox}/resolv.conf"
                )),
            ),
            (
                Keeper::Containerd,
                line(&format!(
                    "/k3s/agent/containerd/io.containerd.grpc.v1.cri/sandboxes/{sandbox}/hostname"
                )),
            ),
            // CRI-O on a tmpfs at /run; its mounts for the container itself are different.
            (
                Keeper::Storage,
                line(&format!("{storage}/{sandbox}/userdata/resolv.conf"))
                    + &line(&format!("{storage}/{sandbox}/userdata/hostname"))
                    + &line(&format!("{storage}/{own}/userdata/run/secrets")),
            ),
            (Keeper::Docker, line(&format!("/var/lib/docker/containers/{sandbox}/resolv.conf"))),
        ] {
            assert_eq!(network_owners(mounts.as_bytes()), [(keeper, sandbox.clone())], "{mounts}");
            assert_eq!(kubelet_pod(mounts.as_bytes()), None);
        }
        let short = b"1 2 8:1 /x/sandboxes/abc/resolv.conf /etc/resolv.conf rw - ext4 d rw\n1 2 8:1 / / rw - ext4 d rw\n";
        assert!(network_owners(short).is_empty());
    }

    #[test]
    fn what_a_kubelet_mounts_tells_the_pod() {
        for root in [
            "containers/build/0a1b",
            "etc-hosts",
            "volumes/kubernetes.io~empty-dir/x",
            "volume-subpaths/v/c/0",
        ] {
            let mount = format!("1 2 8:1 /var/lib/kubelet/pods/u-1/{root} /x rw - ext4 d rw\n");
            assert_eq!(kubelet_pod(mount.as_bytes()).as_deref(), Some("u-1"), "{root}");
        }
        assert_eq!(kubelet_pod(b"1 2 8:1 /srv/pods/list /x rw - ext4 d rw\n"), None);
    }

    #[test]
    fn other_mounts_tell_nothing() {
        for line in [
            "1 2 8:1 /var/lib/kubelet/pods/u/volumes/x/containers /x rw - ext4 d rw",
            "1 2 8:1 /pods//containers//1 /x rw - ext4 d rw",
            "1 2 3",
            "",
        ] {
            assert_eq!(pod_mount(line.as_bytes()), None);
            assert_eq!(docker_id(line.as_bytes()), None);
        }
        let sandbox = format!(
            "1 2 8:1 /var/lib/containerd/sandboxes/{}/hostname /etc/hostname rw - ext4 d rw",
            "a".repeat(64)
        );
        assert_eq!(docker_id(sandbox.as_bytes()), None);
        let docker = format!(
            "1 2 8:1 /var/lib/docker/containers/{}/hostname /etc/hostname rw - ext4 d rw",
            "a".repeat(64)
        );
        assert_eq!(docker_id(docker.as_bytes()), Some("a".repeat(64)));
    }
}
