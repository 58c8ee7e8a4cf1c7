//! `/metrics` while jobs run.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use tests::cgroup::Driver;
use tests::http::request;
use tests::program::{Program, collector};

use super::Pod;

fn start() -> (Program, String) {
    let mut command = collector();
    command.args([
        "node",
        "--interval=200ms",
        "--log-format=json",
        "--output=none",
        "--metrics-addr=127.0.0.1:0",
    ]);
    let program = Program::start(&mut command);
    let address = program.wait_for("metrics are served")["address"].as_str().unwrap().to_owned();
    program.wait_for("measuring");
    (program, address)
}

fn scrape(address: &str) -> String {
    let answer = request(address, "GET", "/metrics", "", "");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    answer.body
}

/// The value of the only series with this name and label.
#[track_caller]
fn value(text: &str, name: &str, label: &str) -> f64 {
    let series = |line: &&str| line.split(['{', ' ']).next() == Some(name) && line.contains(label);
    let found: Vec<_> = text.lines().filter(series).collect();
    assert_eq!(found.len(), 1, "{name} {label} in\n{text}");
    found[0].rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn jobs_are_there_while_they_run() {
    let (program, address) = start();
    let pod = Pod::new(Driver::Cgroupfs);
    let job = "bu\\ild \"x\"";
    let mut child = pod.start(Some((job, "1")), "\"$1\" burn 400; sleep 2");
    program.wait_for("a job begins");
    std::thread::sleep(Duration::from_millis(1200));
    let text = scrape(&address);
    let label = r#"job="bu\\ild \"x\"""#;
    let cpu = value(&text, "collector_job_cpu_seconds_total", label);
    assert!((0.35..0.6).contains(&cpu), "{cpu}");
    assert!(value(&text, "collector_job_memory_bytes", label) > 100_000.0);
    assert!(value(&text, "collector_jobs", "") == 1.0);
    assert!(value(&text, "collector_passes_total", "") >= 5.0);
    assert!(value(&text, "process_cpu_seconds_total", "") > 0.0);
    assert!(text.contains(&format!("pod_uid=\"{}\"", pod.uid)));
    assert!(child.wait().unwrap().success());
    pod.end();
    program.wait_for("a job is over");
    let text = scrape(&address);
    assert!(!text.contains("bu\\"), "{text}");
    assert_eq!(value(&text, "collector_jobs_ended_total", "reason=\"gone\""), 1.0);
    assert_eq!(request(&address, "GET", "/", "", "").status, 404);
    assert_eq!(request(&address, "POST", "/metrics", "", "").status, 405);
    assert!(program.stop().status.success());
}

#[test]
fn promtool_finds_nothing_wrong() {
    let (program, address) = start();
    let pod = Pod::new(Driver::Systemd);
    let mut child = pod.start(Some(("build", "1")), "sleep 1.5");
    program.wait_for("a job begins");
    std::thread::sleep(Duration::from_millis(500));
    let text = scrape(&address);
    assert!(text.contains("collector_job_memory_bytes{"), "{text}");
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut promtool = promtool.spawn().expect("promtool, of Debian's package prometheus");
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    assert!(
        output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(),
        "{output:?}\n{text}"
    );
    child.wait().unwrap();
    pod.end();
}
