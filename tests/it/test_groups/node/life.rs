//! The end of runs, and the state that a stopped collector leaves.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;
use tests::cgroup::Driver;
use tests::program::{PATIENCE, collector};
use tests::receiver::Receiver;

use super::{EBPF, Node, Pod, assert_share, attributed, command, environment, start_with};

#[test]
fn a_job_that_is_killed_with_its_pod_is_over() {
    for ebpf in EBPF {
        let node = Node::start(&[&format!("--ebpf={ebpf}")]);
        let pod = Pod::new(Driver::Systemd);
        let mut job = pod.start(Some(("killed", "1")), "exec \"$1\" burn 60000");
        std::thread::sleep(Duration::from_millis(1500));
        job.kill().unwrap();
        job.wait().unwrap();
        let truth = pod.end();
        assert_eq!(node.program.wait_for("a job is over")["end"], "gone");
        node.wait_until_over(1);
        let payload = node.run("killed");
        assert_eq!(payload.complete, Some(true));
        // Without eBPF the time after the last pass is lost, because the process's parent is in no pod.
        let ticks = if ebpf == "off" { 0.25 } else { 0.03 };
        assert!((attributed(&payload) - truth).abs() < ticks, "{} s of {truth} s", attributed(&payload));
    }
}

/// The eBPF program reports the environment with which a container starts, so it does not matter when the collector reads.
#[test]
fn a_job_that_is_over_before_anybody_looks_is_a_run() {
    let node = Node::start(&["--ebpf=require"]);
    node.program.signal(Signal::STOP);
    // Longer than one record.
    let long = "x".repeat(5_000);
    let mut truth = 0.0;
    for name in ["first", "second"] {
        let pod = Pod::new(Driver::Systemd);
        let script = format!("LONG={long} \"$1\" burn 100");
        assert!(pod.start(Some((name, "1")), &script).wait().unwrap().success());
        truth += pod.end();
    }
    node.program.signal(Signal::CONT);
    node.wait_until_over(2);
    let [first, second] = ["first", "second"].map(|name| node.run(name));
    assert!(first.containers.iter().all(|one| one.name != "host"), "{:?}", first.containers);
    let (one, other) = (attributed(&first), attributed(&second));
    assert!((one + other - truth).abs() < 0.02, "{one} + {other} s of {truth} s");
    assert!((one - other).abs() < 0.05, "each has its own: {one} and {other} s");
}

#[test]
fn a_job_of_which_nothing_lives_is_over_when_it_was_last_seen() {
    let node = Node::start(&["--job-idle=1s"]);
    let pod = Pod::new(Driver::Cgroupfs);
    let mut runner = pod.start(None, "exec sleep 30");
    assert!(pod.start(Some(("short", "1")), "\"$1\" burn 300; sleep 0.3").wait().unwrap().success());
    assert_eq!(node.program.wait_for("a job is over")["end"], "idle");
    node.wait_until_over(1);
    let payload = node.run("short");
    assert!((0.5..1.5).contains(&payload.duration_seconds), "{}", payload.duration_seconds);
    assert!((0.29..0.4).contains(&attributed(&payload)), "{}", attributed(&payload));
    // Another job of the same name is another run.
    assert!(pod.start(Some(("short", "1")), "sleep 0.5").wait().unwrap().success());
    node.wait_until_over(1);
    assert_eq!(node.runs("short").len(), 2);
    runner.kill().unwrap();
    runner.wait().unwrap();
    pod.end();
}

#[test]
fn a_pause_shorter_than_idle_is_part_of_the_job() {
    let node = Node::start(&["--job-idle=3s"]);
    let pod = Pod::new(Driver::Cgroupfs);
    let mut runner = pod.start(None, "exec sleep 30");
    assert!(pod.start(Some(("paused", "1")), "sleep 0.5").wait().unwrap().success());
    std::thread::sleep(Duration::from_millis(1200));
    assert!(pod.start(Some(("paused", "1")), "\"$1\" burn 200; sleep 0.5").wait().unwrap().success());
    runner.kill().unwrap();
    runner.wait().unwrap();
    let truth = pod.end();
    node.wait_until_over(1);
    let payload = node.run("paused");
    assert!(payload.duration_seconds > 2.0, "{}", payload.duration_seconds);
    assert_share("off", &payload, attributed(&payload), truth);
}

/// The names of the files in the spool.
fn spooled(directory: &Path) -> Vec<String> {
    let files = std::fs::read_dir(directory.join("spool")).unwrap().flatten();
    files.map(|file| file.file_name().into_string().unwrap()).collect()
}

#[track_caller]
fn wait_until(done: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "it did not come to that in {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Stops the collector in the middle of a job and starts another one.
fn restart(ebpf: &str, signal: Signal) {
    let node = Node::start(&[&format!("--ebpf={ebpf}")]);
    let pod = Pod::new(Driver::Cgroupfs);
    let marker = node.directory.path().join("half");
    let script = format!("\"$1\" burn 900; touch {}; sleep 3; \"$1\" burn 400; sleep 0.5", marker.display());
    let mut job = pod.start(Some(("long", "1")), &script);
    wait_until(|| marker.exists());
    // A pass, and a checkpoint after it.
    std::thread::sleep(Duration::from_secs(1));
    let Node { program, receiver, directory } = node;
    program.signal(signal);
    let ended = program.wait();
    if signal == Signal::TERM {
        assert!(ended.status.success(), "{}", ended.stderr);
        assert!(ended.stderr.contains("the receiver has the summary so far of a run"), "{}", ended.stderr);
    }
    let program = Node::program(directory.path(), &receiver, &[&format!("--ebpf={ebpf}")]);
    let node = Node { program, receiver, directory };
    assert!(job.wait().unwrap().success());
    std::thread::sleep(Duration::from_millis(500));
    let truth = pod.end();
    let id = node.program.wait_for("a job is over")["summary_id"].as_str().unwrap().to_owned();
    node.wait_until_over(1);
    let payload = node.run("long");
    assert_eq!(payload.complete, Some(false));
    let runs = node.runs("long");
    assert_eq!(runs[0]["run_id"], "1");
    // Nothing was used while no collector was running.
    assert_share(ebpf, &payload, attributed(&payload), truth);
    assert!(payload.duration_seconds > 3.0, "{}", payload.duration_seconds);
    // The collector removes the checkpoint once the receiver has the summary.
    wait_until(|| !spooled(node.directory.path()).iter().any(|name| name.contains(&id)));
}

#[test]
fn a_collector_that_is_killed_is_gone_on_from() {
    for ebpf in EBPF {
        restart(ebpf, Signal::KILL);
    }
}

#[test]
fn a_collector_that_is_stopped_leaves_the_jobs_to_the_next() {
    for ebpf in EBPF {
        restart(ebpf, Signal::TERM);
    }
}

#[test]
fn a_job_that_was_there_before_is_not_complete_and_one_whose_pod_is_gone_is_delivered() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&directory.path().join("metrics.db"));
    let pod = Pod::new(Driver::Cgroupfs);
    let mut job = pod.start(Some(("early", "1")), "sleep 2");
    let program = Node::program(directory.path(), &receiver, &[]);
    // The first pass saw the job, but its messages came before the awaited one, so they cannot be waited for.
    std::thread::sleep(Duration::from_millis(800));
    program.signal(Signal::KILL);
    program.wait();
    job.wait().unwrap();
    pod.end();
    let program = Node::program(directory.path(), &receiver, &[]);
    program.wait_for("a summary from the spool was delivered");
    let node = Node { program, receiver, directory };
    assert_eq!(node.run("early").complete, Some(false));
}

#[test]
fn a_wrong_token_holds_nobody_else_up() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&directory.path().join("metrics.db"));
    let token = receiver.token(&json!({"organization": "my-org"}));
    let file = directory.path().join("tokens");
    std::fs::write(&file, format!("my-org={token}\nother-org={token}\n")).unwrap();
    let tokens = format!("--push-tokens-file={}", file.display());
    let mut command = command(directory.path(), &receiver);
    let program = tests::program::Program::start(command.arg(&tokens));
    program.wait_for("measuring");
    let pods = [(); 3].map(|()| Pod::new(Driver::Cgroupfs));
    let mut children: Vec<_> = pods
        .iter()
        .zip(["my-org", "other-org", "third-org"])
        .map(|(pod, organization)| {
            let repository = format!("{organization}/my-repo");
            let mut environment = environment("build", "1");
            (environment[0].1, environment[1].1) = (organization, &repository);
            start_with(&pod.cgroup, &environment, "exec sleep 0.7")
        })
        .collect();
    for child in &mut children {
        assert!(child.wait().unwrap().success());
    }
    for pod in pods {
        pod.end();
    }
    let runs = |organization: &str| {
        let path = format!("/api/v1/metrics/repo/{organization}/my-repo/ci.yml/build");
        let answer = receiver.request("GET", &path, tests::receiver::READ_TOKEN, "");
        answer.json().as_array().unwrap().len()
    };
    wait_until(|| runs("my-org") == 1 && spooled(directory.path()).len() == 2);
    assert!(program.stop().status.success());
    assert_eq!((runs("my-org"), runs("other-org"), runs("third-org")), (1, 0, 0));
    // With the right tokens the others are delivered as well.
    let others = ["other-org", "third-org"].map(|organization| {
        format!("\"{organization}\": \"{}\"", receiver.token(&json!({"organization": organization})))
    });
    std::fs::write(&file, format!("{{{}}}", others.join(","))).unwrap();
    let mut deliver = collector();
    deliver.arg("deliver").arg(directory.path().join("spool")).arg(&tokens);
    deliver.arg(format!("--push-endpoint=http://{}/api/v1/metrics", receiver.address));
    assert!(deliver.status().unwrap().success());
    assert_eq!((runs("my-org"), runs("other-org"), runs("third-org")), (1, 1, 1));
}
