//! What was measured of a pod, beside what the kernel charged to its containers.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use wire::Payload;

use super::account::{Account, Figures};
use super::cluster::{apply, container_ids};
use super::kinds::Kind;

/// Of the kernel's account, both ways.
const SHARE: f64 = 0.02;
/// The least that can be told apart, in seconds: the kernel's account is read every 10 ms, by a machine with two CPUs.
const LEAST: f64 = 0.02;

/// What says whose job it is, as a runner tells its processes.
pub(super) fn identity(job: &str, run_id: &str) -> Value {
    json!([
        {"name": "GITHUB_REPOSITORY_OWNER", "value": "my-org"},
        {"name": "GITHUB_REPOSITORY", "value": "my-org/my-repo"},
        {"name": "GITHUB_WORKFLOW", "value": "ci.yml"},
        {"name": "GITHUB_JOB", "value": job},
        {"name": "GITHUB_RUN_ID", "value": run_id},
    ])
}

/// Makes a pod of a kind.
pub(super) fn start(namespace: &str, pod: &str, spec: &Value) {
    apply(&json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": pod, "namespace": namespace}, "spec": spec,
    }));
}

/// The spec of a kind whose containers say whose job they are.
pub(super) fn with_identity(kind: &Kind, job: &str, run_id: &str) -> Value {
    let mut spec = kind.spec.clone();
    for list in ["initContainers", "containers"] {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            container["env"] = identity(job, run_id);
        }
    }
    spec
}

/// The containers of a pod by name, with what the kernel charged to each, restarts included.
pub(super) fn kernel(account: &Account, pod: &Value) -> BTreeMap<String, Figures> {
    let names = ["initContainers", "containers"];
    let names = names.iter().filter_map(|list| pod["spec"][list].as_array()).flatten();
    let names = names.map(|container| container["name"].as_str().unwrap().to_owned());
    names
        .map(|name| {
            let ids = container_ids(pod, &name);
            assert!(!ids.is_empty(), "the status of the pod tells no id of {name}: {pod:#}");
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

/// Whether two times of CPU use are the same, as far as it can be told.
pub(super) fn agree(ours: f64, kernel: f64) -> bool {
    (ours - kernel).abs() <= kernel * SHARE + LEAST
}

/// What a summary says of the CPU time of a pod's containers, where it is not what the kernel says.
pub(super) fn wrong_cpu(summary: &Payload, kernel: &BTreeMap<String, Figures>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, figures) in kernel {
        let rows: Vec<_> = summary.containers.iter().filter(|row| row.name == *name).collect();
        let [row] = rows[..] else {
            wrong.push(format!("{name}: {} rows of this name", rows.len()));
            continue;
        };
        let ours = row.cpu_seconds.unwrap_or_default();
        if !agree(ours, figures.cpu_seconds) {
            let share = ours / figures.cpu_seconds * 100.0;
            wrong.push(format!("{name}: {ours:.3} of {:.3} s ({share:.1} %)", figures.cpu_seconds));
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
