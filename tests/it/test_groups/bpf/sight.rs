//! Which processes are seen: PID namespaces.

use std::process::Command;
use std::time::{Duration, Instant};

use tests::program::{path, workload};
use wire::Payload;

use super::{BETWEEN_PASSES, assert_attributed, measure};

#[test]
fn processes_in_a_pid_namespace_inside_are_seen() {
    let loop_of = "i=0; while [ $i -lt 200 ]; do /bin/true; i=$((i+1)); done";
    let measured = measure(BETWEEN_PASSES, &format!("unshare --pid --fork sh -c '{loop_of}'"));
    // `unshare` needs root, which the workload has.
    assert_attributed(&measured, 0);
    assert_eq!(measured.command("true").process_count, 200);
}

#[test]
fn a_sidecar_sees_its_pod_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let (report, log) = (directory.path().join("report.json"), directory.path().join("log"));
    // The collector is in a namespace of its own, in which one more process is busy for a moment.
    let script = "\"$0\" --ebpf=require --interval=200ms --output=json --output-file=\"$1\" 2>\"$3\" & collector=$!
        until grep -q measuring \"$3\"; do sleep 0.05; done; \"$2\" burn 300; read line; kill -TERM $collector; wait $collector";
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc", "sh", "-c", script]);
    command.arg(path("COLLECTOR_BIN", "collector")).arg(&report).arg(workload()).arg(&log);
    let mut inside = command.stdin(std::process::Stdio::piped()).spawn().unwrap();
    let end = Instant::now() + Duration::from_secs(20);
    while !std::fs::read_to_string(&log).is_ok_and(|log| log.contains("measuring")) {
        assert!(Instant::now() < end, "it does not begin to measure");
        std::thread::sleep(Duration::from_millis(10));
    }
    for _ in 0..300 {
        assert!(Command::new("/bin/true").status().unwrap().success());
    }
    drop(inside.stdin.take());
    assert!(inside.wait().unwrap().success());
    let payload: Payload = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    let names: Vec<_> = payload.top_commands.iter().map(|one| one.name.as_str()).collect();
    assert!(names.contains(&"workload") && !names.contains(&"true"), "{names:?}");
    let attribution = payload.attribution.unwrap();
    // The shell, the collector, the workload, and a few sleeps and reads of the log.
    assert!(attribution.process_count <= 12, "{}", attribution.process_count);
    assert!((0.3..0.6).contains(&attribution.cpu_seconds), "{}", attribution.cpu_seconds);
}
