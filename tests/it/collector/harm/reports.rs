//! Reports and summaries that cannot be written or pushed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use tests::program::collector;
use tests::receiver::Receiver;

use crate::together::SCOPE;

#[test]
fn a_report_that_cannot_be_written_goes_to_standard_error_with_a_warning() {
    for (file, strict, code) in [("/nonexistent/x", "false", 7), ("/dev/full", "false", 7), ("/", "true", 7)]
    {
        let mut command = collector();
        command.env("COLLECTOR_STRICT", strict).arg("run").arg(format!("--output-file={file}"));
        let output = command.args(["--", "sh", "-c", "exit 7"]).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        assert_eq!(
            stderr.matches("cannot write the report to").count(),
            2,
            "logged, and in the report: {stderr}"
        );
        assert!(stderr.contains("Containers"), "{stderr}");
    }
    let mut strict = collector();
    let output = strict.args(["run", "--strict", "--output-file=/nowhere/x", "--", "true"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

#[test]
fn what_cannot_be_pushed_lies_in_the_users_state_and_not_in_the_log() {
    let home = tempfile::tempdir().unwrap();
    let below = home.path().join(".local/state/runner-resource-collector/spool");
    let summaries = || {
        let found: Vec<_> = fs::read_dir(&below).into_iter().flatten().flatten().collect();
        let files = found.iter().flat_map(|of| fs::read_dir(of.path()).unwrap().flatten());
        files.filter(|file| file.file_name().to_string_lossy().ends_with(".json")).count()
    };
    let run = |endpoint: &str, spool: Option<&str>| {
        let mut command = collector();
        command.env_remove("COLLECTOR_SPOOL_DIR").env_remove("XDG_STATE_HOME").env("HOME", home.path());
        command.envs(SCOPE).env("COLLECTOR_PUSH_TOKEN", "t0ken").arg("run").arg("--shutdown-timeout=300ms");
        command
            .arg(format!("--push-endpoint={endpoint}"))
            .args(spool.map(|dir| format!("--spool-dir={dir}")));
        let output = command.args(["--", "sh", "-c", "exit 7"]).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(7), "{stderr}");
        assert!(!stderr.contains("schema_version") && !stderr.contains("t0ken"), "{stderr}");
        stderr
    };
    let nobody = "http://127.0.0.1:1";
    let stderr = run(nobody, Some("none"));
    assert!(stderr.contains("it is lost") && summaries() == 0, "{stderr}");
    let stderr = run(nobody, None);
    assert!(stderr.contains("it is in the spool"), "{stderr}");
    assert_eq!(summaries(), 1);
    // A summary is private: it says which organization builds what.
    let of_receiver = fs::read_dir(&below).unwrap().next().unwrap().unwrap();
    assert_eq!(of_receiver.metadata().unwrap().permissions().mode() & 0o077, 0);
    // A summary for one receiver is never sent to another.
    run("http://localhost:1", None);
    assert_eq!((summaries(), fs::read_dir(&below).unwrap().count()), (2, 2));
}

#[test]
fn what_lies_there_is_delivered_by_the_next_command() {
    let home = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&home.path().join("metrics.db"));
    let token = receiver.job_token();
    let run = |token: &str, seconds: &str| {
        let mut command = collector();
        command.env_remove("COLLECTOR_SPOOL_DIR").env("XDG_STATE_HOME", home.path()).envs(SCOPE);
        command
            .env("COLLECTOR_PUSH_TOKEN", token)
            .env("COLLECTOR_PUSH_ENDPOINT", format!("http://{}", receiver.address));
        command.args(["run", "--shutdown-timeout=2s", "--", "sleep", seconds]).output().unwrap()
    };
    run("of-another-scope", "0");
    assert_eq!(receiver.runs().len(), 0);
    let output = run(&token, "1");
    assert!(!String::from_utf8_lossy(&output.stderr).contains("Warnings"), "{output:?}");
    assert_eq!(receiver.runs().len(), 2);
}

#[test]
fn a_limit_on_the_size_of_files_ends_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new("bash");
    command.args(["-c", "ulimit -f 0; exec \"$0\" run --output-file=\"$1\" -- sh -c 'exit 7'"]);
    command.arg(collector().get_program()).arg(directory.path().join("report"));
    let output = command.output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(7), "{stderr}");
    assert!(stderr.contains("cannot write the report to") && stderr.contains("Containers"), "{stderr}");
}

#[test]
fn without_a_home_the_command_runs_too() {
    let mut command = collector();
    for name in ["COLLECTOR_SPOOL_DIR", "HOME", "XDG_STATE_HOME"] {
        command.env_remove(name);
    }
    command.envs(SCOPE).env("COLLECTOR_PUSH_TOKEN", "t0ken").args(["run", "--shutdown-timeout=200ms"]);
    let output =
        command.args(["--push-endpoint=http://127.0.0.1:1", "--", "sh", "-c", "exit 7"]).output().unwrap();
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("it is lost"), "{output:?}");
}

#[test]
fn a_home_that_is_not_ours_is_no_obstacle() {
    let mut command = collector();
    command.env_remove("COLLECTOR_SPOOL_DIR").env_remove("XDG_STATE_HOME").env("HOME", "/proc");
    command.envs(SCOPE).env("COLLECTOR_PUSH_TOKEN", "t0ken").args(["run", "--shutdown-timeout=200ms"]);
    command.args(["--push-endpoint=http://127.0.0.1:1", "--", "sh", "-c", "exit 7"]);
    if rustix::process::getuid().is_root() {
        command.uid(65534);
    }
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(7), "{output:?}");
}
