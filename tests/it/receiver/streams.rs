//! Standard streams that are full, closed or not read: the receiver answers and ends as usual.

use std::fs::File;
use std::io::{PipeReader, Seek, SeekFrom};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tests::http::{Client, request};
use tests::program::{PATIENCE, path};
use tests::receiver::{HMAC_KEY, READ_TOKEN};

use super::submission;

const JOB: &str = "/api/v1/metrics/repo/my-org/my-repo/ci.yml/build";

/// The largest file that a limited program may write, in bytes.
const LIMIT_BYTES: u64 = 64 << 20;

/// The fault of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Full,
    /// A file at its size limit.
    Limited,
    Closed,
    /// The reader closed its end before the program started.
    GoneBefore,
    /// The reader closes its end while the program runs.
    GoneDuring,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    Out,
    Err,
}

impl Stream {
    /// Gives the command the faulty stream, and returns the reader if it stays for now.
    fn give(self, command: &mut Command, fault: Fault) -> Option<PipeReader> {
        let (stream, reader) = match fault {
            // The shell that starts the command closes the stream.
            Fault::Closed => (Stdio::null(), None),
            Fault::Limited => {
                let file = tempfile::tempfile().unwrap();
                file.set_len(2 * LIMIT_BYTES).unwrap();
                (&file).seek(SeekFrom::End(0)).unwrap();
                (file.into(), None)
            }
            Fault::Full => (File::options().write(true).open("/dev/full").unwrap().into(), None),
            Fault::GoneBefore | Fault::GoneDuring => {
                let (reader, writer) = std::io::pipe().unwrap();
                (writer.into(), (fault == Fault::GoneDuring).then_some(reader))
            }
        };
        match self {
            Self::Out => command.stdout(stream),
            Self::Err => command.stderr(stream),
        };
        reader
    }
}

/// The receiver with its secrets, started by a shell that closes the stream if that is the fault.
fn command(stream: Stream, fault: Fault) -> Command {
    let closing = match (fault, stream) {
        (Fault::Closed, Stream::Out) => ">&-",
        (Fault::Closed, Stream::Err) => "2>&-",
        _ => "",
    };
    // `ulimit -f` counts blocks of 512 bytes.
    let limit = match fault {
        Fault::Limited => format!("ulimit -f {};", LIMIT_BYTES / 512),
        _ => String::new(),
    };
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(format!("{limit} exec \"$0\" \"$@\" {closing}"))
        .arg(path("RECEIVER_BIN", "receiver"));
    command.env("RECEIVER_READ_TOKEN", READ_TOKEN).env("RECEIVER_HMAC_KEY", HMAC_KEY);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// A loopback address that only this test uses. Other tests read the port from the log, which cannot be read here.
pub(super) fn address(of: u8) -> String {
    let [.., high, low] = std::process::id().to_be_bytes();
    format!("127.{}.{high}.{low}:8{of:03}", 100 + (std::process::id() >> 16) % 100)
}

/// Waits until the receiver answers that it is ready.
pub(super) fn wait_until_ready(address: &str, child: &mut Child) {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Ok(mut client) = Client::connect(address)
            && client.send("GET", "/readyz", "", "").is_ok_and(|answer| answer.status == 200)
        {
            return;
        }
        assert_eq!(child.try_wait().unwrap(), None, "it ended");
        assert!(Instant::now() < end, "it is not ready");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits for the end and returns the exit status.
pub(super) fn ended(child: &mut Child) -> ExitStatus {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if Instant::now() >= end {
            let _ = child.kill();
            panic!("it did not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Sends SIGTERM and waits for the end.
pub(super) fn stop(child: &mut Child) -> ExitStatus {
    kill_process(Pid::from_child(child), Signal::TERM).unwrap();
    ended(child)
}

fn serves(database: &Path, address: &str, stream: Stream, fault: Fault) {
    let mut command = command(stream, fault);
    command.arg("--addr").arg(address).arg("--db").arg(database).arg("--log-level=debug");
    let mut reader = stream.give(&mut command, fault);
    let mut child = command.spawn().unwrap();
    // The command holds ends of the pipe, which would stay open here.
    drop(command);
    wait_until_ready(address, &mut child);
    let token = request(address, "POST", "/api/v1/token", READ_TOKEN, r#"{"organization":"my-org"}"#).json();
    let token = token["token"].as_str().unwrap();
    let body = submission().to_string();
    let mut client = Client::connect(address).unwrap();
    for id in 1..=3 {
        let answer = client.send("POST", "/api/v1/metrics", token, &body).unwrap();
        assert_eq!((answer.status, answer.json()), (201, json!({"id": id})), "{stream:?} {fault:?}");
        drop(reader.take());
    }
    for (method, path, token, status) in [
        ("GET", JOB, READ_TOKEN, 200),
        ("GET", "/nowhere", "", 404),
        ("GET", JOB, "wrong-token", 401),
        ("POST", "/api/v1/metrics", token, 415),
        ("GET", "/readyz", "", 200),
    ] {
        let answer = request(address, method, path, token, "");
        assert_eq!(answer.status, status, "{stream:?} {fault:?} {path}: {}", answer.body);
    }
    let mut lost = lines_lost(address);
    // A stream that is closed at the start is replaced by /dev/null, so it loses nothing.
    let loses = stream == Stream::Err && fault != Fault::Closed;
    // The log is written concurrently with the answers.
    let end = Instant::now() + PATIENCE;
    while loses && lost < 5 && Instant::now() < end {
        lost = lines_lost(address);
    }
    assert_eq!(lost >= 5, loses, "{stream:?} {fault:?}: {lost} lines");
    assert_eq!(stop(&mut child).code(), Some(0), "{stream:?} {fault:?}");
    assert!(!database.with_file_name(format!("{}-wal", database.file_name().unwrap().display())).exists());
}

/// The number of log lines that the receiver reports as lost.
fn lines_lost(address: &str) -> u64 {
    let metrics = request(address, "GET", "/metrics", "", "").body;
    let lost = metrics.lines().find_map(|line| line.strip_prefix("receiver_log_lines_lost_total "));
    lost.unwrap_or_else(|| panic!("{metrics}")).parse().unwrap()
}

/// The reader stays and reads nothing: the pipe is full after a few hundred lines.
#[test]
fn one_who_does_not_read_the_log_holds_nobody_up() {
    let directory = tempfile::tempdir().unwrap();
    let address = address(22);
    let mut command = command(Stream::Err, Fault::GoneDuring);
    command.arg("--addr").arg(&address).arg("--db").arg(directory.path().join("metrics.db"));
    command.arg("--log-level=debug");
    let reader = Stream::Err.give(&mut command, Fault::GoneDuring);
    let mut child = command.spawn().unwrap();
    drop(command);
    wait_until_ready(&address, &mut child);
    let mut client = Client::connect(&address).unwrap();
    let began = Instant::now();
    // Every request is logged.
    while lines_lost(&address) == 0 {
        for _ in 0..500 {
            assert_eq!(client.send("GET", "/nowhere", "", "").unwrap().status, 404);
        }
        assert!(began.elapsed() < PATIENCE, "no line is lost");
    }
    assert_eq!(client.send("GET", JOB, READ_TOKEN, "").unwrap().status, 200);
    assert_eq!(stop(&mut child).code(), Some(0));
    drop(reader);
}

#[test]
fn it_answers_and_ends_as_if_nothing_were() {
    let directory = tempfile::tempdir().unwrap();
    let mut number = 0;
    for stream in [Stream::Out, Stream::Err] {
        for fault in [Fault::Full, Fault::Limited, Fault::Closed, Fault::GoneBefore, Fault::GoneDuring] {
            number += 1;
            serves(&directory.path().join(format!("{number}.db")), &address(number), stream, fault);
        }
    }
}

#[test]
fn what_cannot_be_served_ends_with_its_own_code() {
    let directory = tempfile::tempdir().unwrap();
    let address = address(20);
    let cases: [(&[&str], i32); 6] = [
        (&["--nonsense"], 2),
        (&["--max-body=0"], 2),
        (&["--addr=8080"], 2),
        (&["--addr=127.0.0.1:0", "--db=/nowhere/metrics.db"], 1),
        (&["health", "--addr", &address], 1),
        (&["check", "/nowhere"], 1),
    ];
    for (arguments, code) in cases {
        for fault in [Fault::Full, Fault::Limited, Fault::Closed, Fault::GoneBefore] {
            let mut command = command(Stream::Err, fault);
            command.current_dir(directory.path()).args(arguments);
            drop(Stream::Err.give(&mut command, fault));
            let mut child = command.spawn().unwrap();
            assert_eq!(ended(&mut child).code(), Some(code), "{arguments:?} {fault:?}");
        }
    }
}

#[test]
fn a_result_that_nobody_gets_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("metrics.db");
    let address = address(21);
    let mut command_of_server = command(Stream::Err, Fault::Closed);
    let mut server =
        command_of_server.arg("--addr").arg(&address).arg("--db").arg(&database).spawn().unwrap();
    wait_until_ready(&address, &mut server);
    assert_eq!(stop(&mut server).code(), Some(0));
    // The flag says whether standard output is the result or only reports what was done.
    let cases: [(&[&str], bool); 5] = [
        (&["token", "--organization=my-org"], true),
        (&["check", "metrics.db"], true),
        (&["--help"], true),
        (&["--version"], true),
        (&["backup"], false),
    ];
    for (arguments, is_result) in cases {
        for fault in [Fault::Full, Fault::Limited, Fault::Closed, Fault::GoneBefore] {
            let copy = format!("{fault:?}.db");
            let mut command = command(Stream::Out, fault);
            command.current_dir(directory.path()).args(arguments).stderr(Stdio::piped());
            if !is_result {
                command.arg(&copy);
            }
            drop(Stream::Out.give(&mut command, fault));
            let output = command.output().unwrap();
            let stderr = String::from_utf8(output.stderr).unwrap();
            let told = format!("{arguments:?} {fault:?}: {:?} {stderr}", output.status);
            assert!(!stderr.contains("panicked"), "{told}");
            if fault == Fault::Closed {
                assert_eq!((output.status.code(), stderr.as_str()), (Some(0), ""), "{told}");
            } else if is_result {
                assert_eq!(output.status.code(), Some(1), "{told}");
                assert!(stderr.contains("could not be written to standard output"), "{told}");
            } else {
                assert_eq!(output.status.code(), Some(0), "{told}");
                assert!(stderr.contains(", 0 runs"), "{told}");
                assert!(directory.path().join(&copy).exists(), "{told}");
            }
        }
    }
}
