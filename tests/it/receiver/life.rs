//! From start to stop.

use std::io::Write;

use rustix::process::Signal;
use tests::http::{connect, read};
use tests::program::Program;
use tests::receiver::{Receiver, command};

use super::submission;

#[test]
fn what_was_stored_is_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("db");
    let receiver = Receiver::start(&database);
    assert_eq!(receiver.push(&receiver.job_token(), &submission().to_string()).status, 201);
    let ended = receiver.stop();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert!(!directory.path().join("db-wal").exists(), "the write-ahead log was not emptied");
    let receiver = Receiver::start(&database);
    assert_eq!(receiver.runs().len(), 1);
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("db");
    let receiver = Receiver::start(&database);
    let token = receiver.job_token();
    for _ in 0..20 {
        assert_eq!(receiver.push(&token, &submission().to_string()).status, 201);
    }
    receiver.program().signal(Signal::KILL);
    drop(receiver);
    assert_eq!(Receiver::start(&database).runs().len(), 20);
}

#[test]
fn a_request_in_flight_is_finished_before_it_stops() {
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("db");
    let receiver = Receiver::start(&database);
    let body = submission().to_string();
    let mut stream = connect(&receiver.address);
    let head = format!(
        "POST /api/v1/metrics HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        receiver.job_token(),
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    let (first, rest) = body.split_at(100);
    stream.write_all(first.as_bytes()).unwrap();
    // A complete request on the same connection shows that the first part has been read.
    assert!(receiver.runs().is_empty());
    receiver.program().signal(Signal::TERM);
    receiver.program().wait_for("stopping: finishing the requests in flight, accepting no new ones");
    stream.write_all(rest.as_bytes()).unwrap();
    assert_eq!(read(&mut stream).status, 201);
    let ended = receiver.stop_after_signal();
    assert_eq!(ended.status.code(), Some(0));
    assert_eq!(Receiver::start(&database).runs().len(), 1);
}

#[test]
fn a_request_that_never_ends_does_not_hold_up_the_stop() {
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("db");
    let receiver = Receiver::start_with(&database, &["--shutdown-timeout=1s"]);
    let mut stream = connect(&receiver.address);
    let head = format!(
        "POST /api/v1/metrics HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{{",
        receiver.job_token()
    );
    stream.write_all(head.as_bytes()).unwrap();
    // A complete request on the same connection shows that the first part has been read.
    assert!(receiver.runs().is_empty());
    let begin = std::time::Instant::now();
    let ended = receiver.stop();
    let waited = begin.elapsed().as_secs_f64();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert!((0.9..5.0).contains(&waited), "it stopped after {waited} s");
    assert!(!directory.path().join("db-wal").exists(), "the database was not closed");
}

#[test]
fn probes_answer() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&directory.path().join("db"));
    for path in ["/healthz", "/readyz"] {
        assert_eq!(receiver.request("GET", path, "", "").status, 200);
        assert_eq!(receiver.request("HEAD", path, "", "").status, 200);
    }
}

#[test]
fn what_is_wrong_with_the_configuration_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let newer = directory.path().join("newer.db");
    drop(Receiver::start(&newer).stop());
    let python = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('PRAGMA user_version = 99'); c.commit()";
    let status = std::process::Command::new("python3").args(["-c", python]).arg(&newer).status().unwrap();
    assert!(status.success());
    let newer = format!("--db={}", newer.display());
    let cases: [(&[(&str, &str)], &[&str], i32, &str); 10] = [
        (&[("RECEIVER_READ_TOKEN", "")], &[], 2, "--read-token (RECEIVER_READ_TOKEN) is required"),
        (&[("RECEIVER_READ_TOKEN", " ")], &[], 2, "--read-token (RECEIVER_READ_TOKEN) is empty"),
        (&[("RECEIVER_HMAC_KEY", "short")], &[], 2, "--hmac-key (RECEIVER_HMAC_KEY) has fewer than 8"),
        (&[("RECEIVER_HMAC_KEY", "my-secret-token")], &[], 2, "are the same"),
        (&[], &["--hmac-key-file=/nowhere"], 2, "not both"),
        (&[], &["--addr=8080"], 2, "--addr \"8080\""),
        (&[], &["--max-body=0"], 2, "--max-body"),
        (&[], &["--addr=127.0.0.1:0", "--db=/nowhere/metrics.db"], 1, "/nowhere/metrics.db"),
        (&[], &["--addr=192.0.2.1:80", "--db=:memory:"], 1, "WAL"),
        (&[], &["--addr=127.0.0.1:0", &newer], 1, "newer than this program supports"),
    ];
    for (environment, arguments, code, words) in cases {
        let output = command().envs(environment.iter().copied()).args(arguments).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
        assert!(stderr.contains(words), "{environment:?} {arguments:?}: {stderr}");
        assert!(!stderr.contains("my-hmac-key"));
    }
    let output = command().env_remove("RECEIVER_READ_TOKEN").output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("--read-token (RECEIVER_READ_TOKEN) is required"), "{stderr}");
}

#[test]
fn headers_that_never_end_are_not_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = command();
    command.args(["--addr=127.0.0.1:0", "--log-format=json"]).arg("--db").arg(directory.path().join("db"));
    let program = Program::start(&mut command);
    let address = program.wait_for("listening")["address"].as_str().unwrap().to_owned();
    let mut stream = connect(&address);
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-dribble: ").unwrap();
    let begin = std::time::Instant::now();
    let mut rest = Vec::new();
    let _ = std::io::Read::read_to_end(&mut stream, &mut rest);
    let waited = begin.elapsed().as_secs_f64();
    assert!(waited > 5.0 && waited < 15.0, "closed after {waited} s");
}
