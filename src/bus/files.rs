//! Files that say who we are on NATS and whom we believe, looked at when the process starts: async-nats reads them at each
//! attempt to connect, and says of one that is broken no more than that there is no connection.

use std::path::Path;

use anyhow::{Context, bail};
use nkeys::KeyPair;
use tokio_rustls::rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

/// The seed in a file of its own.
///
/// # Errors
/// When it can't be read, or is no seed. What it says is never part of the error.
pub async fn seed(path: &Path) -> anyhow::Result<String> {
    let text = tokio::fs::read_to_string(path).await;
    let text = text.with_context(|| format!("cannot read the NKey seed {}", path.display()))?;
    let seed = text.trim();
    match KeyPair::from_seed(seed) {
        Ok(_) => Ok(seed.to_owned()),
        Err(_) => bail!("{} is no NKey seed: it is one line that begins with SU", path.display()),
    }
}

/// Checks a file with certificate authorities.
///
/// # Errors
/// When it can't be read, or has no certificate that can be believed.
pub fn check_authorities(path: &Path) -> anyhow::Result<()> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).with_context(|| format!("cannot use a certificate in {}", path.display()))?;
    }
    Ok(())
}

/// Checks a client certificate and its key.
///
/// # Errors
/// When one can't be read, or they do not go together.
pub fn check_identity(certificate: &Path, key: &Path) -> anyhow::Result<()> {
    let chain = certificates(certificate)?;
    require_file(key)?;
    let private = PrivateKeyDer::from_pem_file(key)
        .with_context(|| format!("cannot read a private key from {}", key.display()))?;
    let config = ClientConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .context("TLS has no protocol versions")?
        .with_root_certificates(RootCertStore::empty());
    let used = config.with_client_auth_cert(chain, private);
    used.with_context(|| format!("{} and {} do not go together", certificate.display(), key.display()))?;
    Ok(())
}

fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    require_file(path)?;
    let all: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .with_context(|| format!("cannot read certificates from {}", path.display()))?;
    if all.is_empty() {
        bail!("there is no certificate in {}: it is to be in PEM", path.display());
    }
    Ok(all)
}

fn require_file(path: &Path) -> anyhow::Result<()> {
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_file() => Ok(()),
        Ok(_) => bail!("{} is not a file", path.display()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}
