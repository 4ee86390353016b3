//! The only place that formats or parses a NATS subject.
//!
//! There are two shapes. Public subjects are for whoever listens: `relay.req.<upstream>`,
//! `relay.hold.<upstream>`, `relay.here.<upstream>.<process>`, `relay.gone.<upstream>.<process>`,
//! `relay.route.<upstream>.<process>.<route>`, `relay.who`, `relay.cache.<verb>`, `relay.session.<id>`. Private subjects are for one process: `relay.<kind>.<realm>.<process>.<rest>`, all of
//! them covered by that process's one subscription `relay.*.<realm>.<process>.>`.

mod jobs;
mod store;

pub use store::StoreScope;

use super::{
    ids::{LONGEST_NUMBER, Name, ProcessId, RequestId, cut, cut_last, parse_number, push_number},
    route::Route,
    session::SessionId,
};

/// The kinds of subject; each is the second token of its subjects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A request on its way to one agent of a queue group.
    Req,
    /// Taken, refused, held or wake: what became of a request.
    Ack,
    /// The response or the error that ends a request.
    Resp,
    /// What follows a request or a response: frames, credit, the end, cancellation.
    Body,
    /// Not answered at once: one broker is asked to watch it.
    Hold,
    /// Renewal of what a broker watches.
    Lease,
    /// Is this agent there?
    Probe,
    /// An agent's announcement and heartbeat.
    Here,
    /// An agent leaves.
    Gone,
    /// All agents are asked to announce themselves.
    Who,
    /// An agent claims a route, or gives it up.
    Route,
    /// A claim of an agent is refused.
    Claim,
    /// All caches are asked something.
    Cache,
    /// The record of a job that may go to one upstream.
    Job,
    /// The record of a job that may go to several.
    Chain,
    /// Which job an `Idempotency-Key` stands for.
    Key,
    /// The record of a job that finally failed.
    Dead,
    /// News of a rendezvous session.
    Session,
    /// What a sender and a receiver of a session agree on.
    Meet,
    /// A broker is asked about jobs.
    Jobs,
    /// A broker is asked about jobs that may go to several upstreams.
    Chains,
    /// A broker is asked about sessions.
    Sessions,
    /// A broker answers what it was asked about jobs or sessions.
    Stored,
    /// News that a job is over.
    Ended,
}

/// What all caches are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheVerb {
    /// To forget responses.
    Purge,
    /// What they have and have done.
    Stats,
}

impl CacheVerb {
    fn as_str(self) -> &'static str {
        match self {
            CacheVerb::Purge => "purge",
            CacheVerb::Stats => "stats",
        }
    }
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 24] = [
        Kind::Req,
        Kind::Ack,
        Kind::Resp,
        Kind::Body,
        Kind::Hold,
        Kind::Lease,
        Kind::Probe,
        Kind::Here,
        Kind::Gone,
        Kind::Who,
        Kind::Route,
        Kind::Claim,
        Kind::Cache,
        Kind::Job,
        Kind::Chain,
        Kind::Key,
        Kind::Dead,
        Kind::Session,
        Kind::Meet,
        Kind::Jobs,
        Kind::Chains,
        Kind::Sessions,
        Kind::Stored,
        Kind::Ended,
    ];

    /// The token.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Req => "req",
            Kind::Ack => "ack",
            Kind::Resp => "resp",
            Kind::Body => "body",
            Kind::Hold => "hold",
            Kind::Lease => "lease",
            Kind::Probe => "probe",
            Kind::Here => "here",
            Kind::Gone => "gone",
            Kind::Who => "who",
            Kind::Route => "route",
            Kind::Claim => "claim",
            Kind::Cache => "cache",
            Kind::Job => "job",
            Kind::Chain => "chain",
            Kind::Key => "key",
            Kind::Dead => "dead",
            Kind::Session => "session",
            Kind::Meet => "meet",
            Kind::Jobs => "jobs",
            Kind::Chains => "chains",
            Kind::Sessions => "sessions",
            Kind::Stored => "stored",
            Kind::Ended => "ended",
        }
    }

    fn parse(token: &str) -> Option<Kind> {
        Some(match token {
            "req" => Kind::Req,
            "ack" => Kind::Ack,
            "resp" => Kind::Resp,
            "body" => Kind::Body,
            "hold" => Kind::Hold,
            "lease" => Kind::Lease,
            "probe" => Kind::Probe,
            "here" => Kind::Here,
            "gone" => Kind::Gone,
            "who" => Kind::Who,
            "route" => Kind::Route,
            "claim" => Kind::Claim,
            "cache" => Kind::Cache,
            "job" => Kind::Job,
            "chain" => Kind::Chain,
            "key" => Kind::Key,
            "dead" => Kind::Dead,
            "session" => Kind::Session,
            "meet" => Kind::Meet,
            "jobs" => Kind::Jobs,
            "chains" => Kind::Chains,
            "sessions" => Kind::Sessions,
            "stored" => Kind::Stored,
            "ended" => Kind::Ended,
            _ => return None,
        })
    }
}

/// Formats and parses subjects under one prefix.
#[derive(Debug, Clone)]
pub struct Subjects {
    prefix: Name,
}

/// What a message to this process's private subjects is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address<'a> {
    /// `<kind>.<realm>.<process>.<upstream>.<n>`: one request.
    Request {
        /// Which kind of subject.
        kind: Kind,
        /// The upstream token.
        upstream: &'a str,
        /// The request's number here.
        number: u64,
    },
    /// `<kind>.<realm>.<process>.<upstream>.<n>-<n>…`: several requests, that were or were answered in one message.
    /// Only NATS's word that nobody heard them is sent there.
    Batch {
        /// Which kind of subject.
        kind: Kind,
        /// The upstream token.
        upstream: &'a str,
        /// The requests' numbers here, in their order.
        numbers: &'a str,
    },
    /// `lease.<realm>.<process>.<upstream>.renew`: a client agent renews its leases here.
    Renewal,
    /// `lease.<realm>.<process>.<broker>.lost`: the answer to a renewal of the leases at that broker,
    /// or NATS's word that it is gone.
    Lost {
        /// The broker.
        broker: ProcessId,
    },
    /// `probe.<realm>.<process>.<upstream>`: a question to this agent.
    Probed {
        /// The upstream it is asked about.
        upstream: &'a str,
    },
    /// `probe.<realm>.<process>.<upstream>.<agent>`: the answer to a probe of that agent, or NATS's
    /// word that it is gone.
    Probe {
        /// The upstream it was asked about.
        upstream: &'a str,
        /// The agent that was probed.
        agent: ProcessId,
    },
    /// `req.<realm>.<process>.<upstream>`: a request that is addressed to this agent alone.
    Asked {
        /// The upstream it is for.
        upstream: &'a str,
    },
    /// `claim.<realm>.<process>.<upstream>`: a claim of this agent is refused.
    Refused {
        /// The upstream that claims.
        upstream: &'a str,
    },
    /// `who.<realm>.<process>.ready`: this process's own round trip through the server.
    Ready,
}

impl Subjects {
    /// Subjects under `prefix`.
    pub fn new(prefix: Name) -> Self {
        Subjects { prefix }
    }

    /// `relay.req.<upstream>`
    pub fn req(&self, upstream: &Name) -> String {
        self.join(Kind::Req, upstream.as_str())
    }

    /// `relay.req.<upstream>.<variant>`: where NATS maps a share of the requests to.
    pub fn req_variant(&self, upstream: &Name, variant: &Name) -> String {
        self.join(Kind::Req, &format!("{upstream}.{variant}"))
    }

    /// `relay.req.<agent>.<upstream>`: to one member of the queue group.
    pub fn req_to(&self, agent: &ProcessId, upstream: &Name) -> String {
        self.join(Kind::Req, &format!("{agent}.{upstream}"))
    }

    /// Whether a request on this subject is addressed to one member.
    pub fn is_req_to(&self, subject: &str) -> bool {
        self.kind(subject) == Some(Kind::Req) && subject.split('.').count() == 5
    }

    /// `relay.hold.<upstream>`
    pub fn hold(&self, upstream: &Name) -> String {
        self.join(Kind::Hold, upstream.as_str())
    }

    /// `relay.hold.*`: holds for any upstream.
    pub fn every_hold(&self) -> String {
        self.join(Kind::Hold, "*")
    }

    /// `relay.<kind>.<id>`: to the process that minted `id`, about that request.
    pub fn of_request(&self, kind: Kind, id: &RequestId) -> String {
        self.join(kind, id.as_str())
    }

    /// `relay.<kind>.<own>.<upstream>.<number>`: [`Subjects::of_request`] for an id of one's own, which need
    /// not be made for it.
    pub fn of_own(&self, kind: Kind, own: &ProcessId, upstream: &Name, number: u64) -> String {
        let (own, upstream) = (own.as_str(), upstream.as_str());
        let mut subject = self.start(kind, own.len() + upstream.len() + LONGEST_NUMBER + 2);
        subject.push_str(own);
        subject.push('.');
        subject.push_str(upstream);
        subject.push('.');
        push_number(&mut subject, number);
        subject
    }

    /// `relay.lease.<broker>.<upstream>.renew`
    pub fn renew(&self, broker: &ProcessId, upstream: &Name) -> String {
        self.join(Kind::Lease, &format!("{broker}.{upstream}.renew"))
    }

    /// `relay.lease.<own>.<broker>.lost`: where a broker, or NATS, answers a renewal.
    pub fn lost(&self, own: &ProcessId, broker: &ProcessId) -> String {
        self.join(Kind::Lease, &format!("{own}.{broker}.lost"))
    }

    /// `relay.probe.<agent>.<upstream>`
    pub fn probe(&self, agent: &ProcessId, upstream: &Name) -> String {
        self.join(Kind::Probe, &format!("{agent}.{upstream}"))
    }

    /// `relay.probe.<own>.<upstream>.<agent>`: where the agent, or NATS, answers a probe.
    pub fn probe_reply(&self, own: &ProcessId, upstream: &Name, agent: &ProcessId) -> String {
        self.join(Kind::Probe, &format!("{own}.{upstream}.{agent}"))
    }

    /// `relay.here.<upstream>.<process>`
    pub fn here(&self, upstream: &Name, process: &ProcessId) -> String {
        self.join(Kind::Here, &format!("{upstream}.{process}"))
    }

    /// `relay.gone.<upstream>.<process>`
    pub fn gone(&self, upstream: &Name, process: &ProcessId) -> String {
        self.join(Kind::Gone, &format!("{upstream}.{process}"))
    }

    /// `relay.route.<upstream>.<process>.<route>`, the route in tokens
    pub fn route(&self, upstream: &Name, process: &ProcessId, route: &Route) -> String {
        self.join(Kind::Route, &format!("{upstream}.{process}.{}", route.tokens()))
    }

    /// `relay.claim.<agent>.<upstream>`
    pub fn claim(&self, agent: &ProcessId, upstream: &Name) -> String {
        self.join(Kind::Claim, &format!("{agent}.{upstream}"))
    }

    /// `relay.here.>`, `relay.gone.>`, `relay.route.>` and `relay.cache.>`
    pub fn every(&self, kind: Kind) -> String {
        self.join(kind, ">")
    }

    /// `relay.here.<upstream>.>`, `relay.gone.<upstream>.>` and `relay.route.<upstream>.>`
    pub fn every_of(&self, kind: Kind, upstream: &Name) -> String {
        self.join(kind, &format!("{upstream}.>"))
    }

    /// `relay.who`
    pub fn who(&self) -> String {
        format!("{}.{}", self.prefix, Kind::Who.as_str())
    }

    /// `relay.cache.<verb>`
    pub fn cache(&self, verb: CacheVerb) -> String {
        self.join(Kind::Cache, verb.as_str())
    }

    /// `relay.session.<id>`
    pub fn session(&self, id: &SessionId) -> String {
        self.join(Kind::Session, id.as_str())
    }

    /// The bucket with the sessions' records: `<prefix>-sessions`.
    pub fn sessions_bucket(&self) -> String {
        format!("{}-sessions", self.prefix)
    }

    /// What all caches are asked on `relay.cache.<verb>`.
    pub fn cache_verb(&self, subject: &str) -> Option<CacheVerb> {
        [CacheVerb::Purge, CacheVerb::Stats].into_iter().find(|verb| self.cache(*verb) == subject)
    }

    /// `relay.who.<upstream>`
    pub fn who_of(&self, upstream: &Name) -> String {
        self.join(Kind::Who, upstream.as_str())
    }

    /// `relay.who.<own>.ready`
    pub fn ready(&self, own: &ProcessId) -> String {
        self.join(Kind::Who, &format!("{own}.ready"))
    }

    /// `relay.*.<own>.>`: everything addressed to one process.
    pub fn inbox(&self, own: &ProcessId) -> String {
        format!("{}.*.{own}.>", self.prefix)
    }

    /// The kind of any subject under this prefix.
    pub fn kind(&self, subject: &str) -> Option<Kind> {
        let rest = subject.strip_prefix(self.prefix.as_str())?.strip_prefix('.')?;
        Kind::parse(rest.split('.').next()?)
    }

    /// What a private subject of `own` is about; `None` for anything this version does not know.
    pub fn address<'a>(&self, own: &ProcessId, subject: &'a str) -> Option<Address<'a>> {
        let rest = subject.strip_prefix(self.prefix.as_str())?.strip_prefix('.')?;
        let (kind, rest) = cut(rest)?;
        let kind = Kind::parse(kind)?;
        let rest = rest.strip_prefix(own.as_str())?.strip_prefix('.')?;
        let Some((first, tail)) = cut(rest) else {
            return match (kind, rest) {
                (Kind::Req, upstream) => Some(Address::Asked { upstream }),
                (Kind::Probe, upstream) => Some(Address::Probed { upstream }),
                (Kind::Claim, upstream) => Some(Address::Refused { upstream }),
                (Kind::Who, "ready") => Some(Address::Ready),
                _ => None,
            };
        };
        match kind {
            Kind::Lease if tail == "renew" => Some(Address::Renewal),
            Kind::Lease if rest.ends_with(".lost") => {
                Some(Address::Lost { broker: rest.strip_suffix(".lost")?.parse().ok()? })
            }
            Kind::Ack | Kind::Resp if tail.contains(ALSO) => {
                Some(Address::Batch { kind, upstream: first, numbers: tail })
            }
            Kind::Req
            | Kind::Ack
            | Kind::Resp
            | Kind::Body
            | Kind::Hold
            | Kind::Lease
            | Kind::Meet
            | Kind::Stored => {
                let number = parse_number(tail)?;
                Some(Address::Request { kind, upstream: first, number })
            }
            Kind::Probe => Some(Address::Probe { upstream: first, agent: tail.parse().ok()? }),
            Kind::Here
            | Kind::Gone
            | Kind::Who
            | Kind::Route
            | Kind::Claim
            | Kind::Cache
            | Kind::Job
            | Kind::Chain
            | Kind::Key
            | Kind::Dead
            | Kind::Session
            | Kind::Jobs
            | Kind::Chains
            | Kind::Sessions
            | Kind::Ended => None,
        }
    }

    /// Whether a private subject ends with `id`: a message's own id must be the one it was sent to.
    pub fn is_about(&self, subject: &str, id: &RequestId) -> bool {
        let rest = subject.strip_prefix(self.prefix.as_str()).and_then(|rest| rest.strip_prefix('.'));
        let about = rest.and_then(cut).map(|(_, about)| about);
        about == Some(id.as_str())
    }

    /// The id of whoever probes, on the reply subject `probe.<process>.<upstream>.<agent>` of a question to `agent`, which is
    /// `own`, about its upstream.
    pub fn prober(&self, reply: &str, upstream: &Name, own: &ProcessId) -> Option<ProcessId> {
        let rest = reply.strip_prefix(self.prefix.as_str())?.strip_prefix('.')?;
        let rest = rest.strip_prefix(Kind::Probe.as_str())?.strip_prefix('.')?;
        let rest = rest.strip_suffix(own.as_str())?.strip_suffix('.')?;
        rest.strip_suffix(upstream.as_str())?.strip_suffix('.')?.parse().ok()
    }

    /// Whether a private subject ends with an id of the same process and upstream as `id`, so that both may be
    /// in one message.
    pub fn is_beside(&self, subject: &str, id: &RequestId) -> bool {
        let rest = subject.strip_prefix(self.prefix.as_str()).and_then(|rest| rest.strip_prefix('.'));
        let about = rest.and_then(cut).map(|(_, about)| about);
        about.and_then(cut_last).map(|(start, _)| start) == cut_last(id.as_str()).map(|(start, _)| start)
    }

    /// The request id of `<kind>.<id>`.
    pub fn id_of(&self, kind: Kind, subject: &str) -> Option<RequestId> {
        let rest = subject.strip_prefix(self.prefix.as_str())?.strip_prefix('.')?;
        rest.strip_prefix(kind.as_str())?.strip_prefix('.')?.parse().ok()
    }

    /// The id at `at` of `<kind>.<id>`, which may stand for several requests.
    pub fn nth_id_of(&self, kind: Kind, subject: &str, at: usize) -> Option<RequestId> {
        let (start, numbers) = cut_last(subject)?;
        let number = numbers.split(ALSO).nth(at)?;
        self.id_of(kind, &format!("{start}.{number}"))
    }

    /// The upstream of `<kind>.<upstream>`.
    pub fn upstream_of(&self, kind: Kind, subject: &str) -> Option<Name> {
        let rest = subject.strip_prefix(self.prefix.as_str())?.strip_prefix('.')?;
        rest.strip_prefix(kind.as_str())?.strip_prefix('.')?.parse().ok()
    }

    /// `(upstream, process)` of a `here` or `gone` subject.
    pub fn announced(&self, subject: &str) -> Option<(Name, ProcessId)> {
        let rest = subject.strip_prefix(self.prefix.as_str())?.strip_prefix('.')?;
        let (_, rest) = rest.split_once('.')?;
        let (upstream, process) = rest.split_once('.')?;
        Some((upstream.parse().ok()?, process.parse().ok()?))
    }

    /// `(upstream, process)` of a `route` subject.
    pub fn claimant(&self, subject: &str) -> Option<(Name, ProcessId)> {
        let rest = subject.strip_prefix(self.prefix.as_str())?.strip_prefix('.')?;
        let rest = rest.strip_prefix(Kind::Route.as_str())?.strip_prefix('.')?;
        let mut ends = rest.match_indices('.').map(|(at, _)| at);
        let (first, third) = (ends.next()?, ends.nth(1)?);
        Some((rest[..first].parse().ok()?, rest[first + 1..third].parse().ok()?))
    }

    fn join(&self, kind: Kind, rest: &str) -> String {
        let mut subject = self.start(kind, rest.len());
        subject.push_str(rest);
        subject
    }

    /// `relay.<kind>.` with room for `rest` more bytes.
    fn start(&self, kind: Kind, rest: usize) -> String {
        let (prefix, kind) = (self.prefix.as_str(), kind.as_str());
        let mut subject = String::with_capacity(prefix.len() + kind.len() + rest + 2);
        subject.push_str(prefix);
        subject.push('.');
        subject.push_str(kind);
        subject.push('.');
        subject
    }
}

/// Lets the subject of one request stand for another one of the same process and upstream too.
pub fn also(subject: &mut String, other: &str) {
    subject.push(ALSO);
    subject.push_str(cut_last(other).map_or("", |(_, number)| number));
}

/// The numbers of an [`Address::Batch`]; those that are none are left out.
pub fn numbers(list: &str) -> impl Iterator<Item = u64> {
    list.split(ALSO).filter_map(parse_number)
}

/// `$KV.<bucket>.<key>`: where a record of a key-value bucket is written.
pub fn record(bucket: &str, key: &str) -> String {
    format!("$KV.{bucket}.{key}")
}

/// What the inboxes of a realm's processes begin with: nobody else need be able to read the answers of JetStream.
pub fn inbox_of(realm: &Name) -> String {
    format!("{INBOX}.{realm}")
}

/// Whether it is an inbox, or a pattern of inboxes.
pub fn is_inbox(subject: &str) -> bool {
    subject.split('.').next() == Some(INBOX)
}

/// Whether a reply subject is one inbox: answers to those who are not processes of relay (`relay ps`, `nats micro`) go to
/// such subjects and nowhere else, because a process answers with its own permissions, not the asker's.
pub fn is_reply_inbox(reply: &str) -> bool {
    let mut tokens = reply.split('.');
    tokens.next() == Some(INBOX)
        && reply.len() > INBOX.len()
        && tokens.all(|token| !matches!(token, "" | "*" | ">"))
}

const INBOX: &str = "_INBOX";
/// What is between the numbers of several requests.
const ALSO: char = '-';
