//! Clients that send nonsense, forge or guess tokens, or never finish; and an independent client.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::faults::{Pushers, body, summary_id};
use tests::http::{connect, raw};
use tests::receiver::{HMAC_KEY, READ_TOKEN, Receiver, command};

/// No client may make the receiver's memory grow beyond this, in bytes.
const MEMORY: u64 = 128 << 20;

/// The RSS of a process, in bytes.
pub(super) fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
fn f31_nonsense_is_refused_and_costs_little() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&directory.path().join("db"));
    let token = receiver.job_token();
    let good = body(&summary_id(), 1, true);
    let replaced = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        good.replacen(from, to, 1)
    };
    let wide = format!("[{}0]", "0,".repeat(1 << 20));
    let cases = [
        (400, String::from("\0")),
        (400, good[..good.len() - 1].to_owned()),
        (400, format!("{}{}", "{\"a\":".repeat(100_000), "}".repeat(100_000))),
        (400, replaced("20.0", "NaN")),
        (400, replaced("20.0", "1e999")),
        (400, replaced("20.0", "-Infinity")),
        (400, replaced("my-org", "\\ud800")),
        (422, replaced("\"final\":true", "\"final\":true,\"final\":true")),
        (422, replaced("\"seq\":1", "\"seq\":18446744073709551615")),
        (422, replaced("20.0", &wide)),
        (422, "[".repeat(100_000)),
        (422, "0".to_owned()),
        (422, "null".to_owned()),
        (413, "x".repeat((4 << 20) + 1)),
    ];
    for (status, body) in &cases {
        let answer = receiver.push(&token, body);
        assert_eq!(answer.status, *status, "{:.100}: {}", body, answer.body);
        assert!(answer.body.len() < 2000, "{}", answer.body);
    }
    let head = format!(
        "POST /api/v1/metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n"
    );
    // A gzip header, as of a decompression bomb; and bytes that are not UTF-8.
    let compressed =
        [head.as_bytes(), b"content-encoding: gzip\r\ncontent-length: 4\r\n\r\n\x1f\x8b\x08\x00"].concat();
    let answer = raw(&receiver.address, &compressed);
    assert!(answer.status == 415 && answer.body.contains("must not be compressed"), "{}", answer.body);
    let bytes = [head.as_bytes(), b"content-length: 3\r\n\r\n{\xff}"].concat();
    assert_eq!(raw(&receiver.address, &bytes).status, 400);
    // Requests that are not HTTP.
    for garbage in [
        &b"\x16\x03\x01\x00\x05hello\r\n\r\n"[..],
        b"GET\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nnot a frame at all",
    ] {
        let mut stream = connect(&receiver.address);
        stream.write_all(garbage).unwrap();
        let mut answer = vec![];
        let _ = stream.read_to_end(&mut answer);
        assert!(!answer.starts_with(b"HTTP/1.1 2"), "{answer:?}");
    }
    let long = format!("GET /healthz HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "x".repeat(100_000));
    assert_eq!(raw(&receiver.address, long.as_bytes()).status, 431);
    let bytes = resident(receiver.program().pid());
    assert!(bytes < MEMORY, "it has {bytes} bytes");
    assert_eq!(receiver.push(&token, &good).status, 201);
    assert_eq!(receiver.runs().len(), 1);
}

/// Waits until the other end closes the connection, and sends `dribble` one byte at a time meanwhile.
fn until_closed(mut stream: TcpStream, dribble: &[u8]) -> Duration {
    let begin = Instant::now();
    stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut dribble = dribble.iter().cycle();
    let mut rest = [0; 1024];
    loop {
        match stream.read(&mut rest) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if dribble.next().is_some_and(|byte| stream.write_all(&[*byte]).is_err()) {
                    break;
                }
            }
            Err(_) => break,
        }
        assert!(begin.elapsed() < Duration::from_secs(30), "it is not closed");
    }
    begin.elapsed()
}

fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() * 99 / 100]
}

#[test]
fn f32_who_is_slow_is_closed_and_holds_up_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let timeouts = ["--header-timeout=2s", "--body-timeout=3s"];
    let receiver = Receiver::start_with(&directory.path().join("db"), &timeouts);
    let token = receiver.job_token();
    let measure = || {
        let token = token.clone();
        let pushers = Pushers::start(&receiver.address, 2, move || token.clone());
        std::thread::sleep(Duration::from_millis(1500));
        let pushed = pushers.stop();
        assert!(pushed.refused.is_empty(), "{:?}", pushed.refused);
        p99(pushed.times)
    };
    let body = format!(
        "POST /api/v1/metrics HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{{"
    );
    let h2 = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    // The first bytes, the bytes that follow one at a time, the number of connections, and how long they may stay open.
    let kinds: [(&str, &[u8], usize, std::ops::Range<u64>); 6] = [
        ("GET /healthz HTTP/1.1\r\nhost: x\r\nx-dribble: ", b"x", 200, 1..4),
        (&body, b" ", 200, 2..5),
        ("", b"", 50, 1..4),
        ("PRI * HTT", b"", 50, 1..4),
        ("GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n", b"", 50, 1..4),
        (h2, b"", 50, 1..7),
    ];
    let beside_slow_ones = || {
        std::thread::scope(|scope| {
            let mut slow = vec![];
            for (first, dribble, count, stay) in &kinds {
                for _ in 0..*count {
                    let mut stream = connect(&receiver.address);
                    stream.write_all(first.as_bytes()).unwrap();
                    slow.push(scope.spawn(move || (until_closed(stream, dribble), *first, stay)));
                }
            }
            let during = measure();
            for slow in slow {
                let (stayed, first, stay) = slow.join().unwrap();
                assert!(stay.contains(&stayed.as_secs()), "{first:?} was closed after {stayed:?}");
            }
            during
        })
    };
    // One after the other and several times, because other load on the machine affects both.
    let mut ratios: Vec<_> = (0..3)
        .map(|_| {
            let (before, during) = (measure(), beside_slow_ones());
            println!("p99 of good pushes: {before:?}, beside 600 slow connections: {during:?}");
            during.as_secs_f64() / before.as_secs_f64()
        })
        .collect();
    ratios.sort_by(f64::total_cmp);
    // Other load only makes the ratio worse.
    assert!(ratios[0] < 2.0, "p99 beside slow connections by p99 without: {ratios:?}");
}

#[test]
fn f33_forged_tokens_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&directory.path().join("db"));
    let right = receiver.job_token();
    let sign = |key: &str, message: &str| {
        let script = "import hmac, hashlib, sys; print(hmac.new(sys.argv[1].encode(), sys.argv[2].encode().decode('unicode_escape').encode('latin-1'), hashlib.sha256).hexdigest())";
        let output = Command::new("python3").args(["-c", script, key, message]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let scope = |organization: &str, repository: &str, workflow: &str, job: &str| {
        receiver.token(&json!({"organization": organization, "repository": repository, "workflow": workflow, "job": job}))
    };
    let long = |text: &str| format!("{text}{}", "0".repeat(64 - text.len()));
    let other_scopes = [
        scope("my-org/my-repo", "ci.yml", "build", "x"),
        scope("my-org", "my-repo/ci.yml", "build", "x"),
        scope("my-org", "my-repo", "ci.yml/build", "x"),
        scope("My-Org", "my-repo", "ci.yml", "build"),
        // A Cyrillic "о", a ligature, a zero-width joiner: they look the same.
        scope("my-\u{43e}rg", "my-repo", "ci.yml", "build"),
        scope("my-org", "my-repo", "ci.yml", "bu\u{200d}ild"),
        scope("my-org", "my-repo", "ci. yml", "build"),
        sign(HMAC_KEY, "my-org/my-repo/ci.yml/build"),
        sign(HMAC_KEY, ""),
        // Signed for another purpose, then for none.
        sign(HMAC_KEY, r"runner-resource-collector/push/v2\0\1\0\0\0\6my-org\0\0\0\0"),
        sign(HMAC_KEY, r"\1\0\0\0\6my-org\0\0\0\0"),
        sign(READ_TOKEN, r"runner-resource-collector/push/v1\0\1\0\0\0\6my-org\0\0\0\0"),
        "0".repeat(64),
        long(&right[..63]),
        format!("{}{}", &right[32..], &right[..32]),
        format!("{right}.4000000000"),
        READ_TOKEN.to_owned(),
    ];
    for token in &other_scopes {
        assert_eq!(receiver.push(token, &body(&summary_id(), 1, true)).status, 403, "{token}");
    }
    for token in
        [&right[..63], &right[..32], &right.to_uppercase(), &format!("{right}0"), &format!("{right}."), ""]
    {
        assert_eq!(receiver.push(token, &body(&summary_id(), 1, true)).status, 401, "{token}");
    }
    assert!(receiver.runs().is_empty());
    let organization = sign(HMAC_KEY, r"runner-resource-collector/push/v1\0\1\0\0\0\6my-org\0\0\0\0");
    assert_eq!(
        receiver.push(&organization, &body(&summary_id(), 1, true)).status,
        201,
        "the test signs as it should"
    );
}

#[test]
fn f33_guesses_are_slowed_and_good_tokens_beside_them_are_not() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&directory.path().join("db"));
    let token = receiver.job_token();
    let time = |token: &str| {
        let begin = Instant::now();
        let answer = receiver.push(token, &body(&summary_id(), 1, true));
        (answer.status, begin.elapsed())
    };
    let wrong = "0".repeat(64);
    let guesses: Vec<_> = (0..11).map(|_| time(&wrong)).collect();
    assert!(guesses.iter().all(|(status, _)| *status == 403), "{guesses:?}");
    assert!(guesses[10].1 > Duration::from_secs(1), "{guesses:?}");
    let (status, took) = time(&token);
    assert!(status == 201 && took < Duration::from_millis(500), "{status} after {took:?}");
}

#[test]
fn a_client_that_is_not_ours_works_by_the_documentation_alone() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&directory.path().join("db"));
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/client.py");
    let output = Command::new("python3")
        .arg(script)
        .arg(format!("http://{}", receiver.address))
        .arg(READ_TOKEN)
        .output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        told,
        json!({"created": 201, "repeated": 200, "conflict": 409, "superseded": true, "stored": [7, 6, 5], "next_page": [4, 3, 2]})
    );
}

#[test]
fn health_is_told_by_the_program_itself() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&directory.path().join("db"));
    let ask = |address: &str| command().arg("health").arg(format!("--addr={address}")).output().unwrap();
    assert!(ask(&receiver.address).status.success());
    let port = receiver.address.rsplit_once(':').unwrap().1.to_owned();
    assert!(ask(&format!(":{port}")).status.success(), "an unspecified address is asked on loopback");
    let address = receiver.address.clone();
    drop(receiver);
    let output = ask(&address);
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.code() == Some(1)
            && told.contains(&format!("cannot connect to the receiver at {address}")),
        "{told}"
    );
}
