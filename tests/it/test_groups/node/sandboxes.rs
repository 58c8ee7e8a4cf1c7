//! A pod's sandbox is not one of its containers and has no container's name.

use tests::cgroup::Driver;

use super::whole::{Told, WholePod};
use super::{EBPF, Node, assert_share, assert_sum, attributed};

#[test]
fn forty_pods_at_once_have_one_build_each() {
    let node = Node::start(&[]);
    let told = [Told::Mounts, Told::Sandbox, Told::Program];
    let drivers = [Driver::Cgroupfs, Driver::Systemd];
    let pods: Vec<_> =
        (0..40).map(|at| WholePod::new(node.directory.path(), drivers[at % 2], told[at % 3])).collect();
    let started: Vec<_> = pods
        .iter()
        .enumerate()
        .map(|(at, pod)| pod.start("build", 0, false, &format!("job-{at}"), "\"$1\" burn 60; sleep 3"))
        .collect();
    let truths: Vec<_> = started.into_iter().map(super::whole::Started::end).collect();
    std::thread::sleep(std::time::Duration::from_millis(500));
    for pod in pods {
        pod.end();
    }
    node.wait_until_over(40);
    for (at, (id, truth)) in truths.into_iter().enumerate() {
        let payload = node.run(&format!("job-{at}"));
        let names: Vec<_> = payload.containers.iter().map(|usage| usage.name.as_str()).collect();
        assert_eq!(names, ["build"], "{at}: {:#?}", payload.containers);
        assert_eq!(payload.containers[0].id.as_ref(), Some(&id));
        let overhead = payload.pod_overhead.as_ref().unwrap_or_else(|| panic!("{at}: {payload:#?}"));
        assert!(overhead.memory_bytes.peak > 0.0);
        // Includes the time of its processes before they entered the cgroup: 40 at once compete for two CPUs.
        let found = attributed(&payload);
        assert!((0.98 * truth - 0.03..truth + 0.2).contains(&found), "{at}: {found} s of {truth} s");
        assert!(payload.top_commands.iter().all(|command| command.name != "pause"));
        assert_sum(&payload);
    }
    assert!(node.program.stop().status.success());
}

#[test]
fn containers_that_end_before_others_keep_their_names() {
    for ebpf in EBPF {
        let node = Node::start(&[&format!("--ebpf={ebpf}")]);
        let pod = WholePod::new(node.directory.path(), Driver::Systemd, Told::Sandbox);
        // An init container, a native sidecar that outlives the job, the job, and a debug container.
        let mut truth = pod.start("fetch", 0, true, "several", "\"$1\" burn 100; sleep 0.5").end().1;
        let proxy = pod.start("proxy", 0, true, "several", "\"$1\" burn 50; sleep 3");
        let build = pod.start("build", 0, true, "several", "\"$1\" burn 300; sleep 1");
        let debugger = pod.start("debugger-x7", 0, true, "several", "\"$1\" burn 40; sleep 0.5");
        for started in [debugger, build, proxy] {
            truth += started.end().1;
        }
        pod.end();
        node.wait_until_over(1);
        let payload = node.run("several");
        let mut names: Vec<_> = payload.containers.iter().map(|usage| usage.name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["build", "debugger-x7", "fetch", "proxy"]);
        assert!(payload.containers.iter().all(|usage| usage.restarts.is_none()));
        assert!(payload.pod_overhead.is_some());
        assert_share(ebpf, &payload, attributed(&payload), truth);
        assert_sum(&payload);
    }
}
