//! A caller's connection from its first byte to its last: opened, then served as HTTP/1 or HTTP/2.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Waker},
};

use http::{HeaderValue, Method, Version, header};

use super::{
    body::{Held, Outgoing},
    entrance::Socket,
    http::{Ask, Front},
    http1::{self, Connection, MAX_HEADERS, MAX_OPTIONS, Next, Over, Refusal},
    http2::{self, Ended, Exchange},
    message::{Request, Response},
    opening::{Opened, Stream},
    problem,
    relay::MAX_TARGET,
};
use crate::wire::{
    Code, Fault, Side,
    headers::{Caller, Peer},
};

impl<A: Ask> Front<A> {
    /// Serves one connection until it ends, or until `drain` is done and its last request is answered.
    pub async fn serve(
        self: Arc<Self>,
        mut socket: Socket,
        peer: Peer,
        mut drain: Pin<&mut impl Future<Output = ()>>,
    ) {
        let connections = self.ask.connections();
        let over = connections.fetch_add(1, Ordering::Relaxed) >= self.settings.max_connections;
        let _open = Open(connections);
        socket.set_send_timeout(self.settings.send_timeout);
        let opened = tokio::select! {
            biased;
            // Boxed, as all that a usual connection does not need for long: it would keep the room of it.
            opened = Box::pin(self.opening.open(socket, peer)) => opened,
            // Nothing was asked yet.
            () = &mut drain => return,
        };
        let Opened { stream, caller } = match opened {
            Ok(opened) => opened,
            Err(why) => {
                tracing::debug!(%peer, %why, "connection closed before its first request");
                if let Some(reason) = why.reason() {
                    self.ask.turned_away(reason);
                }
                return;
            }
        };
        let why = match caller.version {
            Version::HTTP_2 => {
                let end = Box::pin(self.serve_http2(stream, caller.clone(), over, drain)).await;
                end.err().map(|error| (error.to_string(), http2::has_timed_out(&error)))
            }
            _ => {
                let end = self.serve_http1(stream, &caller, over, drain).await;
                end.err().map(|over| (over.to_string(), over.is_stalled()))
            }
        };
        // What goes wrong on a caller's connection is the caller's business; it has had its answer.
        if let Some((error, stalled)) = why {
            if stalled {
                self.stalled(caller.peer);
            }
            tracing::debug!(peer = %caller.peer, %error, "connection ended early");
        }
    }

    async fn serve_http1(
        self: &Arc<Self>,
        stream: Stream,
        caller: &Caller,
        over: bool,
        drain: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<(), Over> {
        let rules = http1::Rules {
            // What is a little over the limit is read, so that it can be answered.
            max_head: self.settings.max_header_bytes.saturating_mul(2).max(MIN_HEAD),
            head_timeout: self.settings.header_timeout,
            keep_alive: self.settings.keep_alive,
            // As the original wrote them: what talks to sessions may be older than HTTP's indifference.
            title_case: self.ask.sessions().is_some(),
        };
        let mut connection = Connection::new(stream, rules);
        let mut drain = Drain { told: drain, is_done: false, wakes: None };
        loop {
            let request = match connection.next(|cx| drain.poll(&*self.ask, cx)).await {
                Next::Request(request) => request,
                Next::Refused(refusal) => {
                    let response = self.refuse(caller, self.unreadable(refusal));
                    connection.send(response, false).await?;
                    return connection.close().await;
                }
                Next::Over(Over::Closed | Over::Drained | Over::Idle) => return connection.close().await,
                Next::Over(over) => return Err(over),
            };
            let response = {
                // In a scope of its own: its room is also that of what follows.
                let answer = pin!(self.answer(request, caller.clone(), over));
                connection.answered(answer).await?
            };
            if !connection.send(response, !self.ask.is_stopping()).await? {
                return connection.close().await;
            }
        }
    }

    /// A caller took nothing of its response for too long.
    fn stalled(&self, peer: Peer) {
        let limit = humantime::format_duration(self.settings.send_timeout);
        tracing::info!(%peer, "a caller took nothing of its response for {limit} and is given up (--send-timeout)");
        self.ask.stalled();
    }

    /// The fault of a request that is not read.
    fn unreadable(&self, refusal: Refusal) -> Fault {
        let limit = self.settings.max_header_bytes;
        let (code, detail) = match refusal {
            Refusal::TargetTooLong => {
                (Code::TargetTooLong, format!("the request target is over {MAX_TARGET} bytes"))
            }
            Refusal::TooLarge => (
                Code::HeadersTooLarge,
                format!(
                    "the header block is over {limit} bytes, the limit of --max-header-bytes, or has over \
                     {MAX_HEADERS} headers, or its Connection header names over {MAX_OPTIONS}"
                ),
            ),
            Refusal::Target => (
                Code::BadTarget,
                "the request target is not a path, an absolute URL of http or https, or '*'".to_owned(),
            ),
            Refusal::Unfit(unfit) => (Code::BadTarget, unfit.to_string()),
            Refusal::Version => (
                Code::VersionUnsupported,
                "the request's version is not one of HTTP/1: HTTP/2 begins with its preface, or by ALPN".to_owned(),
            ),
            Refusal::Malformed => (
                Code::BadRequest,
                "this is not an HTTP request that can be read: its first line or a header is malformed"
                    .to_owned(),
            ),
            Refusal::Coding => (
                Code::CodingUnsupported,
                "the request's Transfer-Encoding is not `chunked` alone; send the body in chunks, and other codings \
                 as Content-Encoding"
                    .to_owned(),
            ),
            // It may be an attempt to hide one request in another (RFC 9112 §6.1).
            Refusal::TwoFramings => (
                Code::BadRequest,
                "the request has both a Content-Length and a Transfer-Encoding header, so its end is in doubt"
                    .to_owned(),
            ),
        };
        Fault::new(code, Side::Client, detail)
    }

    /// The answer to a request that is not one; its connection is closed.
    fn refuse(&self, caller: &Caller, fault: Fault) -> Response<Held> {
        let id = self.ask.mint(&self.nowhere());
        tracing::debug!(%id, peer = %caller.peer, code = %fault.code, detail = %fault.detail, "request refused unread");
        self.ask.refused(&fault);
        let mut response = problem::response(&fault, Some(&id), &Method::GET, self.settings.fault_details);
        response.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        response
    }

    async fn serve_http2(
        self: &Arc<Self>,
        stream: Stream,
        caller: Caller,
        over: bool,
        drain: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<(), h2::Error> {
        // As for HTTP/1: what is a little over the limit is read, so that it can be answered.
        let header_bytes = self.settings.max_header_bytes.saturating_mul(2);
        let mut connection = http2::Connection::open(stream, header_bytes).await?;
        if over {
            // What was sent already is answered, by a refusal; more is not taken.
            connection.close();
        }
        let begin = |request, respond| {
            let (request, exchange) = Exchange::begin(request, respond);
            tokio::spawn(Arc::clone(self).answer_by_http2(request, exchange, caller.clone(), over));
        };
        connection.run(drain, begin).await
    }

    async fn answer_by_http2(
        self: Arc<Self>,
        request: Request,
        mut exchange: Exchange,
        caller: Caller,
        over: bool,
    ) {
        let (peer, method) = (caller.peer, request.head.method.clone());
        let Some(mut response) = exchange.answered(self.answer(request, caller, over)).await else { return };
        if let Err(fault) = exchange.settle(&mut response) {
            self.ask.refused(&fault);
            response =
                problem::response(&fault, None, &method, self.settings.fault_details).map(Outgoing::Whole);
        }
        if exchange.send(response, self.settings.send_timeout).await == Ended::Stalled {
            self.stalled(peer);
        }
    }
}

/// What wakes a connection that is to end. That is looked up with each request, and not asked of the future, which
/// takes longer.
struct Drain<'a, F> {
    told: Pin<&'a mut F>,
    is_done: bool,
    /// Whom the future wakes.
    wakes: Option<Waker>,
}

impl<F: Future<Output = ()>> Drain<'_, F> {
    /// Whether it is to end; wakes the task when it is.
    fn poll(&mut self, ask: &impl Ask, cx: &mut Context<'_>) -> bool {
        self.is_done |= ask.is_stopping();
        if !self.is_done && !self.wakes.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            self.wakes = Some(cx.waker().clone());
            self.is_done = self.told.as_mut().poll(cx).is_ready();
        }
        self.is_done
    }
}

struct Open<'a>(&'a AtomicUsize);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What is read of a head in any case, in bytes.
const MIN_HEAD: usize = 8192;
