//! A container's own limits, the limits above it, and the size of its machine.

use super::*;

const GIB: u64 = 1 << 30;

/// On a machine with 8 CPUs and 32 GiB, whose kubelet gives pods 23.5 GiB.
fn on_node(facts: ContainerSummary) -> ContainerSummary {
    ContainerSummary {
        memory_bound_bytes: Some(47 * GIB / 2),
        machine_cpus: Some(8),
        machine_memory_bytes: Some(32 * GIB),
        ..facts
    }
}

fn said(reasons: &[String]) -> String {
    reasons.join("\n")
}

#[test]
fn without_a_limit_of_its_own_there_is_nothing_to_step_down_from() {
    let sizing = size(vec![on_node(facts(0.2, 32)); 3]);
    let memory = &sizing.memory;
    assert_eq!((memory.request.as_deref(), memory.change), (Some("37Mi"), Change::Unknown), "32 MiB + 15 %");
    assert_eq!((memory.current_limit_bytes, memory.current_bound_bytes), (None, Some(47 * GIB / 2)));
    let reasons = said(&memory.reasons);
    assert!(!reasons.contains("lowered") && !reasons.contains("held back"), "{reasons}");
    let expected = "it has no limit of its own; its pod, slice or node allows 23.5 GiB";
    assert!(reasons.contains(expected), "{reasons}");
    assert_eq!((sizing.basis.at_memory_bound_runs, sizing.basis.censored_runs), (0, 0));
    // No container requested the node's size, so nothing is freed, and nothing is at risk.
    assert_eq!((sizing.savings.gib_hours, sizing.savings.known), (0.0, false));
    let figures = JobFigures::of(&runs(vec![on_node(facts(0.2, 32)); 3]), &SizingParameters::default());
    assert_eq!((figures.waste(), figures.risk()), (0.0, 0.0));
    assert_eq!(figures.containers[0].memory_bytes.limit, None);
}

#[test]
fn its_own_limit_is_stepped_down_from_whatever_is_above_it() {
    let with_limit = ContainerSummary { memory_limit_bytes: Some(GIB), ..on_node(facts(0.2, 32)) };
    let sizing = size(vec![with_limit.clone(); 3]);
    assert_eq!((sizing.memory.request.as_deref(), sizing.memory.change), (Some("768Mi"), Change::Lower));
    // The pod's limit is the sum of its containers' limits, and changes with them.
    let alone =
        ContainerSummary { memory_limit_bytes: Some(GIB), memory_bound_bytes: Some(GIB), ..facts(0.2, 1000) };
    let sizing = size(vec![alone; 3]);
    assert_eq!((sizing.basis.at_memory_limit_runs, sizing.basis.at_memory_bound_runs), (3, 0));
    assert_eq!((mib(sizing.memory.request_bytes), sizing.memory.change), (1150, Change::Raise));
    assert!(!said(&sizing.memory.reasons).contains("allows"), "{:?}", sizing.memory.reasons);
    // A limit above the machine's size still counts as a limit.
    let far = ContainerSummary { memory_limit_bytes: Some(64 * GIB), ..with_limit };
    let sizing = size(vec![far; 3]);
    assert_eq!(sizing.memory.current_limit_bytes, Some(64 * GIB));
    assert_eq!(mib(sizing.memory.request_bytes), 48 * 1024, "a quarter less");
    let reasons = said(&sizing.memory.reasons);
    assert!(
        reasons.contains("this is more than the 23.5 GiB that its pod, slice or node allows"),
        "{reasons}"
    );
}

#[test]
fn a_run_that_met_what_is_above_it_is_censored_by_that() {
    let pod = |peak_mib| ContainerSummary { memory_bound_bytes: Some(GIB), ..on_node(facts(0.2, peak_mib)) };
    let sizing = size(vec![pod(400), pod(400), pod(1000)]);
    let basis = &sizing.basis;
    assert_eq!((basis.at_memory_limit_runs, basis.at_memory_bound_runs, basis.censored_runs), (0, 1, 1));
    let reasons = said(&sizing.memory.reasons);
    let met = "1 of 3 runs reached the 1.0 GiB that its pod, slice or node allows, not a limit of their own";
    assert!(reasons.contains(met), "{reasons}");
    // The need is met, and no more than 1.0 GiB is known to exist.
    assert_eq!(mib(sizing.memory.request_bytes), 1024);
    assert!(reasons.contains("cut to 1.0 GiB: its pod, slice or node allows no more"), "{reasons}");
    // Killed by the pod's limit: the container alone does not need all of that.
    let killed = ContainerSummary { oom_kills: Some(1), ..pod(300) };
    let sizing = size(vec![pod(200), pod(200), killed]);
    assert_eq!(mib(sizing.memory.request_bytes), 400, "what was seen, + 100 MiB");
    let reasons = said(&sizing.memory.reasons);
    assert!(
        reasons.contains("1 of 3 runs was OOM-killed at 300 MiB, not by a limit of their own"),
        "{reasons}"
    );
    // More than there is, and the reason says so.
    let killed = ContainerSummary { oom_kills: Some(1), ..pod(1020) };
    let sizing = size(vec![killed; 3]);
    assert!(mib(sizing.memory.request_bytes) > 1024);
    let reasons = said(&sizing.memory.reasons);
    let expected =
        "this is more than the 1.0 GiB that its pod, slice or node allows, and that much is needed";
    assert!(reasons.contains(expected), "{reasons}");
}

#[test]
fn a_pods_quota_throttles_containers_without_limits() {
    let throttled = ContainerSummary {
        cpu_bound_cores: Some(0.5),
        cpu_periods: Some(100),
        cpu_throttled_periods: Some(60),
        ..on_node(facts(0.25, 32))
    };
    let sizing = size(vec![throttled.clone(); 3]);
    assert_eq!((sizing.basis.throttled_runs, sizing.basis.at_cpu_limit_runs), (3, 0));
    let reasons = said(&sizing.cpu.reasons);
    let met =
        "3 of 3 runs reached the 0.50 cores that its pod, slice or node allows, not a limit of their own";
    assert!(reasons.contains(met) && reasons.contains("at least this much is needed"), "{reasons}");
    assert_eq!((sizing.cpu.current_limit_cores, sizing.cpu.current_bound_cores), (None, Some(0.5)));
    // A tighter limit of its own throttles it.
    let own = ContainerSummary { cpu_limit_cores: Some(0.25), ..throttled };
    let reasons = said(&size(vec![own; 3]).cpu.reasons);
    assert!(reasons.contains("throttled") && !reasons.contains("allows"), "{reasons}");
}

#[test]
fn a_run_that_filled_its_machine_gets_no_more_than_the_machine() {
    let small =
        |facts| ContainerSummary { machine_cpus: Some(2), machine_memory_bytes: Some(4 * GIB), ..facts };
    let full = small(facts(2.0, 4000));
    let sizing = size(vec![full.clone(); 3]);
    assert_eq!((sizing.cpu.request.as_deref(), sizing.memory.request.as_deref()), (Some("2"), Some("4Gi")));
    assert_eq!((sizing.basis.at_cpu_bound_runs, sizing.basis.at_memory_bound_runs), (3, 3));
    assert!(said(&sizing.cpu.reasons).contains("cut to 2.00 cores: its machine has no more"));
    assert!(said(&sizing.memory.reasons).contains("reached the 4.0 GiB that its machine has"));
    // A limit as high as the machine cannot be the ceiling that was met.
    let limited =
        ContainerSummary { cpu_limit_cores: Some(2.0), memory_limit_bytes: Some(4 * GIB), ..full.clone() };
    let basis = size(vec![limited; 3]).basis;
    assert_eq!((basis.at_cpu_limit_runs, basis.at_memory_limit_runs, basis.at_cpu_bound_runs), (0, 0, 3));
    // There is a larger machine, or the machine is unknown.
    let larger =
        ContainerSummary { machine_cpus: Some(16), machine_memory_bytes: Some(64 * GIB), ..facts(2.0, 4000) };
    let unknown = facts(2.0, 4000);
    for other in [larger, unknown] {
        let sizing = size(vec![full.clone(), full.clone(), other]);
        assert_eq!((sizing.cpu.request_cores, mib(sizing.memory.request_bytes)), (Some(2.3), 4600));
    }
}
