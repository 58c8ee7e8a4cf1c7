//! `collector node` in its image, beside pods that the engine runs in the cgroups of a kubelet.

use std::time::{Duration, Instant};

use serde_json::json;
use tests::cgroup::Driver;
use tests::program::PATIENCE;
use tests::receiver::{READ_TOKEN, Receiver};
use wire::Payload;

use super::pod::Pod;
use super::{docker, told};

/// The node's collector in a container with the privileges of `deploy/`, and one more for engines that do not know
/// `CAP_BPF`.
struct Node {
    receiver: Receiver,
    container: String,
    _directory: tempfile::TempDir,
}

impl Node {
    fn start(ebpf: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let receiver = Receiver::start(&directory.path().join("metrics.db"));
        let token = receiver.token(&json!({"organization": "my-org"}));
        let container = told(&[
            "run",
            "--detach",
            "--pid=host",
            "--network=host",
            "--user=0",
            "--cap-drop=ALL",
            "--cap-add=SYS_PTRACE",
            "--cap-add=DAC_READ_SEARCH",
            "--cap-add=SYS_ADMIN",
            "--volume=/sys/fs/cgroup:/sys/fs/cgroup:ro",
            &format!("--env=COLLECTOR_PUSH_TOKEN={token}"),
            "runner-resource-collector/collector",
            "node",
            &format!("--ebpf={ebpf}"),
            "--interval=500ms",
            "--job-idle=60s",
            "--push-interval=0",
            "--output=none",
            "--metrics-addr=none",
            &format!("--push-endpoint=http://{}/api/v1/metrics", receiver.address),
        ]);
        let node = Self { receiver, container, _directory: directory };
        node.wait_for(" measuring", 1);
        node
    }

    fn log(&self) -> String {
        String::from_utf8(docker(&["logs", &self.container]).stderr).unwrap()
    }

    #[track_caller]
    fn wait_for(&self, text: &str, count: usize) {
        let patience = Instant::now() + PATIENCE;
        while self.log().matches(text).count() < count {
            assert!(Instant::now() < patience, "not {count} times {text:?}:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// The only run of a job.
    #[track_caller]
    fn run(&self, job: &str) -> Payload {
        let path = format!("/api/v1/metrics/repo/my-org/my-repo/ci.yml/{job}");
        let answer = self.receiver.request("GET", &path, READ_TOKEN, "");
        let runs = answer.json();
        assert_eq!(runs.as_array().map(Vec::len), Some(1), "{job}: {runs:#}");
        serde_json::from_value(runs[0]["payload"].clone()).unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = std::process::Command::new("docker").args(["rm", "--force", &self.container]).output();
    }
}

/// The promise, plus the cost of starting two containers: `runc` has used some milliseconds before it moves into their
/// cgroups.
#[track_caller]
fn assert_share(ebpf: &str, payload: &Payload, truth: f64) {
    let found: f64 = payload.containers.iter().filter_map(|usage| usage.cpu_seconds).sum();
    let share = if ebpf == "off" { 0.02 } else { 0.005 };
    assert!((found - truth).abs() <= share * truth + 0.1, "--ebpf={ebpf}: {found} s of {truth} s");
}

#[test]
fn jobs_in_pods_at_once_one_after_another_and_killed_are_runs_of_their_own() {
    for ebpf in ["off", "require"] {
        let node = Node::start(ebpf);
        let pods = [Driver::Cgroupfs, Driver::Systemd, Driver::Cgroupfs].map(|driver| Pod::new(driver, &[]));
        let other = Pod::new(Driver::Systemd, &[]);
        let bystander = other.container(&[], &["burn", "500"]);
        let [first, second, third] = &pods;
        let build = first.start("build", "1", &["burn", "3000"]);
        let storm = second.start("storm", "1", &["as", "job", "storm", "100"]);
        let one = third.start("one", "1", &["burn", "1500"]);
        docker(&["wait", &one]);
        // Time for the collector to see that the first job is gone before the next one starts.
        std::thread::sleep(Duration::from_secs(1));
        let two = third.start("two", "2", &["burn", "1500"]);
        docker(&["wait", &build, &two, &bystander]);
        docker(&["kill", &storm]);
        std::thread::sleep(Duration::from_secs(1));
        let ids = [build.clone(), storm.clone()];
        docker(&["rm", "--force", &build, &storm, &one, &two, &bystander]);
        let uids = [first.uid.clone(), second.uid.clone()];
        let [build_truth, storm_truth, both_truth] = pods.map(Pod::end);
        other.end();
        node.wait_for("the receiver has the summary", 4);
        for (at, (job, truth)) in [("build", build_truth), ("storm", storm_truth)].into_iter().enumerate() {
            let payload = node.run(job);
            assert_eq!(payload.complete, Some(true), "{job}");
            assert_eq!(
                payload.collector.as_ref().unwrap().source,
                if ebpf == "off" { "proc" } else { "ebpf" }
            );
            assert_share(ebpf, &payload, truth);
            let usage = payload.containers.iter().find(|usage| usage.id.as_deref() == Some(&ids[at]));
            let usage = usage.unwrap_or_else(|| panic!("{job}: {:#?}", payload.containers));
            assert_eq!(usage.pod_uid.as_ref(), Some(&uids[at]));
            assert!(payload.containers.iter().all(|usage| usage.pod_uid.as_ref() == Some(&uids[at])));
        }
        let storm = node.run("storm");
        // Without eBPF processes of 2 ms count as CPU time but not as processes.
        assert!(ebpf == "off" || storm.attribution.unwrap().process_count > 50);
        let (one, two) = (node.run("one"), node.run("two"));
        assert!(one.end_time <= two.start_time + jiff::SignedDuration::from_secs(1));
        let mut both = one;
        both.containers.extend(two.containers);
        assert_share(ebpf, &both, both_truth);
    }
}
