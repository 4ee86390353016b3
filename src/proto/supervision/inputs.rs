//! What a broker is told, and what it wants done.

use std::time::Duration;

use crate::wire::{Ack, Here, Hold, Lost, Name, ProcessId, Reply};

/// The three waits, and how much a broker holds.
#[derive(Debug, Clone)]
pub struct Settings {
    /// For an agent to exist, from the request's first publication.
    pub wait: Duration,
    /// For an agent to acknowledge, from the publication that reached one.
    pub ack_wait: Duration,
    /// For the response, from the acknowledgement.
    pub response_wait: Duration,
    /// Holds at most.
    pub max_holds: usize,
}

/// What can happen.
#[derive(Debug)]
pub enum Input {
    /// A client agent asks to watch a request.
    Hold(Hold),
    /// A client agent has news of a hold.
    Update {
        /// The hold's number here.
        number: u64,
        /// The news.
        hold: Hold,
    },
    /// A client agent renews holds.
    Renew {
        /// The client agent.
        client: ProcessId,
        /// The holds, by their number here.
        holds: Vec<u64>,
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
    /// NATS says that a probed agent is gone.
    ProbeUnanswered {
        /// The upstream.
        upstream: Name,
        /// The agent.
        agent: ProcessId,
    },
    /// The connection to NATS came or went.
    Link {
        /// Whether it is there.
        up: bool,
    },
}

/// What is to be done.
#[derive(Debug)]
pub enum Command {
    /// Publish on `relay.ack.<id>`.
    Ack(Ack),
    /// Publish on `relay.resp.<id>`.
    Answer(Box<Reply>),
    /// Answer a renewal.
    Lost {
        /// The client agent.
        client: ProcessId,
        /// The holds that are not here.
        lost: Lost,
    },
    /// Ask the agents of an upstream to announce themselves.
    Who {
        /// The upstream.
        upstream: Name,
    },
    /// Ask an agent whether it is there; NATS's "no responders" comes back as [`Input::ProbeUnanswered`].
    Probe {
        /// The upstream.
        upstream: Name,
        /// The agent.
        agent: ProcessId,
    },
}
