//! Every kind of job, measured by a node collector that may not use eBPF.

use serde_json::json;

use super::super::asked::{COLLECTOR, kube, until};
use super::super::kinds;
use super::super::known::Cases;
use super::super::measured::{EXACT, with_identity};
use super::super::node::{DELIVERY, follow};
use super::super::ways;

#[test]
fn without_ebpf_every_container_has_most_of_the_cpu_time_that_the_kernel_charged_to_it() {
    let shipped = arguments_of_the_collector();
    let without = [shipped.clone(), vec!["--ebpf=off".to_owned()]].concat();
    set_arguments_of_the_collector(&without);
    until("the collector without eBPF", || {
        kube(&["--namespace", COLLECTOR, "logs", "daemonset/collector"]).contains("measuring").then_some(())
    });
    let result = std::panic::catch_unwind(|| {
        let mut cases = Cases::default();
        follow(&mut cases, "node-proc", &kinds::all(), EXACT);
        cases.finish();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut cases = Cases::default();
                ways::all(&mut cases, "node-proc", &with_identity, EXACT, DELIVERY);
                cases.finish();
            });
            let mut cases = Cases::default();
            follow(&mut cases, "node-proc", &kinds::crowd(), EXACT);
            cases.finish();
        });
    });
    set_arguments_of_the_collector(&shipped);
    if let Err(wrong) = result {
        std::panic::resume_unwind(wrong);
    }
}

/// The collector's deployed arguments.
fn arguments_of_the_collector() -> Vec<String> {
    let path = "--output=jsonpath={.spec.template.spec.containers[0].args}";
    serde_json::from_str(&kube(&["--namespace", COLLECTOR, "get", "daemonset", "collector", path])).unwrap()
}

/// Deploys the collector with other arguments.
fn set_arguments_of_the_collector(arguments: &[String]) {
    let patch =
        json!([{"op": "replace", "path": "/spec/template/spec/containers/0/args", "value": arguments}]);
    let patch = format!("--patch={patch}");
    kube(&["--namespace", COLLECTOR, "patch", "daemonset", "collector", "--type=json", &patch]);
    kube(&["--namespace", COLLECTOR, "rollout", "status", "daemonset/collector", "--timeout=120s"]);
}
