//! Why a receiver cannot be reached, in a sentence.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::iter::successors;

use hickory_resolver::net::NetError;
use rustls::CertificateError;
use url::Url;

/// A name without an address.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct NoAddress(String);

impl NoAddress {
    /// From the resolver's error.
    pub(super) fn new(name: &str, error: &NetError) -> Self {
        Self(match error {
            _ if error.is_no_records_found() || error.is_nx_domain() => {
                format!("the name {name} is not known here: is it spelt right?")
            }
            NetError::Timeout => format!("the name {name} cannot be looked up: no name server answers"),
            NetError::NoConnections => {
                format!("the name {name} cannot be looked up: no name server can be reached")
            }
            other => format!("the name {name} cannot be looked up: {other}"),
        })
    }

    /// There is no name server to ask.
    pub(super) fn nobody_to_ask(name: &str, cause: &dyn std::fmt::Display) -> Self {
        Self(format!(
            "{name} cannot be looked up: /etc/resolv.conf names no name server ({cause}); an IP address can be used"
        ))
    }
}

/// Explains to the user why a request was not answered.
pub(super) fn sentence(error: &reqwest::Error, endpoint: &Url) -> String {
    let chain: Vec<&(dyn Error + 'static)> =
        successors(Some(error as &(dyn Error + 'static)), |&error| error.source()).collect();
    let host = endpoint.host_str().unwrap_or_default();
    let port = endpoint.port_or_known_default().unwrap_or_default();
    let at = format!("{host}:{port}");
    if let Some(name) = chain.iter().find_map(|error| error.downcast_ref::<NoAddress>()) {
        return name.to_string();
    }
    if let Some(tls) = chain.iter().find_map(|error| tls_error(*error)) {
        return of_tls(tls, &at);
    }
    if let Some(text) = chain.iter().find_map(|error| of_io(error.downcast_ref::<io::Error>()?, &at)) {
        return text;
    }
    let unanswered = chain.iter().find_map(|error| error.downcast_ref::<hyper::Error>());
    if let Some(error) = unanswered {
        let other = if endpoint.scheme() == "http" { "; does it expect https?" } else { "" };
        if error.is_incomplete_message() {
            return format!("{at} closed the connection without an answer{other}");
        }
        if error.is_parse() {
            return format!("the server at {at} does not speak HTTP{other}");
        }
    }
    if error.is_timeout() {
        return format!("{at} does not answer in time");
    }
    // The outermost error says only that a request failed.
    let last = chain.last().map_or_else(String::new, ToString::to_string);
    format!("the request to {at} failed: {last}")
}

/// The TLS library's own error, which is wrapped in connection errors, possibly nested.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    if let Some(tls) = error.downcast_ref() {
        return Some(tls);
    }
    tls_error(error.downcast_ref::<io::Error>()?.get_ref()?)
}

fn of_tls(error: &rustls::Error, at: &str) -> String {
    match error {
        rustls::Error::InvalidCertificate(error) => {
            let why = match error {
                CertificateError::UnknownIssuer => {
                    "no CA that this machine trusts has signed it (--ca-file adds a CA)".to_owned()
                }
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                    "it has expired".to_owned()
                }
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                    "it is not valid yet: are the clocks right?".to_owned()
                }
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                    "it is for another name".to_owned()
                }
                other => other.to_string(),
            };
            format!("the certificate of {at} is not accepted: {why}")
        }
        rustls::Error::InvalidMessage(_) => format!("{at} does not speak TLS: is its address http://?"),
        rustls::Error::AlertReceived(alert) => format!("{at} ended the TLS handshake ({alert:?})"),
        other => format!("no TLS connection to {at}: {other}"),
    }
}

fn of_io(error: &io::Error, at: &str) -> Option<String> {
    Some(match error.kind() {
        ErrorKind::ConnectionRefused => format!("nothing listens at {at} (connection refused)"),
        ErrorKind::TimedOut => format!("{at} does not answer (timed out)"),
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
            format!("there is no route to {at} ({})", plain(error))
        }
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted => {
            format!("{at} broke off the connection ({})", plain(error))
        }
        ErrorKind::PermissionDenied => format!("a connection to {at} is not allowed here ({})", plain(error)),
        _ => return None,
    })
}

/// The error's text without its number.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}
