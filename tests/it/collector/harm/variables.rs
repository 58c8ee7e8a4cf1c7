//! Every variable of the collector, empty and nonsensical.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::time::{Duration, Instant};

use clap::CommandFactory;
use collector::args::{Args, CERTIFICATE_DIRECTORY, CERTIFICATE_FILE};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tests::program::{Program, collector};

use crate::together::SCOPE;

/// Variables that CI systems set and the collector reads.
const OF_CI: [&str; 7] = [
    "GITHUB_REPOSITORY_OWNER",
    "GITHUB_REPOSITORY",
    "GITHUB_WORKFLOW",
    "GITHUB_JOB",
    "GITHUB_RUN_ID",
    "GITHUB_RUN_ATTEMPT",
    "GITHUB_STEP_SUMMARY",
];

/// All variables of the command line, in every mode.
fn variables() -> BTreeSet<String> {
    fn of(command: &clap::Command, into: &mut BTreeSet<String>) {
        let names = command.get_arguments().filter_map(clap::Arg::get_env);
        into.extend(names.map(|name| name.to_string_lossy().into_owned()));
        command.get_subcommands().for_each(|subcommand| of(subcommand, into));
    }
    let mut found = OF_CI.map(str::to_owned).into_iter().collect();
    of(&Args::command(), &mut found);
    assert!(found.len() >= 38, "{found:?}");
    found
}

/// A collector without any of them.
fn bare() -> Command {
    let mut command = collector();
    for name in variables() {
        command.env_remove(name);
    }
    command
}

/// Runs the collector in front of a command that prints something and exits with 7.
fn run(prepare: impl FnOnce(&mut Command)) -> String {
    let mut command = bare();
    prepare(&mut command);
    let output = command.args(["run", "--", "sh", "-c", "echo ran; exit 7"]).output().unwrap();
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    assert_eq!(output.stdout, b"ran\n", "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

fn warnings(stderr: &str) -> Vec<&str> {
    stderr.lines().filter(|line| line.contains(" WARN ") || line.contains(" ERROR ")).collect()
}

#[test]
fn an_empty_one_is_as_good_as_none() {
    for name in variables() {
        let stderr = run(|command| {
            command.env(&name, "");
        });
        assert!(warnings(&stderr).is_empty() && !stderr.contains("Warnings"), "{name}: {stderr}");
    }
    let all = |command: &mut Command| {
        command.envs(variables().into_iter().map(|name| (name, "")));
    };
    assert!(warnings(&run(all)).is_empty());

    let mut sidecar = bare();
    all(&mut sidecar);
    let program = Program::start(sidecar.args(["--log-format=json", "--output=json"]));
    program.wait_for("measuring");
    assert_eq!(program.stop().status.code(), Some(0));

    // This error is found later than the empty variables.
    let mut node = bare();
    all(&mut node);
    let output = node.args(["node", "--organization=o"]).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        (output.status.code(), stderr.contains("--organization identifies one run")),
        (Some(2), true),
        "{stderr}"
    );
}

#[test]
fn nonsense_in_one_is_a_warning_that_names_it() {
    let mut refused = 0;
    for name in variables() {
        for nonsense in [&b"nonsense \x01"[..], b"\xff\xfe"] {
            let directory = tempfile::tempdir().unwrap();
            let stderr = run(|command| {
                // A variable that is taken as a file name creates a file there.
                command.current_dir(directory.path()).env(&name, OsStr::from_bytes(nonsense));
            });
            let told = warnings(&stderr);
            assert!(told.len() <= 1, "{name}: {stderr}");
            if let Some(warning) = told.first() {
                let flag = name.replace("COLLECTOR_", "--").to_lowercase().replace('_', "-");
                assert!(
                    warning.contains(&name) || warning.contains(&flag) || warning.contains("nonsense"),
                    "{name}: {stderr}"
                );
                assert!(stderr.contains("Warnings"), "{name} is not in the report: {stderr}");
                refused += 1;
            }
        }
    }
    assert!(refused > 20, "{refused}");
}

#[test]
fn nonsense_stops_who_is_strict_and_what_runs_beside_others() {
    let cases: [&[&str]; 4] =
        [&["run", "--strict", "--", "echo", "ran"], &[], &["node"], &["deliver", "/tmp"]];
    for arguments in cases {
        for (name, value) in [("COLLECTOR_INTERVAL", "soon"), ("COLLECTOR_PUSH_INTERVAL", "-1s")] {
            let output = bare().env(name, value).args(arguments).output().unwrap();
            let stderr = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
            assert!(output.stdout.is_empty() && stderr.contains(&format!("{name}: ")), "{stderr}");
        }
    }
    let output = bare().args(["run", "--interval=soon", "--", "echo", "ran"]).output().unwrap();
    assert_eq!((output.status.code(), output.stdout.is_empty()), (Some(2), true), "a flag was typed wrong");
}

#[test]
fn what_is_missing_for_a_push_is_a_warning() {
    let endpoint = |command: &mut Command| {
        command.env("COLLECTOR_PUSH_ENDPOINT", "http://127.0.0.1:1");
    };
    // CI systems give an empty secret to pull requests from forks.
    let stderr = run(|command| {
        endpoint(command);
        command.envs(SCOPE).env("COLLECTOR_PUSH_TOKEN", "");
    });
    assert_eq!(warnings(&stderr).len(), 1, "{stderr}");
    assert!(stderr.contains("is given without a token, so nothing can be pushed"), "{stderr}");
    let cases: [(&[(&str, &str)], &str); 8] = [
        (
            &[("COLLECTOR_PUSH_TOKEN", "t0ken")],
            "missing: --organization (GITHUB_REPOSITORY_OWNER), --repository",
        ),
        (&[("COLLECTOR_PUSH_TOKEN_FILE", "/nowhere")], "COLLECTOR_PUSH_TOKEN_FILE /nowhere cannot be read"),
        (&[("COLLECTOR_PUSH_TOKEN_FILE", "/dev/null")], "/dev/null is empty"),
        (&[("COLLECTOR_PUSH_TOKEN_FILE", "/dev/zero")], "/dev/zero cannot be read: it is larger than 4 MiB"),
        (&[("COLLECTOR_PUSH_TOKEN", "no token")], "COLLECTOR_PUSH_TOKEN: the push token has characters"),
        (&[("COLLECTOR_PUSH_TOKEN", "a"), ("COLLECTOR_PUSH_TOKEN_FILE", "b")], "not both"),
        (
            &[("COLLECTOR_PUSH_ENDPOINT", "receiver:8080")],
            "is not an http or https URL such as http://receiver:8080/api/v1/metrics",
        ),
        (
            &[("COLLECTOR_PUSH_ENDPOINT", "http://me:s3cret@r/")],
            "COLLECTOR_PUSH_ENDPOINT has a user name or a password",
        ),
    ];
    for (environment, expected) in cases {
        let stderr = run(|command| {
            endpoint(command);
            command.envs(environment.iter().copied());
        });
        assert!(stderr.contains(expected), "{environment:?}: {stderr}");
        assert!(!stderr.contains("s3cret") && !stderr.contains("t0ken"), "{stderr}");
    }
}

/// A variable that names a special file keeps no command from starting or ending.
#[test]
fn what_a_variable_names_may_be_anything() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    for fifo in ["nobody", "held"] {
        mknodat(CWD, at(fifo), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    }
    // Open for reading and writing, never read and never closed.
    let held = std::fs::OpenOptions::new().read(true).write(true).open(at("held")).unwrap();
    symlink("circle", at("circle")).unwrap();
    let things = [
        at("nobody"),
        at("held"),
        at("circle"),
        at("nowhere/at/all"),
        directory.path().to_owned(),
        "/dev/zero".into(),
        "/dev/full".into(),
        "/dev/tty".into(),
    ];
    let libraries = [CERTIFICATE_FILE, CERTIFICATE_DIRECTORY].map(str::to_owned);
    for name in variables().into_iter().chain(libraries) {
        for thing in &things {
            let began = Instant::now();
            let stderr = run(|command| {
                command.current_dir(directory.path());
                if ["TOKEN", "CA_FILE", "SSL_CERT"].iter().any(|of_push| name.contains(of_push)) {
                    command.envs(SCOPE).env("COLLECTOR_PUSH_ENDPOINT", "https://127.0.0.1:1");
                    command.env("COLLECTOR_SPOOL_DIR", "none").env("COLLECTOR_SHUTDOWN_TIMEOUT", "100ms");
                    if !name.contains("TOKEN") {
                        command.env("COLLECTOR_PUSH_TOKEN", "0123456789abcdef".repeat(4));
                    }
                }
                command.env(&name, thing);
            });
            let took = began.elapsed();
            assert!(took < Duration::from_secs(6), "{name}={}: {took:?}: {stderr}", thing.display());
        }
    }
    drop(held);
}

/// These variables belong to libraries, which take an empty one as a file name. The command still gets them unchanged.
#[test]
fn empty_variables_of_libraries_are_unset_for_us_and_stay_empty_for_the_command() {
    let mut command = bare();
    command.env("SSL_CERT_FILE", "").env("SSL_CERT_DIR", "");
    command
        .arg("--push-endpoint=https://127.0.0.1:1")
        .env("COLLECTOR_PUSH_TOKEN", "0123456789abcdef".repeat(4));
    command.envs(SCOPE).args(["run", "--", "sh", "-c", "echo ${SSL_CERT_FILE-unset},${SSL_CERT_DIR-unset}"]);
    let output = command.output().unwrap();
    assert_eq!(output.stdout, b",\n", "{output:?}");
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(!stderr.contains("the certificates that the variable names"), "{stderr}");
}
