//! Environment variables: which ones have an effect, and which do not.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

use clap::CommandFactory;
use receiver::args::Args;
use tests::http::Answer;
use tests::program::path;
use tests::receiver::{HMAC_KEY, READ_TOKEN, Receiver, command};

use super::page::{cookie, sign_in};
use super::streams::{address, stop, wait_until_ready};

/// Every variable that the receiver or one of its subcommands reads.
fn variables() -> BTreeSet<String> {
    fn of(command: &clap::Command) -> Vec<String> {
        let own = command.get_arguments().filter_map(clap::Arg::get_env);
        let own = own.map(|name| name.to_string_lossy().into_owned());
        own.chain(command.get_subcommands().flat_map(of)).collect()
    }
    of(&Args::command()).into_iter().collect()
}

/// The receiver with these variables empty. The required settings come as flags.
fn told_by_flags(directory: &Path, empty: &[&str]) -> Command {
    let mut command = Command::new(path("RECEIVER_BIN", "receiver"));
    command.current_dir(directory).env_clear().envs(empty.iter().map(|name| (name, "")));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

#[test]
fn an_empty_one_is_as_good_as_none() {
    let variables = variables();
    assert!(
        variables.len() >= 17 && variables.iter().all(|name| name.starts_with("RECEIVER_")),
        "{variables:?}"
    );
    let all: Vec<&str> = variables.iter().map(String::as_str).collect();
    let each = all.iter().map(std::slice::from_ref);
    let address = address(30);
    for empty in each.chain([all.as_slice(), &[]]) {
        let directory = tempfile::tempdir().unwrap();
        let mut command = told_by_flags(directory.path(), empty);
        command.args(["--read-token", READ_TOKEN, "--hmac-key", HMAC_KEY, "--addr", &address]);
        let mut child = command.spawn().unwrap();
        wait_until_ready(&address, &mut child);
        let mut health = told_by_flags(directory.path(), empty);
        assert!(health.args(["health", "--addr", &address]).status().unwrap().success(), "{empty:?}");
        let mut backup = told_by_flags(directory.path(), empty);
        assert!(backup.args(["backup", "copy.db"]).status().unwrap().success(), "{empty:?}");
        let mut token = told_by_flags(directory.path(), empty);
        token.args(["token", "--organization=my-org", "--hmac-key", HMAC_KEY]);
        assert!(token.status().unwrap().success(), "{empty:?}");
        assert_eq!(stop(&mut child).code(), Some(0), "{empty:?}");
    }
}

#[test]
fn the_help_names_all_of_them() {
    let mut command = told_by_flags(Path::new("/"), &["RECEIVER_DB"]);
    let output = command.stdout(Stdio::piped()).arg("--help").env("RECEIVER_ADDR", ":80").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    for name in variables() {
        assert!(help.contains(&format!("[env: {name}")), "{name}: {help}");
    }
}

#[test]
fn one_that_makes_no_sense_is_named() {
    for (name, value, words) in [
        ("RECEIVER_LOG_LEVEL", "loud", "debug, info, warn, error"),
        ("RECEIVER_BEHIND_PROXY", "perhaps", "perhaps"),
        ("RECEIVER_BODY_TIMEOUT", "30", "1m30s"),
        ("RECEIVER_RETENTION", "0s", "is zero"),
        ("RECEIVER_MAX_BODY", "4MiB", "128Mi"),
        ("RECEIVER_MAX_BODY", "512m", "did you mean 512Mi?"),
        ("RECEIVER_KEEP_RUNS_PER_JOB", "0", "1.."),
        ("RECEIVER_ADDR", "8080", "not an address"),
    ] {
        let output = command().env(name, value).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{name}: {stderr}");
        let flag = format!("--{}", name.trim_start_matches("RECEIVER_").to_lowercase().replace('_', "-"));
        assert!(stderr.contains(name) || stderr.contains(&flag), "{name}: {stderr}");
        assert!(stderr.contains(words), "{name}: {stderr}");
    }
}

#[test]
fn durations_and_quantities_have_the_forms_of_the_collectors() {
    let directory = tempfile::tempdir().unwrap();
    let durations = ["header-timeout", "body-timeout", "retention", "shutdown-timeout", "session-time"];
    for (duration, bytes) in [("7d", "4Mi"), ("1.5h", "1e6"), ("1m30s", "2000000"), ("90000ms", "0.5Gi")] {
        let arguments = durations.iter().map(|flag| format!("--{flag}={duration}"));
        let arguments: Vec<_> = arguments.chain([format!("--max-body={bytes}")]).collect();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let receiver = Receiver::start_with(&directory.path().join(format!("{bytes}.db")), &arguments);
        assert_eq!(receiver.stop().status.code(), Some(0), "{duration}");
    }
    for flag in durations {
        for duration in ["0s", "30", "soon"] {
            let output = command().arg(format!("--{flag}={duration}")).output().unwrap();
            let stderr = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{stderr}");
            assert!(stderr.contains(flag) && stderr.contains(duration), "{stderr}");
        }
    }
}

#[test]
fn a_body_may_be_as_large_as_was_said() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start_with(&directory.path().join("db"), &["--max-body=2Ki"]);
    let token = receiver.job_token();
    let push = |length: usize| -> Answer {
        let body = super::submission().to_string();
        receiver.push(&token, &format!("{body}{}", " ".repeat(length - body.len())))
    };
    assert_eq!((push(2048).status, push(2049).status), (201, 413));
}

#[test]
fn yes_and_no_have_many_forms() {
    let directory = tempfile::tempdir().unwrap();
    for (value, believes) in [
        ("1", true),
        ("true", true),
        ("Yes", true),
        ("on", true),
        ("0", false),
        ("false", false),
        ("off", false),
        ("", false),
    ] {
        let database = directory.path().join(format!("{value}.db"));
        let receiver = Receiver::start_as(&database, &[], |command| {
            command.env("RECEIVER_BEHIND_PROXY", value);
        });
        let session = cookie(&sign_in(&receiver, "x-forwarded-proto: https\r\n", READ_TOKEN));
        assert_eq!(session.starts_with("__Host-"), believes, "{value:?}");
    }
}
