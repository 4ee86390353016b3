//! TLS to an origin: which authorities are believed, which certificate is shown, which name is asked for.

use std::{io, path::Path, sync::Arc};

use anyhow::Context;
use tokio_rustls::{
    TlsConnector,
    rustls::{
        AlertDescription, ClientConfig, DigitallySignedStruct, Error, InvalidMessage, RootCertStore,
        SignatureScheme,
        client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        crypto::{self, CryptoProvider},
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    },
};

use super::pinned::Pinned;
use crate::{
    config::{Origin as Settings, OriginUrl, Switch},
    wire::{Code, Fault, Side},
};

/// How TLS is begun with one origin.
pub struct Tls {
    /// The name that is asked for, and that the certificate must have.
    pub name: ServerName<'static>,
    /// How it is begun.
    pub trust: Trust,
}

/// How TLS is begun with any origin: who is believed, and what is shown.
#[derive(Clone)]
pub struct Trust {
    /// Offers HTTP/2 and HTTP/1.
    pub any: TlsConnector,
    /// Offers HTTP/1 alone.
    pub http1: TlsConnector,
}

impl Tls {
    /// TLS with the origin called `host`, as `settings` say.
    ///
    /// # Errors
    /// When certificates can't be read or a name can't be verified.
    pub fn new(settings: &Settings, host: &str) -> anyhow::Result<Self> {
        Tls::with(Trust::new(settings)?, settings.sni.as_deref().unwrap_or(host))
    }

    /// TLS with whoever has a certificate for `name`.
    ///
    /// # Errors
    /// When the name can't be verified.
    pub fn with(trust: Trust, name: &str) -> anyhow::Result<Self> {
        let shown = || format!("'{name}' can't be verified");
        Ok(Tls { name: ServerName::try_from(name.to_owned()).with_context(shown)?, trust })
    }
}

impl Trust {
    /// What `settings` say.
    ///
    /// # Errors
    /// When certificates can't be read.
    pub fn new(settings: &Settings) -> anyhow::Result<Self> {
        let mut config = config(settings)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let http1 = TlsConnector::from(Arc::new(config.clone()));
        config.alpn_protocols.insert(0, b"h2".to_vec());
        Ok(Trust { any: TlsConnector::from(Arc::new(config)), http1 })
    }
}

/// What failed in TLS with an origin, and what to do about it.
pub fn failure(error: &io::Error) -> String {
    match cause(error) {
        Some(Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
            "the server does not speak TLS at this port: use http:// if it speaks plain HTTP".to_owned()
        }
        Some(Error::AlertReceived(alert)) => refusal(*alert).unwrap_or_else(|| error.to_string()),
        _ => error.to_string(),
    }
}

/// The fault of a connection that ended because the origin does not take the client certificate, or the lack
/// of one; none for any other end. With TLS 1.3 it says so only when the client believes to be connected
/// (RFC 8446 section 4.4.2.4): nothing that was sent has been read.
pub fn certificate_refused(error: &io::Error) -> Option<Fault> {
    let Some(Error::AlertReceived(alert)) = cause(error) else { return None };
    let detail = format!("TLS with the origin failed: {}", refusal(*alert)?);
    Some(Fault::new(Code::OriginTls, Side::Upstream, detail))
}

fn refusal(alert: AlertDescription) -> Option<String> {
    use AlertDescription as Alert;
    match alert {
        Alert::CertificateRequired => {
            Some("it asks for a client certificate: give one with --cert and --key".to_owned())
        }
        Alert::BadCertificate
        | Alert::UnsupportedCertificate
        | Alert::CertificateRevoked
        | Alert::CertificateExpired
        | Alert::CertificateUnknown
        | Alert::UnknownCA
        | Alert::AccessDenied
        | Alert::DecryptError => {
            Some(format!("it does not accept the client certificate, or the lack of one (--cert): {alert:?}"))
        }
        _ => None,
    }
}

/// What rustls says, if it is TLS that failed.
fn cause(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

/// Refuses settings of TLS for an origin without it.
///
/// # Errors
/// When there is one.
pub fn refuse(settings: &Settings, to: &OriginUrl) -> anyhow::Result<()> {
    let given = [
        ("--cert", settings.cert.is_some()),
        ("--sni", settings.sni.is_some()),
        ("--insecure", settings.insecure == Switch::On),
    ];
    match given.iter().find(|(_, given)| *given) {
        Some((flag, _)) => anyhow::bail!("{flag} is for https origins, not for {to}"),
        None => Ok(()),
    }
}

fn config(settings: &Settings) -> anyhow::Result<ClientConfig> {
    let provider = Arc::new(crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .context("TLS has no protocol versions")?;
    let builder = match settings.insecure {
        Switch::Off => {
            let listed = listed(settings)?;
            let verifier = Pinned::new(roots(settings, &listed)?, listed, &provider)?;
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
        }
        Switch::On => {
            tracing::warn!(
                origin = settings.to.as_ref().map(tracing::field::display),
                "CERTIFICATES ARE NOT VERIFIED (--insecure): anybody on the way can pose as this origin; \
                 for development only"
            );
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        }
    };
    let (Some(cert), Some(key)) = (&settings.cert, &settings.key) else {
        return Ok(builder.with_no_client_auth());
    };
    let chain: Vec<_> = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect)
        .with_context(|| format!("cannot read certificates from {}", cert.display()))?;
    let private = PrivateKeyDer::from_pem_file(key)
        .with_context(|| format!("cannot read a private key from {}", key.display()))?;
    builder
        .with_client_auth_cert(chain, private)
        .with_context(|| format!("{} and {} do not go together", cert.display(), key.display()))
}

/// The certificates in the file of `--ca`.
fn listed(settings: &Settings) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let Some(ca) = &settings.ca else { return Ok(Vec::new()) };
    CertificateDer::pem_file_iter(ca)
        .with_context(|| format!("cannot read {}", ca.display()))?
        .collect::<Result<_, _>>()
        .with_context(|| format!("{} is not PEM certificates", ca.display()))
}

fn roots(settings: &Settings, listed: &[CertificateDer<'static>]) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    for cert in listed {
        let file = settings.ca.as_deref().unwrap_or(Path::new("--ca"));
        let shown = || format!("{} has a certificate that can't be used", file.display());
        roots.add(cert.clone()).with_context(shown)?;
    }
    anyhow::ensure!(
        !roots.is_empty(),
        "no certificate authorities found: install ca-certificates or give --ca FILE"
    );
    Ok(roots)
}

/// Believes every certificate, but only of who has its key.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        crypto::verify_tls12_signature(message, cert, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        crypto::verify_tls13_signature(message, cert, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
