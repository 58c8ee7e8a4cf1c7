//! Receivers that are unreachable, slow, or refuse.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::time::{Duration, Instant};

use tests::program::{Program, collector, path};
use tests::receiver::Receiver;
use tests::stub::{Stub, answer, stored};

use super::{about_to_push, all_of, deliver, endpoint, json, pushing, spooled};

/// Starts the collector and stops it. Returns how it ended and how long that took.
fn stopped(command: &mut Command) -> (tests::program::Ended, Duration) {
    let program = Program::start(command);
    program.wait_for("measuring");
    let begin = Instant::now();
    let ended = program.stop();
    (ended, begin.elapsed())
}

#[test]
fn f12_an_answer_that_is_lost_makes_no_second_row() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&directory.path().join("metrics.db"));
    let behind = receiver.address.clone();
    let proxy = Stub::start(move |number, request, stream| {
        let mut upstream = TcpStream::connect(&behind).unwrap();
        let head = request.head.replacen("\r\n", "\r\nconnection: close\r\n", 1);
        upstream.write_all(format!("{head}\r\n\r\n").as_bytes()).unwrap();
        upstream.write_all(&request.body).unwrap();
        let mut answer = Vec::new();
        upstream.read_to_end(&mut answer).unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 20"), "{}", String::from_utf8_lossy(&answer));
        // The first two pushes are stored, but their answers are lost.
        if number >= 2 {
            stream.write_all(&answer).unwrap();
        }
    });
    let spool = directory.path().join("spool");
    let (ended, _) = stopped(&mut pushing(&proxy.endpoint(), &receiver.job_token(), &spool));
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    let requests = proxy.requests();
    assert_eq!(requests.len(), 3);
    assert!(requests.iter().all(|request| request.body == requests[0].body));
    assert_eq!(receiver.runs().len(), 1);
    assert!(all_of(&spool).is_empty(), "{:?}", all_of(&spool));
}

#[test]
fn f13_a_receiver_out_of_reach_costs_no_more_than_the_budget_and_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&directory.path().join("metrics.db"));
    let refused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let full = full_listener();
    let swallowed = UdpSocket::bind("127.0.0.77:53").unwrap();
    let resolv = directory.path().join("resolv.conf");
    std::fs::write(&resolv, "nameserver 127.0.0.77\noptions timeout:20 attempts:2\n").unwrap();
    let cases = [
        ("refused", format!("http://{refused}/"), "connection refused"),
        ("blackhole", format!("http://{}/", full.0.local_addr().unwrap()), "in time"),
        ("name-unknown", "http://receiver.invalid/".to_owned(), "the name receiver.invalid "),
        ("name-server-silent", "http://receiver.test/".to_owned(), "in time"),
    ];
    std::thread::scope(|scope| {
        for (name, endpoint, said) in &cases {
            let (directory, resolv) = (directory.path(), &resolv);
            scope.spawn(move || {
                let spool = directory.join(name);
                let mut command = Command::new("unshare");
                let script = match *name {
                    "name-server-silent" => "mount --bind \"$1\" /etc/resolv.conf && exec \"$0\"",
                    _ => "exec \"$0\"",
                };
                // Without any network the resolver fails at once.
                command.arg(if *name == "name-unknown" { "--net" } else { "--mount" });
                command.args(["sh", "-c", script]).arg(path("COLLECTOR_BIN", "collector")).arg(resolv);
                about_to_push(&mut command, endpoint, "t0ken", &spool);
                let (ended, took) = stopped(command.env("COLLECTOR_SHUTDOWN_TIMEOUT", "2s"));
                assert_eq!(ended.status.code(), Some(3), "{name}: {}", ended.stderr);
                assert!(took < Duration::from_millis(2900), "{name}: {took:?}");
                assert!(ended.stderr.contains(said), "{name}: {}", ended.stderr);
                assert_eq!(all_of(&spool).len(), 1, "{name}: {:?}", all_of(&spool));
                let summary = json(&spooled(&spool, ".final.json")[0]);
                assert_eq!((&summary["run_id"], &summary["final"]), (&"run-123".into(), &true.into()));
            });
        }
    });
    drop(swallowed);
    for (name, ..) in &cases {
        let spool = directory.path().join(name);
        let ended = deliver(&receiver, &spool);
        assert_eq!(ended.status.code(), Some(0), "{name}: {}", ended.stderr);
        assert!(all_of(&spool).is_empty(), "{name}");
    }
    assert_eq!(receiver.runs().len(), cases.len());
}

/// A listener with a full queue: the kernel drops all further connections.
fn full_listener() -> (TcpListener, Vec<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // SAFETY: the descriptor is a listening socket; a second `listen` only changes the length of its queue.
    assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 0) }, 0);
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
        waiting.push(stream);
        assert!(waiting.len() < 10, "the queue does not fill up");
    }
    (listener, waiting)
}

#[test]
fn f14_a_slow_receiver_is_given_up_after_five_seconds_and_asked_again() {
    let silence = Stub::start(|number, _, stream| {
        if number == 0 {
            std::thread::sleep(Duration::from_secs(20));
        }
        stream.write_all(stored().as_bytes()).unwrap();
    });
    let drip = Stub::start(|number, _, stream| {
        for byte in stored().bytes() {
            if number == 0 {
                std::thread::sleep(Duration::from_secs(1));
            }
            if stream.write_all(&[byte]).is_err() {
                return;
            }
        }
    });
    let directory = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for (name, stub) in [("silence", &silence), ("drip", &drip)] {
            let spool = directory.path().join(name);
            scope.spawn(move || {
                let (ended, took) = stopped(&mut pushing(&stub.endpoint(), "t0ken", &spool));
                assert_eq!(ended.status.code(), Some(0), "{name}: {}", ended.stderr);
                assert_eq!(stub.requests().len(), 2, "{name}");
                assert!(took > Duration::from_secs(5) && took < Duration::from_secs(7), "{name}: {took:?}");
                assert!(all_of(&spool).is_empty());
            });
        }
    });
}

#[test]
fn f15_each_status_gets_what_it_asks_for() {
    let elsewhere = Stub::answering(vec![stored()]);
    let moved = format!("location: {}\r\n", elsewhere.endpoint());
    let later = |status: &str, headers: &str| vec![answer(status, headers, ""), stored()];
    let ever = |status: &str| vec![answer(status, "", "no")];
    // The receiver's answer; exit code; number of requests; the files left in the spool.
    let cases: Vec<(&str, Vec<String>, i32, usize, &str)> = vec![
        ("500", later("500 Internal Server Error", ""), 0, 2, ""),
        ("503", later("503 Service Unavailable", "retry-after: 1\r\n"), 0, 2, ""),
        ("429", later("429 Too Many Requests", "retry-after: 1\r\n"), 0, 2, ""),
        ("503 for an hour", later("503 Service Unavailable", "retry-after: 3600\r\n"), 3, 1, ".final.json"),
        ("400", ever("400 Bad Request"), 3, 1, ".refused.json"),
        ("409", ever("409 Conflict"), 3, 1, ".refused.json"),
        ("413", ever("413 Content Too Large"), 3, 1, ".refused.json"),
        ("422", ever("422 Unprocessable Content"), 3, 1, ".refused.json"),
        ("401", ever("401 Unauthorized"), 3, 1, ".final.json"),
        ("403", ever("403 Forbidden"), 3, 1, ".final.json"),
        ("404", ever("404 Not Found"), 3, 1, ".final.json"),
        ("301", vec![answer("301 Moved Permanently", &moved, "")], 3, 1, ".final.json"),
        ("200 of a proxy", vec![answer("200 OK", "", "<html>log in</html>")], 3, 1, ".final.json"),
        ("garbage, then 201", vec!["\u{0}\u{1}SMTP ready\r\n\r\n".to_owned(), stored()], 0, 2, ""),
    ];
    let directory = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for (number, (name, answers, code, requests, left)) in cases.into_iter().enumerate() {
            let spool = directory.path().join(number.to_string());
            scope.spawn(move || {
                let stub = Stub::answering(answers);
                let (ended, took) = stopped(&mut pushing(&stub.endpoint(), "t0ken", &spool));
                assert_eq!(ended.status.code(), Some(code), "{name}: {}", ended.stderr);
                let came = stub.requests();
                assert_eq!(came.len(), requests, "{name}");
                assert!(took < Duration::from_secs(6), "{name}: {took:?}");
                if name == "503" || name == "429" {
                    assert!(
                        came[1].at - came[0].at >= Duration::from_secs(1),
                        "{name}: sooner than it asked for"
                    );
                }
                assert!(!ended.stderr.contains("t0ken"), "{name}: {}", ended.stderr);
                let files = all_of(&spool);
                assert_eq!(files.len(), usize::from(!left.is_empty()), "{name}: {files:?}");
                assert!(files.iter().all(|file| file.to_string_lossy().ends_with(left)), "{name}: {files:?}");
                if left == ".refused.json" {
                    let refused = json(&files[0]);
                    assert!(refused["reason"].as_str().unwrap().contains(name), "{refused}");
                    assert_eq!(refused["summary"]["run_id"], "run-123");
                }
            });
        }
    });
    assert!(elsewhere.requests().is_empty(), "a redirect was followed with the token");
}

#[test]
fn f15_what_is_refused_for_good_in_the_spool_does_not_keep_the_rest_from_its_way() {
    let directory = tempfile::tempdir().unwrap();
    let spool = directory.path().join("spool");
    let receiver = Receiver::start(&directory.path().join("metrics.db"));
    let dead = "http://127.0.0.1:1/";
    for _ in 0..2 {
        let (ended, _) = stopped(pushing(dead, "t0ken", &spool).env("COLLECTOR_SHUTDOWN_TIMEOUT", "100ms"));
        assert_eq!(ended.status.code(), Some(3), "{}", ended.stderr);
    }
    let files = spooled(&spool, ".final.json");
    assert_eq!(files.len(), 2);
    std::fs::write(&files[0], b"{\"organization\": 7}").unwrap();
    // The next start delivers them while it measures, with its own token.
    let program = Program::start(&mut pushing(&endpoint(&receiver), &receiver.job_token(), &spool));
    let tally = program.wait_for("the spool was processed");
    assert_eq!((&tally["delivered"], &tally["refused"], &tally["kept"]), (&1.into(), &1.into(), &0.into()));
    let ended = program.stop();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert_eq!(receiver.runs().len(), 2);
    let left = all_of(&spool);
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(json(&left[0])["summary"]["organization"], 7);
}

#[test]
fn f15_a_token_that_is_not_good_for_it_leaves_a_summary_for_one_that_is() {
    let directory = tempfile::tempdir().unwrap();
    let spool = directory.path().join("spool");
    let receiver = Receiver::start(&directory.path().join("metrics.db"));
    let other = receiver.token(&serde_json::json!({"organization": "other"}));
    let (ended, _) = stopped(&mut pushing(&endpoint(&receiver), &other, &spool));
    assert_eq!(ended.status.code(), Some(3), "{}", ended.stderr);
    assert_eq!(spooled(&spool, ".final.json").len(), 1);
    assert_eq!(deliver(&receiver, &spool).status.code(), Some(0));
    assert_eq!(receiver.runs().len(), 1);
}

#[test]
fn f13_proxies_are_used_and_left_out_as_the_variables_say() {
    let directory = tempfile::tempdir().unwrap();
    let proxy = Stub::answering(vec![stored()]);
    let spool = directory.path().join("spool");
    let mut command = pushing("http://receiver.invalid/api/v1/metrics", "t0ken", &spool);
    let (ended, _) = stopped(command.env("HTTP_PROXY", format!("http://{}", proxy.address)));
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    assert!(proxy.requests()[0].head.starts_with("POST http://receiver.invalid/api/v1/metrics HTTP/1.1"));
    let receiver = Stub::answering(vec![stored()]);
    let mut command = pushing(&receiver.endpoint(), "t0ken", &spool);
    command.env("HTTP_PROXY", "http://127.0.0.1:1").env("NO_PROXY", "127.0.0.1");
    let (ended, _) = stopped(&mut command);
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
}

#[test]
fn f13_a_receiver_on_ipv6_is_reached() {
    let listener = TcpListener::bind("[::1]:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 4096];
        assert!(stream.read(&mut request).unwrap() > 0);
        stream.write_all(stored().as_bytes()).unwrap();
        // Read the rest of the body: closing the connection with unread data could discard the answer.
        while stream.read(&mut request).is_ok_and(|count| count > 0) {}
    });
    let directory = tempfile::tempdir().unwrap();
    let (ended, _) =
        stopped(&mut pushing(&format!("http://[::1]:{port}/"), "t0ken", &directory.path().join("spool")));
    assert_eq!(ended.status.code(), Some(0), "{}", ended.stderr);
    server.join().unwrap();
}

/// A server with its own certificate that answers each connection like a receiver, until it is dropped.
struct TlsServer(std::process::Child);

impl TlsServer {
    fn start(directory: &std::path::Path, port: u16) -> Self {
        let file = |name: &str| directory.join(name);
        let (key, certificate) = (file("key.pem"), file("certificate.pem"));
        std::fs::write(file("config"), "[req]\ndistinguished_name = name\n[name]\n").unwrap();
        let make =
            |name: &str, extensions: [&str; 2], key: &std::path::Path, out: &std::path::Path, ca: bool| {
                let mut request = Command::new("openssl");
                request.args([
                    "req",
                    "-x509",
                    "-newkey",
                    "ec",
                    "-pkeyopt",
                    "ec_paramgen_curve:P-256",
                    "-nodes",
                    "-days",
                    "2",
                ]);
                request.args(["-subj", name, "-addext", extensions[0], "-addext", extensions[1], "-config"]);
                request.arg(file("config")).arg("-keyout").arg(key).arg("-out").arg(out);
                if !ca {
                    request.arg("-CA").arg(file("ca.pem")).arg("-CAkey").arg(file("ca-key.pem"));
                }
                let output = request.output().unwrap();
                assert!(output.status.success(), "{output:?}");
            };
        let authority = ["basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign"];
        make("/CN=authority", authority, &file("ca-key.pem"), &file("ca.pem"), true);
        let receiver = ["basicConstraints=critical,CA:FALSE", "subjectAltName=IP:127.0.0.1"];
        make("/CN=receiver", receiver, &key, &certificate, false);
        let script = "import http.server, ssl, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers['content-length']))
        self.wfile.write(sys.argv[4].encode())
        self.close_connection = True
server = http.server.HTTPServer(('127.0.0.1', int(sys.argv[1])), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[3], sys.argv[2])
server.socket = context.wrap_socket(server.socket, server_side=True)
print('listening', flush=True)
server.serve_forever()";
        let mut server = Command::new("python3");
        server.args(["-c", script, &port.to_string()]).arg(&key).arg(&certificate).arg(stored());
        let mut child =
            server.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null()).spawn().unwrap();
        let mut ready = [0; 10];
        child.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
        assert_eq!(&ready, b"listening\n");
        Self(child)
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn f13_a_receiver_is_trusted_by_the_file_and_not_without() {
    let directory = tempfile::tempdir().unwrap();
    let ca = directory.path().join("ca.pem");
    for (trusted, code) in [(false, 3), (true, 0)] {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = TlsServer::start(directory.path(), port);
        let mut command = pushing(
            &format!("https://127.0.0.1:{port}/api/v1/metrics"),
            "t0ken",
            &directory.path().join(code.to_string()),
        );
        if trusted {
            command.arg("--ca-file").arg(&ca);
        }
        let (ended, _) = stopped(command.arg("--shutdown-timeout=4s"));
        assert_eq!(ended.status.code(), Some(code), "{}", ended.stderr);
        assert!(trusted || ended.stderr.contains("certificate"), "{}", ended.stderr);
        drop(server);
    }
}

#[test]
fn f15_a_summary_that_the_receiver_breaks_at_does_not_keep_the_rest_from_its_way() {
    let directory = tempfile::tempdir().unwrap();
    let ids: Vec<_> = (1..=4).map(|number| format!("01890000-0000-7000-8000-{number:012}")).collect();
    for id in &ids {
        let file = directory.path().join(format!("{id}.final.json"));
        std::fs::write(file, tests::faults::body(id, 1, true)).unwrap();
    }
    let broken = ids[0].clone();
    let receiver = Stub::start(move |_, request, stream| {
        let breaks = String::from_utf8_lossy(&request.body).contains(&broken);
        let answer = if breaks { answer("500 Internal Server Error", "", "") } else { stored() };
        let _ = stream.write_all(answer.as_bytes());
    });
    let mut command = collector();
    command.arg("deliver").arg(directory.path()).args(["--push-token=t0ken", "--log-format=json"]);
    let program = Program::start(command.arg(format!("--push-endpoint={}", receiver.endpoint())));
    let told = program.wait_for("the receiver fails on a summary, which stays in the spool");
    assert!(told["file"].as_str().unwrap().contains(&ids[0]), "{told}");
    assert_eq!(program.wait().status.code(), Some(3));
    let left = spooled(directory.path(), ".final.json");
    assert!(left.len() == 1 && left[0].to_string_lossy().contains(&ids[0]), "{left:?}");
}
