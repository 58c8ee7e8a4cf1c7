//! Every kind of job, measured by the node's collector.

use std::time::Duration;

use super::account::Account;
use super::asked::{COLLECTOR, NAMESPACE, kube, namespace, rows_of, run_id, told, until_over};
use super::kinds::{self, Kind};
use super::known::Cases;
use super::measured::{BUSY, Within, kernel, start, with_identity, wrong_cpu};
use super::ways;

/// The last summary comes a pass or two, plus a push, after the pod's end. If the kubelet has not removed the pod, it comes
/// after a minute without activity. A machine with two CPUs and forty pods needs more time.
pub(super) const DELIVERY: Duration = Duration::from_mins(4);

/// Runs pods of these kinds at once, so that they compete as on a busy node.
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
                [] => vec![format!("no run; the collector: {}", logged_of(&name))],
                [run] if !run.is_final => vec![format!("no last summary within {DELIVERY:?}")],
                [run] => wrong_cpu(&run.payload, &kernel, within),
                rows => vec![format!("{} rows of one run", rows.len())],
            },
        );
        kube(&["--namespace", NAMESPACE, "delete", "pod", &name, "--wait=false"]);
    }
}

/// The log lines of the node's collector about a pod.
fn logged_of(pod: &str) -> String {
    let log = kube(&["--namespace", COLLECTOR, "logs", "daemonset/collector"]);
    log.lines().filter(|line| line.contains(pod)).collect::<Vec<_>>().join("\n")
}

#[test]
fn with_ebpf_every_container_has_the_cpu_time_that_the_kernel_charged_to_it() {
    let log = kube(&["--namespace", COLLECTOR, "logs", "daemonset/collector"]);
    assert!(log.contains("following processes with eBPF"), "{log}");
    let mut cases = Cases::default();
    follow(&mut cases, "node-ebpf", &kinds::all(), BUSY);
    cases.finish();
}

#[test]
fn with_ebpf_thirty_pods_at_once_have_it_too() {
    let mut cases = Cases::default();
    follow(&mut cases, "node-ebpf", &kinds::crowd(), BUSY);
    cases.finish();
}

#[test]
fn with_ebpf_it_does_not_matter_how_a_pod_comes_to_its_job() {
    let mut cases = Cases::default();
    ways::all(&mut cases, "node-ebpf", &with_identity, BUSY, DELIVERY);
    cases.finish();
}
