//! Jobs in parallel and one after another.

use tests::cgroup::{Cgroup, Driver};
use wire::Payload;

use super::{EBPF, Node, Pod, assert_share, assignments, attributed, start_in};

/// A build: hundreds of processes that live for milliseconds, and one that lives longer. Its shell outlives them, because this
/// test waits for the processes of all pods, whereas a node has a shim for each. Without eBPF the collector could not tell
/// which pod used a shell's last moments. The build is long enough that the time before the shell enters the pod is negligible.
const BUILD: &str =
    "i=0; while [ $i -lt 300 ]; do /bin/true; i=$((i+1)); done; \"$1\" burn 1500; sleep 0.6; true";

#[test]
fn jobs_at_once_are_summaries_of_their_own() {
    for ebpf in EBPF {
        let node = Node::start(&[&format!("--ebpf={ebpf}")]);
        let drivers = [Driver::Cgroupfs, Driver::Systemd, Driver::Cgroupfs];
        let jobs = ["build", "test", "lint"];
        let pods: Vec<_> = drivers.into_iter().map(Pod::new).collect();
        let other = Pod::new(Driver::Systemd);
        let mut children = vec![other.start(None, BUILD)];
        for (pod, job) in pods.iter().zip(jobs) {
            children.push(pod.start(Some((job, "7")), BUILD));
        }
        for child in &mut children {
            assert!(child.wait().unwrap().success());
        }
        // Time for the last passes.
        std::thread::sleep(std::time::Duration::from_millis(500));
        let ids: Vec<_> = pods.iter().map(|pod| (pod.uid.clone(), pod.cgroup.id().to_owned())).collect();
        let truths: Vec<_> = pods.into_iter().map(Pod::end).collect();
        other.end();
        node.wait_until_over(3);
        for ((job, (uid, id)), truth) in jobs.into_iter().zip(ids).zip(truths) {
            let payload = node.run(job);
            assert_eq!(payload.complete, Some(true));
            let collector = payload.collector.as_ref().unwrap();
            assert_eq!(collector.mode, "node");
            assert_eq!(payload.containers.len(), 1, "{:#?}", payload.containers);
            let usage = &payload.containers[0];
            assert_eq!((usage.id.as_ref(), usage.pod_uid.as_ref()), (Some(&id), Some(&uid)));
            assert_share(ebpf, &payload, usage.cpu_seconds.unwrap(), truth);
            assert_share(ebpf, &payload, usage.cgroup_cpu_seconds.unwrap(), truth);
            if ebpf == "require" {
                assert_eq!(usage.process_count, Some(303));
            }
        }
        let ended = node.program.stop();
        assert!(ended.status.success(), "{}", ended.stderr);
    }
}

#[test]
fn jobs_one_after_another_in_a_pod_are_runs_of_their_own() {
    for ebpf in EBPF {
        let node = Node::start(&[&format!("--ebpf={ebpf}")]);
        let pod = Pod::new(Driver::Cgroupfs);
        // The runner itself has no job's variables.
        let script = format!(
            "sleep 0.5; {} sh -c '\"$0\" burn 700; sleep 0.1' \"$1\"; {} sh -c '\"$0\" burn 400; sleep 0.1' \"$1\"; sleep 0.5",
            assignments("first", "1"),
            assignments("second", "2")
        );
        assert!(pod.start(None, &script).wait().unwrap().success());
        std::thread::sleep(std::time::Duration::from_millis(500));
        let truth = pod.end();
        node.wait_until_over(2);
        let (first, second) = (node.run("first"), node.run("second"));
        assert!((0.69..0.80).contains(&attributed(&first)), "{} s", attributed(&first));
        assert!((0.39..0.50).contains(&attributed(&second)), "{} s", attributed(&second));
        assert_share(ebpf, &second, attributed(&first) + attributed(&second), truth);
        assert!(second.start_time >= first.start_time && first.end_time <= second.end_time);
        assert!((second.start_time.as_millisecond() - first.end_time.as_millisecond()).abs() < 500);
        assert!(node.program.stop().status.success());
    }
}

/// Steps of a job as a runner executes them: one after another, each named in its environment.
#[test]
fn steps_of_a_job_are_told_apart() {
    for ebpf in EBPF {
        let node = Node::start(&[&format!("--ebpf={ebpf}")]);
        let pod = Pod::new(Driver::Cgroupfs);
        let step = |name: &str, script: &str| {
            format!("{} GITHUB_ACTION={name} sh -c '{script}' \"$1\"", assignments("build", "1"))
        };
        let short = "i=0; while [ $i -lt 100 ]; do /bin/true; i=$((i+1)); done";
        // Without eBPF what a process used since the last pass goes with it, so each sleeps at its end.
        let script = format!(
            "{}; {}; sleep 0.6",
            step("__run", &format!("{short}; \"$0\" burn 400; sleep 0.6")),
            step(
                "test",
                "\"$0\" burn 300; COLLECTOR_STEP=slow sh -c \"\\\"$0\\\" burn 200; sleep 0.6\" \"$0\"; sleep 0.6"
            )
        );
        assert!(pod.start(None, &script).wait().unwrap().success());
        std::thread::sleep(std::time::Duration::from_millis(500));
        pod.end();
        node.wait_until_over(1);
        let run = node.run("build");
        let names: Vec<_> = run.steps.iter().map(|step| step.name.as_str()).collect();
        assert_eq!(names, ["run 1", "test", "slow"], "{ebpf}");
        let [first, test, slow] = &run.steps[..] else { unreachable!() };
        for (step, least, most) in [(first, 0.4, 1.2), (test, 0.29, 0.4), (slow, 0.19, 0.3)] {
            assert!((least..most).contains(&step.cpu_seconds), "{ebpf}: {step:?}");
        }
        if ebpf == "require" {
            assert!((102..=104).contains(&first.process_count), "{first:?}");
        }
        assert!(first.end_seconds <= test.begin_seconds + 0.3, "{ebpf}: {:?}", run.steps);
    }
}

/// A runner that runs several jobs at once in its own container, as in host mode, and works itself meanwhile.
#[test]
fn jobs_at_once_in_one_container_are_runs_of_their_own() {
    for ebpf in EBPF {
        let node = Node::start(&[&format!("--ebpf={ebpf}")]);
        let pod = Pod::new(Driver::Cgroupfs);
        let short = "i=0; while [ $i -lt 150 ]; do /bin/true; i=$((i+1)); done";
        let step = |name: &str, script: &str| format!("{} sh -c '{script}' \"$1\"", assignments(name, "1"));
        // Without eBPF what a process used since the last pass goes with it, so each sleeps at its end.
        // The first job has two steps with a pause between them, in which the other one goes on. The third begins later.
        let first = format!(
            "({}; sleep 0.3; {}) &",
            step("first", &format!("{short}; \"$0\" burn 300; sleep 0.6")),
            step("first", "\"$0\" burn 200; sleep 0.6")
        );
        let second = format!("({}) &", step("second", &format!("\"$0\" burn 900; {short}; sleep 1")));
        let third = format!("({}) &", step("third", "\"$0\" burn 400; sleep 0.6"));
        let script = format!("sleep 0.3; {first} {second} sleep 1; {third} \"$1\" burn 300; wait; sleep 0.3");
        assert!(pod.start(None, &script).wait().unwrap().success());
        std::thread::sleep(std::time::Duration::from_millis(500));
        let truth = pod.end();
        node.wait_until_over(3);
        let runs = ["first", "second", "third"].map(|name| node.run(name));
        let used = runs.each_ref().map(attributed);
        let overhead = |run: &Payload| run.pod_overhead.as_ref().map_or(0.0, |overhead| overhead.cpu_seconds);
        let shared: f64 = runs.iter().map(overhead).sum();
        let all = used.iter().sum::<f64>() + shared;
        let [first, second, third] = used;
        println!("{ebpf}: {used:.3?} and {shared:.3} of {truth:.3} s");
        assert!(shared > 0.29, "the runner worked for all of them: {shared} s");
        // What the runner did before it had jobs is no job's.
        assert!((truth - all).abs() < 0.02 * truth + 0.05, "{used:?} of {truth} s");
        // The first two start the same number of short processes.
        let short = truth - 0.3 - 0.5 - 0.9 - 0.4;
        for (used, own) in [(first, 0.5), (second, 0.9)] {
            assert!(
                (own + 0.3 * short - 0.05..own + 0.7 * short + 0.05).contains(&used),
                "{used} s: {own} s and some of {short} s"
            );
        }
        assert!((0.39..0.45).contains(&third), "{third} s");
        for run in &runs {
            let row = &run.containers[0];
            assert_eq!(row.cgroup_cpu_seconds, None, "the container's account is not one job's");
        }
    }
}

#[test]
fn what_a_job_leaves_behind_is_the_next_ones_and_does_not_bring_it_back() {
    let node = Node::start(&[]);
    let pod = Pod::new(Driver::Cgroupfs);
    let script = format!(
        "{} sh -c '(while sleep 0.05; do :; done) & echo $! > \"$0\"; sleep 0.5'; {} sleep 1.5; kill $(cat \"$0\")",
        assignments("first", "1"),
        assignments("second", "2")
    );
    let file = node.directory.path().join("pid");
    let script = script.replace("\"$0\"", &format!("\"{}\"", file.display()));
    assert!(pod.start(None, &script).wait().unwrap().success());
    pod.end();
    node.wait_until_over(2);
    let second = node.run("second");
    assert!(node.run("first").duration_seconds < 1.2);
    assert!(second.duration_seconds > 1.2, "{}", second.duration_seconds);
}

#[test]
fn a_job_that_plays_at_being_another_is_itself() {
    let node = Node::start(&[]);
    let pod = Pod::new(Driver::Systemd);
    let script = format!("sleep 0.5; {} sleep 0.6; \"$1\" burn 300; sleep 0.3", assignments("played", "99"));
    assert!(pod.start(Some(("real", "1")), &script).wait().unwrap().success());
    let truth = pod.end();
    node.wait_until_over(1);
    let payload = node.run("real");
    assert_share("off", &payload, attributed(&payload), truth);
    assert!(node.runs("played").is_empty());
}

/// A runner that executes its next step's shell in place of its own: the name stays the same.
#[test]
fn a_shell_that_becomes_a_jobs_shell_is_the_jobs() {
    for ebpf in EBPF {
        let node = Node::start(&[&format!("--ebpf={ebpf}")]);
        let pod = Pod::new(Driver::Cgroupfs);
        let script = format!(
            "sleep 0.7; {} exec sh -c 'i=0; while [ $i -lt 300 ]; do /bin/true; i=$((i+1)); done; \"$0\" burn 200; sleep 0.5' \"$1\"",
            assignments("becomes", "1")
        );
        assert!(pod.start(None, &script).wait().unwrap().success());
        let truth = pod.end();
        node.wait_until_over(1);
        let payload = node.run("becomes");
        assert_share(ebpf, &payload, attributed(&payload), truth);
    }
}

#[test]
fn legs_of_a_matrix_in_one_container_are_told_apart_by_their_variant() {
    for ebpf in EBPF {
        let node = Node::start(&[&format!("--ebpf={ebpf}"), "--node-name=worker-7"]);
        let pod = Pod::new(Driver::Cgroupfs);
        let leg = |variant: &str, ms: u32| {
            let names = format!(
                "{} GITHUB_REF=refs/heads/main COLLECTOR_VARIANT={variant}",
                assignments("legs", "1")
            );
            format!("({names} sh -c '\"$0\" burn {ms}; sleep 0.6' \"$1\") &")
        };
        let script = format!("sleep 0.3; {} {} wait; sleep 0.3", leg("a", 300), leg("b", 600));
        assert!(pod.start(None, &script).wait().unwrap().success());
        pod.end();
        node.wait_until_over(2);
        let mut legs: Vec<(String, Payload)> = node
            .runs("legs")
            .into_iter()
            .map(|run| {
                let payload: Payload = serde_json::from_value(run["payload"].clone()).unwrap();
                let ci = payload.ci.clone().unwrap();
                assert_eq!(ci.git_ref.as_deref(), Some("refs/heads/main"));
                assert_eq!(payload.collector.as_ref().unwrap().node_name.as_deref(), Some("worker-7"));
                (ci.variant.unwrap(), payload)
            })
            .collect();
        legs.sort_by(|one, other| one.0.cmp(&other.0));
        let used = |at: usize| attributed(&legs[at].1);
        assert_eq!((legs.len(), legs[0].0.as_str(), legs[1].0.as_str()), (2, "a", "b"));
        assert!(
            (0.28..0.37).contains(&used(0)) && (0.57..0.68).contains(&used(1)),
            "{} {}",
            used(0),
            used(1)
        );
    }
}

#[test]
fn a_docker_container_counts_with_what_it_started() {
    for ebpf in EBPF {
        let node = Node::start(&[&format!("--ebpf={ebpf}")]);
        let (outer, inner) = (Cgroup::of_docker().unwrap(), Cgroup::of_docker().unwrap());
        // An engine in the container puts its containers' cgroups beside it.
        let script = format!(
            "sleep 0.3; env -i sh -c 'echo $$ > \"$0/cgroup.procs\" && sleep 0.5 && \"$1\" burn 300; sleep 0.5' \"{}\" \"$1\"; \"$1\" burn 200; sleep 0.5",
            inner.path().display()
        );
        assert!(start_in(&outer, Some(("docker", "1")), &script).wait().unwrap().success());
        let (outside, inside) = (outer.cpu_seconds().unwrap(), inner.cpu_seconds().unwrap());
        let ids = [outer.id().to_owned(), inner.id().to_owned()];
        drop((outer, inner));
        node.wait_until_over(1);
        let payload = node.run("docker");
        let found = |id: &str| {
            let usage = payload.containers.iter().find(|usage| usage.id.as_deref() == Some(id));
            usage.and_then(|usage| usage.cpu_seconds).unwrap_or_default()
        };
        assert_share(ebpf, &payload, found(&ids[0]) + found(&ids[1]), outside + inside);
        assert!(found(&ids[1]) > 0.25, "{:#?}", payload.containers);
    }
}
