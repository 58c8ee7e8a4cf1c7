//! The collector in images with nothing else in them: users copy it into images that others made.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tests::bare::{Bare, Layout, USER};
use tests::certificate::certificate;
use tests::program::{path, workload};
use tests::receiver::Receiver;
use tests::stub::{Stub, stored};

use super::{SCOPE, endpoint};

/// The environments of a command, from less to more.
const LAYOUTS: [Layout; 4] = [
    Layout { devices: false, proc: false },
    Layout { devices: true, proc: false },
    Layout { devices: false, proc: true },
    Layout { devices: true, proc: true },
];

fn bare() -> Bare {
    Bare::new(&[path("COLLECTOR_BIN", "collector"), workload()])
}

/// `collector run` in front of a workload.
fn running(bare: &Bare, layout: Layout, options: &[&str], work: &[&str]) -> Output {
    let mut command = bare.command(layout, "/bin/collector");
    command.args(["run", "--interval=20ms"]).args(options).args(["--", "/bin/workload"]).args(work);
    command.output().unwrap()
}

fn pushing(bare: &Bare, layout: Layout, endpoint: &str, options: &[&str]) -> Output {
    let mut command = bare.command(layout, "/bin/collector");
    command.envs(SCOPE).env("COLLECTOR_PUSH_ENDPOINT", endpoint).env("COLLECTOR_PUSH_TOKEN", "t0ken");
    command.args(["run", "--interval=20ms", "--output=none", "--shutdown-timeout=2s"]).args(options);
    command.args(["--", "/bin/workload", "burn", "20"]).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn f42_a_command_runs_and_ends_as_alone_whatever_is_missing() {
    let bare = bare();
    for layout in LAYOUTS {
        let output = running(&bare, layout, &["--output=json"], &["burn", "100"]);
        let told = stderr(&output);
        assert_eq!(output.status.code(), Some(0), "{layout:?}: {told}");
        assert_eq!(
            told.contains("nothing is measured: --proc-path /proc cannot be read"),
            !layout.proc,
            "{told}"
        );
        if layout.proc {
            let report = &told[told.find("\n{").map_or(0, |at| at + 1)..];
            let payload: wire::Payload =
                serde_json::from_str(report).unwrap_or_else(|error| panic!("{error}: {told}"));
            assert!(payload.containers[0].cpu_seconds.unwrap() > 0.09, "{told}");
        }
        // The workload has no such mode and prints an error.
        let output = running(&bare, layout, &["--output=none"], &["nothing"]);
        assert_eq!(output.status.code(), Some(2), "{layout:?}: {}", stderr(&output));
        assert!(stderr(&output).contains("burn MS"), "{}", stderr(&output));
        let mut command = bare.command(layout, "/bin/collector");
        let output = command.args(["run", "--output=none", "--", "/bin/nothing"]).output().unwrap();
        assert_eq!(output.status.code(), Some(127), "{layout:?}: {}", stderr(&output));
    }
}

#[test]
fn f42_what_the_command_is_given_is_not_changed() {
    let bare = bare();
    // The collector raises the limit of open files only for itself. The command does not get the token either.
    let output = |layout: Layout, arguments: &[&str]| {
        let mut command = bare.command(layout, "/bin/collector");
        command.env("COLLECTOR_PUSH_TOKEN", "s3cret").env("KEPT", "yes");
        let output = command.args(["run", "--output=none", "--"]).args(arguments).output().unwrap();
        (output.status.code(), output.stdout.clone(), stderr(&output))
    };
    for layout in LAYOUTS {
        let (code, stdout, told) = output(layout, &["/bin/collector", "--version"]);
        assert_eq!(code, Some(0), "{layout:?}: {told}");
        assert!(stdout.starts_with(b"collector "), "{layout:?}: {told}");
    }
}

#[test]
fn f42_http_needs_no_certificates_and_an_address_no_name_servers() {
    let bare = bare();
    for layout in LAYOUTS.into_iter().filter(|layout| layout.proc) {
        let stub = Stub::answering(vec![stored()]);
        let output = pushing(&bare, layout, &stub.endpoint(), &[]);
        let told = stderr(&output);
        assert_eq!((output.status.code(), stub.requests().len()), (Some(0), 1), "{layout:?}: {told}");
        assert!(!told.contains("certificate") && !told.contains("panic"), "{told}");
    }
}

#[test]
fn f42_a_name_that_cannot_be_looked_up_is_one_sentence() {
    let bare = bare();
    for layout in LAYOUTS.into_iter().filter(|layout| layout.proc) {
        let output = pushing(&bare, layout, "http://receiver.example:8080/", &[]);
        let told = stderr(&output);
        assert_eq!(output.status.code(), Some(0), "{layout:?}: {told}");
        let sentence = "receiver.example cannot be looked up: /etc/resolv.conf names no name server";
        assert_eq!(told.matches(sentence).count(), 1, "{told}");
        assert!(told.contains("an IP address can be used") && !told.contains("panic"), "{told}");
        // A build's log must not contain a summary.
        assert!(told.contains("it is lost") && !told.contains("{\"organization\""), "{told}");
    }
}

/// A receiver with TLS, and its certificate in the data directory.
fn with_tls(bare: &Bare, directory: &Path) -> Receiver {
    certificate(directory, "receiver");
    std::fs::copy(directory.join("cert.pem"), bare.data().join("ca.pem")).unwrap();
    let file = |name: &str| directory.join(name).to_string_lossy().into_owned();
    let options = ["--tls-cert", &file("cert.pem"), "--tls-key", &file("key.pem")];
    Receiver::start_with(&directory.join("metrics.db"), &options)
}

#[test]
fn f42_https_trusts_what_is_built_in_and_what_is_given() {
    let bare = bare();
    let directory = tempfile::tempdir().unwrap();
    let receiver = with_tls(&bare, directory.path());
    let endpoint = endpoint(&receiver).replace("http:", "https:");
    let built_in = "the system has no CA certificates: the built-in ones";
    for layout in LAYOUTS.into_iter().filter(|layout| layout.proc) {
        let told = stderr(&pushing(&bare, layout, &endpoint, &[]));
        assert_eq!(told.matches(built_in).count(), 1, "{told}");
        assert!(told.contains("is not accepted: no CA that this machine trusts has signed it"), "{told}");
        // The receiver rejects the token. It can only say so over a trusted connection.
        let told = stderr(&pushing(&bare, layout, &endpoint, &["--ca-file=/data/ca.pem"]));
        assert!(told.contains("401 Unauthorized") && !told.contains("panic"), "{told}");
    }
}

#[test]
fn f42_a_spool_that_cannot_be_made_keeps_no_command_from_running() {
    let bare = bare();
    let stub = Stub::answering(vec![stored()]);
    let output = pushing(&bare, LAYOUTS[3], &stub.endpoint(), &["--spool-dir=/nowhere/spool"]);
    let told = stderr(&output);
    assert_eq!((output.status.code(), stub.requests().len()), (Some(0), 1), "{told}");
    assert!(told.contains("there is no spool") && told.contains("/nowhere/spool cannot be used"), "{told}");
    let output = running(&bare, LAYOUTS[3], &["--output-file=/nowhere/report"], &["nothing"]);
    assert_eq!(output.status.code(), Some(2), "the command's own: {}", stderr(&output));
    assert!(stderr(&output).contains("cannot write the report to /nowhere/report"), "{}", stderr(&output));
}

#[test]
fn f42_what_stands_in_the_way_of_measuring_does_not_stand_in_that_of_the_command() {
    let program: PathBuf = path("COLLECTOR_BIN", "collector");
    // No thread can be created: the kernel counts the threads of a user other than root.
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join("collector");
    std::fs::copy(&program, &copy).unwrap();
    tests::privileges::open_to_all(directory.path(), 0o755).unwrap();
    // With two or three, this program can start and the command cannot be added to it.
    for processes in 1..=6 {
        let user = (USER + 10 + processes).to_string();
        let mut command = Command::new("setpriv");
        let limit = format!("--nproc={processes}:{processes}");
        command.args(["--reuid", &user, "--regid", &user, "--clear-groups", "prlimit", &limit]);
        command.arg(&copy).args(["run", "--output=none", "--", "sh", "-c", "exit 7"]);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(7), "{processes}: {}", stderr(&output));
        if processes == 1 {
            assert!(stderr(&output).contains("nothing is measured: no thread"), "{}", stderr(&output));
        }
        assert!(!stderr(&output).contains("panic"), "{processes}: {}", stderr(&output));
    }
}

#[test]
fn f42_a_proc_tree_of_another_pid_namespace_shows_the_command_or_nothing() {
    let program: PathBuf = path("COLLECTOR_BIN", "collector");
    let run = |command: &mut Command, proc: &str| {
        command.arg(&program).args(["run", "--ebpf=off", "--output=json", "--proc-path", proc]);
        command.args(["--", "sh", "-c", "sleep 0.2; exit 7"]).output().unwrap()
    };
    // The tree of the namespace around it, in which the collector is another PID than 1.
    let mut inside = Command::new("unshare");
    let output = run(inside.args(["--pid", "--fork"]), "/proc");
    let told = stderr(&output);
    assert_eq!(output.status.code(), Some(7), "{told}");
    let report: serde_json::Value = serde_json::from_str(&told).expect(&told);
    let commands = report["top_commands"].as_array().unwrap();
    let is_its_own = |row: &serde_json::Value| row["name"] == "sh" || row["name"] == "sleep";
    assert!(!commands.is_empty() && commands.iter().all(is_its_own), "{report:#}");
    // The tree of a namespace in which it does not exist.
    let mut other = Command::new("unshare");
    other.args(["--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", "echo there; exec sleep 60"]);
    let mut other = other.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(other.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let output = run(&mut Command::new("env"), &format!("/proc/{}/root/proc", other.id()));
    other.kill().unwrap();
    other.wait().unwrap();
    let told = stderr(&output);
    assert_eq!(output.status.code(), Some(7), "{told}");
    assert!(told.contains("nothing is measured") && told.contains("another PID namespace"), "{told}");
}
