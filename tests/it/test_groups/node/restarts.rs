//! A container that the kubelet restarts counts as one.

use std::time::Duration;

use rustix::process::Signal;
use tests::cgroup::Driver;
use wire::ContainerUsage;

use super::whole::{Told, WholePod};
use super::{EBPF, Node, assert_share, assert_sum};

/// The run's only container, `build`.
#[track_caller]
fn build(payload: &wire::Payload) -> &ContainerUsage {
    let names: Vec<_> = payload.containers.iter().map(|usage| usage.name.as_str()).collect();
    assert_eq!(names, ["build"], "{:#?}", payload.containers);
    &payload.containers[0]
}

#[test]
fn a_container_that_is_restarted_is_one_with_all_that_it_used() {
    for ebpf in EBPF {
        for told in [Told::Mounts, Told::Sandbox] {
            let node = Node::start(&[&format!("--ebpf={ebpf}")]);
            let pod = WholePod::new(node.directory.path(), Driver::Cgroupfs, told);
            let mut truth = 0.0;
            let mut last = String::new();
            for (restart, script) in (0..).zip([
                "\"$1\" burn 400; sleep 0.7",
                "\"$1\" burn 200; sleep 0.7",
                "\"$1\" burn 300; sleep 1",
            ]) {
                let linked = told == Told::Sandbox;
                let used;
                (last, used) = pod.start("build", restart, linked, "restarted", script).end();
                truth += used;
                std::thread::sleep(Duration::from_millis(400));
            }
            pod.end();
            node.wait_until_over(1);
            let payload = node.run("restarted");
            let usage = build(&payload);
            assert_eq!((usage.restarts, usage.id.as_ref()), (Some(2), Some(&last)));
            assert_share(ebpf, &payload, usage.cpu_seconds.unwrap(), truth);
            assert_share(ebpf, &payload, usage.cgroup_cpu_seconds.unwrap(), truth);
            assert!(usage.cpu_cores.peak < 2.0, "{:?}", usage.cpu_cores);
            assert_sum(&payload);
        }
    }
}

#[test]
fn restarts_too_short_for_a_pass_are_named_later() {
    let node = Node::start(&["--ebpf=require", "--interval=1s"]);
    let pod = WholePod::new(node.directory.path(), Driver::Systemd, Told::Program);
    let mut truth = 0.0;
    for restart in 0..5 {
        truth += pod.start("build", restart, true, "short", "\"$1\" burn 60").end().1;
    }
    let (last, used) = pod.start("build", 5, true, "short", "\"$1\" burn 60; sleep 3").end();
    pod.end();
    node.wait_until_over(1);
    let payload = node.run("short");
    let usage = build(&payload);
    assert_eq!((usage.restarts, usage.id.as_ref()), (Some(5), Some(&last)), "{payload:#?}");
    assert_share("require", &payload, usage.cpu_seconds.unwrap(), truth + used);
    assert!(payload.pod_overhead.is_some());
    assert_sum(&payload);
}

#[test]
fn a_restart_of_the_container_and_one_of_the_collector_leave_one() {
    for ebpf in EBPF {
        let node = Node::start(&[&format!("--ebpf={ebpf}")]);
        let pod = WholePod::new(node.directory.path(), Driver::Cgroupfs, Told::Mounts);
        let first = pod.start("build", 0, true, "both", "\"$1\" burn 500; sleep 1.5");
        let other = pod.start("lint", 0, true, "both", "\"$1\" burn 200; sleep 6");
        std::thread::sleep(Duration::from_millis(2200));
        let Node { program, receiver, directory } = node;
        program.signal(Signal::KILL);
        program.wait();
        let mut truth = first.end().1;
        let program = Node::program(directory.path(), &receiver, &[&format!("--ebpf={ebpf}")]);
        let node = Node { program, receiver, directory };
        let (last, used) = pod.start("build", 1, true, "both", "\"$1\" burn 400; sleep 1").end();
        truth += used;
        let lint = other.end().1;
        pod.end();
        node.wait_until_over(1);
        let payload = node.run("both");
        let found = |name: &str| {
            let of_name: Vec<_> = payload.containers.iter().filter(|usage| usage.name == name).collect();
            assert_eq!(of_name.len(), 1, "{name}: {:#?}", payload.containers);
            of_name[0]
        };
        assert_eq!(payload.containers.len(), 2, "{:#?}", payload.containers);
        let usage = found("build");
        assert_eq!((usage.restarts, usage.id.as_ref()), (Some(1), Some(&last)));
        assert_share(ebpf, &payload, usage.cpu_seconds.unwrap(), truth);
        assert_share(ebpf, &payload, found("lint").cpu_seconds.unwrap(), lint);
        assert_eq!(found("lint").restarts, None);
        assert_sum(&payload);
    }
}
