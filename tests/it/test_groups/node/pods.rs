//! Which pods are measured, their names, and the required privileges.

use std::time::{Duration, Instant};

use serde_json::json;
use tests::cgroup::Driver;
use tests::program::{PATIENCE, Program};
use tests::receiver::READ_TOKEN;

use super::{Node, Pod, command};

#[test]
fn containers_are_named_by_the_logs_of_their_pod() {
    let node = Node::start(&[]);
    let pod = Pod::new(Driver::Systemd);
    let logs = node.directory.path().join("log/pods");
    std::fs::create_dir_all(logs.join(format!("ci_runner-x7_{}/runner", pod.uid))).unwrap();
    assert!(pod.start(Some(("named", "1")), "sleep 0.7").wait().unwrap().success());
    assert_eq!(node.program.wait_for("a job begins")["pod"], "runner-x7");
    pod.end();
    node.wait_until_over(1);
    assert_eq!(node.run("named").containers[0].name, "runner");
}

#[test]
fn pods_that_are_no_job_are_reported_where_that_is_asked_for() {
    let node = Node::start(&["--report-other=my-org/{namespace}/pods/{pod}", "--job-idle=500ms"]);
    let pod = Pod::new(Driver::Cgroupfs);
    let logs = node.directory.path().join("log/pods");
    std::fs::create_dir_all(logs.join(format!("shop_web-0_{}/web", pod.uid))).unwrap();
    assert!(pod.start(None, "\"$1\" burn 200; sleep 1").wait().unwrap().success());
    let uid = pod.uid.clone();
    pod.end();
    // Other containers on this machine are reported as well.
    let runs = || {
        let path = "/api/v1/metrics/repo/my-org/shop/pods/web-0";
        node.receiver.request("GET", path, READ_TOKEN, "").json()
    };
    let end = Instant::now() + PATIENCE;
    while runs().as_array().unwrap().is_empty() {
        assert!(Instant::now() < end, "the pod is not reported");
        std::thread::sleep(Duration::from_millis(20));
    }
    let runs = runs();
    assert_eq!((runs[0]["run_id"].as_str(), runs.as_array().unwrap().len()), (Some(uid.as_str()), 1));
    assert!(runs[0]["payload"]["containers"][0]["cpu_seconds"].as_f64().unwrap() > 0.19);
}

#[test]
fn gitlabs_variables_and_ones_own_are_understood() {
    let own = r#"--job-variables={"repository": "R", "workflow": "W", "job": "J", "run_id": "I"}"#;
    let gitlab = "CI_PROJECT_ROOT_NAMESPACE=my-org CI_PROJECT_PATH=my-org/my-repo CI_CONFIG_PATH=ci.yml CI_JOB_NAME=variables CI_PIPELINE_ID=5";
    for (option, variables) in
        [("--ci=github,gitlab", gitlab), (own, "R=my-org/my-repo W=ci.yml J=variables I=5")]
    {
        let node = Node::start(&[option]);
        let pod = Pod::new(Driver::Cgroupfs);
        let script = format!("exec env {variables} sleep 0.7");
        assert!(pod.start(None, &script).wait().unwrap().success());
        pod.end();
        node.wait_until_over(1);
        assert_eq!(node.runs("variables")[0]["run_id"], "5", "{option}");
    }
}

/// A collector that runs as the user nobody with only these capabilities.
fn with_capabilities(node: &Node, capabilities: &str, ebpf: &str) -> Program {
    let directory = node.directory.path();
    let copy = directory.join("collector");
    if !copy.exists() {
        std::fs::copy(tests::program::path("COLLECTOR_BIN", "collector"), &copy).unwrap();
    }
    tests::privileges::open_to_all(&copy, 0o755).unwrap();
    tests::privileges::open_to_all(directory, 0o777).unwrap();
    let spool = directory.join("theirs");
    let mut command = std::process::Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    command.args([
        "--bounding-set",
        capabilities,
        "--inh-caps",
        capabilities,
        "--ambient-caps",
        capabilities,
    ]);
    command.arg(copy).args(super::command(directory, &node.receiver).get_args());
    command.arg(format!("--ebpf={ebpf}")).arg("--spool-dir").arg(spool);
    command.env("COLLECTOR_PUSH_TOKEN", node.receiver.token(&json!({"organization": "my-org"})));
    let program = Program::start(&mut command);
    program.wait_for("measuring");
    program
}

#[test]
fn four_capabilities_are_enough_and_with_less_no_job_is_found_that_runs_already() {
    let node = Node::start(&[]);
    let pod = Pod::new(Driver::Cgroupfs);
    let enough = with_capabilities(&node, "-all,+bpf,+perfmon,+sys_ptrace,+dac_read_search", "require");
    // The job must not execute another program, because the eBPF program reports the environment of each executed program.
    let mut job = pod.start(Some(("capable", "1")), "exec \"$1\" burn 4000");
    enough.wait_for("a job begins");
    for less in ["-all,+bpf,+perfmon,+sys_ptrace", "-all,+bpf,+perfmon,+dac_read_search"] {
        let too_little = with_capabilities(&node, less, "require");
        std::thread::sleep(Duration::from_millis(600));
        let log = too_little.stop().stderr;
        assert!(!log.contains("a job begins"), "{less}: {log}");
    }
    assert!(job.wait().unwrap().success());
    pod.end();
    enough.wait_for("the receiver has the summary");
    assert!(enough.stop().status.success());
}

#[test]
fn what_cannot_be_is_named_before_anything_is_measured() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = tests::receiver::Receiver::start(&directory.path().join("metrics.db"));
    for (option, expected) in [
        ("--report-other=a/b/c", "four parts"),
        ("--job-variables={\"run_id\": \"X\"}", "\"repository\" is missing"),
        ("--metrics-addr=9101", "127.0.0.1:9101"),
        ("--job-idle=0", "--job-idle"),
        ("--organization=x", "--organization identifies one run"),
        ("--output-file=x", "--output-file"),
        ("--push-tokens-file=/nowhere", "/nowhere"),
    ] {
        let output = command(directory.path(), &receiver)
            .arg(option)
            .env("COLLECTOR_PUSH_TOKEN", "t0ken")
            .env_remove("COLLECTOR_ORGANIZATION")
            .output()
            .unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{option}: {message}");
        assert!(message.contains(expected), "{option}: {message}");
    }
}
