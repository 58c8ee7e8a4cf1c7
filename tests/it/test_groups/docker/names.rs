//! Name lookups without a libc: `/etc/resolv.conf`, its search domains, and `/etc/hosts`.

use std::net::UdpSocket;
use std::sync::mpsc;
use std::time::Duration;

use tempfile::tempdir;
use tests::receiver::Receiver;

use super::docker;

/// A loopback address without any other listener.
const SERVER: &str = "127.59.53.53";

/// A DNS server that answers `name` with 127.0.0.1 and everything else with NXDOMAIN. Returns the names it was asked for.
fn serve(name: &'static str) -> mpsc::Receiver<String> {
    let socket = UdpSocket::bind((SERVER, 53)).unwrap();
    let (sender, asked) = mpsc::channel();
    std::thread::spawn(move || {
        let mut packet = [0; 512];
        while let Ok((length, client)) = socket.recv_from(&mut packet) {
            let question = &packet[12..length];
            let (mut labels, mut at) = (Vec::new(), 0);
            while question[at] != 0 {
                let end = at + 1 + usize::from(question[at]);
                labels.push(String::from_utf8_lossy(&question[at + 1..end]).to_lowercase());
                at = end;
            }
            let (found, kind) = (labels.join("."), question[at + 2]);
            let question = &question[..at + 5];
            let (code, answers) = match (found == name, kind) {
                (true, 1) => (0, 1),
                (true, _) => (0, 0),
                (false, _) => (3, 0),
            };
            let mut answer = vec![packet[0], packet[1], 0x85, 0x80 | code, 0, 1, 0, answers, 0, 0, 0, 0];
            answer.extend(question);
            if answers == 1 {
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
            }
            let _ = socket.send_to(&answer, client);
            if sender.send(found).is_err() {
                break;
            }
        }
    });
    asked
}

/// The log of a collector in its image that pushes to this host.
fn push(receiver: &Receiver, host: &str, options: &[&str]) -> String {
    let (_, port) = receiver.address.rsplit_once(':').unwrap();
    let endpoint = format!("--push-endpoint=http://{host}:{port}/api/v1/metrics");
    let token = format!("COLLECTOR_PUSH_TOKEN={}", receiver.job_token());
    let run = ["run", "--detach", "--network=host", "--cap-drop=ALL", "--env", &token];
    let collector = [
        "runner-resource-collector/collector",
        "--ebpf=off",
        "--push-interval=200ms",
        "--organization=my-org",
        "--repository=my-repo",
        "--workflow=ci.yml",
        "--job=build",
        "--run-id=1",
        &endpoint,
    ];
    let container = super::told(&[&run[..], options, &collector[..]].concat());
    std::thread::sleep(Duration::from_secs(1));
    docker(&["stop", "--time=10", &container]);
    let log = docker(&["logs", &container]).stderr;
    docker(&["rm", &container]);
    String::from_utf8(log).unwrap()
}

#[test]
fn a_name_is_found_by_search_domain_by_its_whole_name_and_in_hosts() {
    let directory = tempdir().unwrap();
    let receiver = Receiver::start(&directory.path().join("metrics.db"));
    let asked = serve("receiver.ci.example");
    let dns = format!("--dns={SERVER}");
    let search = [dns.as_str(), "--dns-search=nothing.example", "--dns-search=ci.example"];
    for (host, options) in [
        ("receiver", &search[..]),
        ("receiver.ci.example", &search[..1]),
        ("somewhere", &[dns.as_str(), "--add-host=somewhere:127.0.0.1"]),
    ] {
        let log = push(&receiver, host, options);
        assert!(log.contains("the receiver has the summary"), "{host}: {log}");
    }
    let asked: Vec<_> = asked.try_iter().collect();
    assert!(asked.contains(&"receiver.nothing.example".to_owned()), "{asked:?}");
    assert_eq!(receiver.runs().len(), 3);
    let log = push(&receiver, "nowhere.example", &search);
    assert!(log.contains("could not be pushed"), "{log}");
}
