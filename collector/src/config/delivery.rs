//! Where summaries go, with what right, and where they wait.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use url::{Host, Url};

use super::tokens::{TokenTable, check_token};
use super::{Mode, given};
use crate::args::Options;

/// A receiver has better things to do than to hear of a run more often.
const MIN_PUSH_INTERVAL: Duration = Duration::from_millis(100);

/// Something that no log may show.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(String);

impl Secret {
    /// Wraps it.
    pub fn new(secret: String) -> Self {
        Self(secret)
    }

    /// The secret itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(secret)")
    }
}

/// Where to push and with what right.
#[derive(Debug, Clone)]
pub struct PushTarget {
    /// The receiver's `/api/v1/metrics`.
    pub endpoint: Url,
    /// The push token; where there is a table of tokens, for the organizations that are not in it.
    pub token: Option<Secret>,
    /// The file that it was read from, which may change.
    pub token_file: Option<PathBuf>,
    /// A token for each organization.
    pub tokens: TokenTable,
    /// The file that these were read from, which may change.
    pub tokens_file: Option<PathBuf>,
    /// Certificates that are trusted beside the system's, as PEM.
    pub ca_certificates: Option<Vec<u8>>,
    /// Whether the token stands in the argument list.
    pub token_is_argument: bool,
}

impl PushTarget {
    /// Whether the token would go in the clear to a host that is neither this one nor, as far as its name or address
    /// tells, in the same cluster or private network.
    pub fn is_exposed(&self) -> bool {
        self.endpoint.scheme() == "http"
            && match self.endpoint.host() {
                Some(Host::Ipv4(address)) => !is_private(address.into()),
                Some(Host::Ipv6(address)) => !is_private(address.into()),
                Some(Host::Domain(name)) => {
                    let name = name.trim_end_matches('.');
                    let inside = ["svc", "cluster.local", "localhost"].into_iter().any(|suffix| {
                        name.strip_suffix(suffix).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
                    });
                    name.contains('.') && !inside
                }
                None => false,
            }
    }
}

fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => address.is_loopback() || address.is_private() || address.is_link_local(),
        IpAddr::V6(address) => {
            address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local()
        }
    }
}

/// A directory for what could not be pushed, and its limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolConfig {
    /// Where it is.
    pub directory: PathBuf,
    /// What the summaries in it may take.
    pub max_bytes: u64,
    /// How long one is kept.
    pub max_age: Duration,
}

/// An interval that may be 0 for never.
pub(super) fn interval(flag: &str, interval: Duration) -> Result<Option<Duration>> {
    if interval.is_zero() {
        return Ok(None);
    }
    if interval < MIN_PUSH_INTERVAL {
        bail!("{flag} is {interval:?}; 0 for never, or at least {MIN_PUSH_INTERVAL:?} is accepted");
    }
    Ok(Some(interval))
}

/// The spool directory, whether given as an option or as what to deliver.
pub(super) fn spool(options: &Options, to_deliver: Option<&PathBuf>) -> Result<Option<SpoolConfig>> {
    if let Some(directory) = to_deliver
        && !directory.is_dir()
    {
        bail!("{} is no directory; deliver takes the --spool-dir of a collector", directory.display());
    }
    let directory = to_deliver.or(options.spool_dir.as_ref()).filter(|path| !path.as_os_str().is_empty());
    let Some(directory) = directory.cloned() else { return Ok(None) };
    Ok(Some(SpoolConfig { directory, max_bytes: options.spool_max_bytes, max_age: options.spool_max_age }))
}

/// Certificates to trust: there must be at least one that is one.
fn ca_certificates(options: &Options) -> Result<Option<Vec<u8>>> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    let Some(path) = options.ca_file.as_ref().filter(|path| !path.as_os_str().is_empty()) else {
        return Ok(None);
    };
    let pem = std::fs::read(path).with_context(|| format!("--ca-file {} cannot be read", path.display()))?;
    let found = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    match found {
        Ok(found) if !found.is_empty() => Ok(Some(pem)),
        Ok(_) => bail!(
            "--ca-file {} has no certificate in it; PEM (-----BEGIN CERTIFICATE-----) is accepted",
            path.display()
        ),
        Err(error) => bail!("--ca-file {} is no PEM file with certificates: {error}", path.display()),
    }
}

pub(super) fn push_target(options: &Options, mode: &Mode) -> Result<Option<PushTarget>> {
    let token = match (given(options.push_token.as_ref()), &options.push_token_file) {
        (Some(_), Some(_)) => {
            bail!("give either --push-token (COLLECTOR_PUSH_TOKEN) or --push-token-file, not both")
        }
        (Some(token), None) => Some(token.trim().to_owned()),
        (None, Some(path)) => {
            let content = std::fs::read_to_string(path);
            let content =
                content.with_context(|| format!("--push-token-file {} cannot be read", path.display()))?;
            if content.trim().is_empty() {
                bail!("--push-token-file {} is empty", path.display());
            }
            Some(content.trim().to_owned())
        }
        (None, None) => None,
    };
    let Some(endpoint) = given(options.push_endpoint.as_ref()) else { return Ok(None) };
    let parsed = Url::parse(endpoint);
    let endpoint = parsed
        .map_err(|error| anyhow!("{error}"))
        .and_then(|url| match url.scheme() {
            "http" | "https" if url.has_host() => Ok(url),
            scheme => Err(anyhow!("its scheme is {scheme:?}")),
        })
        .with_context(|| {
            format!("--push-endpoint {endpoint:?} is no http or https URL such as http://receiver:8080/api/v1/metrics")
        })?;
    let of_many_runs = matches!(mode, Mode::Node(_) | Mode::Deliver);
    let tokens_file = options.push_tokens_file.clone().filter(|path| !path.as_os_str().is_empty());
    let tokens_file = tokens_file.filter(|_| of_many_runs);
    let mut tokens = TokenTable::default();
    if let Some(path) = &tokens_file {
        let shown = path.display();
        let content = std::fs::read_to_string(path)
            .with_context(|| format!("--push-tokens-file {shown} cannot be read"))?;
        tokens = TokenTable::parse(&content).with_context(|| format!("--push-tokens-file {shown}"))?;
        if tokens.is_empty() && token.is_none() {
            bail!("--push-tokens-file {shown} has no token in it");
        }
    } else if token.is_none() {
        let more = if of_many_runs { ", or --push-tokens-file" } else { "" };
        bail!(
            "--push-endpoint is given without a token: set --push-token (COLLECTOR_PUSH_TOKEN) or --push-token-file{more}"
        );
    }
    if let Some(token) = &token {
        check_token(token)?;
    }
    let ca_certificates = ca_certificates(options)?;
    Ok(Some(PushTarget {
        endpoint,
        token: token.map(Secret::new),
        token_file: options.push_token_file.clone(),
        tokens,
        tokens_file,
        ca_certificates,
        token_is_argument: options.token_is_argument(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_show() {
        assert_eq!(format!("{:?}", Secret::new("t0ken".to_owned())), "(secret)");
    }

    #[test]
    fn a_token_in_the_clear_is_exposed_outside_the_cluster_only() {
        let exposed = |endpoint: &str| {
            let endpoint = endpoint.parse().unwrap();
            PushTarget {
                endpoint,
                token: None,
                token_file: None,
                tokens: TokenTable::default(),
                tokens_file: None,
                ca_certificates: None,
                token_is_argument: false,
            }
            .is_exposed()
        };
        for inside in [
            "http://receiver:8080/",
            "http://localhost/",
            "http://127.0.0.1/",
            "http://[::1]:80/",
            "http://[::ffff:10.0.0.1]/",
            "http://10.1.2.3/",
            "http://192.168.1.1/",
            "http://[fd00::1]/",
            "http://receiver.ci.svc/",
            "http://receiver.ci.svc.cluster.local./",
            "https://example.com/",
        ] {
            assert!(!exposed(inside), "{inside}");
        }
        for outside in [
            "http://example.com/",
            "http://1.2.3.4/",
            "http://[2001:db8::1]/",
            "http://notsvc.example/",
            "http://evil-cluster.local/",
        ] {
            assert!(exposed(outside), "{outside}");
        }
    }
}
