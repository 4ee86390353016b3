//! The messages. Each is a MessagePack map with the field names below; a field nobody has set is
//! absent, an unknown field is ignored. Durations are whole milliseconds and always time left or
//! time passed, never clock time: clocks on two networks differ.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde::{Deserialize, Serialize};

use super::{
    allow::{self, Allow},
    fault::{Code, Fault, Side},
    headers::Headers,
    ids::{Name, ProcessId, RequestId},
    interim::Interim,
    request_target::RequestTarget,
    route::Route,
};

/// The version every message carries. A change that old readers can't ignore raises it.
pub const VERSION: u8 = 1;

/// One HTTP request on its way to an upstream agent.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// Protocol version.
    pub v: u8,
    /// The client agent.
    pub client_id: ProcessId,
    /// The request at the client agent; answers go to this id.
    pub client_req_id: RequestId,
    /// Milliseconds left before the client agent gives up.
    pub client_req_ttl: u64,
    /// Which upstream it is for.
    pub upstream_target: Name,
    /// The HTTP method.
    pub method: Method,
    /// The request target in origin form, as the caller wrote it; `*` for `OPTIONS *`. For an egress agent, the
    /// whole URL.
    pub url: RequestTarget,
    /// Header pairs: name in lower case, value as bytes.
    pub headers: Headers,
    /// The whole body, or with `stream` its beginning.
    pub body: Bytes,
    /// Whether the rest of the body follows in frames.
    pub stream: bool,
    /// Trailers of a whole body.
    pub trailers: HeaderMap,
    /// The protocol the caller wants to change to: the value of its `Upgrade` header.
    pub upgrade: Option<HeaderValue>,
    /// Whether the caller takes interim responses of the origin.
    pub interim: bool,
    /// Bytes of a response that is streamed which may be sent before any credit, those in the reply included; absent
    /// when there may be as many as usual.
    pub window: Option<u64>,
    /// The broker that held it, when one did.
    pub broker_id: Option<ProcessId>,
    /// The hold at that broker.
    pub broker_req_id: Option<RequestId>,
    /// Milliseconds that broker still waits.
    pub broker_req_ttl: Option<u64>,
}

/// The end of a request: a response, or an error.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// Protocol version.
    pub v: u8,
    /// The request it ends.
    pub client_req_id: RequestId,
    /// The hold at a broker, when one was involved.
    pub broker_req_id: Option<RequestId>,
    /// The upstream agent that answers.
    pub upstream_id: Option<ProcessId>,
    /// The request at that upstream agent.
    pub upstream_req_id: Option<RequestId>,
    /// The HTTP status; absent in an error.
    pub status_code: Option<StatusCode>,
    /// Header pairs, as in a request.
    pub headers: Headers,
    /// The whole body, or with `stream` its beginning; absent in an error.
    pub body: Option<Bytes>,
    /// Whether the rest of the body, or with 101 the other protocol, follows in frames.
    pub stream: bool,
    /// Trailers of a whole body.
    pub trailers: HeaderMap,
    /// With 101, the protocol that is spoken from here on.
    pub upgrade: Option<HeaderValue>,
    /// Bytes of the frames that follow which need no credit, when they are fewer than usual.
    pub window: Option<u64>,
    /// The error; absent in a response.
    pub error: Option<Error>,
}

/// An error as it crosses NATS.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Error {
    /// A code of the failure table.
    pub code: String,
    /// One sentence.
    pub message: String,
    /// Who raised it.
    pub raised_by: Side,
    /// Whether the origin may have seen the request.
    pub maybe_seen: bool,
    /// Milliseconds after which it is worth asking again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
}

/// What became of a request, short of its end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ack {
    /// Protocol version.
    pub v: u8,
    /// The request.
    pub client_req_id: RequestId,
    /// What became of it.
    pub state: State,
    /// The broker that holds it or wakes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broker_id: Option<ProcessId>,
    /// The hold at that broker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broker_req_id: Option<RequestId>,
    /// Milliseconds that broker still waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broker_req_ttl: Option<u64>,
    /// The upstream agent that took or refused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream_id: Option<ProcessId>,
    /// The request at that upstream agent: where what follows is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream_req_id: Option<RequestId>,
    /// Milliseconds that upstream agent gives its origin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream_req_ttl: Option<u64>,
    /// What the origin said before its response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interim: Option<Box<Interim>>,
}

/// The states an acknowledgement tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// An upstream agent took it and will answer.
    Taken,
    /// An upstream agent is at its limit and did not start.
    Full,
    /// An upstream agent is leaving and did not start.
    Draining,
    /// A broker holds it from now on.
    Held,
    /// A broker can't hold any more.
    Unheld,
    /// A broker says an agent is there: publish it again now.
    Wake,
    /// An upstream agent passes on what its origin said before its response.
    Interim,
}

/// Asks a broker to watch a request, or tells it news of one it watches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hold {
    /// Protocol version.
    pub v: u8,
    /// The client agent.
    pub client_id: ProcessId,
    /// The request.
    pub client_req_id: RequestId,
    /// Milliseconds left before the client agent gives up.
    pub client_req_ttl: u64,
    /// Which upstream it is for.
    pub upstream_target: Name,
    /// Milliseconds since it was first published.
    pub age: u64,
    /// What the client agent knows.
    pub known: Known,
    /// Milliseconds since it has been so.
    pub known_for: u64,
    /// The agent that took it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream_id: Option<ProcessId>,
}

/// What a client agent knows of a request that is not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Known {
    /// Nobody received it.
    Nobody,
    /// Agents received it and refused before they started.
    Refused,
    /// Somebody received it; no acknowledgement yet.
    Sent,
    /// An agent took it.
    Taken,
}

/// Renews what a client agent has at a broker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lease {
    /// Protocol version.
    pub v: u8,
    /// The client agent.
    pub client_id: ProcessId,
    /// The holds, by their number at the broker.
    pub holds: Vec<u64>,
}

/// The broker's answer to a [`Lease`] that names holds it does not have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lost {
    /// Protocol version.
    pub v: u8,
    /// The holds it does not have.
    pub holds: Vec<u64>,
}

/// An agent is here: registration, heartbeat, and the answer to a probe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Here {
    /// Protocol version.
    pub v: u8,
    /// The agent.
    pub upstream_id: ProcessId,
    /// The upstream it serves.
    pub upstream_target: Name,
    /// The version of the program.
    pub version: String,
    /// False while it is full or leaving.
    pub accepting: bool,
    /// Requests it works on.
    pub in_flight: u64,
    /// Requests it works on at most.
    pub limit: u64,
    /// The variant of the upstream that it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<Name>,
    /// It accepts requests although its origin cannot be reached: there is no other agent that does better.
    #[serde(default, skip_serializing_if = "is_false")]
    pub failing: bool,
    /// It takes requests that are addressed to it alone.
    #[serde(default, skip_serializing_if = "is_false")]
    pub direct: bool,
    /// Microseconds that a response typically takes it; zero while that is not known.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub response: u64,
    /// What its claims add up to: the sum of their hashes, without carry. Zero when it has none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub routes: u64,
    /// Outside hosts that it calls, when it is an egress agent: its requests name a whole URL.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "allow::read_list")]
    pub allow: Vec<Allow>,
}

/// An agent claims a route for its upstream, or gives it up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Protocol version.
    pub v: u8,
    /// The agent.
    pub upstream_id: ProcessId,
    /// The upstream.
    pub upstream_target: Name,
    /// The route.
    pub route: Route,
    /// Milliseconds since the agent claimed it first.
    pub age: u64,
    /// Whether the route's path is stripped from the requests.
    #[serde(default, skip_serializing_if = "is_false")]
    pub strip: bool,
    /// It knows that another upstream has the route, and stands behind it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub waiting: bool,
    /// It gives the route up.
    #[serde(default, skip_serializing_if = "is_false")]
    pub withdrawn: bool,
}

/// A client agent tells an agent that its claim is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Protocol version.
    pub v: u8,
    /// The upstream.
    pub upstream_target: Name,
    /// The route, as the agent wrote it.
    pub route: String,
    /// The upstream that claimed it earlier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Name>,
    /// By how many milliseconds.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub earlier: u64,
    /// Why it is refused for good: a limit, or what is wrong with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl Claim {
    /// A number that is the same for the same claim everywhere: FNV-1a, 64 bits, of a byte of flags and the
    /// route's text. The flags come first: in the last byte, the changes of two claims could cancel out.
    pub fn hash(&self) -> u64 {
        let flags = u8::from(self.strip) | u8::from(self.waiting) << 1;
        let text = self.route.to_string();
        let bytes = [flags].into_iter().chain(text.bytes());
        bytes
            .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    }
}

impl Here {
    /// An agent that has nothing to do.
    pub fn of(agent: ProcessId, upstream: Name) -> Self {
        Here {
            v: VERSION,
            upstream_id: agent,
            upstream_target: upstream,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            accepting: true,
            in_flight: 0,
            limit: 1,
            variant: None,
            failing: false,
            direct: true,
            response: 0,
            routes: 0,
            allow: Vec::new(),
        }
    }
}

impl Request {
    /// A request to `upstream` that says nothing more: `GET /` without headers. `asker` knows it as `id` and waits for
    /// its response for `ttl`.
    pub fn new(asker: ProcessId, id: RequestId, upstream: Name, ttl: Duration) -> Self {
        Request {
            v: VERSION,
            client_id: asker,
            client_req_id: id,
            client_req_ttl: millis(ttl),
            upstream_target: upstream,
            method: Method::GET,
            url: "/".into(),
            headers: Headers::new(),
            body: Bytes::new(),
            stream: false,
            trailers: HeaderMap::new(),
            upgrade: None,
            interim: false,
            window: None,
            broker_id: None,
            broker_req_id: None,
            broker_req_ttl: None,
        }
    }
}

impl Reply {
    /// A response.
    pub fn response(to: RequestId, status: StatusCode, headers: Headers, body: Bytes) -> Self {
        Reply { status_code: Some(status), headers, body: Some(body), ..Reply::empty(to) }
    }

    /// An error.
    pub fn error(to: RequestId, fault: &Fault) -> Self {
        Reply { error: Some(Error::from(fault)), ..Reply::empty(to) }
    }

    fn empty(to: RequestId) -> Self {
        Reply {
            v: VERSION,
            client_req_id: to,
            broker_req_id: None,
            upstream_id: None,
            upstream_req_id: None,
            status_code: None,
            headers: Headers::new(),
            body: None,
            stream: false,
            trailers: HeaderMap::new(),
            upgrade: None,
            window: None,
            error: None,
        }
    }
}

impl Ack {
    /// An acknowledgement that says no more than `state`.
    pub fn new(to: RequestId, state: State) -> Self {
        Ack {
            v: VERSION,
            client_req_id: to,
            state,
            broker_id: None,
            broker_req_id: None,
            broker_req_ttl: None,
            upstream_id: None,
            upstream_req_id: None,
            upstream_req_ttl: None,
            interim: None,
        }
    }
}

impl From<&Fault> for Error {
    fn from(fault: &Fault) -> Self {
        Error {
            code: fault.code.to_string(),
            message: fault.detail.to_string(),
            raised_by: fault.raised_by,
            maybe_seen: fault.maybe_seen,
            retry_after: fault.retry_after.map(millis),
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Fault {
            code: Code::parse(&error.code),
            detail: error.message.into(),
            raised_by: error.raised_by,
            maybe_seen: error.maybe_seen,
            retry_after: error.retry_after.map(Duration::from_millis),
        }
    }
}

/// Whole milliseconds, as durations cross NATS.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn is_false(flag: &bool) -> bool {
    !flag
}
