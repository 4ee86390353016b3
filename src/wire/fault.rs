//! The taxonomy of faults: every way a request can fail, each with a stable code, an HTTP status,
//! whose side it is on, and whether the origin may have seen the request.
//!
//! `front::problem` maps a fault to a response; `proto::retry` decides from it whether a request may
//! be sent again. Nothing else looks at codes.

use std::{borrow::Cow, fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// A failed request: what is told to whoever asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct Fault {
    /// What happened.
    pub code: Code,
    /// One sentence for a person: what happened, to what, and which limit or setting it was.
    pub detail: Cow<'static, str>,
    /// Who noticed.
    pub raised_by: Side,
    /// Whether the origin may have seen the request. When not, sending it again is safe.
    pub maybe_seen: bool,
    /// When it is worth asking again.
    pub retry_after: Option<Duration>,
}

impl Fault {
    /// A fault with the code's own answer to "may the origin have seen it".
    pub fn new(code: Code, raised_by: Side, detail: impl Into<Cow<'static, str>>) -> Self {
        Fault {
            code,
            detail: detail.into(),
            raised_by,
            maybe_seen: code.row().maybe_seen,
            retry_after: code.row().retry_after.map(Duration::from_secs),
        }
    }

    /// The same fault of a request that the origin may have seen: it is not worth asking again.
    pub fn after_seen(self) -> Self {
        Fault { maybe_seen: true, retry_after: None, ..self }
    }

    /// What of it any caller may read. A detail that names an address, a host, an upstream, a file or a subject tells a
    /// stranger what is behind the relay: only details about the request itself are shown, and none of an upstream agent,
    /// which may be written by others. All others are what the code means.
    pub fn public_detail(&self) -> &str {
        let is_ours = self.raised_by != Side::Upstream || self.code == Code::HopFailed;
        if is_ours && self.code.is_about_request() { &self.detail } else { self.code.row().meaning }
    }

    /// The HTTP status of the code.
    pub fn status(&self) -> u16 {
        self.code.row().status
    }
}

/// Which part of the relay noticed a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The client agent, where HTTP comes in.
    Client,
    /// The broker.
    Broker,
    /// The upstream agent, beside the origin.
    Upstream,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::Client => "client",
            Side::Broker => "broker",
            Side::Upstream => "upstream",
        })
    }
}

/// What one code means: a row of the failure table.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// The code as text; it never changes once released.
    pub text: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// The RFC 9209 §2.3 proxy error type, where one fits.
    pub proxy_error: &'static str,
    /// Whether the origin may have seen the request.
    pub maybe_seen: bool,
    /// `Retry-After`, in seconds.
    pub retry_after: Option<u64>,
    /// One line for the failure table in the documentation.
    pub meaning: &'static str,
}

macro_rules! codes {
    ($($variant:ident = $text:literal $status:literal $proxy:literal $seen:ident $retry:expr, $meaning:literal;)+) => {
        /// A stable name for what happened.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code {
            $(#[doc = $meaning] $variant,)+
        }

        impl Code {
            /// Every code, in the order of the failure table.
            pub const ALL: &[Code] = &[$(Code::$variant,)+];

            /// What the code means.
            pub const fn row(self) -> Row {
                match self {
                    $(Code::$variant => Row {
                        text: $text,
                        status: $status,
                        proxy_error: $proxy,
                        maybe_seen: codes!(@$seen),
                        retry_after: $retry,
                        meaning: $meaning,
                    },)+
                }
            }
        }
    };
    (@seen) => { true };
    (@unseen) => { false };
}

codes! {
    BadRequest = "bad_request" 400 "http_request_error" unseen None,
        "the request is not one that can be passed on";
    BadTarget = "bad_target" 400 "http_request_denied" unseen None,
        "the request target is none, or could leave the configured origin";
    BadForward = "bad_forward" 400 "http_request_error" unseen None,
        "the request's X-Forward-* headers do not make a chain";
    BadJob = "bad_job" 400 "http_request_error" unseen None,
        "what the request says of the job it wants to be is wrong";
    ChainLoop = "chain_loop" 508 "proxy_loop_detected" unseen None,
        "there is a chain with this X-Forward-Id already";
    Loop = "loop" 508 "proxy_loop_detected" unseen None,
        "the request has passed relays too often: it goes in a circle";
    JobsOff = "jobs_off" 501 "http_request_denied" unseen None,
        "the request starts a forward chain, and jobs are off at the client agent";
    NoJob = "no_job" 404 "destination_not_found" unseen None,
        "there is no such job, or no longer";
    JobOver = "job_over" 409 "http_request_denied" unseen None,
        "the job is over, or its record changed meanwhile";
    KeyReused = "key_reused" 422 "http_request_denied" unseen None,
        "the Idempotency-Key was used for another request";
    JobsUnavailable = "jobs_unavailable" 503 "destination_unavailable" unseen Some(5),
        "jobs can't be stored: JetStream is missing or full, or a permission is";
    JobUnconfirmed = "job_unconfirmed" 504 "http_response_timeout" seen None,
        "it is not known whether the job was stored: its location says so";
    JobsFull = "jobs_full" 503 "destination_unavailable" unseen Some(60),
        "as many jobs are kept for this upstream as there may be";
    TooManyJobs = "too_many_jobs" 429 "http_request_denied" unseen Some(60),
        "as many jobs of this caller are kept as there may be";
    HopFailed = "hop_failed" 502 "http_response_incomplete" seen None,
        "a server of a forward chain, or the one that a job is for, answered with an error";
    JobExpired = "job_expired" 504 "http_response_timeout" seen None,
        "the job's lifetime ran out";
    JobCancelled = "job_cancelled" 410 "http_request_denied" seen None,
        "the job was cancelled";
    NoRoute = "no_route" 404 "destination_not_found" unseen None,
        "no upstream has a route for this host and path";
    NotReady = "not_ready" 503 "destination_unavailable" unseen Some(1),
        "the client agent does not know all routes yet";
    BadExpectation = "bad_expectation" 417 "http_request_error" unseen None,
        "the Expect header asks for something other than 100-continue";
    CodingUnsupported = "coding_unsupported" 501 "http_request_error" unseen None,
        "the request's body has a transfer coding other than chunked";
    VersionUnsupported = "version_unsupported" 505 "http_request_error" unseen None,
        "the request's first line names a version of HTTP that has no such lines";
    MethodRefused = "method_refused" 501 "http_request_denied" unseen None,
        "CONNECT is not relayed";
    BodyTooLarge = "body_too_large" 413 "http_request_error" unseen None,
        "the request's body is over a limit";
    BodyTimeout = "body_timeout" 408 "http_request_error" unseen None,
        "the request's body stopped arriving";
    HeadersTooLarge = "headers_too_large" 431 "http_request_error" unseen None,
        "the request's header block is over a limit";
    TargetTooLong = "target_too_long" 414 "http_request_error" unseen None,
        "the request target is over a limit";
    NoAgent = "no_agent" 503 "destination_unavailable" unseen Some(5),
        "no upstream agent is there for this upstream";
    AgentsFull = "agents_full" 503 "connection_limit_reached" unseen Some(1),
        "no upstream agent for this upstream takes requests: they are at their limit, or their origin does not work";
    ClientFull = "client_full" 503 "connection_limit_reached" unseen Some(1),
        "the client agent is at its limit of requests in flight";
    BrokerFull = "broker_full" 503 "connection_limit_reached" unseen Some(1),
        "the broker holds as many requests as it may";
    NatsUnreachable = "nats_unreachable" 503 "destination_unavailable" unseen Some(1),
        "the client agent has no connection to NATS";
    NotAllowed = "not_allowed" 403 "http_request_denied" unseen None,
        "the request may not go to this upstream: NATS permissions refuse it, or the broker for a job";
    EgressRefused = "egress_refused" 403 "http_request_denied" unseen None,
        "the URL is not one that this egress agent may call, or its host has no address that it may call";
    SendTimeout = "send_timeout" 504 "connection_write_timeout" seen None,
        "a caller took nothing of its response, or the origin nothing of a request's body, for too long";
    AckTimeout = "ack_timeout" 504 "proxy_internal_response" seen None,
        "an agent was there but did not acknowledge in time";
    ResponseTimeout = "response_timeout" 504 "http_response_timeout" seen None,
        "the request was acknowledged but its response did not come in time";
    TtlExpired = "ttl_expired" 504 "http_response_timeout" seen None,
        "the request's time to live ran out";
    NotCached = "not_cached" 504 "http_request_denied" unseen None,
        "the caller wants only what is stored, and it is not";
    AgentGone = "agent_gone" 502 "connection_terminated" seen None,
        "the upstream agent that took the request is gone";
    OutOfDescriptors = "out_of_descriptors" 503 "connection_limit_reached" unseen Some(1),
        "the process that calls the origin has no file descriptor left";
    OriginRefused = "origin_refused" 502 "connection_refused" unseen None,
        "the origin refused the connection";
    OriginUnreachable = "origin_unreachable" 502 "destination_ip_unroutable" unseen None,
        "the origin could not be reached";
    OriginConnectTimeout = "origin_connect_timeout" 502 "connection_timeout" unseen None,
        "the origin did not accept the connection in time";
    OriginDns = "origin_dns" 502 "dns_error" unseen None,
        "the origin's host name could not be resolved";
    OriginTls = "origin_tls" 502 "tls_protocol_error" unseen None,
        "TLS with the origin failed";
    OriginBroken = "origin_broken" 502 "http_response_incomplete" seen None,
        "the origin closed the connection or answered with something that is not HTTP";
    OriginCoding = "origin_coding" 502 "http_response_transfer_coding" seen None,
        "the origin's response has a transfer coding other than chunked";
    OriginSilent = "origin_silent" 504 "http_response_timeout" seen None,
        "the origin stopped sending its response";
    StreamCut = "stream_cut" 502 "connection_terminated" seen None,
        "a body broke off on its way through the relay";
    ResponseTooLarge = "response_too_large" 502 "http_response_body_size" seen None,
        "the origin's response is over a limit";
    BadReply = "bad_reply" 502 "proxy_internal_error" seen None,
        "the reply of the upstream agent could not be read";
    BadMessage = "bad_message" 502 "proxy_internal_error" unseen None,
        "the upstream agent could not read the request";
    SessionHeader = "session_header" 400 "http_request_error" unseen None,
        "a header of a request to a session is not valid";
    SessionDenied = "session_denied" 403 "http_request_denied" unseen None,
        "the caller may not do this in the session";
    SessionUnknown = "session_unknown" 404 "destination_not_found" unseen None,
        "there is no such session, or no longer";
    SessionMethod = "session_method" 405 "http_request_denied" unseen None,
        "sessions do not have this method";
    SessionBusy = "session_busy" 409 "http_request_denied" unseen None,
        "somebody receives already in this part of the session";
    SessionGone = "session_gone" 410 "destination_not_found" unseen None,
        "the session was deleted or has expired while the request waited";
    SessionGuesses = "session_guesses" 429 "http_request_denied" unseen Some(10),
        "too many wrong session ids and tokens came from this address";
    SessionRate = "session_rate" 429 "http_request_denied" unseen Some(10),
        "too many sessions were made from this address";
    SessionWaiting = "session_waiting" 429 "connection_limit_reached" unseen Some(1),
        "too many requests wait in this session";
    SessionsFull = "sessions_full" 503 "connection_limit_reached" unseen Some(10),
        "there are as many sessions, or requests waiting in them, as there may be";
    SessionsAway = "sessions_away" 503 "destination_unavailable" unseen Some(5),
        "the records of sessions in NATS can't be used";
    SessionUnconfirmed = "session_unconfirmed" 504 "http_response_timeout" seen None,
        "it is not known whether the session was changed or deleted";
    SessionTimeout = "session_timeout" 504 "http_response_timeout" unseen None,
        "nobody came to the session in time";
    SessionCut = "session_cut" 502 "connection_terminated" seen None,
        "the other side of a session was lost, so what it has received is not known";
    Internal = "internal" 500 "proxy_internal_error" seen None,
        "a defect in the relay; please report it";
}

impl Code {
    /// Whether details with it speak of nothing but the request, and the settings that it has come up against.
    fn is_about_request(self) -> bool {
        matches!(
            self,
            Code::BadRequest
                | Code::BadTarget
                | Code::BadForward
                | Code::BadJob
                | Code::ChainLoop
                | Code::Loop
                | Code::NoJob
                | Code::JobsOff
                | Code::JobOver
                | Code::KeyReused
                | Code::HopFailed
                | Code::JobExpired
                | Code::JobCancelled
                | Code::NoRoute
                | Code::BadExpectation
                | Code::CodingUnsupported
                | Code::VersionUnsupported
                | Code::MethodRefused
                | Code::BodyTooLarge
                | Code::BodyTimeout
                | Code::HeadersTooLarge
                | Code::TargetTooLong
                | Code::NotCached
                | Code::SessionHeader
                | Code::SessionDenied
                | Code::SessionUnknown
                | Code::SessionMethod
                | Code::SessionBusy
                | Code::SessionGone
                | Code::SessionGuesses
                | Code::SessionWaiting
                | Code::SessionTimeout
                | Code::SessionCut
        )
    }

    /// Whether no connection to the origin could be made, so that nothing of the request was written.
    pub fn is_unreached(self) -> bool {
        matches!(
            self,
            Code::OriginRefused
                | Code::OriginUnreachable
                | Code::OriginConnectTimeout
                | Code::OriginDns
                | Code::OriginTls
        )
    }

    /// Whether nothing of the request was written to the origin, for a reason that another agent may not have.
    pub fn is_unsent(self) -> bool {
        self.is_unreached() || self == Code::OutOfDescriptors
    }

    /// The code called `text`; a code of a newer version reads as [`Code::Internal`].
    pub fn parse(text: &str) -> Code {
        let known = Code::ALL.iter().copied().find(|code| code.row().text == text);
        known.unwrap_or(Code::Internal)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.row().text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_distinct_and_is_read_back() {
        for &code in Code::ALL {
            assert_eq!(Code::parse(code.row().text), code);
        }
        assert_eq!(Code::parse("from_the_future"), Code::Internal);
    }

    #[test]
    fn callers_read_details_of_their_request_and_none_of_what_is_behind() {
        let public = |code, side| Fault::new(code, side, "at 10.1.2.3").public_detail() == "at 10.1.2.3";
        for code in [Code::BadRequest, Code::BadTarget, Code::NoRoute, Code::BodyTooLarge] {
            assert!(public(code, Side::Client) && !public(code, Side::Upstream), "{code}");
        }
        for code in [Code::OriginRefused, Code::OriginDns, Code::NoAgent, Code::NotAllowed, Code::Internal] {
            for side in [Side::Client, Side::Broker, Side::Upstream] {
                assert!(!public(code, side), "{code}");
            }
        }
    }

    #[test]
    fn every_code_is_an_error_status() {
        for code in Code::ALL {
            assert!((400..600).contains(&code.row().status), "{code}");
        }
    }
}
