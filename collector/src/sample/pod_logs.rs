//! The kubelet's log directories, which name pods and containers without any request:
//! `/var/log/pods/<namespace>_<pod>_<uid>/<container>/`, and beside it
//! `/var/log/containers/<pod>_<namespace>_<container>-<container id>.log`.

use std::fs;
use std::path::{Path, PathBuf};

/// At most this many entries of a directory are read.
const MAX_ENTRIES: usize = 20_000;
/// Longest file name, in bytes; the kubelet cuts longer ones.
const MAX_FILE_NAME: usize = 255;
/// Digits that are enough to distinguish an id from others.
const SHORT_ID: usize = 12;

/// A pod's names, from its log directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub pod: String,
}

/// What a link says about a container's id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkedName {
    /// Its name in the pod.
    pub container: String,
    /// The number of the restart, 0 for none; `None` if the link's target does not show it.
    pub restart: Option<u32>,
}

/// A directory that the kubelet creates for a container before the container itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogDirectory {
    /// Its name in the pod.
    pub container: String,
    /// Whether it has been restarted, which adds an id but no directory.
    pub restarted: bool,
}

/// The log directories.
#[derive(Debug)]
pub struct PodLogs {
    pods: PathBuf,
    containers: PathBuf,
}

impl PodLogs {
    /// The logs below this directory; none if it does not exist.
    pub fn at(pods: &Path) -> Self {
        let containers = pods.parent().unwrap_or(pods).join("containers");
        Self { pods: pods.to_owned(), containers }
    }

    /// The names of the pod with this UID.
    pub fn pod(&self, uid: &str) -> Option<PodName> {
        names(&self.pods).find_map(|name| pod_name(&name, uid))
    }

    /// The current links. The kubelet creates each once it has started the container. A sandbox has none.
    pub fn links(&self) -> Links<'_> {
        Links { directory: &self.containers, names: names(&self.containers).collect() }
    }

    /// The directories of this pod's containers; a container that has not started yet may have none.
    pub fn of_pod(&self, uid: &str) -> Vec<LogDirectory> {
        let Some(pod) = names(&self.pods).find(|name| pod_name(name, uid).is_some()) else {
            return Vec::new();
        };
        let directory = self.pods.join(pod);
        let of_container = |container: String| {
            let restarted = names(&directory.join(&container)).any(|file| {
                file.split('.').next().and_then(|number| number.parse().ok()).is_some_and(|n: u32| n > 0)
            });
            LogDirectory { container, restarted }
        };
        names(&directory).map(of_container).collect()
    }
}

/// The links at one moment.
#[derive(Debug)]
pub struct Links<'a> {
    directory: &'a Path,
    names: Vec<String>,
}

impl Links<'_> {
    /// The name of the container with this id.
    pub fn container(&self, id: &str) -> Option<LinkedName> {
        let link = self.names.iter().find(|name| names_id(name, id))?;
        let target = fs::read_link(self.directory.join(link)).ok();
        let (by_target, restart) = target.as_deref().map(of_target).unwrap_or_default();
        // A name that was cut off to fit lacks the end of the id, or all of it and more.
        let container = by_target.or_else(|| container_name(link, id))?;
        Some(LinkedName { container, restart })
    }
}

/// Namespace and pod of this UID's directory; neither contains an underscore.
fn pod_name(directory: &str, uid: &str) -> Option<PodName> {
    let mut parts = directory.split('_');
    let (namespace, pod, found) = (parts.next()?, parts.next()?, parts.next()?);
    let whole = parts.next().is_none() && found == uid && !namespace.is_empty() && !pod.is_empty();
    whole.then(|| PodName { namespace: namespace.to_owned(), pod: pod.to_owned() })
}

/// Whether a link belongs to this id. The kubelet cuts names at 255 bytes, and the id is at the end: the rest of it must be
/// enough to distinguish it from others.
fn names_id(link: &str, id: &str) -> bool {
    let Some((_, end)) = link.strip_suffix(".log").and_then(|name| name.rsplit_once('-')) else {
        return false;
    };
    end == id || (link.len() == MAX_FILE_NAME && end.len() >= SHORT_ID && id.starts_with(end))
}

/// Container and restart of `…/<namespace>_<pod>_<uid>/<container>/<restart>.log`.
fn of_target(target: &Path) -> (Option<String>, Option<u32>) {
    let restart = target.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
    let container = target.parent().and_then(Path::file_name).and_then(|name| name.to_str());
    (container.filter(|_| restart.is_some()).map(ToOwned::to_owned), restart)
}

/// The container's name in a link for this id.
fn container_name(link: &str, id: &str) -> Option<String> {
    let (name, end) = link.strip_suffix(".log")?.rsplit_once('-')?;
    if !id.starts_with(end) {
        return None;
    }
    let name = name.splitn(3, '_').nth(2)?;
    (!name.is_empty()).then(|| name.to_owned())
}

fn names(directory: &Path) -> impl Iterator<Item = String> + use<> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten().take(MAX_ENTRIES);
    entries.filter_map(|entry| entry.file_name().into_string().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "e50f2933-b36b-4e3b-89b1-280707f7bc53";

    #[test]
    fn names_are_taken_apart() {
        let pod = pod_name(&format!("ci_runner-x7_{UID}"), UID).unwrap();
        assert_eq!((pod.namespace.as_str(), pod.pod.as_str()), ("ci", "runner-x7"));
        for other in ["ci_runner_1", "ci_runner", "_x_e50f2933-b36b-4e3b-89b1-280707f7bc53", ""] {
            assert_eq!(pod_name(other, UID), None, "{other}");
        }
        let id = "a".repeat(64);
        let link = format!("runner-x7_ci_step-one-{id}.log");
        assert_eq!(container_name(&link, &id).as_deref(), Some("step-one"));
        assert_eq!(container_name(&link, &"b".repeat(64)), None);
        assert_eq!(container_name(&format!("-{id}.log"), &id), None);
    }

    #[test]
    fn a_container_is_named_by_its_link_and_a_pod_by_its_directory() {
        let directory = tempfile::tempdir().unwrap();
        let pods = directory.path().join("pods");
        let logs = PodLogs::at(&pods);
        let id = "c".repeat(64);
        assert_eq!((logs.pod(UID), logs.links().container(&id), logs.of_pod(UID)), (None, None, vec![]));
        let pod = format!("ci_runner-x7_{UID}");
        for (container, file) in [("runner", "0.log"), ("dind", "1.log.20260101-000000.gz")] {
            fs::create_dir_all(pods.join(&pod).join(container)).unwrap();
            fs::write(pods.join(&pod).join(container).join(file), "").unwrap();
        }
        assert_eq!(logs.pod(UID).unwrap().pod, "runner-x7");
        let mut found = logs.of_pod(UID);
        found.sort_by(|one, other| one.container.cmp(&other.container));
        let expected = [("dind", true), ("runner", false)]
            .map(|(container, restarted)| LogDirectory { container: container.to_owned(), restarted });
        assert_eq!(found, expected);
        let links = directory.path().join("containers");
        fs::create_dir(&links).unwrap();
        let link = |name: &str, target: &str| std::os::unix::fs::symlink(target, links.join(name)).unwrap();
        link(&format!("runner-x7_ci_dind-{id}.log"), &format!("/var/log/pods/{pod}/dind/2.log"));
        let expected = LinkedName { container: "dind".to_owned(), restart: Some(2) };
        assert_eq!(logs.links().container(&id), Some(expected));
        // If it is a file, its name is the only source.
        let other = "d".repeat(64);
        fs::write(links.join(format!("runner-x7_ci_step-one-{other}.log")), "").unwrap();
        let expected = LinkedName { container: "step-one".to_owned(), restart: None };
        assert_eq!(logs.links().container(&other), Some(expected));
    }

    #[test]
    fn a_link_whose_name_was_cut_off_is_known_by_what_is_left_of_its_id() {
        let directory = tempfile::tempdir().unwrap();
        let logs = PodLogs::at(&directory.path().join("pods"));
        let links = directory.path().join("containers");
        fs::create_dir(&links).unwrap();
        let id = "0123456789abcdef".repeat(4);
        let whole = format!("{}_ci_build-{id}", "p".repeat(200));
        std::os::unix::fs::symlink("/x/ci_p_u/build/0.log", links.join(format!("{}.log", &whole[..251])))
            .unwrap();
        let expected = LinkedName { container: "build".to_owned(), restart: Some(0) };
        assert_eq!(logs.links().container(&id), Some(expected));
        assert_eq!(logs.links().container(&format!("f{}", &id[1..])), None);
    }
}
