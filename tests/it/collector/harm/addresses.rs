//! The receiver's address, and the warning at the start if nothing can be pushed to it.

use std::io::{Read, Write};
use std::net::TcpListener;

use serde_json::json;
use tests::certificate::certificate;
use tests::program::{Program, collector};
use tests::receiver::{READ_TOKEN, Receiver};

use crate::together::SCOPE;

/// The first warning of a run, logged while the command runs, and the output after the command's end.
fn warned(endpoint: &str, token: &str) -> (String, String) {
    let directory = tempfile::tempdir().unwrap();
    let go_on = directory.path().join("go-on");
    let mut command = collector();
    command.envs(SCOPE).env("COLLECTOR_PUSH_TOKEN", token).env("COLLECTOR_PUSH_ENDPOINT", endpoint);
    command.args(["run", "--log-format=json", "--shutdown-timeout=1s", "--", "sh", "-c"]);
    command.arg("until [ -e \"$1\" ]; do sleep 0.02; done; exit 7").arg("sh").arg(&go_on);
    let program = Program::start(&mut command);
    let warning = program.wait_for_level("WARN");
    std::fs::write(go_on, "").unwrap();
    let ended = program.wait();
    assert_eq!(ended.status.code(), Some(7), "{}", ended.stderr);
    (warning["why"].as_str().unwrap_or_default().to_owned(), ended.stderr)
}

#[test]
fn root_and_full_path_with_and_without_a_slash_lead_there() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&directory.path().join("metrics.db"));
    let token = receiver.job_token();
    let paths = ["", "/", "/api/v1/metrics", "/api/v1/metrics/", "/api/v1", "/api/v1/"];
    for path in paths {
        let mut command = collector();
        command.envs(SCOPE).env("COLLECTOR_PUSH_TOKEN", &token);
        command.arg("run").arg(format!("--push-endpoint=http://{}{path}", receiver.address));
        let output = command.args(["--quiet", "--strict", "--", "true"]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{path}: {output:?}");
    }
    assert_eq!(receiver.runs().len(), paths.len());
    let output = collector()
        .args(["run", "--push-endpoint=http://me:s3cret@receiver", "--", "true"])
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("has a user name or a password") && !stderr.contains("s3cret"), "{stderr}");
}

#[test]
fn a_token_that_will_not_do_is_told_before_the_command_ends() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&directory.path().join("metrics.db"));
    let endpoint = format!("http://{}", receiver.address);
    let other = receiver.token(&json!({"organization": "other"}));
    let cases =
        [(other.as_str(), "not made for this organization"), (READ_TOKEN, "read token"), ("garbage", "401")];
    for (token, expected) in cases {
        let (why, stderr) = warned(&endpoint, token);
        assert!(why.contains(expected), "{token}: {why}");
        assert!(!stderr.contains(token), "{stderr}");
    }
}

/// Answers every connection with these bytes.
fn answering(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer);
        }
    });
    address
}

#[test]
fn what_is_no_receiver_is_told_in_a_sentence() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&directory.path().join("metrics.db"));
    let page = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi");
    let missing = answering(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let moved = answering(
        b"HTTP/1.1 301 Moved Permanently\r\nLocation: https://other.example/x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    );
    let ssh = answering(b"SSH-2.0-OpenSSH_9.2\r\n");
    let silent = answering(b"");
    let cases = [
        ("http://127.0.0.1:1".to_owned(), "nothing listens at 127.0.0.1:1 (connection refused)"),
        ("http://no-such-name".to_owned(), "the name no-such-name "),
        (format!("http://{page}"), "not a receiver (200 OK"),
        (format!("http://{missing}"), "not a receiver (404 Not Found"),
        (format!("http://{moved}"), "redirects to \"https://other.example/x\", which is not followed"),
        (format!("http://{ssh}"), "does not speak HTTP"),
        (format!("http://{silent}"), "closed the connection without an answer"),
        (format!("https://{}", receiver.address), "does not speak TLS: is its address http://?"),
    ];
    for (endpoint, expected) in cases {
        let (why, stderr) = warned(&endpoint, "t0ken");
        assert!(why.contains(expected), "{endpoint}: {why}\n{stderr}");
        for dump in ["Error {", "ConnectError", "Os {", "os error", "Kind("] {
            assert!(!stderr.contains(dump), "{endpoint}: {stderr}");
        }
    }
}

#[test]
fn a_certificate_that_is_not_trusted_is_told_with_the_remedy() {
    let directory = tempfile::tempdir().unwrap();
    certificate(directory.path(), "receiver");
    let [cert, key] = ["cert", "key"].map(|name| {
        let file = directory.path().join(format!("{name}.pem"));
        format!("--tls-{name}={}", file.display())
    });
    let receiver = Receiver::start_with(&directory.path().join("metrics.db"), &[&cert, &key]);
    let endpoint = format!("https://{}", receiver.address);
    let (why, _) = warned(&endpoint, "t0ken");
    assert!(
        why.contains("is not accepted: no CA that this machine trusts has signed it (--ca-file"),
        "{why}"
    );
    let (why, _) = warned(&endpoint.replace("https", "http"), "t0ken");
    assert!(why.contains("does it expect https?"), "{why}");
}
