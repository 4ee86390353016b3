//! A socket that speaks lines of JSON, in front of REST APIs: each line names a request, each reply is a line.
//!
//! What is decided is apart from what is read and written: `split` makes lines of bytes, `read` a wish of a line,
//! `build` a request of a wish and its definition, `reply` the lines that answer. `connection` is one connection
//! with all that is in flight on it, `writing` its way out.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use tokio::sync::{Semaphore, watch};

use crate::{
    config::requests::Definition,
    stream::memory::Share,
    wire::{Fault, headers::Peer},
};

mod build;
mod connection;
mod json;
pub mod read;
mod reply;
pub mod split;
mod writing;

pub use build::Prepared;
pub use read::Refused;

/// What a socket is held to.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Bytes of a line at most.
    pub max_line: usize,
    /// Requests in flight at most.
    pub max_in_flight: usize,
    /// Requests in flight of one connection at most.
    pub per_connection: usize,
    /// Connections at most.
    pub max_connections: usize,
    /// How long a connection may be silent while nothing is in flight on it.
    pub idle: Duration,
    /// How long a connection may take nothing of what is written to it.
    pub slow: Duration,
}

/// Whoever gets requests answered.
pub trait Call: Send + Sync + 'static {
    /// The way to whoever answers a request.
    type Way: Send + 'static;
    /// What is called `name`, and the way there.
    fn find(&self, name: &str) -> Option<(Arc<Definition>, Self::Way)>;
    /// Issues a request. Dropping the future cancels it.
    fn call(&self, way: Self::Way, prepared: Prepared) -> impl Future<Output = Result<Came, Fault>> + Send;
    /// Tells what became of a request.
    fn served(&self, served: &Served);
    /// Counts a line that was refused.
    fn refused(&self, why: Refused);
    /// Counts a connection that has ended.
    fn closed(&self, why: Closed);
}

/// A response.
pub struct Came {
    /// Its status.
    pub status: StatusCode,
    /// Its `Content-Type`.
    pub content_type: Option<HeaderValue>,
    /// Its body.
    pub body: Bytes,
    /// What the body takes of the memory for bodies.
    pub share: Share,
}

/// One request as the access log and the metrics see it.
#[derive(Debug)]
pub struct Served {
    /// The connection.
    pub connection: u64,
    /// The other end of it.
    pub peer: Peer,
    /// The request's id, in JSON, the beginning of it when it is long.
    pub id: String,
    /// Its definition.
    pub definition: Arc<Definition>,
    /// What it came to.
    pub end: End,
    /// The status of its response.
    pub status: Option<StatusCode>,
    /// How long it took.
    pub took: Duration,
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// With an expected status.
    Ok,
    /// With another one.
    Unexpected,
    /// With a response that is not of the kind that its definition says.
    Unreadable,
    /// With a fault.
    Fault(Fault),
    /// By a line that cancelled it.
    Cancelled,
    /// Because the process was stopped.
    Stopped,
    /// With its connection, before its reply.
    Abandoned,
}

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// The other side had said all, and has got its replies.
    Ended,
    /// The other side is gone.
    Gone,
    /// It was silent for too long.
    Idle,
    /// It took nothing of what was written for too long.
    SlowReader,
    /// There were too many.
    Limit,
    /// It spoke HTTP.
    Http,
    /// The process was stopped.
    Shutdown,
}

impl Closed {
    /// A word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Closed::Ended => "ended",
            Closed::Gone => "gone",
            Closed::Idle => "idle",
            Closed::SlowReader => "slow_reader",
            Closed::Limit => "limit",
            Closed::Http => "http",
            Closed::Shutdown => "shutdown",
        }
    }
}

/// The shared state of all connections.
pub struct Lines<C> {
    settings: Settings,
    call: Arc<C>,
    /// Room for requests in flight.
    room: Arc<Semaphore>,
    connections: AtomicUsize,
    numbers: AtomicU64,
    stage: watch::Sender<Stage>,
}

/// How far the end of the process has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It is not near.
    Open,
    /// No line is taken any more; what is in flight may finish.
    Draining,
    /// What is in flight has no more time.
    Cut,
}

impl<C: Call> Lines<C> {
    /// A front for `call`.
    pub fn new(settings: Settings, call: Arc<C>) -> Arc<Self> {
        Arc::new(Lines {
            settings,
            call,
            room: Arc::new(Semaphore::new(settings.max_in_flight.min(Semaphore::MAX_PERMITS))),
            connections: AtomicUsize::new(0),
            numbers: AtomicU64::new(0),
            stage: watch::Sender::new(Stage::Open),
        })
    }

    /// Connections that are open.
    pub fn connections(&self) -> usize {
        self.connections.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Requests in flight.
    pub fn in_flight(&self) -> usize {
        self.settings.max_in_flight.saturating_sub(self.room.available_permits())
    }

    /// Takes no more lines. What is in flight may finish; then each connection gets its last line.
    pub fn drain(&self) {
        self.stage.send_replace(Stage::Draining);
    }

    /// Ends what is in flight, each with an error.
    pub fn cut(&self) {
        self.stage.send_replace(Stage::Cut);
    }

    fn stage(&self) -> Stage {
        *self.stage.borrow()
    }
}
