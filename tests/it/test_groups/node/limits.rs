//! The owner of a limit, on the real kernel: the container, its pod, or the node.

use serde_json::json;
use tests::cgroup::{Cgroup, Driver, PodLimits, pod_uid};
use tests::receiver::READ_TOKEN;
use wire::{ContainerUsage, Payload};

use super::{EBPF, Node, start_in};

/// The memory that a kubelet gives to all pods.
const NODE_BYTES: u64 = 6 << 30;

#[track_caller]
fn usage<'a>(payload: &'a Payload, cgroup: &str) -> &'a ContainerUsage {
    let found = payload.containers.iter().find(|usage| usage.id.as_deref() == Some(cgroup));
    found.unwrap_or_else(|| panic!("no container {cgroup}: {:#?}", payload.containers))
}

/// The run of a job, even if other jobs run on this machine meanwhile.
fn over(node: &Node, job: &str) -> Payload {
    while node.runs(job).is_empty() {
        node.wait_until_over(1);
    }
    node.run(job)
}

#[test]
fn a_containers_limit_is_its_own_and_its_pods_and_nodes_are_bounds() {
    for driver in [Driver::Cgroupfs, Driver::Systemd] {
        let node = Node::start(&[]);
        let limited = |limits| Cgroup::limited_in_pod(driver, &pod_uid().unwrap(), limits).unwrap();
        let node_bytes = Some(NODE_BYTES);
        let free = limited(PodLimits { node_bytes, ..PodLimits::default() });
        let (cores, bytes) = (Some(0.5), Some(64 << 20));
        // Its only container has limits, so the pod has the same ones.
        let own = limited(PodLimits { node_bytes, pod: (cores, bytes), own: (cores, bytes) });
        let script = "\"$1\" burn 300; sleep 0.6";
        let mut jobs =
            [start_in(&free, Some(("free", "1")), script), start_in(&own, Some(("own", "1")), script)];
        for job in &mut jobs {
            assert!(job.wait().unwrap().success());
        }
        let ids = [free.id().to_owned(), own.id().to_owned()];
        [&free, &own].into_iter().try_for_each(Cgroup::wait_until_empty).unwrap();
        drop((free, own));
        let payload = over(&node, "free");
        let free = usage(&payload, &ids[0]);
        assert_eq!((free.cpu_limit_cores, free.memory_limit_bytes), (None, None), "{driver:?}");
        assert_eq!((free.cpu_bound_cores, free.memory_bound_bytes), (None, node_bytes), "{driver:?}");
        let payload = over(&node, "own");
        let own = usage(&payload, &ids[1]);
        assert_eq!((own.cpu_limit_cores, own.memory_limit_bytes), (cores, bytes), "{driver:?}");
        assert_eq!((own.cpu_bound_cores, own.memory_bound_bytes), (cores, bytes), "{driver:?}");
    }
}

#[test]
fn a_job_without_limits_is_advised_what_it_needs() {
    let node = Node::start(&[]);
    for run in ["1", "2", "3"] {
        let limits = PodLimits { node_bytes: Some(NODE_BYTES), ..PodLimits::default() };
        let uid = pod_uid().unwrap();
        let pod = Cgroup::limited_in_pod(Driver::Cgroupfs, &uid, limits).unwrap();
        let logs = node.directory.path().join(format!("log/pods/ci_runner_{uid}/runner"));
        std::fs::create_dir_all(logs).unwrap();
        // 64 MiB for a second.
        let mut job = start_in(&pod, Some(("advised", run)), "\"$1\" headless 1200 67108864; sleep 0.3");
        assert!(job.wait().unwrap().success());
        pod.wait_until_empty().unwrap();
        drop(pod);
        while node.runs("advised").len() < run.parse().unwrap() {
            node.wait_until_over(1);
        }
    }
    let path = "/api/v1/sizing/repo/my-org/my-repo/ci.yml/advised";
    let sizing = node.receiver.request("GET", path, READ_TOKEN, "").json();
    let memory = &sizing["containers"][0]["memory"];
    let mib = memory["request_bytes"].as_u64().unwrap_or_default() >> 20;
    assert!((73..=96).contains(&mib), "{sizing:#}");
    assert_eq!((memory.get("current_limit_bytes"), &memory["change"]), (None, &json!("unknown")));
    assert_eq!(memory["current_bound_bytes"], json!(NODE_BYTES));
    assert_eq!(sizing["containers"][0]["basis"]["censored_runs"], 0, "{sizing:#}");
    assert!(!memory["reasons"].to_string().contains("lowered"), "{sizing:#}");
}

#[test]
fn a_pods_quota_throttles_containers_without_limits() {
    for ebpf in EBPF {
        let uid = pod_uid().unwrap();
        let limits = PodLimits { pod: (Some(0.1), None), ..PodLimits::default() };
        let pods = [0, 1].map(|_| Cgroup::limited_in_pod(Driver::Cgroupfs, &uid, limits).unwrap());
        // The pod was throttled before the collector started. That is not the job's throttling.
        let mut earlier = start_in(&pods[0], None, "\"$1\" threads 2 100");
        assert!(earlier.wait().unwrap().success());
        let before = throttled_periods(&pods[0]);
        let node = Node::start(&[&format!("--ebpf={ebpf}")]);
        let script = "\"$1\" burn 150; sleep 0.6";
        let mut jobs = [0, 1].map(|at| start_in(&pods[at], Some(("throttled", "1")), script));
        for job in &mut jobs {
            assert!(job.wait().unwrap().success());
        }
        let ids = [0, 1].map(|at| pods[at].id().to_owned());
        pods.iter().try_for_each(Cgroup::wait_until_empty).unwrap();
        let truth = throttled_periods(&pods[0]) - before;
        assert!(before >= 5 && truth >= 5, "the pod was throttled for {before} and {truth} periods");
        drop(pods);
        let payload = over(&node, "throttled");
        for id in &ids {
            let usage = usage(&payload, id);
            assert_eq!((usage.cpu_limit_cores, usage.cpu_bound_cores), (None, Some(0.1)), "{ebpf}");
            let (periods, throttled) = (usage.cpu_periods.unwrap(), usage.cpu_throttled_periods.unwrap());
            // All but the periods before the first pass.
            let expected = truth.div_ceil(2)..=truth;
            assert!(expected.contains(&throttled) && periods >= throttled, "{ebpf}: {throttled} of {truth}");
            assert!(usage.cpu_throttled_seconds.unwrap() > 0.1, "{ebpf}: {usage:#?}");
        }
    }
}

/// The number of periods in which a container's pod was throttled.
fn throttled_periods(container: &Cgroup) -> u64 {
    let cpu = container.directories().find(|directory| directory.join("cpu.stat").exists());
    let stat = std::fs::read_to_string(cpu.unwrap().parent().unwrap().join("cpu.stat")).unwrap();
    let count = stat.lines().find_map(|line| line.strip_prefix("nr_throttled ")?.trim().parse().ok());
    count.unwrap()
}
