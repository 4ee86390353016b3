//! What comes before a connection's first request: the header of a PROXY protocol, the TLS handshake, and
//! which HTTP it is.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::BytesMut;
use http::Version;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    time::timeout,
};
use tokio_rustls::server::TlsStream;

use super::{
    entrance::Socket,
    proxy::{self, Source},
    tls::{self, Tls},
};
use crate::{
    config::Trusted,
    wire::headers::{Caller, Introduction, Peer},
};

/// How connections open.
pub struct Opening {
    /// Proxies in front that are believed.
    pub trusted: Vec<Trusted>,
    /// Whether header names with `_` pass on.
    pub underscores: bool,
    /// Whether they say whose connection it is.
    pub proxy_protocol: bool,
    /// TLS, when it is spoken.
    pub tls: Option<std::sync::Arc<Tls>>,
    /// How long each step may take.
    pub patience: Duration,
}

/// A connection that requests can be read from.
pub struct Opened {
    /// Its bytes.
    pub stream: Stream,
    /// Whose it is; the version is that of HTTP/1.1 or HTTP/2.
    pub caller: Caller,
}

/// Why a connection did not come to its first request.
#[derive(Debug, thiserror::Error)]
pub enum Unopened {
    /// It ended, or said nothing.
    #[error("the caller said nothing")]
    Silent,
    /// It did not say whose it is.
    #[error(transparent)]
    Proxy(#[from] proxy::Error),
    /// The PROXY protocol's header did not come in time.
    #[error("the PROXY protocol header did not come in time (--header-timeout)")]
    ProxySlow,
    /// TLS failed.
    #[error("the TLS handshake failed: {0}")]
    Tls(io::Error),
    /// It is HTTP without TLS.
    #[error("the caller speaks HTTP without TLS")]
    Plain,
    /// TLS took too long.
    #[error("the TLS handshake was not done in time (--header-timeout)")]
    TlsSlow,
}

impl Unopened {
    /// The reason as a label; none when nobody is to blame.
    pub fn reason(&self) -> Option<&'static str> {
        match self {
            Unopened::Silent => None,
            Unopened::Proxy(_) | Unopened::ProxySlow => Some("proxy_header"),
            Unopened::Tls(_) | Unopened::Plain | Unopened::TlsSlow => Some("tls_handshake"),
        }
    }
}

impl Opening {
    /// Opens a connection from `peer`.
    ///
    /// # Errors
    /// When it does not come to a first request.
    pub async fn open(&self, mut socket: Socket, peer: Peer) -> Result<Opened, Unopened> {
        let mut caller = Caller {
            peer,
            trusted: self.trusts(peer),
            underscores: self.underscores,
            tls: self.tls.is_some(),
            version: Version::HTTP_11,
            introduction: Introduction::default(),
        };
        // Anybody else could only lie; he is who he seems to be.
        if self.proxy_protocol && caller.trusted {
            let header = timeout(self.patience, proxy::read(&mut socket)).await;
            match header.map_err(|_| Unopened::ProxySlow)?? {
                Source::Told(address) => {
                    caller.peer = Peer::Address(address);
                    caller.trusted = self.trusts(caller.peer);
                }
                // The proxy is believed, not the stranger behind it.
                Source::Untold => caller.trusted = false,
                Source::Proxy => {}
            }
        }
        let stream = match &self.tls {
            Some(tls) => {
                let shaken = timeout(self.patience, shake(tls, socket)).await;
                let stream = shaken.map_err(|_| Unopened::TlsSlow)??;
                if stream.get_ref().1.alpn_protocol() == Some(tls::HTTP_2) {
                    caller.version = Version::HTTP_2;
                }
                Stream::Tls(Box::new(stream))
            }
            None => {
                let preface = timeout(self.patience, has_http2_preface(&mut socket)).await;
                match preface {
                    Ok(Ok(true)) => caller.version = Version::HTTP_2,
                    Ok(Ok(false)) => {}
                    Ok(Err(_)) | Err(_) => return Err(Unopened::Silent),
                }
                Stream::Plain(socket)
            }
        };
        Ok(Opened { stream, caller })
    }

    /// Whether `peer` is a proxy that is believed.
    pub fn trusts(&self, peer: Peer) -> bool {
        self.trusted.iter().any(|trusted| match (trusted, peer) {
            (Trusted::Network(network), Peer::Address(address)) => network.contains(&address),
            (Trusted::Unix, Peer::Unknown) => true,
            (Trusted::Network(_), Peer::Unknown) | (Trusted::Unix, Peer::Address(_)) => false,
        })
    }
}

/// The handshake. A caller that speaks HTTP without TLS is told so: what begins with a capital letter is a method.
async fn shake(tls: &Tls, mut socket: Socket) -> Result<TlsStream<Socket>, Unopened> {
    let mut first = BytesMut::new();
    socket.read_some(&mut first, MAX_FIRST).await.map_err(Unopened::Tls)?;
    if first.first().is_some_and(u8::is_ascii_uppercase) {
        socket.write_all(PLAIN).await.ok();
        socket.shutdown().await.ok();
        // What the caller still sends is read, so that the end is no reset, which would take the answer from it.
        while socket.read_some(&mut first, MOST_PLAIN).await.is_ok() && first.len() < MOST_PLAIN {}
        return Err(Unopened::Plain);
    }
    socket.put_back(first.freeze());
    tls.acceptor().accept(socket).await.map_err(Unopened::Tls)
}

/// Whether the caller speaks HTTP/2 without having agreed on it (RFC 9113 §3.3). What was read to see it is
/// read again. The first read of a caller of HTTP/1 tells, and is the one that its request needed anyway.
async fn has_http2_preface(socket: &mut Socket) -> io::Result<bool> {
    let mut bytes = BytesMut::new();
    loop {
        socket.read_some(&mut bytes, MAX_FIRST).await?;
        let common = bytes.len().min(PREFACE.len());
        let is_preface = bytes[..common] == PREFACE[..common];
        if !is_preface || common == PREFACE.len() {
            socket.put_back(bytes.freeze());
            return Ok(is_preface);
        }
    }
}

/// The bytes of a connection that is open.
pub enum Stream {
    /// As they are.
    Plain(Socket),
    /// Through TLS.
    Tls(Box<TlsStream<Socket>>),
}

impl Stream {
    /// Says how the connection ends when it is dropped: see [`Socket::resets_when_dropped`].
    pub fn resets_when_dropped(&self, resets: bool) {
        match self {
            Stream::Plain(socket) => socket.resets_when_dropped(resets),
            Stream::Tls(tls) => tls.get_ref().0.resets_when_dropped(resets),
        }
    }

    /// What it is on.
    pub fn socket(&self) -> &Socket {
        match self {
            Stream::Plain(socket) => socket,
            Stream::Tls(tls) => tls.get_ref().0,
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            Stream::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(socket) => Pin::new(socket).poll_write(cx, buf),
            Stream::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, bufs),
            Stream::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Stream::Plain(socket) => socket.is_write_vectored(),
            Stream::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Stream::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Stream::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}

/// What a caller without TLS is told.
const PLAIN: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 55\r\nConnection: close\r\n\r\n\
    This port speaks TLS: ask again with a URL of https://\n";
/// What is read of such a caller at most, in bytes.
const MOST_PLAIN: usize = 64 * 1024;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// What is read to see which HTTP it is, at most.
const MAX_FIRST: usize = 4096;
