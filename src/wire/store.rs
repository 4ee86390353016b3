//! What brokers are asked to do with what they store, and what they answer.
//!
//! Jobs, dead letters and the records of sessions are in JetStream, which brokers alone may use: NATS does not check
//! where JetStream sends its answers, so whoever may ask it may have it publish anything anywhere in the account.
//! Everybody else asks a broker. The subject of the question names the upstream or the session, so that NATS
//! permissions say who may ask; what the question says must fit its subject.

use serde::{Deserialize, Serialize};

use super::{
    fault::Fault,
    ids::{Name, RequestId},
    job::{Job, JobId, JobState},
    message::{Error, VERSION},
    session::Session,
};

/// What a broker is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StoreVerb {
    /// Store a job.
    Accept,
    /// Take the id of a chain whose first server is asked next.
    Begin,
    /// Store a chain whose first server has answered.
    Start,
    /// Give back the id of a chain whose first server has not succeeded.
    Abandon,
    /// Tell what is known of a job.
    Read,
    /// Stream a body of a job or a dead letter.
    Body,
    /// Cancel a job.
    Cancel,
    /// List jobs, a page at a time.
    List,
    /// List dead letters, a page at a time.
    Letters,
    /// Tell what is known of a dead letter.
    Letter,
    /// Let a job that failed go on.
    Replay,
    /// Forget a dead letter.
    Purge,
    /// Read the record of a session.
    Get,
    /// Write the record of a session.
    Put,
    /// Delete the record of a session.
    Delete,
    /// Count the sessions.
    Count,
}

impl StoreVerb {
    /// Every verb.
    pub const ALL: [StoreVerb; 16] = [
        StoreVerb::Accept,
        StoreVerb::Begin,
        StoreVerb::Start,
        StoreVerb::Abandon,
        StoreVerb::Read,
        StoreVerb::Body,
        StoreVerb::Cancel,
        StoreVerb::List,
        StoreVerb::Letters,
        StoreVerb::Letter,
        StoreVerb::Replay,
        StoreVerb::Purge,
        StoreVerb::Get,
        StoreVerb::Put,
        StoreVerb::Delete,
        StoreVerb::Count,
    ];

    /// The verb as the last token of a subject.
    pub fn as_str(self) -> &'static str {
        match self {
            StoreVerb::Accept => "accept",
            StoreVerb::Begin => "begin",
            StoreVerb::Start => "start",
            StoreVerb::Abandon => "abandon",
            StoreVerb::Read => "read",
            StoreVerb::Body => "body",
            StoreVerb::Cancel => "cancel",
            StoreVerb::List => "list",
            StoreVerb::Letters => "letters",
            StoreVerb::Letter => "letter",
            StoreVerb::Replay => "replay",
            StoreVerb::Purge => "purge",
            StoreVerb::Get => "get",
            StoreVerb::Put => "put",
            StoreVerb::Delete => "delete",
            StoreVerb::Count => "count",
        }
    }

    /// The verb with this token.
    pub fn parse(token: &str) -> Option<StoreVerb> {
        StoreVerb::ALL.into_iter().find(|verb| verb.as_str() == token)
    }
}

/// A question to a broker about what it stores. The verb on its subject says which fields matter; a field without
/// meaning for it is absent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoreRequest {
    /// Protocol version.
    pub v: u8,
    /// The question at the process that asks; the answer goes to this id.
    pub request_id: RequestId,
    /// The job that is read, cancelled, replayed or purged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<JobId>,
    /// The job to store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<Box<Job>>,
    /// The `Idempotency-Key` that the job to store came with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<CallerKey>,
    /// The upstream of the request that had the key, where the id of its job names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<Name>,
    /// The address of the caller whose job it is, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<String>,
    /// Whether the body of the job to store follows in frames, on the stream that the first answer names.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stream: bool,
    /// Which body is wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<Part>,
    /// The record of a session to write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Session>,
    /// The revision that is replaced, 0 for none; in a list, the one that the page before ended with.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub revision: u64,
}

/// A caller's `Idempotency-Key`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallerKey {
    /// A hash of the key and of whose it is, in hexadecimal.
    pub hash: String,
    /// A hash of what was asked with it.
    #[serde(with = "serde_bytes")]
    pub asked: Vec<u8>,
}

/// One of the bodies of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// What the next hop of a job is sent.
    Input,
    /// What a job was answered.
    Outcome,
    /// As `Input`, of a dead letter.
    LetterInput,
    /// As `Outcome`, of a dead letter.
    LetterOutcome,
}

/// A broker's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoreReply {
    /// Protocol version.
    pub v: u8,
    /// The question that it answers.
    pub request_id: RequestId,
    /// Why nothing was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Error>,
    /// The stream at the broker: of the body that it sends, or that it waits for before it answers again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<RequestId>,
    /// Another job than the one that was to be stored: the one that the caller's key stands for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<JobId>,
    /// The job's record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<Box<Job>>,
    /// Milliseconds since that record was stored.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub stored: u64,
    /// The record of the session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Session>,
    /// The revision of the record; in a list, the one that the page ends with, 0 when none follows.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub revision: u64,
    /// Whether another process has written meanwhile.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub conflict: bool,
    /// How many sessions there are; in a list, how many records can't be read.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub count: u64,
    /// A page of a list, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub jobs: Vec<JobSummary>,
}

/// A job in a list. It has no queries and no texts of errors, which may be secret.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobSummary {
    /// The job.
    pub job_id: JobId,
    /// Its state.
    pub state: JobState,
    /// How many hops it has.
    pub hops: u32,
    /// How many of them are done.
    pub done: u32,
    /// The method of the request that is next, or that failed; the last one when all are done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// The upstream of that request, when it names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<Name>,
    /// The URL of that request, without its query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Attempts at that request so far.
    pub attempts: u32,
    /// Milliseconds since the job was accepted.
    pub age: u64,
    /// Milliseconds since its record was stored.
    pub stored: u64,
    /// The code of the fault that it failed by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The code of the fault that kept its end from being told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub untold: Option<String>,
}

/// News that a job is over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    /// Protocol version.
    pub v: u8,
    /// The job.
    pub job_id: JobId,
    /// How it ended.
    pub state: JobState,
}

impl StoreRequest {
    /// A question that says nothing yet.
    pub fn new(request_id: RequestId) -> Self {
        StoreRequest {
            v: VERSION,
            request_id,
            job_id: None,
            job: None,
            key: None,
            upstream: None,
            caller: None,
            stream: false,
            part: None,
            session: None,
            revision: 0,
        }
    }
}

impl StoreReply {
    /// An answer that says no more than that it is done.
    pub fn done(request_id: RequestId) -> Self {
        StoreReply {
            v: VERSION,
            request_id,
            error: None,
            stream: None,
            job_id: None,
            job: None,
            stored: 0,
            session: None,
            revision: 0,
            conflict: false,
            count: 0,
            jobs: Vec::new(),
        }
    }

    /// The answer that nothing was done because of `fault`.
    pub fn refused(request_id: RequestId, fault: &Fault) -> Self {
        StoreReply { error: Some(Error::from(fault)), ..StoreReply::done(request_id) }
    }
}

impl JobSummary {
    /// What a list says of `job`, whose record was stored `stored` milliseconds ago.
    pub fn of(job: &Job, stored: u64) -> Self {
        let hop = job.next_hop().or(job.hops.last());
        let code = |error: &Option<Error>| error.as_ref().map(|error| error.code.clone());
        JobSummary {
            job_id: job.job_id.clone(),
            state: job.state,
            hops: u32::try_from(job.hops.len()).unwrap_or(u32::MAX),
            done: job.done,
            method: hop.map(|hop| hop.method.clone()),
            upstream: hop.and_then(|hop| hop.upstream.clone()),
            url: hop.map(|hop| hop.url.split('?').next().unwrap_or_default().to_owned()),
            attempts: job.attempts_in_all(),
            age: job.age.saturating_add(stored),
            stored,
            error: code(&job.error),
            untold: code(&job.untold),
        }
    }
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}
