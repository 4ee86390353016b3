//! Calls to the origin: the only place that speaks HTTP outwards for a relayed request.
//!
//! The connection always goes to the configured origin; what a request brings is a path on it. Only `egress` calls
//! hosts that requests name, at `addresses` that are public or allowed. Bodies stream both ways. `connect` makes
//! connections, with `tls` and on a `stream`; `pool` keeps them, `http1` and `http2` speak on them; `outgoing` is
//! what is sent to a `target`, and `answer` what comes back.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use http::{HeaderValue, Method, StatusCode, header};

use crate::{
    config::{HostHeader, Origin as Settings, OriginUrl},
    framing::is_bodiless,
    wire::{Code, Fault, Headers, RequestTarget, Side, authority::is_authority},
};

mod addresses;
mod answer;
mod connect;
mod egress;
pub mod http1;
mod http2;
mod outgoing;
mod pinned;
mod pool;
mod stream;
mod switched;
mod target;
mod tls;

pub use answer::{Answer, AnswerBody};
pub use egress::Egress;
pub use outgoing::{BodyCut, BoxedBody, Hear, OnContinue, Outgoing};
pub use switched::Switched;

use answer::{Said, Source};
use connect::{Connection, Connector, Offer};
use outgoing::{Go, Payload, Request};
use pool::Pool;

/// One origin and its connections.
pub struct Origin {
    connector: Connector,
    /// What stands before every request target: the configured URL's path, without its last slash.
    base: String,
    /// Whether the path that is asked for is what keeps callers in: it is below a route's.
    is_border: bool,
    authority: HeaderValue,
    host_header: HostHeader,
    /// How long it may pause in the middle of a response.
    idle: Duration,
    /// The same for what is silent by nature.
    stream_idle: Duration,
    pool: Arc<Pool>,
}

/// One request to the origin.
pub struct Call {
    /// The method.
    pub method: Method,
    /// The request target in origin form; `*` for `OPTIONS *`.
    pub url: RequestTarget,
    /// The headers. Those that frame the body are told anew; `te: trailers` passes.
    pub headers: Headers,
    /// The protocol to switch to, when one is asked for. HTTP/2 has no such thing: an origin that speaks
    /// nothing else gets an ordinary request.
    pub upgrade: Option<HeaderValue>,
    /// The body.
    pub body: Outgoing,
}

impl Origin {
    /// The origin that `settings` describe.
    ///
    /// # Errors
    /// When certificates can't be read.
    pub fn new(settings: &Settings) -> anyhow::Result<Self> {
        let to = settings.to.as_ref().context("--to is missing")?;
        let (authority, base) = match to {
            OriginUrl::Tcp(uri) => (uri.authority().map_or("", |a| a.as_str()), uri.path()),
            OriginUrl::Unix(_) => ("localhost", ""),
        };
        Ok(Origin {
            base: base.trim_end_matches('/').to_owned(),
            host_header: settings.host_header,
            ..Origin::behind(Connector::new(settings, to)?, HeaderValue::from_str(authority)?, settings)
        })
    }

    /// The same, behind routes of which some have a path.
    #[must_use]
    pub fn below_path(self, is_border: bool) -> Self {
        Origin { is_border, ..self }
    }

    /// What `connector` connects to, called `authority`, with what `settings` say of any origin.
    fn behind(connector: Connector, authority: HeaderValue, settings: &Settings) -> Self {
        let pool = Pool::new(settings, connector.may_multiplex());
        Origin {
            base: String::new(),
            is_border: false,
            authority,
            host_header: HostHeader::Rewrite,
            idle: settings.idle_timeout,
            stream_idle: settings.stream_idle,
            pool: Arc::new(pool),
            connector,
        }
    }

    /// Issues a request and returns when the head of its response is here. `on_continue` is called when the
    /// origin sends `100 Continue`, which it need not do. Dropping the future, or the answer before its end,
    /// aborts the call.
    ///
    /// # Errors
    /// A fault that says whether the origin may have seen the request.
    pub async fn call(&self, call: Call, on_continue: Option<OnContinue>) -> Result<Answer, Fault> {
        self.call_and_hear(call, on_continue, None).await
    }

    /// The same, with `hear` for what the origin says before its response.
    ///
    /// # Errors
    /// As [`Origin::call`].
    pub async fn call_and_hear(
        &self,
        call: Call,
        on_continue: Option<OnContinue>,
        hear: Option<Hear<'_>>,
    ) -> Result<Answer, Fault> {
        let upgrade = call.upgrade.clone();
        let mut request = self.request(call)?;
        request.go = on_continue.map(Go::new);
        if !self.connector.may_multiplex() || (upgrade.is_some() && !self.connector.is_http2()) {
            return self.alone(request, upgrade, None, hear).await;
        }
        // Boxed, as all that is not the usual case here: every request would take the room of it.
        Box::pin(self.shared(request, hear)).await
    }

    /// Issues a request on a connection that it may share with others.
    async fn shared(&self, mut request: Request, hear: Option<Hear<'_>>) -> Result<Answer, Fault> {
        let Some(target) = http2::target(&request.target) else {
            if self.connector.is_http2() {
                return Err(http2::unfit_target(&request.target));
            }
            return self.alone(request, None, None, hear).await;
        };
        for attempt in 0.. {
            let connection = match self.pool.shared(&self.connector).await? {
                Some(Connection::Http2(connection)) => connection,
                Some(Connection::Http1(connection)) => {
                    return self.alone(request, None, Some(connection), hear).await;
                }
                None => break,
            };
            let to_head = request.method == Method::HEAD;
            let head = http2::head(&request, target.clone(), self.connector.scheme())?;
            match connection.head(head, request.payload, request.go.as_ref(), hear).await {
                Ok(response) => {
                    let (head, body) = response.into_parts();
                    let (status, version) = (head.status, head.version);
                    let said = Said { status, version, headers: head.headers.into() };
                    let source = if to_head || is_bodiless(status) {
                        body.no_content(to_head).await?;
                        Source::Ended
                    } else {
                        Source::Http2(body)
                    };
                    return Ok(self.answer(said, source));
                }
                Err(http2::Failure { unsent: Some(body), wants_http1: true, .. })
                    if !self.connector.is_http2() =>
                {
                    request.payload = body;
                    break;
                }
                Err(http2::Failure { unsent: Some(body), wants_http1: false, .. }) if attempt < RETRIES => {
                    request.payload = body;
                }
                Err(failure) => return Err(failure.fault),
            }
        }
        self.alone(request, None, None, hear).await
    }

    /// Whether a connection can be made.
    ///
    /// # Errors
    /// A fault that says why not.
    pub async fn try_connect(&self) -> Result<(), Fault> {
        self.connector.connect(Offer::Any).await.map(drop)
    }

    /// Closes connections that have been idle for too long.
    pub fn close_idle(&self) {
        self.pool.close_idle();
    }

    /// Issues a request on a connection that is its own: on `fresh`, when there is such.
    async fn alone(
        &self,
        request: Request,
        upgrade: Option<HeaderValue>,
        fresh: Option<http1::Connection>,
        hear: Option<Hear<'_>>,
    ) -> Result<Answer, Fault> {
        let switches = upgrade.is_some();
        let idempotent = request.method.is_idempotent();
        let mut request = http1::Sending::new(request, upgrade.as_ref());
        let mut fresh = fresh;
        let mut may_keep = fresh.is_none();
        loop {
            // A kept connection may have been closed by the origin while the request was on its way.
            let kept = if may_keep { self.pool.checkout() } else { None };
            let is_kept = kept.is_some();
            let mut connection = match kept.or(fresh.take()) {
                Some(connection) => connection,
                None => Box::pin(self.dial()).await?,
            };
            // What streams can be had once only: it is sent again only if all of it is still here.
            let spare = (is_kept && idempotent).then(|| request.again()).flatten();
            match connection.head(request, hear).await {
                Ok(head) => return self.answer_alone(connection, head, switches).await,
                Err(http1::Failure { unsent: Some(unsent), .. }) if is_kept => request = unsent,
                Err(http1::Failure { fault, .. }) => {
                    request = spare.ok_or(fault)?;
                    may_keep = false;
                }
            }
        }
    }

    async fn dial(&self) -> Result<http1::Connection, Fault> {
        match self.connector.connect(Offer::Http1).await? {
            Connection::Http1(connection) => Ok(connection),
            Connection::Http2(_) => {
                let detail = "the origin speaks HTTP/2 though it was offered HTTP/1 alone";
                Err(Fault::new(Code::OriginUnreachable, Side::Upstream, detail))
            }
        }
    }

    fn request(&self, call: Call) -> Result<Request, Fault> {
        let target = target::target(&self.base, self.is_border, &call.method, call.url)?;
        let mut headers = call.headers;
        outgoing::strip(&mut headers, &call.body);
        let payload = Payload::new(call.body, &mut headers);
        if self.host_header == HostHeader::Rewrite || !has_host(&headers)? {
            headers.insert(header::HOST, self.authority.clone());
        }
        Ok(Request { method: call.method, target, headers, payload, go: None })
    }

    async fn answer_alone(
        &self,
        connection: http1::Connection,
        head: Said,
        switches: bool,
    ) -> Result<Answer, Fault> {
        let source = match (head.status, switches) {
            (StatusCode::SWITCHING_PROTOCOLS, true) => {
                let (early, stream) = Box::pin(connection.into_parts()).await?;
                Source::Switched(Switched::new(early, stream, self.stream_idle))
            }
            (StatusCode::SWITCHING_PROTOCOLS, false) => {
                let detail = "the origin switched protocols, which it was not asked to";
                return Err(Fault::new(Code::OriginBroken, Side::Upstream, detail));
            }
            _ => Source::Http1 { connection, pool: Arc::clone(&self.pool) },
        };
        Ok(self.answer(head, source))
    }

    fn answer(&self, mut head: Said, source: Source) -> Answer {
        if is_bodiless(head.status) {
            head.headers
                .retain(|name, _| *name != header::CONTENT_LENGTH && *name != header::TRANSFER_ENCODING);
        }
        let pause = if is_silent_by_nature(&head.headers) {
            (self.stream_idle, "--stream-idle")
        } else {
            (self.idle, "--idle-timeout")
        };
        Answer {
            status: head.status,
            version: head.version,
            headers: head.headers,
            body: AnswerBody::new(source, pause),
        }
    }
}

/// Whether a request names its host. Client agents have looked at that, but others may ask by NATS, too.
fn has_host(headers: &Headers) -> Result<bool, Fault> {
    let mut hosts = headers.get_all(header::HOST);
    match (hosts.next(), hosts.next()) {
        (None, _) => Ok(false),
        (Some(host), None) if is_authority(host.as_bytes()) => Ok(true),
        (Some(_), _) => {
            let detail = "the Host header is not HOST or HOST:PORT, or is there twice";
            Err(Fault::new(Code::BadRequest, Side::Upstream, detail))
        }
    }
}

/// Whether such a response may say nothing for a long time.
fn is_silent_by_nature(headers: &Headers) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    [&b"text/event-stream"[..], b"application/grpc"]
        .iter()
        .any(|silent| kind.get(..silent.len()).is_some_and(|kind| kind.eq_ignore_ascii_case(silent)))
}

/// How often a request is sent again over HTTP/2.
const RETRIES: u32 = 2;
