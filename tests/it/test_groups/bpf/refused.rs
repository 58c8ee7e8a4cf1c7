//! Fallbacks without the eBPF program: not permitted, not possible, or not built in. Also its required capabilities.

use std::process::{Command, Output};

use tests::privileges::{Capabilities, as_nobody};
use tests::program::{Program, path};
use wire::Payload;

/// Runs one collector for a moment.
fn collector(capabilities: Capabilities, options: &[&str], strict: &str) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let mut command = as_nobody(&path("COLLECTOR_BIN", "collector"), directory.path(), capabilities).unwrap();
    command.env("COLLECTOR_STRICT", strict).args(["--log-level=error", "--output=json"]).args(options);
    command.args(["run", "--", "sleep", "0.1"]).output().unwrap()
}

#[track_caller]
fn assert_falls_back(output: &Output, reason: &str) {
    assert!(output.status.success(), "{output:?}");
    let payload: Payload = serde_json::from_slice(&output.stderr).unwrap();
    let collector = payload.collector.unwrap();
    assert_eq!((collector.source.as_str(), collector.source_reason.as_deref()), ("proc", Some(reason)));
}

#[test]
fn one_capability_is_too_few_and_the_other_is_named() {
    for (capabilities, reason) in [
        (Capabilities::None, "no CAP_BPF and no CAP_PERFMON"),
        (Capabilities::BpfOnly, "no CAP_PERFMON"),
        (Capabilities::PerfmonOnly, "no CAP_BPF"),
    ] {
        assert_falls_back(&collector(capabilities, &[], ""), reason);
        // A build does not fail because of this, except in strict mode.
        for (strict, code) in [("false", 0), ("true", 2)] {
            let output = collector(capabilities, &["--ebpf=require"], strict);
            assert_eq!(output.status.code(), Some(code));
            let stderr = String::from_utf8(output.stderr).unwrap();
            assert_eq!(stderr, format!("collector: nothing is measured: --ebpf=require: {reason}\n"));
        }
    }
}

#[test]
fn it_can_be_turned_off() {
    assert_falls_back(&collector(Capabilities::Ebpf, &["--ebpf=off"], ""), "turned off");
}

#[test]
fn without_the_kernels_types_it_says_so() {
    let empty = tempfile::tempdir().unwrap();
    let mut command = Command::new("unshare");
    command.args([
        "--mount",
        "sh",
        "-c",
        "mount --bind \"$1\" /sys/kernel/btf && exec \"$0\" --log-level=error --output=json run -- true",
    ]);
    command.arg(path("COLLECTOR_BIN", "collector")).arg(empty.path());
    let reason = "the kernel has no BTF (/sys/kernel/btf/vmlinux: No such file or directory (os error 2))";
    assert_falls_back(&command.output().unwrap(), reason);
}

#[test]
fn a_collector_built_without_it_says_so() {
    let mut command = Command::new(path("COLLECTOR_PLAIN_BIN", "collector-plain"));
    command.args(["--log-level=error", "--output=json", "run", "--", "true"]);
    assert_falls_back(&command.output().unwrap(), "built without eBPF");
}

#[test]
fn capabilities_are_given_up_once_it_runs() {
    let directory = tempfile::tempdir().unwrap();
    let mut command =
        as_nobody(&path("COLLECTOR_BIN", "collector"), directory.path(), Capabilities::Ebpf).unwrap();
    command.args([
        "--ebpf=require",
        "--log-format=json",
        "--output=none",
        "--interval=50ms",
        "--log-level=debug",
    ]);
    let program = Program::start(&mut command);
    program.wait_for("measuring");
    let status = std::fs::read_to_string(format!("/proc/{}/status", program.pid())).unwrap();
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        let line = status.lines().find(|line| line.starts_with(set)).unwrap();
        assert!(line.ends_with("0000000000000000"), "{line}");
    }
    // The collector continues to read the program's events.
    for _ in 0..5 {
        assert!(Command::new("/bin/true").status().unwrap().success());
        program.wait_for("pass");
    }
    assert!(program.stop().status.success());
}

#[test]
fn in_front_of_a_command_it_counts_every_process() {
    let script = "i=0; while [ $i -lt 300 ]; do /bin/true; i=$((i+1)); done; echo \"$(grep CapEff /proc/self/status)\"";
    let directory = tempfile::tempdir().unwrap();
    let mut command =
        as_nobody(&path("COLLECTOR_BIN", "collector"), directory.path(), Capabilities::Ebpf).unwrap();
    command.args(["--log-level=error", "--output=json", "--ebpf=require", "run", "--", "sh", "-c", script]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let payload: Payload = serde_json::from_slice(&output.stderr).unwrap();
    assert_eq!(payload.collector.unwrap().source, "ebpf");
    let count =
        |name: &str| payload.top_commands.iter().find(|one| one.name == name).map(|one| one.process_count);
    assert_eq!((count("true"), count("grep")), (Some(300), Some(1)), "{:?}", payload.top_commands);
    // The command keeps the capabilities that it would have without the collector.
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "CapEff:\t000000c000000000\n");
}
