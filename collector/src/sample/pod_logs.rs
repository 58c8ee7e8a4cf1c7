//! The kubelet's log directories, which name pods and containers without asking anybody:
//! `/var/log/pods/<namespace>_<pod>_<uid>/<container>/`, and beside it
//! `/var/log/containers/<pod>_<namespace>_<container>-<container id>.log`.

use std::fs;
use std::path::{Path, PathBuf};

/// So many entries of a directory are looked at.
const MAX_ENTRIES: usize = 20_000;

/// A pod by its log directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub pod: String,
}

/// Where the logs are.
#[derive(Debug)]
pub struct PodLogs {
    pods: PathBuf,
    containers: PathBuf,
}

impl PodLogs {
    /// Below this directory, or nowhere if it is not there.
    pub fn at(pods: &Path) -> Self {
        let containers = pods.parent().unwrap_or(pods).join("containers");
        Self { pods: pods.to_owned(), containers }
    }

    /// What the pod with this UID is called.
    pub fn pod(&self, uid: &str) -> Option<PodName> {
        names(&self.pods).find_map(|name| pod_name(&name, uid))
    }

    /// What the pod calls the container with this id. Where no link tells, it is the one of the pod's containers that is
    /// none of those with another name already (`taken`), if there is only one.
    pub fn container(&self, uid: &str, id: &str, taken: &[&str]) -> Option<String> {
        let link = names(&self.containers).find_map(|name| container_name(&name, id));
        link.or_else(|| {
            let directory = names(&self.pods).find(|name| pod_name(name, uid).is_some())?;
            let of_pod = names(&self.pods.join(directory));
            let mut left = of_pod.filter(|name| !taken.contains(&name.as_str()));
            left.next().filter(|_| left.next().is_none())
        })
    }
}

/// Namespace and pod of a directory of this UID; neither has an underscore in it.
fn pod_name(directory: &str, uid: &str) -> Option<PodName> {
    let mut parts = directory.split('_');
    let (namespace, pod, found) = (parts.next()?, parts.next()?, parts.next()?);
    let whole = parts.next().is_none() && found == uid && !namespace.is_empty() && !pod.is_empty();
    whole.then(|| PodName { namespace: namespace.to_owned(), pod: pod.to_owned() })
}

/// The container of a link for this id.
fn container_name(link: &str, id: &str) -> Option<String> {
    let name = link.strip_suffix(".log")?.strip_suffix(id)?.strip_suffix('-')?;
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
    fn a_container_is_named_by_its_link_or_by_what_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let pods = directory.path().join("pods");
        let logs = PodLogs::at(&pods);
        assert_eq!((logs.pod(UID), logs.container(UID, "x", &[])), (None, None));
        for container in ["runner", "dind"] {
            fs::create_dir_all(pods.join(format!("ci_runner-x7_{UID}/{container}"))).unwrap();
        }
        assert_eq!(logs.pod(UID).unwrap().pod, "runner-x7");
        let id = "c".repeat(64);
        assert_eq!(logs.container(UID, &id, &[]), None, "it could be either");
        assert_eq!(logs.container(UID, &id, &["dind"]).as_deref(), Some("runner"));
        let links = directory.path().join("containers");
        fs::create_dir(&links).unwrap();
        fs::write(links.join(format!("runner-x7_ci_dind-{id}.log")), "").unwrap();
        assert_eq!(logs.container(UID, &id, &[]).as_deref(), Some("dind"));
    }
}
