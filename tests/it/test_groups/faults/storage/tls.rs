//! TLS: served, negotiated, renewed and refused.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tests::certificate::certificate;
use tests::http::connect;
use tests::receiver::{Receiver, command};

/// The result of Python's TLS client: the name in the certificate, the protocol, the version and the answer.
fn look(directory: &Path, address: &str, protocol: &str) -> String {
    let script = "
import socket, ssl, sys
path, address, protocol = sys.argv[1:]
context = ssl.create_default_context(cafile=path)
context.set_alpn_protocols([protocol])
host, port = address.rsplit(':', 1)
with context.wrap_socket(socket.create_connection((host, int(port)), 10), server_hostname=host) as s:
    name = dict(pair[0] for pair in s.getpeercert()['subject'])['commonName']
    if protocol == 'h2':
        s.sendall(b'PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n\\0\\0\\0\\4\\0\\0\\0\\0\\0')
        answer = 'settings' if s.recv(9)[3] == 4 else 'garbage'
    else:
        s.sendall(b'GET /readyz HTTP/1.1\\r\\nhost: x\\r\\nconnection: close\\r\\n\\r\\n')
        answer = s.recv(100).split(b'\\r\\n')[0].decode()
    print(name, s.selected_alpn_protocol(), s.version(), answer, sep='|')
";
    let output = Command::new("python3")
        .args(["-c", script])
        .arg(directory.join("cert.pem"))
        .args([address, protocol])
        .output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn f35_a_certificate_is_renewed_without_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    certificate(at, "first");
    let receiver = Receiver::start_as(&at.join("db"), &["--header-timeout=2s"], |command| {
        command.arg("--tls-cert").arg(at.join("cert.pem")).arg("--tls-key").arg(at.join("key.pem"));
    });
    let address = &receiver.address;
    assert_eq!(look(at, address, "http/1.1"), "first|http/1.1|TLSv1.3|HTTP/1.1 200 OK");
    assert_eq!(look(at, address, "h2"), "first|h2|TLSv1.3|settings");

    certificate(at, "second");
    receiver.program().signal(Signal::HUP);
    receiver.program().wait_for("certificate reloaded");
    assert_eq!(look(at, address, "http/1.1"), "second|http/1.1|TLSv1.3|HTTP/1.1 200 OK");

    let good = std::fs::read(at.join("key.pem")).unwrap();
    std::fs::write(at.join("key.pem"), "no key").unwrap();
    receiver.program().signal(Signal::HUP);
    let told =
        receiver.program().wait_for("cannot reload the certificate on SIGHUP; the old one stays in use");
    assert!(told["error"].as_str().unwrap().contains("key.pem cannot be read"), "{told}");
    assert!(look(at, address, "h2").starts_with("second|h2"));
    std::fs::write(at.join("key.pem"), good).unwrap();

    // The receiver closes connections without a handshake or with an invalid one in time.
    let begin = Instant::now();
    let mut silent = connect(address);
    assert_eq!(std::io::Read::read(&mut silent, &mut [0; 16]).unwrap_or(0), 0);
    assert!((1..5).contains(&begin.elapsed().as_secs()), "{:?}", begin.elapsed());
    let mut plain = connect(address);
    std::io::Write::write_all(&mut plain, b"GET /readyz HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = vec![];
    let _ = std::io::Read::read_to_end(&mut plain, &mut answer);
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");

    let health = |tls: bool| {
        let mut health = command();
        health.arg("health").arg(format!("--addr={address}"));
        if tls {
            health.arg("--tls-cert").arg(at.join("cert.pem"));
        }
        health.output().unwrap().status.success()
    };
    assert!(health(true) && !health(false));
}

#[test]
fn what_is_wrong_with_certificate_or_key_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    certificate(directory.path(), "one");
    certificate(other.path(), "other");
    let [cert, key] = ["cert.pem", "key.pem"].map(|name| directory.path().join(name));
    let empty = other.path().join("empty");
    std::fs::write(&empty, "").unwrap();
    let cases = [
        (&cert, &other.path().join("key.pem"), "do not match"),
        (&empty, &key, "holds no certificate; certificates in PEM are accepted"),
        (&cert, &cert, "a private key in PEM without a passphrase is accepted"),
        (&directory.path().join("nowhere"), &key, "nowhere cannot be read"),
    ];
    for (cert, key, words) in cases {
        let mut command = command();
        command.args(["--addr=127.0.0.1:0", "--db"]).arg(directory.path().join("db"));
        let begin = Instant::now();
        let output = command.arg("--tls-cert").arg(cert).arg("--tls-key").arg(key).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && told.contains(words), "{told}");
        assert!(begin.elapsed() < Duration::from_secs(10));
    }
    let output = command().arg("--tls-cert").arg(&cert).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}
