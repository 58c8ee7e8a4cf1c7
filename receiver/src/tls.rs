//! Optional TLS: rustls with ring. The client chooses HTTP/2 or HTTP/1.1.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use anyhow::{Context, Result, bail};
use program::given_file;
use rustls::ServerConfig;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

/// The certificate in force, replaced as a whole: a handshake sees the old one or the new one.
#[derive(Debug)]
pub struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    current: RwLock<Arc<ServerConfig>>,
}

impl Tls {
    /// Reads both files.
    pub fn load(certificate: PathBuf, key: PathBuf) -> Result<Self> {
        let current = RwLock::new(Arc::new(read(&certificate, &key)?));
        Ok(Self { certificate, key, current })
    }

    /// Reads both files again. If that fails, the old certificate stays in force.
    pub fn reload(&self) -> Result<()> {
        let new = Arc::new(read(&self.certificate, &self.key)?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    /// Returns an acceptor with the current certificate, for the next handshake.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn read(certificate: &Path, key: &Path) -> Result<ServerConfig> {
    let in_certificate = || format!("--tls-cert {}", certificate.display());
    let in_key = || format!("--tls-key {}", key.display());
    let chain = given_file::read(certificate).map_err(pem::Error::Io);
    let chain: Vec<_> = chain
        .and_then(|content| CertificateDer::pem_slice_iter(&content).collect())
        .with_context(|| format!("{} cannot be read; certificates in PEM are accepted", in_certificate()))?;
    if chain.is_empty() {
        bail!("{} holds no certificate; certificates in PEM are accepted", in_certificate());
    }
    let private = given_file::read(key).map_err(pem::Error::Io);
    let private = private.and_then(|content| PrivateKeyDer::from_pem_slice(&content)).with_context(|| {
        format!("{} cannot be read; a private key in PEM without a passphrase is accepted", in_key())
    })?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = builder
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .with_context(|| format!("{} and {} do not match", in_certificate(), in_key()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
