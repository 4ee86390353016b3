//! Certificates of servers that are trusted by themselves, without an authority that vouches for them.

use std::sync::Arc;

use anyhow::Context;
use tokio_rustls::rustls::{
    CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};

/// Verifies as usual, and also accepts a server that shows one of the listed certificates itself, byte for
/// byte: a self-signed one is often marked as an authority, which webpki never takes from a server. Name,
/// time of validity and the proof of having the key are verified all the same.
#[derive(Debug)]
pub struct Pinned {
    usual: Arc<WebPkiServerVerifier>,
    listed: Vec<CertificateDer<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Pinned {
    /// Accepts what has a chain to one of `roots`, and the certificates that are `listed`.
    ///
    /// # Errors
    /// When there are no roots.
    pub fn new(
        roots: RootCertStore,
        listed: Vec<CertificateDer<'static>>,
        provider: &Arc<CryptoProvider>,
    ) -> anyhow::Result<Self> {
        let usual = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
        let usual = usual.build().context("certificates can't be verified")?;
        Ok(Pinned { usual, listed, algorithms: provider.signature_verification_algorithms })
    }

    /// Verifies all of a listed certificate but who issued it.
    fn verify_listed(
        &self,
        cert: &CertificateDer<'_>,
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let cert = ParsedCertificate::try_from(cert)?;
        // Without any root it always fails, and says why: the certificate's own faults come first.
        let no_roots = RootCertStore::empty();
        match verify_server_cert_signed_by_trust_anchor(&cert, &no_roots, &[], now, self.algorithms.all) {
            Err(error) if !concerns_issuer_alone(&error) => return Err(error),
            Ok(()) | Err(_) => {}
        }
        verify_server_name(&cert, name)?;
        Ok(ServerCertVerified::assertion())
    }
}

/// Whether all that is wrong is that no authority is known, or that the certificate is one itself. Webpki looks
/// at the time of validity before either.
fn concerns_issuer_alone(error: &Error) -> bool {
    match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => true,
        Error::InvalidCertificate(CertificateError::Other(other)) => {
            matches!(other.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
        }
        _ => false,
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        cert: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.usual.verify_server_cert(cert, intermediates, name, ocsp, now);
        match verified {
            Err(_) if self.listed.contains(cert) => self.verify_listed(cert, name, now),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.usual.verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.usual.verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.usual.supported_verify_schemes()
    }
}
