//! Where summaries are pushed, with which token, and where they are spooled.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use program::given_file;
use url::{Host, Url};

use super::problems::Problems;
use super::secret::Secret;
use super::tokens::{TokenTable, check_token};
use super::{Mode, NONE, given};
use crate::args::{Options, state_home};

/// More frequent summaries would only load the receiver.
const MIN_PUSH_INTERVAL: Duration = Duration::from_millis(100);

/// The path at which a receiver accepts summaries, as in the original.
pub(crate) const PUSH_PATH: &str = "/api/v1/metrics";

/// Where to push, and with which token.
#[derive(Debug, Clone)]
pub struct PushTarget {
    /// The receiver's `/api/v1/metrics`.
    pub endpoint: Url,
    /// The push token; if there is a table of tokens, for the organizations that are not in it.
    pub token: Option<Secret>,
    /// The file that the token was read from, which may change.
    pub token_file: Option<PathBuf>,
    /// A token for each organization.
    pub tokens: TokenTable,
    /// The file that the table was read from, which may change.
    pub tokens_file: Option<PathBuf>,
    /// Certificates to trust in addition to the system's, as PEM.
    pub ca_certificates: Option<Vec<u8>>,
    /// Whether the token is in the argument list.
    pub token_is_argument: bool,
}

impl PushTarget {
    /// Whether the token would be sent unencrypted to a host outside of this machine, the cluster and the private network, as
    /// far as the host's name or address shows.
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

/// A directory for summaries that could not be pushed, and its limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolConfig {
    /// Path of the directory.
    pub directory: PathBuf,
    /// Maximum total size of the summaries in it.
    pub max_bytes: u64,
    /// How long a summary is kept.
    pub max_age: Duration,
    /// Whether it is the default, and not set by the user.
    pub is_default: bool,
}

/// Checks an interval that may be 0 for never.
pub(super) fn interval(interval: Duration) -> Result<Option<Duration>> {
    if interval.is_zero() {
        return Ok(None);
    }
    ensure!(
        interval >= MIN_PUSH_INTERVAL,
        "is {interval:?}; 0 for never, or at least {MIN_PUSH_INTERVAL:?} is accepted"
    );
    Ok(Some(interval))
}

/// The spool directory, from the option or from the argument of `deliver`.
pub(super) fn spool(options: &Options, to_deliver: Option<&PathBuf>) -> Result<Option<SpoolConfig>> {
    if let Some(directory) = to_deliver
        && !directory.is_dir()
    {
        bail!("{} is not a directory; deliver takes the --spool-dir of a collector", directory.display());
    }
    let named = options.spool_dir.as_ref().filter(|path| !path.as_os_str().is_empty());
    let directory = to_deliver.or(named.filter(|path| !is_none(path)));
    Ok(directory.map(|directory| spool_in(directory.clone(), options, false)))
}

/// Whether the user turned the spool off.
pub(super) fn wants_no_spool(options: &Options) -> bool {
    options.spool_dir.as_deref().is_some_and(is_none)
}

/// The default spool directory for this receiver, if there is a directory for the user's state.
pub(super) fn default_spool(options: &Options, push: &PushTarget) -> Option<SpoolConfig> {
    // Summaries for one receiver must not go to another.
    let host = push.endpoint.host_str().unwrap_or_default().replace(['[', ']', ':'], "_");
    let name = format!("{host}-{:08x}", crc32fast::hash(push.endpoint.as_str().as_bytes()));
    let directory = state_home()?.join("runner-resource-collector/spool").join(name);
    Some(spool_in(directory, options, true))
}

fn is_none(path: &Path) -> bool {
    path == Path::new(NONE)
}

fn spool_in(directory: PathBuf, options: &Options, is_default: bool) -> SpoolConfig {
    SpoolConfig { directory, max_bytes: options.spool_max_bytes, max_age: options.spool_max_age, is_default }
}

/// Certificates to trust. The file must have at least one valid certificate.
fn ca_certificates(options: &Options) -> Result<Option<Vec<u8>>> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    let Some(path) = options.ca_file.as_ref().filter(|path| !path.as_os_str().is_empty()) else {
        return Ok(None);
    };
    let name = format!("{} {}", options.sources.name("ca_file"), path.display());
    let pem = given_file::read(path).with_context(|| format!("{name} cannot be read"))?;
    let found = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    match found {
        Ok(found) if !found.is_empty() => Ok(Some(pem)),
        Ok(_) => {
            bail!("{name} has no certificate in it; PEM (-----BEGIN CERTIFICATE-----) is accepted")
        }
        Err(error) => bail!("{name} is not a PEM file with certificates: {error}"),
    }
}

/// The address of a push. The root of a receiver is completed to `/api/v1/metrics`; any other path stays as it is.
fn endpoint(text: &str) -> Result<Url> {
    let parsed = Url::parse(text.trim()).map_err(|error| anyhow!("{error}"));
    let url = parsed.and_then(|url| match url.scheme() {
        "http" | "https" if url.has_host() => Ok(url),
        scheme => Err(anyhow!("its scheme is {scheme:?}")),
    });
    let mut url = url.with_context(|| {
        // Do not print what may be a password.
        let shown = if text.contains('@') { String::new() } else { format!("{text:?} ") };
        format!("{shown}is not an http or https URL such as http://receiver:8080/api/v1/metrics; the path may be omitted")
    })?;
    ensure!(
        url.username().is_empty() && url.password().is_none(),
        "has a user name or a password, which a receiver does not use: set a push token instead"
    );
    let path = url.path().trim_end_matches('/');
    let path = if ["", "/api", "/api/v1"].contains(&path) { PUSH_PATH } else { path }.to_owned();
    url.set_path(&path);
    url.set_fragment(None);
    Ok(url)
}

/// The token for all organizations, and the file that it is from.
fn token(options: &Options) -> Result<(Option<String>, Option<PathBuf>)> {
    let file = options.push_token_file.as_ref().filter(|path| !path.as_os_str().is_empty());
    match (given(options.push_token.as_ref()).map(str::trim).filter(|token| !token.is_empty()), file) {
        (Some(_), Some(_)) => {
            bail!("give either --push-token (COLLECTOR_PUSH_TOKEN) or --push-token-file, not both")
        }
        (Some(token), None) => Ok((Some(token.to_owned()), None)),
        (None, Some(path)) => {
            let name = format!("{} {}", options.sources.name("push_token_file"), path.display());
            let content = given_file::read_text(path).with_context(|| format!("{name} cannot be read"))?;
            ensure!(!content.trim().is_empty(), "{name} is empty");
            check_token(content.trim()).with_context(|| name)?;
            Ok((Some(content.trim().to_owned()), Some(path.clone())))
        }
        (None, None) => Ok((None, None)),
    }
}

fn tokens(path: &Path, options: &Options) -> Result<TokenTable> {
    let name = format!("{} {}", options.sources.name("push_tokens_file"), path.display());
    let content = given_file::read_text(path).with_context(|| format!("{name} cannot be read"))?;
    TokenTable::parse(&content).context(name)
}

pub(super) fn push_target(
    options: &Options,
    mode: &Mode,
    problems: &mut Problems<'_>,
) -> Result<Option<PushTarget>> {
    let Some(text) = given(options.push_endpoint.as_ref()) else { return Ok(None) };
    let Some(endpoint) = problems.form("push_endpoint", endpoint(text).map(Some), None)? else {
        return Ok(None);
    };
    let found = token(options);
    // If so, the missing token was already reported.
    let is_told = found.is_err();
    let (mut token, token_file) = problems.state(found, (None, None))?;
    if let Some(text) = &token
        && token_file.is_none()
        && problems.form("push_token", check_token(text).map(Some), None)?.is_none()
    {
        token = None;
    }
    let of_many_runs = matches!(mode, Mode::Node(_) | Mode::Deliver);
    let tokens_file = options.push_tokens_file.clone().filter(|path| !path.as_os_str().is_empty());
    let tokens_file = tokens_file.filter(|_| of_many_runs);
    let mut table = TokenTable::default();
    if let Some(path) = &tokens_file {
        table = tokens(path, options)?;
        ensure!(
            !table.is_empty() || token.is_some(),
            "--push-tokens-file {} contains no token",
            path.display()
        );
    } else if token.is_none() {
        if !is_told {
            let (more, endpoint) =
                (if of_many_runs { ", or --push-tokens-file" } else { "" }, problems.name("push_endpoint"));
            let wrong = anyhow!(
                "{endpoint} is given without a token, so nothing can be pushed: set --push-token (COLLECTOR_PUSH_TOKEN) or --push-token-file{more}"
            );
            problems.state(Err(wrong), ())?;
        }
        return Ok(None);
    }
    let ca_certificates = problems.state(ca_certificates(options), None)?;
    Ok(Some(PushTarget {
        endpoint,
        token: token.map(Secret::new),
        token_file,
        tokens: table,
        tokens_file,
        ca_certificates,
        token_is_argument: options.token_is_argument(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

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
