//! Standard streams that cannot be written to.

use std::process::{Command, Stdio};

use tests::program::collector;

/// Shell code that breaks a stream before the shell becomes the collector.
const STREAMS: [(&str, &str); 4] = [
    ("full", "exec {stream}>/dev/full"),
    ("closed", "exec {stream}>&-"),
    // `true` reads nothing and has ended before the first write.
    ("without a reader", "exec {stream}> >(true); sleep 0.05"),
    ("with a reader that goes away", "exec {stream}> >(head -c 1 >/dev/null)"),
];

#[test]
fn the_command_ends_as_it_does_alone() {
    let directory = tempfile::tempdir().unwrap();
    for stream in ["1", "2", "1 2"] {
        for (what, redirection) in STREAMS {
            for options in [
                "--output=text",
                "--output=json",
                "--output=none",
                "--log-level=debug --interval=10ms",
                "--log-level=debug --log-format=json --interval=10ms --output-file=-",
                "--output-file=/nowhere/report",
                "--summary-file=/nowhere/summary",
            ] {
                let marker = directory.path().join("ran");
                let redirections: Vec<_> =
                    stream.split(' ').map(|stream| redirection.replace("{stream}", stream)).collect();
                let script = format!(
                    "{}; exec \"$0\" run {options} -- sh -c 'sleep 0.05; : >\"$1\"; exit 7' sh \"$1\"",
                    redirections.join("; ")
                );
                let mut command = Command::new("bash");
                command.arg("-c").arg(script).arg(collector().get_program()).arg(&marker);
                command.env("COLLECTOR_SPOOL_DIR", "none").stdin(Stdio::null());
                let output = command.output().unwrap();
                assert_eq!(output.status.code(), Some(7), "stream {stream} {what}, {options}: {output:?}");
                assert!(std::fs::remove_file(&marker).is_ok(), "stream {stream} {what}, {options}");
            }
        }
    }
}

#[test]
fn what_runs_beside_a_job_ends_as_it_was_told() {
    for stream in ["1", "2"] {
        for (what, redirection) in STREAMS {
            let redirection = redirection.replace("{stream}", stream);
            let script =
                format!("{redirection}; exec \"$0\" --log-level=debug --interval=10ms --output=json");
            let mut command = Command::new("bash");
            command.arg("-c").arg(script).arg(collector().get_program()).env("COLLECTOR_SPOOL_DIR", "none");
            let mut child =
                command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            std::thread::sleep(std::time::Duration::from_millis(500));
            let pid = rustix::process::Pid::from_child(&child);
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
            let code = child.wait().unwrap().code();
            // An unwritable report is a failure in this mode.
            let expected: &[i32] = if stream == "1" && what == "full" { &[1] } else { &[0] };
            assert!(expected.contains(&code.unwrap_or(-1)), "stream {stream} {what}: {code:?}");
        }
    }
}

#[test]
fn the_report_begins_on_a_line_of_its_own() {
    let output = collector().args(["run", "--", "sh", "-c", "printf 'no end' >&2"]).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.starts_with("no end\n"), "{stderr}");
    assert!(stderr.contains("Containers") && !stderr.contains("INFO"), "{stderr}");
}

#[test]
fn json_is_alone_and_tells_of_what_is_wrong() {
    let mut command = collector();
    command.env("COLLECTOR_INTERVAL", "soon").args(["run", "--output=json", "--", "true"]);
    let output = command.output().unwrap();
    let payload: wire::Payload = serde_json::from_slice(&output.stderr).unwrap();
    let warnings = payload.collector.unwrap().warnings;
    assert!(warnings.len() == 1 && warnings[0].starts_with("COLLECTOR_INTERVAL: "), "{warnings:?}");
}

#[test]
fn quiet_is_quiet() {
    let mut command = collector();
    command.env("COLLECTOR_INTERVAL", "soon").args(["run", "--quiet", "--", "sh", "-c", "echo err >&2"]);
    assert_eq!(command.output().unwrap().stderr, b"err\n");
    let output =
        collector().args(["run", "--quiet", "--output-file=-", "--", "echo", "out"]).output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.stderr.is_empty() && stdout.starts_with("out\n") && stdout.contains("Containers"),
        "{stdout}"
    );
}
