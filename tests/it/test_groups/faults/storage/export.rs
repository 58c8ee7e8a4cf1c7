//! An export that is much larger than the memory, read slowly, and aborted in the middle.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use tests::fill::fill;
use tests::http::connect;
use tests::receiver::{READ_TOKEN, Receiver};

use super::clients::resident;
use super::rounds;

/// An export takes at most this much memory in addition to the receiver's usual memory, in bytes.
const MEMORY: u64 = 48 << 20;

/// A number of rows that is exported in a moment, or a million in the long form.
fn rows() -> u64 {
    if rounds(0) > 20 { 1_000_000 } else { 50_000 }
}

fn ask(receiver: &Receiver, format: &str) -> TcpStream {
    let mut stream = connect(&receiver.address);
    let request = format!(
        "GET /api/v1/export?format={format} HTTP/1.0\r\nhost: x\r\nauthorization: Bearer {READ_TOKEN}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

fn sockets(receiver: &Receiver) -> usize {
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", receiver.program().pid())).unwrap();
    let links = descriptors.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    links.filter(|link| link.to_string_lossy().starts_with("socket:")).count()
}

#[test]
fn everything_is_exported_in_constant_memory() {
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("db");
    Receiver::start(&database).stop();
    fill(&database, rows());
    let receiver = Receiver::start(&database);
    let pid = receiver.program().pid();
    // First, each connection fills its cache, so that the measurement does not include it.
    for format in ["csv", "ndjson"] {
        let mut begin = vec![0; 1 << 16];
        ask(&receiver, format).read_exact(&mut begin).unwrap();
    }
    let before = resident(pid);
    for (format, head) in [("ndjson", 0), ("csv", 1)] {
        let begin = Instant::now();
        let mut reader = BufReader::with_capacity(1 << 20, ask(&receiver, format));
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            reader.read_line(&mut line).unwrap();
        }
        let (mut lines, mut bytes, mut highest) = (0, 0, 0);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).unwrap() > 0 {
            lines += 1;
            bytes += line.len();
            line.clear();
            if lines % 1000 == 0 {
                highest = highest.max(resident(pid));
            }
        }
        assert_eq!(lines, rows() + head, "{format}");
        let grown = highest.saturating_sub(before);
        println!(
            "{format}: {lines} lines, {} MiB in {:.1} s, {} KiB more memory",
            bytes >> 20,
            begin.elapsed().as_secs_f64(),
            grown >> 10
        );
        assert!(grown < MEMORY, "{format}: {grown} bytes more");
    }
}

#[test]
fn an_export_that_nobody_reads_holds_nothing_up_and_ends_with_its_client() {
    let directory = tempfile::tempdir().unwrap();
    let database = directory.path().join("db");
    Receiver::start(&database).stop();
    fill(&database, 20_000);
    let receiver = Receiver::start(&database);
    let before = sockets(&receiver);
    // More exports than there are database connections, and no client reads on.
    let mut waiting: Vec<_> = (0..20).map(|_| ask(&receiver, "ndjson")).collect();
    for stream in &mut waiting {
        stream.read_exact(&mut [0; 1000]).unwrap();
    }
    // Other requests are answered, and the log can be restarted.
    assert_eq!(receiver.runs().len(), 20);
    let token = receiver.job_token();
    let large = "x".repeat(1 << 20);
    for run in 0..40 {
        let mut body: serde_json::Value = serde_json::from_str(&tests::faults::body("x", 1, true)).unwrap();
        body["summary_id"] = serde_json::json!(format!("large-{run}"));
        body["payload"]["padding"] = serde_json::json!(large);
        assert_eq!(receiver.push(&token, &body.to_string()).status, 201);
    }
    let log = directory.path().join("db-wal").metadata().unwrap().len();
    assert!(log < 64 << 20, "the log has grown to {log} bytes");
    drop(waiting);
    let end = Instant::now() + Duration::from_secs(10);
    while sockets(&receiver) > before {
        assert!(Instant::now() < end, "{} connections are still open", sockets(&receiver) - before);
        std::thread::sleep(Duration::from_millis(50));
    }
    let begin = Instant::now();
    assert_eq!(receiver.stop().status.code(), Some(0));
    assert!(begin.elapsed() < Duration::from_secs(5));
}
