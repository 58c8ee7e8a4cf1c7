//! Certificates for TLS tests.

use std::path::Path;
use std::process::Command;

/// A self-signed certificate for loopback and its key, made by OpenSSL: `cert.pem` and `key.pem`.
///
/// # Panics
/// If it cannot be made.
pub fn certificate(directory: &Path, name: &str) {
    // A separate configuration, because the system's extensions make the certificate an authority's.
    let config = directory.join("config");
    std::fs::write(&config, "[req]\ndistinguished_name = name\n[name]\n").expect("write");
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
    openssl.args(["-addext", "basicConstraints=critical,CA:FALSE"]).arg("-config").arg(config);
    openssl.arg("-keyout").arg(directory.join("key.pem")).arg("-out").arg(directory.join("cert.pem"));
    let output = openssl.output().expect("openssl");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
