//! Pods that are not made for a single job or do not end with it: an Indexed Job's pods, a deleted pod, and a pod in which a
//! job is executed.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::account::Account;
use super::asked::{NAMESPACE, Run, apply, kube, namespace, pod, pod_if_there, rows_of, run_id, told, until};
use super::kinds::{BURN, COMPILE, Kind, container, spec};
use super::known::Cases;
use super::measured::{Within, identity, kernel, start, wrong_cpu};

/// Returns the spec of a kind's pod for the run of a job.
pub(super) type Place<'a> = &'a dyn Fn(&Kind, &str, &str) -> Value;

/// Runs all three, one after the other.
pub(super) fn all(cases: &mut Cases, mode: &str, place: Place<'_>, within: Within, delivery: Duration) {
    namespace();
    executed(cases, &format!("{mode}-executed"), place, within, delivery);
    indexed(cases, &format!("{mode}-indexed"), place, delivery);
    deleted(cases, &format!("{mode}-deleted"), place, within, delivery);
}

/// Some runner hooks keep a pod for a job and run its steps by `kubectl exec`: the pod's own process waits, and a script that
/// is executed in it exports the job's variables.
fn executed(cases: &mut Cases, job: &str, place: Place<'_>, within: Within, delivery: Duration) {
    let account = Account::begin(&told("CLUSTER_CGROUP"));
    let run_id = run_id();
    let name = format!("{job}-{run_id}");
    let wait = container("build", "tail -f /dev/null & trap 'kill $!' TERM; wait $! || true");
    let mut pod = place(&Kind::of("executed", spec(&[wait])), job, &run_id);
    for container in pod["containers"].as_array_mut().unwrap() {
        if container["name"] == "build" {
            container["env"] = json!([]);
        }
    }
    start(NAMESPACE, &name, &pod);
    kube(&["--namespace", NAMESPACE, "wait", "--for=condition=Ready", "pod", &name, "--timeout=60s"]);
    let exports: String = identity(job, &run_id)
        .as_array()
        .unwrap()
        .iter()
        .map(|one| format!("export {}={}\n", one["name"].as_str().unwrap(), one["value"].as_str().unwrap()))
        .collect();
    let step = format!("{exports}sh -ec '{}'", COMPILE.replace('\'', "'\\''"));
    for _ in 0..2 {
        kube(&["--namespace", NAMESPACE, "exec", "--container=build", &name, "--", "sh", "-ec", &step]);
    }
    kube(&["--namespace", NAMESPACE, "delete", "pod", &name, "--wait=false"]);
    let pod = until("the pod's end", || {
        let pod = pod_if_there(&name)?;
        (!pod["status"]["containerStatuses"][0]["containerID"].is_null()).then_some(pod)
    });
    let rows = rows_of(job, &run_id, delivery);
    cases.take(job, wrong(&rows, &account, &pod, within));
}

/// Each pod of an Indexed Job is its own run of the same job.
fn indexed(cases: &mut Cases, job: &str, place: Place<'_>, delivery: Duration) {
    let run_id = run_id();
    let name = format!("{job}-{run_id}");
    let kind = Kind::of("indexed", spec(&[container("build", &format!("{BURN}; sleep 4"))]));
    apply(&json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "completionMode": "Indexed", "completions": 3, "parallelism": 3, "backoffLimit": 0,
            "template": {"spec": place(&kind, job, &run_id)},
        },
    }));
    until("the end of the Indexed Job", || {
        let path = "--output=jsonpath={.status.succeeded}";
        (kube(&["--namespace", NAMESPACE, "get", "job", &name, path]) == "3").then_some(())
    });
    let end = Instant::now() + delivery;
    let rows = loop {
        let rows = rows_of(job, &run_id, end.saturating_duration_since(Instant::now()));
        if rows.len() >= 3 || Instant::now() > end {
            break rows;
        }
        std::thread::sleep(Duration::from_millis(250));
    };
    let mut wrong = Vec::new();
    if rows.len() != 3 {
        wrong.push(format!("{} runs of 3 pods", rows.len()));
    }
    for row in rows {
        let names = row.payload.containers.iter().map(|one| one.name.as_str());
        let names: Vec<_> = names.filter(|name| *name != "collector").collect();
        if names != ["build"] {
            wrong.push(format!("containers {names:?}"));
        }
    }
    cases.take(job, wrong);
    kube(&["--namespace", NAMESPACE, "delete", "job", &name, "--wait=false"]);
}

/// A pod that is deleted in the middle of a job keeps its figures until then.
fn deleted(cases: &mut Cases, job: &str, place: Place<'_>, within: Within, delivery: Duration) {
    let account = Account::begin(&told("CLUSTER_CGROUP"));
    let run_id = run_id();
    let name = format!("{job}-{run_id}");
    let kind = Kind::of("deleted", spec(&[container("build", "while :; do /bin/true; done")]));
    start(NAMESPACE, &name, &place(&kind, job, &run_id));
    kube(&["--namespace", NAMESPACE, "wait", "--for=condition=Ready", "pod", &name, "--timeout=60s"]);
    std::thread::sleep(Duration::from_secs(4));
    let pod = pod(&name);
    kube(&["--namespace", NAMESPACE, "delete", "pod", &name]);
    let rows = rows_of(job, &run_id, delivery);
    cases.take(job, wrong(&rows, &account, &pod, within));
}

/// The errors in the only run of a pod. A collector in the pod knows its own CPU time only until its last pass.
fn wrong(rows: &[Run], account: &Account, pod: &Value, within: Within) -> Vec<String> {
    let [run] = rows else { return vec![format!("{} rows of one run", rows.len())] };
    if !run.is_final {
        return vec!["no last summary".to_owned()];
    }
    let (mut kernel, mut summary) = (kernel(account, pod), run.payload.clone());
    kernel.remove("collector");
    summary.containers.retain(|one| one.name != "collector");
    wrong_cpu(&summary, &kernel, within)
}
