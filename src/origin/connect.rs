//! Connections to the origin: names, addresses, sockets, and which HTTP is spoken on them.

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use tokio::net::{TcpStream, UnixStream};

use super::{
    addresses::Addresses,
    http1, http2,
    stream::{Carrier, Stream},
    tls::{self, Tls, Trust},
};
use crate::{
    config::{Origin as Settings, OriginHttp, OriginUrl},
    descriptors,
    framing::keep_little_unsent,
    wire::{
        Code, Fault, Side, Target,
        target::{Host, Scheme},
    },
};

/// Makes connections to one origin.
pub struct Connector {
    place: Place,
    speech: Speech,
    /// Whether an origin that chooses is offered HTTP/1 alone.
    only_http1: bool,
    timeout: Duration,
}

/// Where the origin is.
enum Place {
    Tcp {
        host: String,
        port: u16,
    },
    Unix(PathBuf),
    /// Wherever a request wants: only some addresses will do.
    Outside {
        host: Host,
        port: u16,
        addresses: Arc<Addresses>,
    },
}

/// How what is spoken is agreed on.
enum Speech {
    /// HTTP/1, always.
    Http1,
    /// HTTP/2, always.
    Http2,
    /// What the origin chooses, over TLS.
    Chosen(Tls),
}

/// Which HTTP is offered to an origin that chooses.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// HTTP/2 and HTTP/1.
    Any,
    /// HTTP/1.
    Http1,
}

/// A new connection, ready for a request.
pub enum Connection {
    /// One request at a time.
    Http1(http1::Connection),
    /// Many at once.
    Http2(http2::Connection),
}

impl Connector {
    /// A connector for the origin that `settings` describe.
    ///
    /// # Errors
    /// When certificates can't be read, or are for an origin without TLS.
    pub fn new(settings: &Settings, to: &OriginUrl) -> anyhow::Result<Self> {
        let (place, speech) = match to {
            OriginUrl::Unix(path) => (Place::Unix(path.clone()), Speech::Http1),
            OriginUrl::Tcp(uri) => {
                let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
                let (port, speech) = match uri.scheme_str() {
                    Some("https") => (443, Speech::Chosen(Tls::new(settings, &host)?)),
                    Some("h2c") => (80, Speech::Http2),
                    _ => (80, Speech::Http1),
                };
                (Place::Tcp { host, port: uri.port_u16().unwrap_or(port) }, speech)
            }
        };
        if !matches!(speech, Speech::Chosen(_)) {
            tls::refuse(settings, to)?;
        }
        let only_http1 = settings.origin_http == OriginHttp::Http11;
        anyhow::ensure!(
            !only_http1 || !matches!(speech, Speech::Http2),
            "--origin-http 1.1 can't be used with {to}, which is HTTP/2: write http://"
        );
        Ok(Connector { place, speech, only_http1, timeout: settings.connect_timeout })
    }

    /// A connector for an outside host: to those of its addresses that `addresses` lets pass.
    ///
    /// # Errors
    /// When the host can't be verified.
    pub fn outside(
        target: &Target,
        addresses: &Arc<Addresses>,
        trust: &Trust,
        (only_http1, timeout): (bool, Duration),
    ) -> anyhow::Result<Self> {
        let (host, port) = (target.host().clone(), target.port());
        let speech = match target.scheme() {
            Scheme::Http => Speech::Http1,
            Scheme::Https => {
                let name = match &host {
                    Host::Name(name) => name.to_string(),
                    Host::Ip(address) => address.to_string(),
                };
                Speech::Chosen(Tls::with(trust.clone(), &name)?)
            }
        };
        Ok(Connector {
            place: Place::Outside { host, port, addresses: Arc::clone(addresses) },
            speech,
            only_http1,
            timeout,
        })
    }

    /// Whether the origin may speak HTTP/2.
    pub fn may_multiplex(&self) -> bool {
        !self.only_http1 && !matches!(self.speech, Speech::Http1)
    }

    /// Whether the origin speaks nothing but HTTP/2.
    pub fn is_http2(&self) -> bool {
        matches!(self.speech, Speech::Http2)
    }

    /// The scheme of a request to the origin.
    pub fn scheme(&self) -> http::uri::Scheme {
        match self.speech {
            Speech::Chosen(_) => http::uri::Scheme::HTTPS,
            Speech::Http1 | Speech::Http2 => http::uri::Scheme::HTTP,
        }
    }

    /// A new connection.
    ///
    /// # Errors
    /// A fault that says what failed: the name, the address, the time, TLS.
    pub async fn connect(&self, offer: Offer) -> Result<Connection, Fault> {
        let offer = if self.only_http1 { Offer::Http1 } else { offer };
        self.in_time(self.open(offer)).await?
    }

    /// What `work` comes to, which is part of connecting.
    ///
    /// # Errors
    /// When it takes too long.
    pub async fn in_time<T>(&self, work: impl Future<Output = T>) -> Result<T, Fault> {
        let late = |_| {
            if descriptors::are_exhausted() {
                return exhausted();
            }
            let detail = format!(
                "the origin {} did not accept the connection within {} (--connect-timeout)",
                self.shown(),
                humantime::format_duration(self.timeout)
            );
            Fault::new(Code::OriginConnectTimeout, Side::Upstream, detail)
        };
        tokio::time::timeout(self.timeout, work).await.map_err(late)
    }

    async fn open(&self, offer: Offer) -> Result<Connection, Fault> {
        let descriptor = descriptors::for_origin().await.ok_or_else(exhausted)?;
        let carrier = match &self.place {
            Place::Tcp { host, port } => Carrier::Tcp(self.dial(resolve(host, *port).await?).await?),
            Place::Unix(path) => {
                let connected = UnixStream::connect(path).await;
                Carrier::Unix(connected.map_err(|error| unreachable(&error, &self.shown()))?)
            }
            // An address that is asked for is one that is allowed by itself.
            Place::Outside { host: Host::Ip(address), port, .. } => {
                Carrier::Tcp(self.dial(vec![SocketAddr::new(*address, *port)]).await?)
            }
            // What is checked is what is dialled: another lookup could have another answer.
            Place::Outside { host: Host::Name(name), port, addresses } => {
                let checked = addresses.of(name, resolve(name, *port).await?)?;
                Carrier::Tcp(self.dial(checked).await?)
            }
        };
        match (&self.speech, carrier) {
            (Speech::Chosen(tls), Carrier::Tcp(tcp)) => {
                let connector = if offer == Offer::Any { &tls.trust.any } else { &tls.trust.http1 };
                let shaken = connector.connect(tls.name.clone(), tcp).await.map_err(|error| {
                    let detail =
                        format!("TLS with the origin {} failed: {}", self.shown(), tls::failure(&error));
                    Fault::new(Code::OriginTls, Side::Upstream, detail)
                })?;
                let chosen = shaken.get_ref().1.alpn_protocol() == Some(b"h2");
                let stream = Stream::from(Carrier::Tls(Box::new(shaken))).holding(descriptor);
                if chosen { self.http2(stream).await } else { Ok(http1(stream)) }
            }
            (Speech::Http2, carrier) => self.http2(Stream::from(carrier).holding(descriptor)).await,
            (Speech::Http1 | Speech::Chosen(_), carrier) => {
                Ok(http1(Stream::from(carrier).holding(descriptor)))
            }
        }
    }

    async fn http2(&self, stream: Stream) -> Result<Connection, Fault> {
        let opened = http2::Connection::open(stream).await;
        opened.map(Connection::Http2).map_err(|error| {
            let detail = format!("the origin {} could not be spoken to: {error}", self.shown());
            Fault::new(Code::OriginUnreachable, Side::Upstream, detail)
        })
    }

    async fn dial(&self, addresses: Vec<SocketAddr>) -> Result<TcpStream, Fault> {
        let mut last = io::Error::new(io::ErrorKind::AddrNotAvailable, "the name has no address");
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    // Without it small requests on a kept connection wait for the origin's delayed ACK.
                    stream.set_nodelay(true).ok();
                    keep_little_unsent(&stream);
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(unreachable(&last, &self.shown()))
    }

    fn shown(&self) -> String {
        match &self.place {
            Place::Tcp { host, port } => format!("{host}:{port}"),
            Place::Unix(path) => path.display().to_string(),
            Place::Outside { host, port, .. } => format!("{host}:{port}"),
        }
    }
}

async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, Fault> {
    let found = tokio::net::lookup_host((host, port)).await.map_err(|error| {
        // A lookup does not say that it had no descriptor.
        if descriptors::are_exhausted() {
            return exhausted();
        }
        let detail = format!("the origin's host name '{host}' could not be resolved: {error}");
        Fault::new(Code::OriginDns, Side::Upstream, detail)
    })?;
    Ok(found.collect())
}

fn http1(stream: Stream) -> Connection {
    Connection::Http1(http1::Connection::new(stream))
}

/// The fault of a process that has no descriptor left: the origin is not to blame, and has seen nothing.
fn exhausted() -> Fault {
    let detail = "this process has no file descriptor left for a connection to the origin: raise the limit of open files (ulimit -n, LimitNOFILE)";
    Fault::new(Code::OutOfDescriptors, Side::Upstream, detail)
}

/// The fault of a connection that could not be made: the origin has seen nothing.
fn unreachable(error: &io::Error, target: &str) -> Fault {
    if descriptors::is_exhaustion(error) {
        return exhausted();
    }
    let (code, what) = match error.kind() {
        io::ErrorKind::ConnectionRefused => (Code::OriginRefused, "refused the connection"),
        io::ErrorKind::TimedOut => (Code::OriginConnectTimeout, "did not accept the connection in time"),
        _ => (Code::OriginUnreachable, "could not be reached"),
    };
    Fault::new(code, Side::Upstream, format!("the origin {target} {what}: {error}"))
}
