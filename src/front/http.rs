//! The client agent's front: what it is held to, and whoever answers what comes in. `connection` is how a
//! connection comes to its requests, `relay` what becomes of them.

use std::{
    future::Future,
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use super::{
    body::Limits, cached::Shared, jobs::Desk, opening::Opening, rendezvous::Rendezvous, served::Served,
};
use crate::{
    config::Switch,
    proto::{exchange::Answer, routes::Found},
    stream::{Reader, Streams, Writer, memory::Budget},
    wire::{Fault, Name, ProcessId, Request, RequestId},
};

/// What a listener is held to.
#[derive(Clone)]
pub struct Settings {
    /// The upstream that all requests are for; without one, they are routed.
    pub upstream: Option<Name>,
    /// Whether a caller may name the upstream.
    pub allow_upstream_header: bool,
    /// How long a request may take until its response begins.
    pub ttl: Duration,
    /// Connections at most.
    pub max_connections: usize,
    /// Header block at most, in bytes.
    pub max_header_bytes: usize,
    /// Whether callers are told the details of all faults.
    pub fault_details: Switch,
    /// The request's body.
    pub body: Limits,
    /// How long an upgraded connection or a gRPC stream may be silent.
    pub stream_idle: Duration,
    /// How long a caller may take nothing of what is written to it.
    pub send_timeout: Duration,
    /// How long a request's headers may take.
    pub header_timeout: Duration,
    /// How long a connection may be idle between two requests.
    pub keep_alive: Duration,
    /// The shared cache, when there is one.
    pub cache: Option<Arc<Shared>>,
    /// Where jobs are taken, when they are.
    pub jobs: Option<Arc<Desk>>,
}

/// Whoever gets requests answered.
pub trait Ask: Send + Sync + 'static {
    /// Whoever keeps sessions.
    type Sessions: Rendezvous;

    /// Whoever keeps the sessions here, where there are any.
    fn sessions(&self) -> Option<&Arc<Self::Sessions>>;
    /// The process that asks.
    fn process(&self) -> ProcessId;
    /// Whether it is stopping: what has begun is answered, and no more.
    fn is_stopping(&self) -> bool;
    /// The id for a new request to `upstream`.
    fn mint(&self, upstream: &Name) -> RequestId;
    /// Which upstream has a route for this host and path.
    fn seek(&self, host: &str, path: &[u8]) -> Sought;
    /// Whether any route is for this host, whatever its path.
    fn has_route(&self, host: &str) -> bool;
    /// Whether this request waits for an agent to come: none has it.
    fn waits(&self, request: &RequestId) -> bool;
    /// Gets `request` answered. Dropping the future abandons it.
    fn ask(&self, request: Request) -> impl Future<Output = Answered> + Send;
    /// The streams of the process.
    fn streams(&self) -> &Arc<Streams>;
    /// Bytes of a body that ride in one message at most.
    fn inline(&self) -> usize;
    /// The body of request `number` moves on.
    fn progress(&self, number: u64);
    /// Counts a job that was accepted: a `chain` or a `request`.
    fn accepted(&self, kind: &'static str);
    /// Tells what became of a request.
    fn served(&self, served: &Served);
    /// A response that was streamed has ended.
    fn stream_ended(&self, upstream: &Name);
    /// Counts a connection that was closed before its first request.
    fn turned_away(&self, reason: &'static str);
    /// Counts a caller that took nothing of its response for too long.
    fn stalled(&self);
    /// Counts what was refused before it was a request.
    fn refused(&self, fault: &Fault);
    /// The number of connections, which the front keeps.
    fn connections(&self) -> &AtomicUsize;
}

/// What is known of the route of a request.
pub enum Sought {
    /// It has one.
    Found(Found),
    /// It has one with a path, which a dot segment of its own could lead out of.
    Climbs,
    /// It has none.
    Nowhere,
    /// Not all routes are known yet.
    NotYet,
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
    pub(super) opening: Opening,
    pub(super) ask: Arc<A>,
    pub(super) budget: Budget,
}

impl<A: Ask> Front<A> {
    /// A front for `ask`, whose connections open by `opening`; `max_buffered` is what whole bodies may take in
    /// memory, in bytes.
    pub fn new(settings: Settings, opening: Opening, max_buffered: usize, ask: A) -> Arc<Self> {
        Arc::new(Front { settings, opening, ask: Arc::new(ask), budget: Budget::new(max_buffered) })
    }
}
