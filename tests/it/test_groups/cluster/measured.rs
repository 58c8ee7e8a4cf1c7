//! A pod's measured figures, compared with the kernel's account of its containers.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use wire::Payload;

use super::account::{Account, Figures};
use super::asked::{apply, container_ids, on_node};
use super::kinds::Kind;

/// The allowed difference from the kernel's account.
#[derive(Debug, Clone, Copy)]
pub(super) struct Within {
    /// As a share of the kernel's account, in both directions.
    pub(super) share: f64,
    /// In seconds, in addition to the share.
    pub(super) least: f64,
}

/// The allowed difference wherever the kernel's account of a container can be read.
pub(super) const EXACT: Within = Within { share: 0.005, least: 0.005 };
/// The same while many other tests run: the kernel's account is then read late, too.
pub(super) const BUSY: Within = Within { share: 0.02, least: 0.02 };

/// The variables that identify a job, as a runner sets them for its processes.
pub(super) fn identity(job: &str, run_id: &str) -> Value {
    json!([
        {"name": "GITHUB_REPOSITORY_OWNER", "value": "my-org"},
        {"name": "GITHUB_REPOSITORY", "value": "my-org/my-repo"},
        {"name": "GITHUB_WORKFLOW", "value": "ci.yml"},
        {"name": "GITHUB_JOB", "value": job},
        {"name": "GITHUB_RUN_ID", "value": run_id},
    ])
}

/// Creates a pod of a kind.
pub(super) fn start(namespace: &str, pod: &str, spec: &Value) {
    apply(&json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": pod, "namespace": namespace}, "spec": spec,
    }));
}

/// The spec of a kind, with the job's identity in every container.
pub(super) fn with_identity(kind: &Kind, job: &str, run_id: &str) -> Value {
    let mut spec = kind.spec.clone();
    for list in ["initContainers", "containers"] {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            container["env"] = identity(job, run_id);
        }
    }
    spec
}

/// The kernel's figures of a pod's containers by name, restarts included.
pub(super) fn kernel(account: &Account, pod: &Value) -> BTreeMap<String, Figures> {
    let names = ["initContainers", "containers"];
    let names = names.iter().filter_map(|list| pod["spec"][list].as_array()).flatten();
    let names = names.map(|container| container["name"].as_str().unwrap().to_owned());
    let names: Vec<String> = names.collect();
    let told: Vec<String> = names.iter().flat_map(|name| container_ids(pod, name)).collect();
    names
        .iter()
        .cloned()
        .map(|name| {
            let mut ids = container_ids(pod, &name);
            assert!(!ids.is_empty(), "the status of the pod tells no id of {name}: {pod:#}");
            // A status does not show all restarts.
            if restarts(pod, &name) > 0 {
                let sandboxes =
                    on_node("ctr --namespace=k8s.io containers list | awk '$2 ~ /pause/ { print $1 }'");
                let uid = pod["metadata"]["uid"].as_str().unwrap();
                let others = account.of_pod(uid).into_iter();
                ids.extend(others.filter(|id| !told.contains(id) && !sandboxes.contains(id.as_str())));
            }
            let all = ids.iter().filter_map(|id| account.of(id));
            let sum = all.fold(Figures::default(), |sum, one| Figures {
                cpu_seconds: sum.cpu_seconds + one.cpu_seconds,
                memory_peak_bytes: sum.memory_peak_bytes.max(one.memory_peak_bytes),
                oom_kills: sum.oom_kills + one.oom_kills,
            });
            assert!(sum.cpu_seconds > 0.0, "the kernel's account of {name} was not seen: {ids:?}");
            (name, sum)
        })
        .collect()
}

fn restarts(pod: &Value, name: &str) -> u64 {
    let lists = ["initContainerStatuses", "containerStatuses"];
    let mut all = lists.iter().filter_map(|list| pod["status"][list].as_array()).flatten();
    all.find(|one| one["name"] == name).and_then(|one| one["restartCount"].as_u64()).unwrap_or(0)
}

impl Within {
    /// Whether two CPU times agree within the allowed difference.
    pub(super) fn agree(self, ours: f64, kernel: f64) -> bool {
        (ours - kernel).abs() <= kernel * self.share + self.least
    }
}

/// The differences between a summary's and the kernel's CPU times of a pod's containers.
pub(super) fn wrong_cpu(
    summary: &Payload,
    kernel: &BTreeMap<String, Figures>,
    within: Within,
) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, figures) in kernel {
        let rows: Vec<_> = summary.containers.iter().filter(|row| row.name == *name).collect();
        let [row] = rows[..] else {
            wrong.push(format!("{name}: {} rows of this name", rows.len()));
            continue;
        };
        let ours = row.cpu_seconds.unwrap_or_default();
        if !within.agree(ours, figures.cpu_seconds) {
            let share = ours / figures.cpu_seconds * 100.0;
            wrong.push(format!(
                "{name}: {ours:.3} of {:.3} s ({share:.1} %); cgroup {:?}, unnamed {:?}, {:?}; {:?}, {:?}",
                figures.cpu_seconds,
                row.cgroup_cpu_seconds,
                row.unnamed_cpu_seconds,
                row.cpu_certainty,
                summary.collector,
                summary.attribution,
            ));
        }
    }
    for row in &summary.containers {
        if !kernel.contains_key(&row.name) {
            wrong.push(format!(
                "{}: no container of the pod, {:.3} s",
                row.name,
                row.cpu_seconds.unwrap_or_default()
            ));
        }
    }
    wrong
}
