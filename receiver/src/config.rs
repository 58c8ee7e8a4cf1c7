//! The checked configuration: every mistake in the arguments is found before anything is opened.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use program::given_file;

use crate::args::{KeyArgs, ServeArgs};
use crate::auth::Secrets;
use crate::retention::Retention;

/// Minimum length of a secret, in characters: shorter ones can be guessed.
const MIN_SECRET: usize = 8;
/// Maximum number of secrets of one kind. Nobody needs more at a time, and each one takes time to try.
const MAX_SECRETS: usize = 16;

/// How to serve.
#[derive(Debug)]
pub struct Config {
    /// Addresses to listen on: the first that can be bound is used.
    pub addresses: Vec<SocketAddr>,
    /// The database.
    pub db: PathBuf,
    /// Where the secrets come from.
    pub sources: Sources,
    /// The secrets as read at start.
    pub secrets: Secrets,
    /// Files of the certificate chain and of the private key; `None` without TLS.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Timeout for headers, for TLS handshakes, and for idle connections.
    pub header_timeout: Duration,
    /// Timeout for the body of a request.
    pub body_timeout: Duration,
    /// Largest body, in bytes.
    pub max_body: usize,
    /// How much is kept.
    pub retention: Retention,
    /// Time for requests in flight to finish after a stop signal.
    pub shutdown_timeout: Duration,
    /// How the page is served.
    pub page: PageOptions,
}

/// How the page is served.
#[derive(Debug, Clone, Copy)]
pub struct PageOptions {
    /// Whether the receiver itself serves TLS.
    pub tls: bool,
    /// Whether `X-Forwarded-Proto` can be trusted: only a proxy that sets it can reach the receiver.
    pub behind_proxy: bool,
    /// How long a session lasts.
    pub session_time: Duration,
}

impl Default for PageOptions {
    fn default() -> Self {
        Self { tls: false, behind_proxy: false, session_time: Duration::from_hours(12) }
    }
}

/// Where the secrets come from.
#[derive(Debug)]
pub struct Sources {
    read_token: SecretSource,
    key: SecretSource,
}

/// Where the secrets of one kind come from.
enum SecretSource {
    Value { name: &'static str, value: String },
    File { name: &'static str, path: PathBuf },
}

impl Config {
    /// Checks the arguments.
    pub fn from_args(args: &ServeArgs) -> Result<Self> {
        let sources = Sources {
            read_token: SecretSource::new(
                "--read-token (RECEIVER_READ_TOKEN)",
                args.read_token.as_deref(),
                "--read-token-file",
                args.read_token_file.as_deref(),
            )?,
            key: SecretSource::of_key(&args.key)?,
        };
        let secrets = sources.load()?;
        Ok(Self {
            addresses: addresses(&args.addr)?,
            db: args.db.clone(),
            sources,
            secrets,
            tls: args.tls_cert.clone().zip(args.tls_key.clone()),
            header_timeout: args.header_timeout,
            body_timeout: args.body_timeout,
            max_body: usize::try_from(args.max_body).unwrap_or(usize::MAX),
            retention: Retention { age: args.retention, runs_per_job: args.keep_runs_per_job },
            shutdown_timeout: args.shutdown_timeout,
            page: PageOptions {
                tls: args.tls_cert.is_some(),
                behind_proxy: args.behind_proxy,
                session_time: args.session_time,
            },
        })
    }
}

impl Sources {
    /// Reads the secrets as they are now.
    pub fn load(&self) -> Result<Secrets> {
        let read_tokens = self.read_token.load()?;
        let keys = self.key.load()?;
        if read_tokens.iter().any(|token| keys.contains(token)) {
            bail!(
                "--read-token and --hmac-key are the same: readers could make push tokens, and one leaked secret would reveal both"
            );
        }
        let secrets = Secrets::new(read_tokens.iter().map(String::as_str), keys.iter().map(String::as_str));
        secrets.context("no secrets were found")
    }
}

/// The key that makes push tokens.
pub fn hmac_key(args: &KeyArgs) -> Result<String> {
    Ok(SecretSource::of_key(args)?.load()?.swap_remove(0))
}

impl SecretSource {
    fn of_key(args: &KeyArgs) -> Result<Self> {
        let (value, file) = (args.hmac_key.as_deref(), args.hmac_key_file.as_deref());
        Self::new("--hmac-key (RECEIVER_HMAC_KEY)", value, "--hmac-key-file", file)
    }

    fn new(
        name: &'static str,
        value: Option<&str>,
        file_name: &'static str,
        file: Option<&Path>,
    ) -> Result<Self> {
        match (value, file) {
            (Some(_), Some(_)) => bail!("give either {name} or {file_name}, not both"),
            (Some(value), None) => Ok(Self::Value { name, value: value.to_owned() }),
            (None, Some(path)) => Ok(Self::File { name: file_name, path: path.to_owned() }),
            (None, None) => bail!("{name} is required; {file_name} takes it from a file"),
        }
    }

    /// Reads all secrets in their order; returns at least one.
    fn load(&self) -> Result<Vec<String>> {
        match self {
            Self::Value { name, value } => secrets(name, value),
            Self::File { name, path } => {
                let name = format!("{name} {}", path.display());
                let content = given_file::read_text(path);
                secrets(&name, &content.with_context(|| format!("{name} cannot be read"))?)
            }
        }
    }
}

impl std::fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Value { name, .. } => write!(f, "{name}"),
            Self::File { name, path } => write!(f, "{name} {}", path.display()),
        }
    }
}

/// Splits a text into secrets, one per line, and checks them.
fn secrets(name: &str, text: &str) -> Result<Vec<String>> {
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if lines.is_empty() {
        bail!("{name} is empty; at least {MIN_SECRET} characters are needed");
    }
    if lines.len() > MAX_SECRETS {
        bail!("{name} has {} lines; at most {MAX_SECRETS} secrets, one per line, are accepted", lines.len());
    }
    for (at, line) in lines.iter().enumerate() {
        let which = if lines.len() == 1 { name.to_owned() } else { format!("{name}, secret {}", at + 1) };
        if line.chars().count() < MIN_SECRET {
            bail!("{which} has fewer than {MIN_SECRET} characters");
        }
        if line.chars().any(char::is_control) {
            bail!("{which} contains a control character");
        }
    }
    Ok(lines.into_iter().map(str::to_owned).collect())
}

/// The addresses that `--addr` stands for, in the order to try.
pub fn addresses(addr: &str) -> Result<Vec<SocketAddr>> {
    let wrong = || {
        anyhow!(
            "--addr {addr:?} is not an address: write it as :8080, 127.0.0.1:8080, [::1]:8080 or host:8080"
        )
    };
    if let Some(port) = addr.strip_prefix(':') {
        let port = port.parse().map_err(|_| wrong())?;
        // One IPv6 socket serves both protocols. Without IPv6, IPv4 alone remains.
        return Ok(vec![(Ipv6Addr::UNSPECIFIED, port).into(), (Ipv4Addr::UNSPECIFIED, port).into()]);
    }
    let found: Vec<_> = addr.to_socket_addrs().map_err(|error| anyhow!("{}: {error}", wrong()))?.collect();
    if found.is_empty() { Err(wrong()) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_in_every_form() {
        assert_eq!(addresses(":8080").unwrap()[0].to_string(), "[::]:8080");
        assert_eq!(addresses("127.0.0.1:0").unwrap()[0].to_string(), "127.0.0.1:0");
        assert_eq!(addresses("[::1]:80").unwrap()[0].to_string(), "[::1]:80");
        for wrong in ["8080", ":x", "", "127.0.0.1", ":99999"] {
            assert!(addresses(wrong).unwrap_err().to_string().contains("[::1]:8080"), "{wrong}");
        }
    }

    #[test]
    fn secrets_are_checked() {
        let check = |text: &str| secrets("--x (X)", text).map_err(|error| error.to_string());
        assert_eq!(check("long enough"), Ok(vec!["long enough".to_owned()]));
        assert_eq!(check("\nthe first one\r\n the second \n").unwrap(), ["the first one", "the second"]);
        assert!(check("  ").unwrap_err().contains("--x (X) is empty"));
        assert!(check("1234567").unwrap_err().contains("--x (X) has fewer than 8"));
        assert!(check("12345678\n1234567").unwrap_err().contains("--x (X), secret 2 has fewer than 8"));
        assert!(check("1234\u{7}5678").unwrap_err().contains("control character"));
        assert!(check(&"12345678\n".repeat(17)).unwrap_err().contains("at most 16"));
    }

    #[test]
    fn secrets_come_from_one_place() {
        let source = |value, file| {
            SecretSource::new("--x (X)", value, "--x-file", file).map_err(|error| error.to_string())
        };
        assert!(source(None, None).unwrap_err().contains("--x (X) is required"));
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "from a file\n").unwrap();
        assert!(source(Some("12345678"), Some(file.path())).unwrap_err().contains("not both"));
        let source = source(None, Some(file.path())).unwrap();
        assert_eq!(source.load().unwrap(), ["from a file"]);
        std::fs::write(file.path(), "replaced since\nfrom a file\n").unwrap();
        assert_eq!(source.load().unwrap(), ["replaced since", "from a file"]);
        assert!(!format!("{source:?}").contains("replaced"));
    }
}
