//! One request that is not answered: what is known of it and who watches it.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;

use super::Command;
use crate::{
    proto::{flow::USUAL_FIRST, roster::Recipient},
    wire::{
        Code, Fault, Hold, Known, Name, ProcessId, Request, RequestId, Side, codec,
        message::{VERSION, millis},
    },
};

/// A request and its caller.
pub(super) struct Exchange<C> {
    pub request: Kept,
    pub caller: C,
    /// The member that it was last addressed to; without one, NATS picked.
    pub to: Option<ProcessId>,
    pub opened: Instant,
    pub ends: Instant,
    pub attempt: u32,
    pub refusals: u32,
    /// Whether it was ever published.
    pub published: bool,
    /// Whether it was woken before it was published.
    pub woken: bool,
    /// How often brokers were asked since one last took it.
    pub asks: u32,
    pub phase: Phase,
    pub since: Instant,
    pub watch: Watch,
    /// What brokers were told when they were asked to watch it.
    pub asked: Option<Told>,
    pub deadline: Instant,
    /// The fault that let it be sent again; the answer if that reaches nobody.
    pub before: Option<Fault>,
    /// Agents that could not reach their origin.
    pub unreached: Vec<ProcessId>,
}

/// A request as it is kept until it is answered: the bytes that may be published again, and what decisions
/// need of it. Its headers and body as they came would hold on to the buffers of the caller's connection.
pub(super) struct Kept {
    pub client_req_id: RequestId,
    pub upstream_target: Name,
    pub method: Method,
    /// Whether the rest of its body is streamed: then it can't be sent again once an agent has it.
    pub streamed: bool,
    /// Bytes of its response that may come without credit.
    pub window: u64,
    pub payload: Bytes,
}

impl Kept {
    /// Keeps `request`.
    pub fn new(request: Box<Request>) -> Self {
        let payload = codec::encode(&*request);
        let Request { client_req_id, upstream_target, method, stream: streamed, window, .. } = *request;
        let window = window.unwrap_or(USUAL_FIRST);
        Kept { client_req_id, upstream_target, method, streamed, window, payload }
    }

    /// Changes what is different when it is published again.
    pub fn rewrite(&mut self, change: impl FnOnce(&mut Request)) {
        // These are our own bytes: they can be read.
        if let Ok(mut request) = codec::decode_request(&self.payload) {
            change(&mut request);
            self.payload = codec::encode(&request);
        }
    }
}

/// What is known of the request.
pub(super) enum Phase {
    /// Published; nothing heard.
    Sent,
    /// An agent took it.
    Taken { agent: ProcessId, at_agent: RequestId },
    /// An agent refused it and another says that it accepts requests: it is published again then.
    Refused { again: Instant },
    /// It reached nobody, or only agents that refused; it waits to be woken.
    Waiting { refused: bool },
}

/// Who watches the request.
pub(super) enum Watch {
    /// It waits for the connection to be there again.
    Parked { until: Instant },
    /// Nobody but us, until the patience ends.
    Patience { until: Instant },
    /// A broker was asked and has not said yes.
    Asked { until: Instant },
    /// This broker holds it and was last told `told`; it last said that it waits until `waits`.
    Held { broker: ProcessId, hold: RequestId, told: Told, waits: Option<Instant> },
    /// No broker takes it; ask again then.
    NoBroker { retry: Instant },
}

/// What a broker was told of the request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// This, which has been so since then. (Being sent again is news: the wait for an acknowledgement starts
    /// afresh.)
    This(Known, Instant),
    /// Brokers were asked several times with different words, and whichever says yes may mean an early one.
    DifferentThings,
}

impl<C> Exchange<C> {
    /// A request that is published now.
    pub fn new(request: Kept, caller: C, ttl: Duration, patience: Duration, now: Instant) -> Self {
        let ends = now + ttl;
        let until = now + patience;
        Exchange {
            request,
            caller,
            to: None,
            opened: now,
            ends,
            attempt: 1,
            refusals: 0,
            published: true,
            woken: false,
            asks: 0,
            phase: Phase::Sent,
            since: now,
            watch: Watch::Patience { until },
            asked: None,
            deadline: until.min(ends),
            before: None,
            unreached: Vec::new(),
        }
    }

    /// Publishes it as it is kept.
    pub fn publish(&self) -> Command<C> {
        Command::Publish {
            id: self.request.client_req_id.clone(),
            upstream: self.request.upstream_target.clone(),
            to: self.to.clone(),
            payload: self.request.payload.clone(),
            refused: self.refusals > 0,
        }
    }

    /// Sets to whom it is published.
    pub fn address(&mut self, recipient: Recipient) {
        self.to = match recipient {
            Recipient::Member(agent) => Some(agent),
            Recipient::Absent | Recipient::Group => None,
        };
    }

    /// Whether it may have been this agent that got it last.
    pub fn is_with(&self, agent: Option<&ProcessId>) -> bool {
        self.to.is_none() || self.to.as_ref() == agent
    }

    /// Whether an agent took it.
    pub fn is_taken(&self) -> bool {
        matches!(self.phase, Phase::Taken { .. })
    }

    /// Whether an agent is known to have had it in its hands.
    pub fn got_through(&self) -> bool {
        self.is_taken() || self.refusals > 0
    }

    /// Whether a fault speaks of what this request is doing now. A broker decides on what it was last
    /// told; when that is overtaken (it gave up waiting while its own wake-up was being followed, say)
    /// its word must not end the request: "no agent" would claim that the origin can't have seen it.
    pub fn concerned_by(
        &self,
        fault: &Fault,
        hold: Option<&RequestId>,
        at_agent: Option<&RequestId>,
    ) -> bool {
        match fault.raised_by {
            Side::Broker => {
                let held_there = matches!(&self.watch, Watch::Held { hold: ours, .. } if Some(ours) == hold);
                let fits = match &self.phase {
                    Phase::Waiting { .. } | Phase::Refused { .. } => !fault.maybe_seen,
                    Phase::Sent => fault.code == Code::AckTimeout,
                    Phase::Taken { .. } => matches!(fault.code, Code::ResponseTimeout | Code::AgentGone),
                };
                held_there && fits
            }
            Side::Client | Side::Upstream => match &self.phase {
                Phase::Taken { at_agent: ours, .. } => Some(ours) == at_agent,
                Phase::Sent => true,
                Phase::Waiting { .. } | Phase::Refused { .. } => false,
            },
        }
    }

    /// What a broker should know.
    pub fn news(&self) -> Told {
        Told::This(self.known(), self.since)
    }

    fn known(&self) -> Known {
        match &self.phase {
            Phase::Sent => Known::Sent,
            Phase::Taken { .. } => Known::Taken,
            Phase::Waiting { refused: false } => Known::Nobody,
            Phase::Waiting { refused: true } | Phase::Refused { .. } => Known::Refused,
        }
    }

    /// What a broker is told.
    pub fn hold(&self, own: &ProcessId, now: Instant) -> Hold {
        let upstream_id = match &self.phase {
            Phase::Taken { agent, .. } => Some(agent.clone()),
            Phase::Sent | Phase::Refused { .. } | Phase::Waiting { .. } => None,
        };
        Hold {
            v: VERSION,
            client_id: own.clone(),
            client_req_id: self.request.client_req_id.clone(),
            client_req_ttl: millis(self.ends.saturating_duration_since(now)),
            upstream_target: self.request.upstream_target.clone(),
            age: millis(now.duration_since(self.opened)),
            known: self.known(),
            known_for: millis(now.duration_since(self.since)),
            upstream_id,
        }
    }

    /// The fault of a request whose TTL ended.
    pub fn expired(&self, now: Instant) -> Fault {
        let waited = now.duration_since(self.opened).as_secs_f32();
        match &self.phase {
            Phase::Waiting { refused: false } => {
                let upstream = &self.request.upstream_target;
                let detail = format!(
                    "no upstream agent came for '{upstream}' in {waited:.1} s, the client agent's --ttl"
                );
                Fault::new(Code::NoAgent, Side::Client, detail)
            }
            Phase::Waiting { refused: true } => nobody_there(&self.request.upstream_target, true),
            Phase::Refused { .. } => nobody_there(&self.request.upstream_target, true),
            Phase::Sent => {
                let detail =
                    format!("no agent acknowledged the request in {waited:.1} s, the client agent's --ttl");
                Fault::new(Code::TtlExpired, Side::Client, detail)
            }
            Phase::Taken { .. } => {
                let detail = format!("no response came in {waited:.1} s, the client agent's --ttl");
                Fault::new(Code::TtlExpired, Side::Client, detail)
            }
        }
    }
}

/// The fault of a request that nobody has.
pub fn nobody_there(upstream: &Name, refused: bool) -> Fault {
    if refused {
        let detail = format!("no upstream agent for '{upstream}' takes requests now: see `relay ps`");
        Fault::new(Code::AgentsFull, Side::Client, detail)
    } else {
        let detail = format!("no upstream agent is there for '{upstream}', and no broker to wait for one");
        Fault::new(Code::NoAgent, Side::Client, detail)
    }
}
