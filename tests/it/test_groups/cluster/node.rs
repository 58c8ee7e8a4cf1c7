//! Every kind of job, followed by the node's collector.

use std::time::Duration;

use serde_json::json;

use super::account::Account;
use super::asked::{COLLECTOR, NAMESPACE, kube, namespace, rows_of, run_id, told, until, until_over};
use super::kinds::{self, BURN, COMPILE, Kind, container, spec};
use super::known::Cases;
use super::measured::{EXACT, Within, kernel, start, with_identity, wrong_cpu};

/// After the end of a pod its last summary takes a pass or two and a push, or, while the kubelet has not cleared the pod
/// away, until it has been idle for a minute. A machine with two CPUs and forty pods takes its time.
const DELIVERY: Duration = Duration::from_mins(4);

/// Runs pods of these kinds at once, so that they get in each other's way as on a busy node.
pub(super) fn follow(cases: &mut Cases, mode: &str, kinds: &[Kind], within: Within) {
    namespace();
    let account = Account::begin(&told("CLUSTER_CGROUP"));
    let job = |name: &str| format!("{mode}-{name}");
    let run_id = run_id();
    for kind in kinds {
        let job = job(&kind.name);
        start(NAMESPACE, &format!("{job}-{run_id}"), &with_identity(kind, &job, &run_id));
    }
    for kind in kinds {
        let job = job(&kind.name);
        let name = format!("{job}-{run_id}");
        let kernel = kernel(&account, &until_over(&name));
        cases.take(
            &job,
            match &rows_of(&job, &run_id, DELIVERY)[..] {
                [] => vec!["no run".to_owned()],
                [run] if !run.is_final => vec![format!("no last summary within {DELIVERY:?}")],
                [run] => wrong_cpu(&run.payload, &kernel, within),
                rows => vec![format!("{} rows of one run", rows.len())],
            },
        );
        kube(&["--namespace", NAMESPACE, "delete", "pod", &name, "--wait=false"]);
    }
}

#[test]
fn with_ebpf_every_container_has_the_cpu_time_that_the_kernel_charged_to_it() {
    let log = kube(&["--namespace", COLLECTOR, "logs", "daemonset/collector"]);
    assert!(log.contains("following processes with eBPF"), "{log}");
    let mut cases = Cases::default();
    follow(&mut cases, "node-ebpf", &kinds::all(), EXACT);
    cases.finish();
}

#[test]
fn with_ebpf_thirty_pods_at_once_have_it_too() {
    let burn = format!("{BURN}; sleep 3");
    let kinds: Vec<_> = (0..30)
        .map(|number| Kind::of(&format!("crowd-{number}"), spec(&[container("build", &burn)])))
        .collect();
    let mut cases = Cases::default();
    follow(&mut cases, "node-ebpf", &kinds, EXACT);
    cases.finish();
}

/// As hooks of runners do that keep a pod for a job and run its steps by `kubectl exec`: the pod's own process waits, and
/// a script that is executed in it exports the job's variables.
#[test]
fn what_is_executed_in_a_pod_that_waits_is_the_pods_job() {
    namespace();
    let account = Account::begin(&told("CLUSTER_CGROUP"));
    let (job, run_id) = ("node-ebpf-executed", run_id());
    let name = format!("executed-{run_id}");
    start(
        NAMESPACE,
        &name,
        &spec(&[container("job", "tail -f /dev/null & trap 'kill $!' TERM; wait $! || true")]),
    );
    kube(&["--namespace", NAMESPACE, "wait", "--for=condition=Ready", "pod", &name, "--timeout=60s"]);
    let exports: String = super::measured::identity(job, &run_id)
        .as_array()
        .unwrap()
        .iter()
        .map(|one| format!("export {}={}\n", one["name"].as_str().unwrap(), one["value"].as_str().unwrap()))
        .collect();
    let step = format!("{exports}sh -ec '{}'", COMPILE.replace('\'', "'\\''"));
    for _ in 0..2 {
        kube(&["--namespace", NAMESPACE, "exec", &name, "--", "sh", "-ec", &step]);
    }
    kube(&["--namespace", NAMESPACE, "delete", "pod", &name, "--wait=false"]);
    let pod = until("the pod's end", || {
        let pod = super::asked::pod_if_there(&name)?;
        (!pod["status"]["containerStatuses"][0]["containerID"].is_null()).then_some(pod)
    });
    let rows = rows_of(job, &run_id, DELIVERY);
    assert_eq!(rows.len(), 1, "{rows:#?}");
    let wrong = wrong_cpu(&rows[0].payload, &kernel(&account, &pod), EXACT);
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// Each pod of an Indexed Job is its own run of the same job.
#[test]
fn each_pod_of_an_indexed_job_is_a_run() {
    namespace();
    let (job, run_id) = ("node-ebpf-indexed", run_id());
    let kind = Kind::of("indexed", spec(&[container("build", &format!("{BURN}; sleep 4"))]));
    super::asked::apply(&json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": format!("indexed-{run_id}"), "namespace": NAMESPACE},
        "spec": {
            "completionMode": "Indexed", "completions": 3, "parallelism": 3, "backoffLimit": 0,
            "template": {"spec": with_identity(&kind, job, &run_id)},
        },
    }));
    let rows = until("three runs", || {
        let rows = rows_of(job, &run_id, Duration::ZERO);
        (rows.len() == 3).then_some(rows)
    });
    for row in rows {
        let names: Vec<_> = row.payload.containers.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["build"]);
    }
    kube(&["--namespace", NAMESPACE, "delete", "job", &format!("indexed-{run_id}"), "--wait=false"]);
}

/// A pod that is deleted in mid-job has what it used until then.
#[test]
fn a_job_whose_pod_is_deleted_is_a_run() {
    namespace();
    let account = Account::begin(&told("CLUSTER_CGROUP"));
    let (job, run_id) = ("node-ebpf-deleted", run_id());
    let name = format!("deleted-{run_id}");
    let kind = Kind::of("deleted", spec(&[container("build", "while :; do /bin/true; done")]));
    start(NAMESPACE, &name, &with_identity(&kind, job, &run_id));
    kube(&["--namespace", NAMESPACE, "wait", "--for=condition=Ready", "pod", &name, "--timeout=60s"]);
    std::thread::sleep(Duration::from_secs(4));
    let pod = super::asked::pod(&name);
    kube(&["--namespace", NAMESPACE, "delete", "pod", &name]);
    let rows = rows_of(job, &run_id, DELIVERY);
    assert_eq!(rows.len(), 1, "{rows:#?}");
    let wrong = wrong_cpu(&rows[0].payload, &kernel(&account, &pod), EXACT);
    assert!(wrong.is_empty(), "{wrong:?}");
}
