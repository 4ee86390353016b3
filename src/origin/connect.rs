//! Connections to the origin: names, addresses, TLS.

use std::{io, sync::Arc, time::Duration};

use anyhow::Context;
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};

use super::{http1::Connection, stream::Carrier};
use crate::{
    config::Origin as Settings,
    wire::{Code, Fault, Side},
};

/// Makes connections to one origin.
pub struct Connector {
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    timeout: Duration,
}

impl Connector {
    /// A connector for the origin that `settings` describe.
    ///
    /// # Errors
    /// When certificates can't be read.
    pub fn new(settings: &Settings) -> anyhow::Result<Self> {
        let uri = settings.to.uri();
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let https = uri.scheme_str() == Some("https");
        let tls = if https {
            let name =
                ServerName::try_from(host.clone()).with_context(|| format!("'{host}' can't be verified"))?;
            Some((TlsConnector::from(Arc::new(tls_config(settings)?)), name))
        } else {
            None
        };
        let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
        Ok(Connector { host, port, tls, timeout: settings.connect_timeout })
    }

    /// A new connection, ready for a request.
    ///
    /// # Errors
    /// A fault that says what failed: the name, the address, the time, TLS.
    pub async fn connect(&self) -> Result<Connection, Fault> {
        let late = || {
            let detail = format!(
                "the origin {} did not accept the connection within {} (--connect-timeout)",
                self.shown(),
                humantime::format_duration(self.timeout)
            );
            Fault::new(Code::OriginConnectTimeout, Side::Upstream, detail)
        };
        tokio::time::timeout(self.timeout, self.open()).await.map_err(|_| late())?
    }

    async fn open(&self) -> Result<Connection, Fault> {
        let tcp = self.tcp().await?;
        let carrier = match &self.tls {
            None => Carrier::Plain(tcp),
            Some((tls, name)) => {
                let shaken = tls.connect(name.clone(), tcp).await.map_err(|error| {
                    let detail = format!("TLS with the origin {} failed: {error}", self.shown());
                    Fault::new(Code::OriginTls, Side::Upstream, detail)
                })?;
                Carrier::Tls(Box::new(shaken))
            }
        };
        Connection::open(carrier.into()).await.map_err(|error| {
            let detail = format!("the origin {} could not be spoken to: {error}", self.shown());
            Fault::new(Code::OriginUnreachable, Side::Upstream, detail)
        })
    }

    async fn tcp(&self) -> Result<TcpStream, Fault> {
        let addresses = tokio::net::lookup_host((self.host.as_str(), self.port)).await.map_err(|error| {
            let detail = format!("the origin's host name '{}' could not be resolved: {error}", self.host);
            Fault::new(Code::OriginDns, Side::Upstream, detail)
        })?;
        let mut last = io::Error::new(io::ErrorKind::AddrNotAvailable, "the name has no address");
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    // Without it small requests on a kept connection wait for the origin's delayed ACK.
                    stream.set_nodelay(true).ok();
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(unreachable(&last, &self.shown()))
    }

    fn shown(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

/// The fault of a connection that could not be made: the origin has seen nothing.
fn unreachable(error: &io::Error, target: &str) -> Fault {
    let (code, what) = match error.kind() {
        io::ErrorKind::ConnectionRefused => (Code::OriginRefused, "refused the connection"),
        io::ErrorKind::TimedOut => (Code::OriginConnectTimeout, "did not accept the connection in time"),
        _ => (Code::OriginUnreachable, "could not be reached"),
    };
    Fault::new(code, Side::Upstream, format!("the origin {target} {what}: {error}"))
}

fn tls_config(settings: &Settings) -> anyhow::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(system.certs);
    if let Some(ca) = &settings.ca {
        let certs =
            CertificateDer::pem_file_iter(ca).with_context(|| format!("cannot read {}", ca.display()))?;
        for cert in certs {
            let cert = cert.with_context(|| format!("{} is not PEM certificates", ca.display()))?;
            roots
                .add(cert)
                .with_context(|| format!("{} has a certificate that is no authority", ca.display()))?;
        }
    }
    anyhow::ensure!(
        !roots.is_empty(),
        "no certificate authorities found: install ca-certificates or give --ca FILE"
    );
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("TLS has no protocol versions")?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
