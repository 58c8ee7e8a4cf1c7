//! Whose a limit is, on the real kernel: the container's own, its pod's, the node's.

use tests::cgroup::{Cgroup, Driver, PodLimits, pod_uid};
use wire::{ContainerUsage, Payload};

use super::{EBPF, Node, start_in};

/// What a kubelet lets pods have.
const NODE_BYTES: u64 = 6 << 30;

#[track_caller]
fn usage<'a>(payload: &'a Payload, cgroup: &str) -> &'a ContainerUsage {
    let found = payload.containers.iter().find(|usage| usage.id.as_deref() == Some(cgroup));
    found.unwrap_or_else(|| panic!("no container {cgroup}: {:#?}", payload.containers))
}

#[test]
fn a_containers_limit_is_its_own_and_its_pods_and_nodes_are_bounds() {
    for driver in [Driver::Cgroupfs, Driver::Systemd] {
        let node = Node::start(&[]);
        let limited = |limits| Cgroup::limited_in_pod(driver, &pod_uid().unwrap(), limits).unwrap();
        let node_bytes = Some(NODE_BYTES);
        let free = limited(PodLimits { node_bytes, ..PodLimits::default() });
        let (cores, bytes) = (Some(0.5), Some(64 << 20));
        // Its only container has limits, so that they are the pod's, too.
        let own = limited(PodLimits { node_bytes, pod: (cores, bytes), own: (cores, bytes) });
        let script = "\"$1\" burn 300; sleep 0.6";
        let mut jobs =
            [start_in(&free, Some(("free", "1")), script), start_in(&own, Some(("own", "1")), script)];
        jobs.iter_mut().for_each(|job| assert!(job.wait().unwrap().success()));
        let ids = [free.id().to_owned(), own.id().to_owned()];
        [&free, &own].map(|cgroup| cgroup.wait_until_empty().unwrap());
        drop((free, own));
        node.wait_until_over(2);

        let payload = node.run("free");
        let free = usage(&payload, &ids[0]);
        assert_eq!((free.cpu_limit_cores, free.memory_limit_bytes), (None, None), "{driver:?}");
        assert_eq!((free.cpu_bound_cores, free.memory_bound_bytes), (None, node_bytes), "{driver:?}");
        let payload = node.run("own");
        let own = usage(&payload, &ids[1]);
        assert_eq!((own.cpu_limit_cores, own.memory_limit_bytes), (cores, bytes), "{driver:?}");
        assert_eq!((own.cpu_bound_cores, own.memory_bound_bytes), (cores, bytes), "{driver:?}");
    }
}

#[test]
fn a_pods_quota_throttles_containers_without_limits() {
    for ebpf in EBPF {
        let node = Node::start(&[&format!("--ebpf={ebpf}")]);
        let uid = pod_uid().unwrap();
        let limits = PodLimits { pod: (Some(0.5), None), ..PodLimits::default() };
        let pods = [0, 1].map(|_| Cgroup::limited_in_pod(Driver::Cgroupfs, &uid, limits).unwrap());
        // The pod was throttled before the job, which is none of its.
        let earlier = start_in(&pods[0], None, "\"$1\" threads 2 400").wait().unwrap();
        assert!(earlier.success());
        let script = "\"$1\" burn 500; sleep 0.6";
        let mut jobs = [0, 1].map(|at| start_in(&pods[at], Some(("throttled", "1")), script));
        jobs.iter_mut().for_each(|job| assert!(job.wait().unwrap().success()));
        let ids = [0, 1].map(|at| pods[at].id().to_owned());
        pods.iter().try_for_each(Cgroup::wait_until_empty).unwrap();
        drop(pods);
        node.wait_until_over(1);
        let payload = node.run("throttled");
        for id in &ids {
            let usage = usage(&payload, id);
            assert_eq!((usage.cpu_limit_cores, usage.cpu_bound_cores), (None, Some(0.5)), "{ebpf}");
            let (periods, throttled) = (usage.cpu_periods.unwrap(), usage.cpu_throttled_periods.unwrap());
            // One second of CPU at half a core: twenty periods, less those before the first pass.
            assert!(
                (8..=30).contains(&throttled) && periods >= throttled,
                "{ebpf}: {throttled} of {periods}"
            );
            assert!(usage.cpu_throttled_seconds.unwrap() > 0.2, "{ebpf}: {usage:#?}");
        }
    }
}
