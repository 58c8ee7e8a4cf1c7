//! Certificates for tests of TLS.

use std::path::Path;
use std::process::Command;

/// A certificate for loopback and its key, made by OpenSSL: `cert.pem` and `key.pem`; nobody has vouched for it.
///
/// # Panics
/// If it cannot be made.
pub fn certificate(directory: &Path, name: &str) {
    let mut openssl = Command::new("openssl");
    openssl.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
    ]);
    openssl.args(["-subj", &format!("/CN={name}"), "-addext", "subjectAltName=IP:127.0.0.1"]);
    openssl.arg("-keyout").arg(directory.join("key.pem")).arg("-out").arg(directory.join("cert.pem"));
    let output = openssl.output().expect("openssl");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
