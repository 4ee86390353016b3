//! Jobs: what is done for callers that have gone. A job is a request, or a forward chain of several; its record
//! is stored in JetStream, and each revision of it is the next thing to do.

use std::{fmt, str::FromStr};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

use super::{
    fault::Fault,
    headers::{Headers, X_FORWARDED_FOR},
    ids::{Name, ProcessId},
    message::{Error, VERSION},
};

/// Which job: `<upstream>.<uuid>` for one that may go to that upstream only, `<uuid>` for one that may go to
/// several. NATS permissions are about the subjects that are made of these.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct JobId {
    /// The only upstream it goes to.
    pub upstream: Option<Name>,
    /// The rest, 128 bits.
    pub uuid: Uuid,
}

impl JobId {
    /// A new id of a job for `upstream`, or for several.
    pub fn random(upstream: Option<Name>) -> Self {
        JobId { upstream, uuid: Uuid::new_v4() }
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(upstream) = &self.upstream {
            write!(f, "{upstream}.")?;
        }
        write!(f, "{}", self.uuid)
    }
}

impl FromStr for JobId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (upstream, uuid) = match text.split_once('.') {
            Some((upstream, uuid)) => (Some(upstream.parse().map_err(|_| NOT_AN_ID)?), uuid),
            None => (None, text),
        };
        let uuid = uuid::fmt::Hyphenated::from_str(uuid).map_err(|_| NOT_AN_ID)?.into_uuid();
        Ok(JobId { upstream, uuid })
    }
}

const NOT_AN_ID: &str = "a job's id is a UUID, or an upstream's name, a dot and a UUID";

impl Serialize for JobId {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for JobId {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// A job, as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Protocol version.
    pub v: u8,
    /// The job.
    pub job_id: JobId,
    /// The client agent that took it.
    pub client_id: ProcessId,
    /// What is to be done with it.
    pub state: JobState,
    /// Milliseconds since it was accepted, when this revision was stored.
    pub age: u64,
    /// The upstreams it may go to; none stands for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub only: Vec<Name>,
    /// How its URLs lead to upstreams; see [`Job::reach`] for a record that does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reach: Option<Reach>,
    /// The headers that introduce the first caller to the servers that its URLs lead to; see [`Job::introduction`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub introduction: Vec<(String, serde_bytes::ByteBuf)>,
    /// Its requests, in order.
    pub hops: Vec<Hop>,
    /// How many of them are done.
    pub done: u32,
    /// Attempts at what comes next so far.
    pub attempts: u32,
    /// Milliseconds to wait before what comes next.
    pub pause: u64,
    /// The broker that works on what comes next, where JetStream may not know: no other is to begin it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_by: Option<ProcessId>,
    /// What the next hop's request carries.
    pub input: Content,
    /// The path of hops that name none; chains only.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// The URL of the hop before, or `ORIGIN`; chains only.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub referer: String,
    /// Where the failure of a chain is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errors_to: Option<String>,
    /// Where the response to a request is posted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callback: Option<String>,
    /// The status that each hop that is done was answered with, and after how many attempts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<Logged>,
    /// The last response, or the one that the chain failed by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Error>,
    /// Why its end could not be told to whoever wanted to hear of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub untold: Option<Error>,
}

/// How the URLs of a job lead to upstreams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reach {
    /// By a route, host and path, and in no other way.
    Routes,
    /// By a route, by an outside host that an egress agent may call, or by an upstream's name as the host.
    Names,
}

/// What is to be done with a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// The id is taken; the client agent asks the first server.
    Begun,
    /// The next hop.
    Running,
    /// All hops are done; that is to be told.
    Telling,
    /// A hop failed; that is to be told.
    Failing,
    /// Nothing: it is done.
    Done,
    /// Nothing: it failed.
    Failed,
    /// Nothing: somebody cancelled it.
    Cancelled,
}

impl JobState {
    /// Every state.
    pub const ALL: [JobState; 7] = [
        JobState::Begun,
        JobState::Running,
        JobState::Telling,
        JobState::Failing,
        JobState::Done,
        JobState::Failed,
        JobState::Cancelled,
    ];

    /// As it is shown.
    pub fn as_str(self) -> &'static str {
        match self {
            JobState::Begun => "begun",
            JobState::Running => "running",
            JobState::Telling => "telling",
            JobState::Failing => "failing",
            JobState::Done => "done",
            JobState::Failed => "failed",
            JobState::Cancelled => "cancelled",
        }
    }

    /// Whether nothing is left to be done.
    pub fn is_over(self) -> bool {
        match self {
            JobState::Done | JobState::Failed | JobState::Cancelled => true,
            JobState::Begun | JobState::Running | JobState::Telling | JobState::Failing => false,
        }
    }
}

/// One request of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hop {
    /// The method.
    pub method: String,
    /// An absolute URL; a path when the upstream is named.
    pub url: String,
    /// The upstream it is for; otherwise the URL's host says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<Name>,
    /// Whether it may be sent again after it may have run: its method says so, or a key of its caller's.
    #[serde(default, skip_serializing_if = "is_false")]
    pub repeatable: bool,
}

/// Headers and a body.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Content {
    /// Header pairs: name in lower case, value as bytes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, serde_bytes::ByteBuf)>,
    /// The body, when it is stored here.
    #[serde(default, with = "serde_bytes", skip_serializing_if = "Vec::is_empty")]
    pub body: Vec<u8>,
    /// The object that has the body instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// Bytes of the body, wherever it is.
    pub size: u64,
}

/// What a request came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The HTTP status.
    pub status: u16,
    /// Headers and body.
    pub content: Content,
}

/// What a hop came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Logged {
    /// The HTTP status.
    pub status: u16,
    /// Attempts it took.
    pub attempts: u32,
}

/// The id of the job that a caller's `Idempotency-Key` stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobKey {
    /// Protocol version.
    pub v: u8,
    /// The job.
    pub job_id: JobId,
    /// A hash of what was asked: the same key with another request is a mistake.
    #[serde(with = "serde_bytes")]
    pub asked: Vec<u8>,
}

impl Job {
    /// Attempts at all its hops so far, and at telling its end.
    pub fn attempts_in_all(&self) -> u32 {
        let done = self.log.iter().map(|hop| hop.attempts);
        done.fold(self.attempts, u32::saturating_add)
    }

    /// A job that is not yet anything: no hops.
    pub fn new(job_id: JobId, client_id: ProcessId, state: JobState, input: Content) -> Self {
        Job {
            v: VERSION,
            job_id,
            client_id,
            state,
            age: 0,
            only: Vec::new(),
            reach: None,
            introduction: Vec::new(),
            hops: Vec::new(),
            done: 0,
            attempts: 0,
            pause: 0,
            held_by: None,
            input,
            path: String::new(),
            referer: String::new(),
            errors_to: None,
            callback: None,
            log: Vec::new(),
            outcome: None,
            error: None,
            untold: None,
        }
    }

    /// How its URLs lead to upstreams. A record of an earlier version that lists upstreams was for those by name, too.
    pub fn reach(&self) -> Reach {
        self.reach.unwrap_or(if self.only.is_empty() { Reach::Routes } else { Reach::Names })
    }

    /// The headers that introduce the first caller. A record without them is of an earlier version, and its caller
    /// unknown (RFC 7239 §6.2): without any, an origin could take the request for one of its own network.
    pub fn introduction(&self) -> Headers {
        if !self.introduction.is_empty() {
            return to_headers(&self.introduction);
        }
        let pairs = [(header::FORWARDED, "for=unknown"), (X_FORWARDED_FOR, "unknown")];
        pairs.into_iter().map(|(name, value)| (name, HeaderValue::from_static(value))).collect()
    }

    /// The hop that comes next.
    pub fn next_hop(&self) -> Option<&Hop> {
        self.hops.get(self.done as usize)
    }

    /// Whether it is a forward chain.
    pub fn is_chain(&self) -> bool {
        self.errors_to.is_some()
    }

    /// The objects that it needs.
    pub fn objects(&self) -> impl Iterator<Item = &str> {
        let outcome = self.outcome.iter().filter_map(|outcome| outcome.content.object.as_deref());
        self.input.object.as_deref().into_iter().chain(outcome)
    }

    /// The fault it failed by.
    pub fn fault(&self) -> Option<Fault> {
        self.error.clone().map(Fault::from)
    }
}

impl Hop {
    /// The method; POST should it be none.
    pub fn method(&self) -> Method {
        self.method.parse().unwrap_or(Method::POST)
    }
}

impl Outcome {
    /// The status; 502 should it be none that ends an exchange.
    pub fn status(&self) -> StatusCode {
        let status = StatusCode::from_u16(self.status).ok();
        status.filter(|status| !status.is_informational()).unwrap_or(StatusCode::BAD_GATEWAY)
    }
}

impl Content {
    /// `headers` and a body that is stored with them.
    pub fn whole(headers: &Headers, body: &Bytes) -> Self {
        Content { body: body.to_vec(), size: body.len() as u64, ..Content::apart(headers, None, 0) }
    }

    /// `headers` and a body of `size` bytes that is an object of its own.
    pub fn apart(headers: &Headers, object: Option<String>, size: u64) -> Self {
        Content { headers: to_pairs(headers), body: Vec::new(), object, size }
    }

    /// What is not kept any more, for want of room: its body is an object that is not there, so that nobody takes it for an
    /// empty one.
    pub fn gone() -> Self {
        Content { object: Some("gone".into()), ..Content::default() }
    }

    /// Bytes of `headers` as a record has them, about.
    pub fn size_of(headers: &Headers) -> usize {
        headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 8).sum()
    }

    /// The headers. What can't be one is left out: it was one when it was stored.
    pub fn headers(&self) -> Headers {
        to_headers(&self.headers)
    }
}

/// Headers as a record has them.
pub fn to_pairs(headers: &Headers) -> Vec<(String, serde_bytes::ByteBuf)> {
    let pair = |(name, value): (&HeaderName, &HeaderValue)| {
        (name.as_str().to_owned(), serde_bytes::ByteBuf::from(value.as_bytes()))
    };
    headers.iter().map(pair).collect()
}

fn to_headers(pairs: &[(String, serde_bytes::ByteBuf)]) -> Headers {
    let pair = |(name, value): &(String, serde_bytes::ByteBuf)| {
        Some((HeaderName::from_str(name).ok()?, HeaderValue::from_bytes(value).ok()?))
    };
    pairs.iter().filter_map(pair).collect()
}

/// What a record has room for, where the NATS server takes messages of `max_payload` bytes: two sets of headers, two
/// bodies, and the hops of a chain.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// Bytes of one set of headers at most.
    pub headers: usize,
    /// Bytes of one body at most; a larger one is an object of its own.
    pub body: usize,
    /// Bytes of all else at most.
    pub rest: usize,
}

impl Room {
    /// The room of records in messages of `max_payload` bytes.
    pub fn in_message(max_payload: usize) -> Self {
        Room { headers: max_payload / 8, body: max_payload / 4, rest: max_payload / 8 }
    }
}

fn is_false(flag: &bool) -> bool {
    !flag
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_says_where_its_job_may_go() {
        let uuid = "0191e3a0-7c1e-4b61-9d5e-0f6f4a3b2c1d";
        let several: JobId = uuid.parse().unwrap();
        assert_eq!((several.upstream.as_ref(), several.to_string()), (None, uuid.to_owned()));
        let one: JobId = format!("shop.{uuid}").parse().unwrap();
        assert_eq!(one.upstream.as_ref().map(Name::as_str), Some("shop"));
        assert_eq!(one.to_string(), format!("shop.{uuid}"));
        for bad in
            ["", "shop", "shop.", ".", "a.b.0191e3a0-7c1e-4b61-9d5e-0f6f4a3b2c1d", "*.0191e3a0", "sh op.x"]
        {
            assert!(bad.parse::<JobId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_record_that_does_not_say_how_its_urls_lead_is_held_to_what_it_lists() {
        let id = JobId::random(None);
        let client = "client.oCDzi4CCel1n".parse().unwrap();
        let job = Job::new(id, client, JobState::Running, Content::default());
        assert_eq!(job.reach(), Reach::Routes);
        let listed = Job { only: vec!["shop".parse().unwrap()], ..job.clone() };
        assert_eq!(listed.reach(), Reach::Names);
        assert_eq!(Job { reach: Some(Reach::Routes), ..listed }.reach(), Reach::Routes);
        assert_eq!(job.introduction()["x-forwarded-for"], "unknown");
    }
}
