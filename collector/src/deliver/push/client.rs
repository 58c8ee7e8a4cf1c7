//! The HTTP client: the certificates that it trusts and its name resolution, with or without files of the image.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::system_conf::read_system_conf;
use program::given_file;
use reqwest::Client;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tracing::warn;

use super::trouble::NoAddress;
use crate::args::{CERTIFICATE_DIRECTORY, CERTIFICATE_FILE, trust_variable};
use crate::config::PushTarget;

/// A connection that takes longer is tried again: a packet may have been lost.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The client for this receiver. Redirects are not followed: the token is for this receiver only.
pub(super) fn client(target: &PushTarget) -> Result<Client> {
    let builder = Client::builder()
        .user_agent(concat!("collector/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .dns_resolver(Arc::new(Names::default()))
        .tls_backend_preconfigured(tls(target)?);
    builder.build().context("cannot make an HTTP client")
}

fn tls(target: &PushTarget) -> Result<ClientConfig> {
    // Without TLS no certificate is needed, except perhaps for a proxy that is reached by TLS.
    let needed = target.endpoint.scheme() == "https";
    let roots = trusted(target.ca_certificates.as_deref(), needed)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.context("cannot use TLS")?;
    let mut tls = builder.with_root_certificates(roots).with_no_client_auth();
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(tls)
}

/// The system's certificates and those of `--ca-file`. If the system has none, the built-in ones of Mozilla are used, with
/// a warning if they are `needed`.
fn trusted(ca_certificates: Option<&[u8]>, needed: bool) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let (certificates, reasons) = of_the_system();
    let (usable, ignored) = roots.add_parsable_certificates(certificates);
    if usable == 0 {
        let reason = if reasons.is_empty() { "there are none".to_owned() } else { reasons.join("; ") };
        let named = trust_variable();
        // A user who names certificates wants only these.
        if named.is_none() {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        match named {
            _ if !needed => {}
            Some(variable) => {
                warn!(
                    variable,
                    reason,
                    ignored,
                    "the certificates that the variable names cannot be used, and no others are trusted"
                );
            }
            None => {
                warn!(
                    reason,
                    ignored, "the system has no CA certificates: the built-in ones from Mozilla are trusted"
                );
            }
        }
    }
    if let Some(pem) = ca_certificates {
        for certificate in CertificateDer::pem_slice_iter(pem) {
            roots
                .add(certificate.context("--ca-file")?)
                .context("--ca-file: a certificate cannot be used")?;
        }
    }
    Ok(roots)
}

/// The system's certificates, or those that OpenSSL's variables name, and why there are not more. The library would wait
/// forever for one that is not a regular file.
fn of_the_system() -> (Vec<CertificateDer<'static>>, Vec<String>) {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let no_file = |path: &PathBuf| std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_file());
    let Some(file) = variable(CERTIFICATE_FILE).map(PathBuf::from).filter(no_file) else {
        let found = rustls_native_certs::load_native_certs();
        return (found.certs, found.errors.iter().map(ToString::to_string).collect());
    };
    let (mut certificates, mut reasons) = (Vec::new(), Vec::new());
    match given_file::read(&file) {
        Ok(content) => certificates.extend(CertificateDer::pem_slice_iter(&content).flatten()),
        Err(error) => reasons.push(format!("{} cannot be read: {error}", file.display())),
    }
    let directories = variable(CERTIFICATE_DIRECTORY).unwrap_or_default();
    for directory in std::env::split_paths(&directories).filter(|path| !path.as_os_str().is_empty()) {
        let found = rustls_native_certs::load_certs_from_paths(None, Some(&directory));
        certificates.extend(found.certs);
        reasons.extend(found.errors.iter().map(ToString::to_string));
    }
    (certificates, reasons)
}

/// Looks names up in `/etc/hosts` and at the name servers of `/etc/resolv.conf`, without a libc. Without that file no
/// server is asked: the library would ask external name servers of its own choice.
#[derive(Debug, Default, Clone)]
struct Names(Arc<OnceLock<TokioResolver>>);

impl Names {
    /// The resolver, created when it is needed: by then there is a runtime.
    fn resolver(&self) -> Result<TokioResolver, BoxError> {
        if let Some(resolver) = self.0.get() {
            return Ok(resolver.clone());
        }
        let system = read_system_conf().ok();
        let asks = system.is_some();
        // Names in /etc/hosts, and localhost, are still known.
        let (config, options) = system
            .unwrap_or_else(|| (ResolverConfig::from_parts(None, vec![], vec![]), ResolverOpts::default()));
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        builder.options_mut().ip_strategy = LookupIpStrategy::Ipv6AndIpv4;
        let resolver = builder.build()?;
        // The file may appear later.
        Ok(if asks { self.0.get_or_init(|| resolver).clone() } else { resolver })
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        let names = self.clone();
        Box::pin(async move {
            let resolver = names.resolver()?;
            let found =
                resolver.lookup_ip(name.as_str()).await.map_err(|error| match read_system_conf() {
                    Ok(_) => NoAddress::new(name.as_str(), &error),
                    Err(cause) => NoAddress::nobody_to_ask(name.as_str(), &cause),
                })?;
            let addresses: Vec<_> = found.iter().map(|address| SocketAddr::new(address, 0)).collect();
            let addresses: Addrs = Box::new(addresses.into_iter());
            Ok(addresses)
        })
    }
}
