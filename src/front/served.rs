//! What became of one request, for the access log and the metrics.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::{Method, StatusCode};

use super::{body::Unread, http::Ask, stalled};
use crate::{
    cache::status::CacheStatus,
    wire::{Code, Fault, Name, ProcessId, RequestId, Side, headers::Peer},
};

/// One request as the access log and the metrics see it.
#[derive(Debug)]
pub struct Served {
    /// The request's id.
    pub id: RequestId,
    /// Its upstream.
    pub upstream: Name,
    /// Its method.
    pub method: Method,
    /// The agent that answered, if one did.
    pub agent: Option<ProcessId>,
    /// The status that was answered; 499 when the caller was gone.
    pub status: StatusCode,
    /// What was decided.
    pub decision: Decision,
    /// The detail of the fault, which the caller may not have been told.
    pub detail: Option<Box<str>>,
    /// When the request's headers were here.
    pub started: Instant,
    /// How long the response's head took, once there is one.
    pub answered: Option<Duration>,
    /// Bytes of the request's body.
    pub bytes_in: u64,
    /// Bytes of the response's body.
    pub bytes_out: u64,
    /// The caller.
    pub peer: Peer,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// With the origin's response.
    Response,
    /// From the cache, with a response that is fresh, or that came to another caller's request.
    Hit,
    /// From the cache, with a response that is stale.
    Stale,
    /// From the cache, with a response that the origin said is still the same.
    Revalidated,
    /// With what is known of a job, or what it came to.
    Job,
    /// With a fault.
    Fault(Code, Side),
    /// With the origin's response, which broke off.
    Cut(Code, Side),
    /// The caller went away before its answer, or before the end of it.
    Abandoned,
}

/// A request that is told of when it ends, however it ends: this is dropped then.
pub struct Told<A: Ask> {
    ask: Arc<A>,
    /// What will be told.
    pub served: Served,
    /// What the caller is told of the cache.
    pub cache: Option<CacheStatus>,
    streamed: bool,
    gone: bool,
}

impl<A: Ask> Told<A> {
    /// A request that has begun; whoever asked may be gone at any moment.
    pub fn new(ask: Arc<A>, id: RequestId, upstream: Name, method: Method, peer: Peer) -> Self {
        let served = Served {
            id,
            upstream,
            method,
            agent: None,
            status: CALLER_GONE,
            decision: Decision::Abandoned,
            detail: None,
            started: Instant::now(),
            answered: None,
            bytes_in: 0,
            bytes_out: 0,
            peer,
        };
        Told { ask, served, cache: None, streamed: false, gone: false }
    }

    /// The response's head goes out.
    pub fn answered(&mut self, status: StatusCode) {
        self.served.status = status;
        self.served.answered = Some(self.served.started.elapsed());
    }

    /// Its response is streamed, and counts as in flight until this is dropped.
    pub fn streams(&mut self) {
        self.streamed = true;
    }

    /// Its response is streamed to the cache, and counts as in flight for as long as what is returned lives.
    pub fn hand_over(&mut self) -> InFlight<A> {
        self.streamed = false;
        InFlight { ask: Arc::clone(&self.ask), upstream: self.served.upstream.clone() }
    }

    /// The request's body was not read to its end. A caller that went away gets no answer, whatever it is.
    pub fn unread(&mut self, unread: Unread) -> Fault {
        self.gone = unread.gone;
        unread.fault
    }

    /// The request is answered with `fault`.
    pub fn failed(&mut self, fault: &Fault) {
        self.served.decision = Decision::Fault(fault.code, fault.raised_by);
        self.served.detail = Some((*fault.detail).into());
    }

    /// The response broke off because of `fault`.
    pub fn cut(&mut self, fault: &Fault) {
        self.served.decision = Decision::Cut(fault.code, fault.raised_by);
        self.served.detail = Some((*fault.detail).into());
    }
}

impl<A: Ask> Drop for Told<A> {
    fn drop(&mut self) {
        if self.gone {
            self.served.status = CALLER_GONE;
            self.served.decision = Decision::Abandoned;
        } else if self.served.decision == Decision::Abandoned && stalled::is_told() {
            self.served.decision = Decision::Cut(Code::SendTimeout, Side::Client);
        }
        self.ask.served(&self.served);
        if self.streamed {
            self.ask.stream_ended(&self.served.upstream);
        }
    }
}

/// A response that is being streamed, whoever reads it.
pub struct InFlight<A: Ask> {
    ask: Arc<A>,
    upstream: Name,
}

impl<A: Ask> Drop for InFlight<A> {
    fn drop(&mut self) {
        self.ask.stream_ended(&self.upstream);
    }
}

/// What the log says of a request whose caller is gone; nobody gets it.
const CALLER_GONE: StatusCode = match StatusCode::from_u16(499) {
    Ok(status) => status,
    Err(_) => StatusCode::REQUEST_TIMEOUT,
};
