//! One request at the client agent's listener: checked, relayed, answered.
//!
//! What a caller may say is checked here, before anything is published: method, target, header block,
//! body. Everything that passes is the origin's to judge. A body that does not fit in one message is streamed:
//! [`super::upload`] sends a request's, [`super::body`] is a response's.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode, Version, header};
use hyper::body::Body;
use tokio::sync::oneshot;

use super::{
    body::{self, Begun, Held, Outgoing, Source, Streamed, Unread},
    cached,
    destination::settle_host,
    forwards,
    http::{Answered, Ask, Front},
    http1::MAX_HEADERS,
    incoming::Incoming,
    jobs,
    message::{self, Head, Response, Target},
    problem,
    rendezvous::Rendezvous,
    served::{Decision, Told},
    upgrade::OnUpgrade,
    upload::Upload,
};
use crate::{
    cache::fill::Follower,
    framing::field_size,
    proto::{
        exchange::Answer,
        flow::FIRST_WINDOW,
        routes::{self, Found},
    },
    stream::{Reader, Writer, tunnel},
    wire::{
        Code, Fault, Reply, Request, RequestTarget, Side,
        headers::{self, Caller, trailers},
        message::{VERSION, millis},
    },
};

/// A request that may be passed on.
pub(super) struct Asked {
    /// Its head.
    pub head: Head,
    /// Its target, in origin form.
    pub url: RequestTarget,
    /// Its body, when it has one.
    pub body: Option<Incoming>,
    /// The protocol it wants to change to, and what that needs.
    pub upgrade: Option<(HeaderValue, OnUpgrade)>,
    /// Who asks.
    pub caller: Caller,
    /// Whether the caller named the upstream: such a request is none of a cache's.
    pub named: bool,
    /// Where it goes. Without a route, what is stored may still answer it.
    pub to: Result<Found, Fault>,
}

/// What a request comes to.
pub(super) enum Outcome {
    /// The whole response.
    Whole(Response<Held>),
    /// A response whose body is still arriving.
    Streamed(Response<()>, Bytes, Reader),
    /// Another protocol from here on.
    Upgraded(Response<()>, Tunnel),
    /// A response of the cache.
    Stored(Response<body::Stored>, Decision),
    /// A response whose body is stored while it arrives.
    Followed(Response<()>, Follower, Decision),
    /// What is said of a job.
    Job(Response<Held>),
}

pub(super) struct Tunnel {
    on_upgrade: OnUpgrade,
    /// What the origin said right after its head.
    first: Bytes,
    reader: Reader,
    writer: Writer,
}

impl<A: Ask> Front<A> {
    /// Answers one request.
    pub(super) async fn answer(
        self: &Arc<Self>,
        request: message::Request,
        caller: Caller,
        over: bool,
    ) -> Response<Outgoing<A>> {
        if let Some(sessions) = self.ask.sessions()
            && !over
            && sessions.rules().is_for(request.head.target.path())
        {
            // Boxed: every request would take the room of it.
            return Box::pin(Arc::clone(self).at_session(Arc::clone(sessions), request, caller)).await;
        }
        let method = request.head.method.clone();
        let peer = caller.peer;
        let checked = if over { Err(self.too_many()) } else { self.checked(request, caller) };
        let to = checked.as_ref().ok().and_then(|asked| asked.to.as_ref().ok());
        let upstream = to.map_or_else(|| self.nowhere(), |to| to.upstream.clone());
        let id = self.ask.mint(&upstream);
        // Told when it is dropped: also when the caller goes away and this future with it.
        let mut told = Told::new(Arc::clone(&self.ask), id.clone(), upstream, method.clone(), peer);
        let outcome = match checked {
            Ok(asked) => self.relay(asked, &mut told).await,
            Err(fault) => Err(fault),
        };
        let cache = told.cache.take();
        let mut response = match outcome {
            Ok(Outcome::Whole(response)) => {
                told.answered(response.status);
                told.served.decision = Decision::Response;
                response.map(Outgoing::Whole)
            }
            Ok(Outcome::Streamed(response, first, reader)) => {
                told.answered(response.status);
                let end = Decision::Response;
                let body = Streamed::new(first, Source::Agent(reader), end, told);
                response.map(|()| Outgoing::Streamed(Box::new(body)))
            }
            Ok(Outcome::Job(response)) => {
                told.answered(response.status);
                told.served.decision = Decision::Job;
                response.map(Outgoing::Whole)
            }
            Ok(Outcome::Stored(response, decision)) => {
                told.answered(response.status);
                told.served.decision = decision;
                told.served.bytes_out = response.body.len();
                response.map(Outgoing::Stored)
            }
            Ok(Outcome::Followed(response, follower, end)) => {
                told.answered(response.status);
                let body = Streamed::new(Bytes::new(), Source::Cache(follower), end, told);
                response.map(|()| Outgoing::Streamed(Box::new(body)))
            }
            Ok(Outcome::Upgraded(response, tunnel)) => {
                told.answered(response.status);
                let (idle, stall) = (self.settings.stream_idle, self.settings.send_timeout);
                tokio::spawn(carry(tunnel, told, tunnel::Patience { idle, stall }));
                response.map(|()| Outgoing::Whole(Held::empty()))
            }
            Err(fault) => {
                told.failed(&fault);
                let mut response = problem::response(&fault, Some(&id), &method, self.settings.fault_details);
                if over {
                    response.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                told.answered(response.status);
                response.map(Outgoing::Whole)
            }
        };
        if let Some(cache) = cache {
            cached::tell(cache, &mut response.headers);
        }
        response
    }

    async fn relay(self: &Arc<Self>, mut asked: Box<Asked>, told: &mut Told<A>) -> Result<Outcome, Fault> {
        if let Some(answer) = forwards::answer(&mut asked) {
            return Ok(Outcome::Whole(answer));
        }
        if jobs::may_concern(&asked) {
            match &self.settings.jobs {
                // Boxed: every other request would take the room of it.
                Some(desk) => return Box::pin(self.at_desk(desk, asked, told)).await,
                None => jobs::off::check(&asked)?,
            }
        }
        self.answer_now(asked, told).await
    }

    /// Answers from the cache, or passes on.
    pub(super) async fn answer_now(
        self: &Arc<Self>,
        asked: Box<Asked>,
        told: &mut Told<A>,
    ) -> Result<Outcome, Fault> {
        match &self.settings.cache {
            // Boxed: without a cache, every request would take the room of it.
            Some(cache) if !asked.named => Box::pin(self.through(cache, asked, told)).await,
            Some(_) | None => self.pass(asked, told).await,
        }
    }

    /// Passes a request on, and waits for its response.
    pub(super) async fn pass(
        self: &Arc<Self>,
        asked: Box<Asked>,
        told: &mut Told<A>,
    ) -> Result<Outcome, Fault> {
        let Asked { head, url, body, upgrade, caller, named: _, to } = *asked;
        let to = to?;
        let (url, stripped) = routes::strip(url, to.strip);
        let (upgrade, on_upgrade) = upgrade.unzip();
        let has_body = body.is_some();
        let expects = head.headers.contains_key(header::EXPECT);
        let grpc = headers::is_grpc(&head.headers);
        let begun = match body {
            None => Begun::nothing(),
            Some(body) => {
                let (limits, inline) = (self.settings.body, self.ask.inline());
                let begun = Box::pin(body::begin(body, &head.headers, limits, inline, &self.budget)).await;
                begun.map_err(|unread| told.unread(unread))?
            }
        };
        let Begun { bytes, trailers, rest, share } = begun;
        told.served.bytes_in = bytes.len() as u64;
        let caller = Caller { version: head.version, ..caller };
        let rules = caller.rules();
        let wants_trailers = headers::wants_trailers(&head.headers);
        let mut kept = headers::for_origin(head.headers, &caller);
        if wants_trailers {
            kept.insert(header::TE, HeaderValue::from_static("trailers"));
        }
        if let Some(prefix) = stripped {
            headers::add_prefix(&mut kept, prefix);
        }
        if has_body && rest.is_none() && bytes.is_empty() && trailers.is_empty() {
            headers::declare_empty(&mut kept);
        }
        if expects && rest.is_some() {
            kept.insert(header::EXPECT, HeaderValue::from_static("100-continue"));
        }
        let request = Request {
            v: VERSION,
            client_id: self.ask.process(),
            client_req_id: told.served.id.clone(),
            client_req_ttl: millis(self.settings.ttl),
            upstream_target: to.upstream,
            method: head.method,
            url,
            headers: kept,
            body: bytes,
            stream: rest.is_some(),
            trailers: trailers::of_caller(trailers, rules),
            upgrade,
            // A caller of HTTP/1.0 takes none (RFC 9110 section 15.2).
            interim: head.version > Version::HTTP_10,
            window: None,
            broker_id: None,
            broker_req_id: None,
            broker_req_ttl: None,
        };
        let answered = match rest {
            None => self.ask.ask(request).await,
            Some(rest) => {
                let credit = if expects { 0 } else { FIRST_WINDOW };
                let idle = if grpc { self.settings.stream_idle } else { self.settings.body.pause };
                let begun = request.body.len();
                let upload = Upload { rest, credit, idle, begun, asked: !expects, rules };
                // Boxed: every request would take the room of it.
                let answered = Box::pin(self.ask_with_upload(request, upload)).await;
                answered.map_err(|unread| told.unread(unread))?
            }
        };
        drop(share);
        let reply = match answered.answer {
            Answer::Response(reply) => *reply,
            Answer::Fault(fault) => return Err(fault),
        };
        told.served.agent.clone_from(&reply.upstream_id);
        if answered.reader.is_some() {
            told.streams();
        }
        match (answered.reader, answered.writer, on_upgrade) {
            (Some(reader), Some(writer), Some(on_upgrade)) => Ok(upgraded(reply, reader, writer, on_upgrade)),
            _ if reply.status_code == Some(StatusCode::SWITCHING_PROTOCOLS) => Err(switched_unasked()),
            (Some(reader), _, _) => {
                let first = reply.body.clone().unwrap_or_default();
                Ok(Outcome::Streamed(head_of(reply, |_| true), first, reader))
            }
            (None, _, _) => self.whole(reply, told),
        }
    }

    /// Asks while the rest of the request's body is sent.
    async fn ask_with_upload(self: &Arc<Self>, request: Request, upload: Upload) -> Result<Answered, Unread> {
        let stream = self.ask.streams().open(&request.client_req_id)?;
        let writer = stream.writer(upload.credit);
        let (failed, failure) = oneshot::channel();
        let limits = self.settings.body;
        tokio::spawn(upload.run(writer, Arc::clone(&self.ask), limits, failed));
        tokio::select! {
            biased;
            answered = self.ask.ask(request) => Ok(answered),
            Ok(unread) = failure => Err(unread),
            // Nobody else need notice: there may be no broker, or none that can be asked.
            fault = stream.lost() => Err(fault.into()),
        }
    }

    fn whole(&self, mut reply: Reply, told: &mut Told<A>) -> Result<Outcome, Fault> {
        let body = reply.body.take().unwrap_or_default();
        let trailers = trailers::sift(std::mem::take(&mut reply.trailers));
        told.served.bytes_out = body.len() as u64;
        let share = match body.len() {
            0 => None,
            bytes => Some(self.budget.take(bytes).map_err(|fault| Fault { maybe_seen: true, ..fault })?),
        };
        let head = head_of(reply, |name| trailers.contains_key(name));
        Ok(Outcome::Whole(head.map(|()| Held::new(body, trailers, share))))
    }

    /// A request that may be passed on, and where to.
    fn checked(&self, request: message::Request, caller: Caller) -> Result<Box<Asked>, Fault> {
        let message::Request { mut head, body, upgrade } = request;
        let upgrade = upgrade.and_then(|bytes| Some((headers::protocols(&head.headers)?, bytes)));
        let url = self.check(&mut head)?;
        let body = (!body.is_end_stream()).then_some(body);
        let named = self.named(&head)?;
        let is_named = named.is_some();
        let to = match named {
            Some(upstream) => Ok(Found { upstream, strip: 0, is_below_path: false }),
            None => self.destination(&head, &url),
        };
        // Boxed: every open request would take the room of it in each future that it passes through.
        Ok(Box::new(Asked { head, url, body, upgrade, caller, named: is_named, to }))
    }

    /// What a caller may say; takes the target out of `head`, and returns it in origin form.
    pub(super) fn check(&self, head: &mut Head) -> Result<RequestTarget, Fault> {
        if head.method == Method::CONNECT {
            return Err(fault(
                Code::MethodRefused,
                "CONNECT is not relayed: a request goes to the upstream's origin",
            ));
        }
        let (mut size, mut passed) = (0, 0);
        for (name, value) in &head.headers {
            size += field_size(name, value);
            if *name == header::VIA {
                passed += headers::times_passed(value);
            }
        }
        let fields = head.headers.len();
        if fields > MAX_HEADERS {
            let detail = format!("the request has {fields} headers, it may have at most {MAX_HEADERS}");
            return Err(Fault::new(Code::HeadersTooLarge, Side::Client, detail));
        }
        let limit = self.settings.max_header_bytes;
        if size > limit {
            let detail =
                format!("the header block is {size} bytes, the limit of --max-header-bytes is {limit}");
            return Err(Fault::new(Code::HeadersTooLarge, Side::Client, detail));
        }
        if passed >= MAX_PASSES {
            let detail = format!(
                "the request has passed a relay {passed} times, as its Via header tells: it goes in a circle. An upstream's \
                 --to, or a server behind it, sends requests to a client agent that they came from"
            );
            return Err(Fault::new(Code::Loop, Side::Client, detail));
        }
        settle_host(head)?;
        match head.headers.get(header::EXPECT) {
            Some(expect) if !expect.as_bytes().eq_ignore_ascii_case(b"100-continue") => {
                return Err(fault(
                    Code::BadExpectation,
                    "the only expectation that can be met is 100-continue",
                ));
            }
            Some(_) | None => {}
        }
        let Target { url, authority: _ } = std::mem::take(&mut head.target);
        // Authority form is for CONNECT (RFC 9112 §3.2.3): `GET example.com` names no path.
        let Some(url) = url else {
            return Err(fault(
                Code::BadTarget,
                "the request target must be a path, an absolute URL of http or https, or '*'",
            ));
        };
        if url.len() > MAX_TARGET {
            let detail = format!("the request target is {} bytes, it may be at most {MAX_TARGET}", url.len());
            return Err(Fault::new(Code::TargetTooLong, Side::Client, detail));
        }
        Ok(if url.is_empty() { "/".into() } else { url })
    }

    fn too_many(&self) -> Fault {
        let limit = self.settings.max_connections;
        Fault::new(
            Code::ClientFull,
            Side::Client,
            format!("{limit} connections are open, the limit of --max-connections"),
        )
    }
}

/// The head of a response; of the announced trailers, those that `follow`.
fn head_of(reply: Reply, follow: impl Fn(&HeaderName) -> bool) -> Response<()> {
    let status = reply.status_code.unwrap_or(StatusCode::BAD_GATEWAY);
    Response::with(status, headers::for_caller(reply.headers, Version::HTTP_11, follow), ())
}

/// The fault of a 101 to a request that did not ask for it, or with no stream to go on with.
fn switched_unasked() -> Fault {
    Fault::new(Code::OriginBroken, Side::Client, "the upstream agent switched protocols unasked")
}

fn upgraded(mut reply: Reply, reader: Reader, writer: Writer, on_upgrade: OnUpgrade) -> Outcome {
    let first = reply.body.take().unwrap_or_default();
    let protocol = reply.upgrade.take();
    let mut response = head_of(reply, |_| false);
    response.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    if let Some(protocol) = protocol {
        response.headers.insert(header::UPGRADE, protocol);
    }
    Outcome::Upgraded(response, Tunnel { on_upgrade, first, reader, writer })
}

/// Carries the other protocol's bytes until it ends.
async fn carry<A: Ask>(tunnel: Tunnel, mut told: Told<A>, patience: tunnel::Patience) {
    let Tunnel { on_upgrade, first, reader, writer } = tunnel;
    let ended = match on_upgrade.await {
        Ok(bytes) => tunnel::carry(bytes, first, reader, writer, patience).await,
        // The caller went away before it had its 101.
        Err(_) => return,
    };
    told.served.bytes_in += ended.sent;
    told.served.bytes_out += ended.received;
    match ended.fault {
        None => told.served.decision = Decision::Response,
        Some(fault) => told.cut(&fault),
    }
}

fn fault(code: Code, detail: &'static str) -> Fault {
    Fault::new(code, Side::Client, detail)
}

/// How often a request may have passed a relay (RFC 9110 §7.6.3). Two or three in a row have their uses: one in front of a
/// region, one in front of a site.
const MAX_PASSES: usize = 6;
/// A request target at most, in bytes.
pub(super) const MAX_TARGET: usize = 32 * 1024;
