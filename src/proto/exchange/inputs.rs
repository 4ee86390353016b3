//! What a client agent is told, and what it wants done.

use std::time::Duration;

use bytes::Bytes;

use crate::wire::{Ack, Fault, Here, Hold, Lease, Name, ProcessId, Reply, Request, RequestId};

/// What a client agent is allowed and how patient it is.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long a request may take until its response begins.
    pub ttl: Duration,
    /// How long a response may take before a broker is asked to watch.
    pub patience: Duration,
    /// Requests in flight at most.
    pub max_in_flight: usize,
    /// Requests in flight at most for one upstream.
    pub max_per_upstream: usize,
}

/// What can happen. `C` is how a caller is answered.
pub enum Input<C> {
    /// A caller asks; [`super::Exchanges::mint`] made the id.
    Open {
        /// The request.
        request: Box<Request>,
        /// Where its answer goes.
        caller: C,
    },
    /// The caller went away.
    Abandon {
        /// The request's number.
        number: u64,
    },
    /// The body of a request, or what is said of it, moved on: the waits for its response begin anew.
    Progress {
        /// The request's number.
        number: u64,
    },
    /// The stream that a response began has ended.
    StreamEnded {
        /// The upstream it came from.
        upstream: Name,
    },
    /// A message on `relay.ack.<id>`.
    Ack {
        /// The request's number.
        number: u64,
        /// The message.
        ack: Ack,
    },
    /// A message on `relay.resp.<id>`.
    Reply {
        /// The request's number.
        number: u64,
        /// The message.
        reply: Box<Reply>,
    },
    /// A message on `relay.resp.<id>` that can't be read.
    Unreadable {
        /// The request's number.
        number: u64,
        /// Why not.
        why: String,
    },
    /// NATS says that nobody received the request.
    NobodyGotIt {
        /// The request's number.
        number: u64,
    },
    /// NATS says that no broker received the hold.
    NoBroker {
        /// The request's number.
        number: u64,
    },
    /// NATS says that a broker is gone.
    BrokerGone {
        /// The broker.
        broker: ProcessId,
    },
    /// A broker does not have these holds.
    Lost {
        /// The broker.
        broker: ProcessId,
        /// The holds, by their number at the broker.
        holds: Vec<u64>,
    },
    /// The connection to NATS came or went.
    Link {
        /// Whether it is there.
        up: bool,
    },
    /// An agent announced itself.
    Here(Here),
    /// An agent left.
    Gone {
        /// The upstream.
        upstream: Name,
        /// The agent.
        agent: ProcessId,
    },
    /// NATS refused to carry a request that was addressed to one member.
    MemberForbidden,
    /// NATS refused to carry a request for this upstream.
    Forbidden {
        /// The upstream.
        upstream: Name,
    },
}

/// What is to be done.
pub enum Command<C> {
    /// Publish on `relay.req.<upstream>`, or `relay.req.<to>.<upstream>`; "no responders" comes back as
    /// [`Input::NobodyGotIt`].
    Publish {
        /// The request.
        id: RequestId,
        /// Its upstream.
        upstream: Name,
        /// The member it is addressed to; without one, NATS picks.
        to: Option<ProcessId>,
        /// Its bytes.
        payload: Bytes,
        /// Whether an agent has refused it.
        refused: bool,
    },
    /// Publish on `relay.hold.<upstream>`; "no responders" comes back as [`Input::NoBroker`].
    Hold(Hold),
    /// Tell the broker that holds it what is new.
    Update {
        /// The hold at the broker.
        to: RequestId,
        /// The news.
        hold: Hold,
    },
    /// Renew leases; "no responders" comes back as [`Input::BrokerGone`].
    Renew {
        /// The broker.
        broker: ProcessId,
        /// The upstream the holds are for.
        upstream: Name,
        /// The holds.
        lease: Lease,
    },
    /// Ask an agent whether it is there: its answer comes back as [`Input::Here`], "no responders" as [`Input::Gone`].
    Probe {
        /// The upstream.
        upstream: Name,
        /// The agent.
        agent: ProcessId,
    },
    /// Ask the agents of an upstream to announce themselves: those that are known are silent.
    Who {
        /// The upstream.
        upstream: Name,
    },
    /// An agent took a request whose body is streamed: the rest of it goes there.
    Connect {
        /// The request.
        id: RequestId,
        /// The request at the agent.
        to: RequestId,
    },
    /// Tell an agent to stop working on a request.
    Cancel {
        /// The request at the agent.
        to: RequestId,
    },
    /// Answer the caller; comes exactly once for each opened request that is not abandoned.
    Answer {
        /// The caller.
        caller: C,
        /// The request's number.
        number: u64,
        /// The answer.
        answer: Answer,
    },
}

/// The one answer to a request.
#[derive(Debug)]
pub enum Answer {
    /// The origin's response.
    Response(Box<Reply>),
    /// What went wrong.
    Fault(Fault),
}
