//! TLS with callers: the certificate, its key, and new ones when the files change.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, bail, ensure};
use tokio::signal::unix::Signal;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::{CryptoProvider, ring},
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
        server::{ClientHello, ResolvesServerCert},
        sign::CertifiedKey,
    },
};

use crate::{config::Watched, sync::RwLock};

/// A certificate and its key, as files.
#[derive(Debug, Clone)]
pub struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

impl Files {
    /// Both or neither.
    ///
    /// # Errors
    /// When only one is given.
    pub fn of(certificate: Option<&Path>, key: Option<&Path>) -> anyhow::Result<Option<Self>> {
        match (certificate, key) {
            (Some(certificate), Some(key)) => {
                Ok(Some(Files { certificate: certificate.to_owned(), key: key.to_owned() }))
            }
            (None, None) => Ok(None),
            (Some(_), None) => bail!("--tls-cert needs --tls-key, the certificate's key"),
            (None, Some(_)) => bail!("--tls-key needs --tls-cert, the key's certificate"),
        }
    }
}

/// What is shown to callers: the newest certificate that could be used.
pub struct Tls {
    acceptor: TlsAcceptor,
    shown: Arc<Shown>,
    files: Files,
    provider: Arc<CryptoProvider>,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// When one can't be read, or the key is not the certificate's.
    pub fn load(files: Files) -> anyhow::Result<Self> {
        let provider = Arc::new(ring::default_provider());
        let pair = Pair::read(&files)?.key(&files, &provider)?;
        let shown = Arc::new(Shown { current: RwLock::new(Arc::new(pair)) });
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .context("TLS has no protocol versions")?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&shown) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = [HTTP_2, b"http/1.1", b"http/1.0"].map(<[u8]>::to_vec).into();
        Ok(Tls { acceptor: TlsAcceptor::from(Arc::new(config)), shown, files, provider })
    }

    /// Shakes hands.
    pub fn acceptor(&self) -> &TlsAcceptor {
        &self.acceptor
    }

    /// Watches the files for ever; `hangup` makes it look at once. What can't be used is not: the
    /// certificate that is shown stays.
    pub async fn follow(&self, hangup: Signal) {
        let files = self.files.clone();
        let mut watched = Watched::new(hangup, move || Pair::read(&files));
        loop {
            let now = watched.changed().await;
            match now.and_then(|pair| pair.key(&self.files, &self.provider)) {
                Ok(key) => {
                    self.shown.set(key);
                    tracing::info!(certificate = %self.files.certificate.display(), "callers get the new certificate");
                }
                Err(error) => tracing::warn!(
                    error = format!("{error:#}"),
                    "the new certificate can't be used; the old one stays"
                ),
            }
        }
    }
}

/// The certificate that callers get.
#[derive(Debug)]
struct Shown {
    current: RwLock<Arc<CertifiedKey>>,
}

impl Shown {
    fn set(&self, key: CertifiedKey) {
        // Nothing panics while it holds the lock.
        *self.current.write() = Arc::new(key);
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.read()))
    }
}

/// What is in the two files.
#[derive(Clone, PartialEq, Eq)]
struct Pair {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Pair {
    fn read(files: &Files) -> anyhow::Result<Self> {
        let read = |flag: &str, path: &Path| {
            std::fs::read(path).with_context(|| format!("cannot read {} ({flag})", path.display()))
        };
        Ok(Pair { certificate: read("--tls-cert", &files.certificate)?, key: read("--tls-key", &files.key)? })
    }

    fn key(&self, files: &Files, provider: &CryptoProvider) -> anyhow::Result<CertifiedKey> {
        let certificate = files.certificate.display();
        let chain = CertificateDer::pem_slice_iter(&self.certificate)
            .collect::<Result<Vec<_>, _>>()
            .with_context(|| format!("{certificate} (--tls-cert) is not PEM certificates"))?;
        ensure!(!chain.is_empty(), "{certificate} (--tls-cert) has no certificate in PEM");
        let key = files.key.display();
        let secret = PrivateKeyDer::from_pem_slice(&self.key)
            .with_context(|| format!("{key} (--tls-key) has no private key in PEM"))?;
        CertifiedKey::from_der(chain, secret, provider).with_context(|| {
            format!(
                "the key in {key} (--tls-key) is not that of the certificate in {certificate} (--tls-cert)"
            )
        })
    }
}

/// HTTP/2, as a handshake names it.
pub const HTTP_2: &[u8] = b"h2";
