//! What is valid: everything that can be wrong with the arguments is found before anything is opened.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use crate::args::{KeyArgs, ServeArgs};
use crate::auth::{ReadToken, TokenKey};

/// Shorter secrets can be guessed.
const MIN_SECRET: usize = 8;

/// How to serve.
#[derive(Debug)]
pub struct Config {
    /// Addresses to listen on: the first that can be had.
    pub addresses: Vec<SocketAddr>,
    /// The database.
    pub db: PathBuf,
    /// What reading needs.
    pub read_token: ReadToken,
    /// What push tokens are made from.
    pub key: TokenKey,
    /// Largest body, in bytes.
    pub max_body: usize,
    /// Time for requests in flight once told to stop.
    pub shutdown_timeout: Duration,
}

impl Config {
    /// Checks what was typed.
    pub fn from_args(args: &ServeArgs) -> Result<Self> {
        let read_token = secret(
            "--read-token (RECEIVER_READ_TOKEN)",
            args.read_token.as_deref(),
            "--read-token-file",
            args.read_token_file.as_deref(),
        )?;
        let key = hmac_key(&args.key)?;
        if read_token == key {
            bail!(
                "--read-token and --hmac-key are the same: who may read could then make push tokens, and who knows one secret knows both"
            );
        }
        if args.max_body == 0 {
            bail!("--max-body is 0; no push would fit");
        }
        Ok(Self {
            addresses: addresses(&args.addr)?,
            db: args.db.clone(),
            read_token: ReadToken::new(&read_token),
            key: TokenKey::new(&key),
            max_body: args.max_body,
            shutdown_timeout: args.shutdown_timeout,
        })
    }
}

/// The key that push tokens are made from.
pub fn hmac_key(args: &KeyArgs) -> Result<String> {
    secret(
        "--hmac-key (RECEIVER_HMAC_KEY)",
        args.hmac_key.as_deref(),
        "--hmac-key-file",
        args.hmac_key_file.as_deref(),
    )
}

fn secret(name: &str, value: Option<&str>, file_name: &str, file: Option<&Path>) -> Result<String> {
    let (name, value) = match (value, file) {
        (Some(_), Some(_)) => bail!("give either {name} or {file_name}, not both"),
        (Some(value), None) => (name.to_owned(), value.to_owned()),
        (None, Some(path)) => {
            let content = std::fs::read_to_string(path);
            let name = format!("{file_name} {}", path.display());
            (name.clone(), content.with_context(|| format!("{name} cannot be read"))?)
        }
        (None, None) => bail!("{name} is required; {file_name} takes it from a file"),
    };
    let value = value.trim();
    if value.is_empty() {
        bail!("{name} is empty; at least {MIN_SECRET} characters are needed");
    }
    if value.chars().count() < MIN_SECRET {
        bail!("{name} has fewer than {MIN_SECRET} characters");
    }
    if value.chars().any(char::is_control) {
        bail!("{name} contains a control character");
    }
    Ok(value.to_owned())
}

fn addresses(addr: &str) -> Result<Vec<SocketAddr>> {
    let wrong = || {
        anyhow!("--addr {addr:?} is no address: write it as :8080, 127.0.0.1:8080, [::1]:8080 or host:8080")
    };
    if let Some(port) = addr.strip_prefix(':') {
        let port = port.parse().map_err(|_| wrong())?;
        // One IPv6 socket serves both; where there is no IPv6, IPv4 alone.
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
        let check = |value| secret("--x (X)", value, "--x-file", None).map_err(|error| error.to_string());
        assert_eq!(check(Some("long enough")), Ok("long enough".to_owned()));
        assert!(check(None).unwrap_err().contains("--x (X) is required"));
        assert!(check(Some("  ")).unwrap_err().contains("is empty"));
        assert!(check(Some("1234567")).unwrap_err().contains("fewer than 8"));
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "from a file\n").unwrap();
        assert_eq!(secret("--x", None, "--x-file", Some(file.path())).unwrap(), "from a file");
        assert!(secret("--x", Some("12345678"), "--x-file", Some(file.path())).is_err());
    }
}
