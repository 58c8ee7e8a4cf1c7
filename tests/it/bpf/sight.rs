//! Who is seen: PID namespaces.

use std::process::Command;

use tests::program::{path, workload};
use wire::Payload;

use super::{BETWEEN_PASSES, assert_attributed, measure};

#[test]
fn processes_in_a_pid_namespace_inside_are_seen() {
    let loop_of = "i=0; while [ $i -lt 200 ]; do /bin/true; i=$((i+1)); done";
    let measured = measure(BETWEEN_PASSES, &format!("unshare --pid --fork sh -c '{loop_of}'"));
    // `unshare` itself needs root, which the workload is.
    assert_attributed(&measured, 0);
    assert_eq!(measured.command("true").process_count, 200);
}

#[test]
fn a_sidecar_sees_its_pod_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let report = directory.path().join("report.json");
    // The collector is in a namespace of its own, where one more process is busy for a moment.
    let script = "\"$0\" --ebpf=require --interval=200ms --output=json --output-file=\"$1\" --log-level=error & collector=$!
        sleep 0.5; \"$2\" burn 300; read line; kill -TERM $collector; wait $collector";
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc", "sh", "-c", script]);
    command.arg(path("COLLECTOR_BIN", "collector")).arg(&report).arg(workload());
    let mut inside = command.stdin(std::process::Stdio::piped()).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(500));
    for _ in 0..300 {
        assert!(Command::new("/bin/true").status().unwrap().success());
    }
    drop(inside.stdin.take());
    assert!(inside.wait().unwrap().success());
    let payload: Payload = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    let names: Vec<_> = payload.top_commands.iter().map(|one| one.name.as_str()).collect();
    assert!(names.contains(&"workload") && !names.contains(&"true"), "{names:?}");
    let attribution = payload.attribution.unwrap();
    assert_eq!(attribution.lost_records, 0);
    // The shell, the collector, two sleeps at the most, the workload.
    assert!(attribution.process_count <= 5, "{}", attribution.process_count);
    assert!((0.3..0.6).contains(&attribution.cpu_seconds), "{}", attribution.cpu_seconds);
}
