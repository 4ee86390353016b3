//! What can happen to an upstream agent, and what it wants done.

use std::time::Duration;

use bytes::Bytes;

use super::{
    health::{News, Rules},
    load::Turn,
};
use crate::wire::{Ack, Here, Name, ProcessId, Reply, Request, RequestId};

/// What an upstream agent is allowed and how it answers.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The upstream it serves.
    pub upstream: Name,
    /// The variant of it that it is: only agents of the same one are its siblings.
    pub variant: Option<Name>,
    /// How long the origin may take.
    pub ttl: Duration,
    /// How long a response may take before the request is acknowledged; zero acknowledges always.
    pub ack_delay: Duration,
    /// Requests at the origin at most.
    pub max_in_flight: usize,
    /// When the origin is believed to work.
    pub health: Rules,
    /// Whether it stands by when its siblings are much quicker.
    pub stand_by: bool,
}

/// What can happen.
pub enum Input {
    /// A message on `relay.req.<upstream>`.
    Request(Box<Request>),
    /// The origin answered, or failed.
    Done {
        /// The request's number here.
        number: u64,
        /// The response or the error, addressed to the asker.
        reply: Reply,
    },
    /// The origin answered, and the rest of its response is streamed.
    Head {
        /// The request's number here.
        number: u64,
        /// The response's head, addressed to the asker.
        reply: Reply,
    },
    /// The stream that [`Input::Head`] began has ended.
    StreamEnded {
        /// The request's number here.
        number: u64,
    },
    /// The request's body moves on: the origin has its time anew.
    Progress {
        /// The request's number here.
        number: u64,
    },
    /// A message on `relay.body.<id>`: the asker does not want it any more.
    Cancel {
        /// The request's number here.
        number: u64,
    },
    /// NATS says that nobody received the reply.
    ReplyUnheard {
        /// The request's number here.
        number: u64,
    },
    /// The connection to NATS came or went.
    Link {
        /// Whether it is there.
        up: bool,
    },
    /// Somebody asks all agents to announce themselves.
    Who,
    /// Somebody asks the agents of this upstream, maybe because a request reached nobody.
    Sought,
    /// Another agent of the upstream announces itself.
    Sibling(Here),
    /// Another agent of the upstream leaves.
    SiblingGone(ProcessId),
    /// A check has ended.
    Checked {
        /// Why it failed.
        failure: Option<String>,
    },
    /// A check could not be made, for a reason of the agent's own.
    NotChecked,
    /// The round trip of [`Command::Join`] has ended.
    Joined {
        /// The turn it was for.
        turn: u64,
    },
    /// The round trip of [`Command::Settle`] has ended.
    Settled {
        /// How many replies had been published before it.
        published: u64,
    },
    /// The round trip of [`Command::CatchUp`] has ended.
    CaughtUp,
    /// No new requests: the process, or the upstream, ends.
    Drain,
    /// It does not end after all.
    Resume,
    /// Other settings, for what comes from now on.
    Configure(Settings),
}

/// What is to be done.
#[derive(Debug)]
pub enum Command {
    /// Issue it to the origin; the end comes back as [`Input::Done`].
    Call {
        /// The request's number here.
        number: u64,
        /// The request.
        request: Box<Request>,
        /// How long the origin may take.
        ttl: Duration,
    },
    /// Abort the call.
    Abort {
        /// The request's number here.
        number: u64,
    },
    /// Publish on `relay.ack.<id>`.
    Ack(Ack),
    /// Publish on `relay.resp.<id>`; "no responders" comes back as [`Input::ReplyUnheard`].
    Reply {
        /// The request's number here.
        number: u64,
        /// The request it answers.
        to: RequestId,
        /// The reply's bytes.
        payload: Bytes,
        /// Whether it is an error.
        failed: bool,
    },
    /// Make a round trip through the server: when it comes back as [`Input::Settled`], so has NATS's word on every
    /// reply before it that nobody heard.
    Settle {
        /// How many replies have been published.
        published: u64,
    },
    /// Make a round trip through the server: when it comes back as [`Input::CaughtUp`], what was sent before this is here.
    CatchUp,
    /// Be a member of the queue group; when a round trip has shown that the subscription is in force, that comes
    /// back as [`Input::Joined`].
    Join {
        /// Which time it is.
        turn: u64,
    },
    /// Leave the queue group. What NATS has already sent still comes, and is refused.
    Leave,
    /// Publish on `relay.here.…`.
    Announce(Here),
    /// The same, as it is time to.
    Heartbeat(Here),
    /// Publish on `relay.gone.…`.
    Farewell,
    /// Try the origin; the end comes back as [`Input::Checked`].
    Check,
    /// Say what became of the origin.
    Tell(News),
    /// Say that it stands by, or works again.
    TellTurn(Turn),
}
