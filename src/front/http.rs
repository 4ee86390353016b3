//! The client agent's listener: connections in, and on each of them requests, which [`super::relay`] answers.

use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::Request as HttpRequest;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use ipnet::IpNet;
use tokio::net::TcpStream;

use super::{
    body::{Budget, Limits},
    served::Served,
};
use crate::{
    proto::exchange::Answer,
    stream::{Reader, Streams, Writer},
    wire::{Name, ProcessId, Request, RequestId},
};

/// What a listener is held to.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The upstream requests are for.
    pub upstream: Name,
    /// How long a request may take in all.
    pub ttl: Duration,
    /// Connections at most.
    pub max_connections: usize,
    /// Header block at most, in bytes.
    pub max_header_bytes: usize,
    /// The request's body.
    pub body: Limits,
    /// How long an upgraded connection or a gRPC stream may be silent.
    pub stream_idle: Duration,
    /// How long a request's headers may take.
    pub header_timeout: Duration,
    /// Proxies in front that are believed.
    pub trusted: Vec<IpNet>,
}

/// Whoever gets requests answered.
pub trait Ask: Send + Sync + 'static {
    /// The process that asks.
    fn process(&self) -> ProcessId;
    /// The id for a new request to `upstream`.
    fn mint(&self, upstream: &Name) -> RequestId;
    /// Gets `request` answered. Dropping the future abandons it.
    fn ask(&self, request: Request) -> impl Future<Output = Answered> + Send;
    /// The streams of the process.
    fn streams(&self) -> &Arc<Streams>;
    /// Bytes of a body that ride in one message at most.
    fn inline(&self) -> usize;
    /// The body of request `number` moves on.
    fn progress(&self, number: u64);
    /// Tells what became of a request.
    fn served(&self, served: &Served);
    /// A response that was streamed has ended.
    fn stream_ended(&self, upstream: &Name);
    /// The number of connections, which the front keeps.
    fn connections(&self) -> &AtomicUsize;
}

/// An answer, and the streams that go with it.
pub struct Answered {
    /// The answer.
    pub answer: Answer,
    /// The rest of the response, when it is streamed.
    pub reader: Option<Reader>,
    /// The way to the origin, when another protocol is spoken from here on.
    pub writer: Option<Writer>,
}

/// The listener's shared state.
pub struct Front<A> {
    pub(super) settings: Settings,
    pub(super) ask: Arc<A>,
    pub(super) budget: Budget,
}

impl<A: Ask> Front<A> {
    /// A front for `ask`; `max_buffered` is what bodies may take in memory, in bytes.
    pub fn new(settings: Settings, max_buffered: usize, ask: A) -> Arc<Self> {
        Arc::new(Front { settings, ask: Arc::new(ask), budget: Budget::new(max_buffered) })
    }

    /// Serves one connection until it ends, or until `drain` is done and its last request is answered.
    pub async fn serve(
        self: Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        drain: impl Future<Output = ()>,
    ) {
        let connections = self.ask.connections();
        let over = connections.fetch_add(1, Ordering::Relaxed) >= self.settings.max_connections;
        let _open = Open(connections);
        let front = &self;
        let service = service_fn(|request: HttpRequest<Incoming>| async move {
            Ok::<_, Infallible>(front.answer(request, peer.ip(), over).await)
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.settings.header_timeout)
            .max_buf_size((self.settings.max_header_bytes * 2).max(MIN_BUFFER))
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let mut connection = std::pin::pin!(connection);
        let mut drain = std::pin::pin!(drain);
        let end = tokio::select! {
            end = connection.as_mut() => end,
            () = &mut drain => {
                connection.as_mut().graceful_shutdown();
                connection.as_mut().await
            }
        };
        // What goes wrong on a caller's connection is the caller's business; it has had its answer.
        if let Err(error) = end {
            tracing::debug!(%peer, %error, "connection ended early");
        }
    }
}

struct Open<'a>(&'a AtomicUsize);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// hyper's smallest buffer.
const MIN_BUFFER: usize = 8192;
