//! A caller's connection from its first byte to its last: opened, then served as HTTP/1 or HTTP/2.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::{HeaderValue, Method, Request, StatusCode, Version, header};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};

use super::{
    body::{Held, Outgoing},
    entrance::Socket,
    guard::{Conversation, Framed, Guard},
    http::{Ask, Front},
    message::Response,
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
    pub async fn serve(self: Arc<Self>, socket: Socket, peer: Peer, drain: impl Future<Output = ()>) {
        let connections = self.ask.connections();
        let over = connections.fetch_add(1, Ordering::Relaxed) >= self.settings.max_connections;
        let _open = Open(connections);
        let mut drain = std::pin::pin!(drain);
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
        let end = match caller.version {
            Version::HTTP_2 => Box::pin(self.serve_http2(stream, caller, over, drain)).await,
            _ => self.serve_http1(stream, caller, over, drain).await,
        };
        // What goes wrong on a caller's connection is the caller's business; it has had its answer.
        if let Err(error) = end {
            tracing::debug!(peer = %caller.peer, %error, "connection ended early");
        }
    }

    async fn serve_http1(
        self: &Arc<Self>,
        stream: Stream,
        caller: Caller,
        over: bool,
        drain: impl Future<Output = ()>,
    ) -> hyper::Result<()> {
        let conversation = Conversation::default();
        let asked = &conversation;
        let service = service_fn(|request: Request<Incoming>| {
            // At once, not when the future is first polled: hyper reads on in between.
            let framed = asked.ask();
            async move {
                let response = match framed {
                    Framed::Once => self.answer(request, caller, over).await,
                    Framed::Twice => self.refuse(caller, two_framings()).map(Outgoing::Whole),
                };
                Ok::<_, Infallible>(asked.answer(response))
            }
        });
        let front = Arc::clone(self);
        let guarded = Guard::new(stream, conversation.clone(), move |status| {
            front.refuse(caller, front.unreadable(status))
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.settings.header_timeout)
            // As the original wrote them: what talks to sessions may be older than HTTP's indifference.
            .title_case_headers(self.ask.sessions().is_some())
            .max_buf_size((self.settings.max_header_bytes * 2).max(MIN_BUFFER))
            .serve_connection(TokioIo::new(guarded), service)
            .with_upgrades();
        let connection = std::pin::pin!(connection);
        until_drained(connection, drain, http1::UpgradeableConnection::graceful_shutdown).await
    }

    /// The fault of a request that hyper refused to read.
    fn unreadable(&self, status: StatusCode) -> Fault {
        let limit = self.settings.max_header_bytes;
        let (code, detail) = match status {
            StatusCode::URI_TOO_LONG => {
                (Code::TargetTooLong, format!("the request target is over {MAX_TARGET} bytes"))
            }
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => (
                Code::HeadersTooLarge,
                format!(
                    "the header block is over {limit} bytes, the limit of --max-header-bytes, or has over \
                     {MAX_HEADERS} headers"
                ),
            ),
            _ => (
                Code::BadRequest,
                "this is not an HTTP request that can be read: its first line or a header is malformed"
                    .to_owned(),
            ),
        };
        Fault::new(code, Side::Client, detail)
    }

    /// The answer to a request that is not one; its connection is closed.
    fn refuse(&self, caller: Caller, fault: Fault) -> Response<Held> {
        let id = self.ask.mint(&self.nowhere());
        tracing::debug!(%id, peer = %caller.peer, code = %fault.code, detail = %fault.detail, "request refused unread");
        self.ask.refused(&fault);
        let mut response = problem::response(&fault, Some(&id), &Method::GET);
        response.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        response
    }

    async fn serve_http2(
        self: &Arc<Self>,
        stream: Stream,
        caller: Caller,
        over: bool,
        drain: impl Future<Output = ()>,
    ) -> hyper::Result<()> {
        let service = service_fn(|mut request: Request<Incoming>| {
            let front = Arc::clone(self);
            join_cookies(&mut request);
            async move { Ok::<_, Infallible>(http::Response::from(front.answer(request, caller, over).await)) }
        });
        // As for HTTP/1: what is a little over the limit is read, so that it can be answered.
        let header_bytes = self.settings.max_header_bytes.saturating_mul(2);
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(u32::try_from(header_bytes).unwrap_or(u32::MAX))
            .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        if over {
            // What was sent already is answered, by a refusal; more is not taken.
            connection.as_mut().graceful_shutdown();
            return connection.await;
        }
        until_drained(connection, drain, http2::Connection::graceful_shutdown).await
    }
}

/// Serves `connection` to its end, and once `drain` is done no more than what it has begun.
async fn until_drained<C: Future>(
    mut connection: Pin<&mut C>,
    drain: impl Future<Output = ()>,
    finish: fn(Pin<&mut C>),
) -> C::Output {
    tokio::select! {
        biased;
        end = connection.as_mut() => end,
        () = drain => {
            finish(connection.as_mut());
            connection.await
        }
    }
}

/// Two readers may see the end of such a request, and so the beginning of the next, at different places: it
/// may be an attempt to hide one request in another (RFC 9112 §6.1).
fn two_framings() -> Fault {
    Fault::new(
        Code::BadRequest,
        Side::Client,
        "the request has both a Content-Length and a Transfer-Encoding header, so its end is in doubt",
    )
}

/// HTTP/2 may send cookies apart; to HTTP/1 they pass as one field (RFC 9113 §8.2.3).
fn join_cookies(request: &mut Request<Incoming>) {
    let headers = request.headers_mut();
    let mut cookies = headers.get_all(header::COOKIE).iter();
    if cookies.next().is_none() || cookies.next().is_none() {
        return;
    }
    let cookies: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(cookie) = HeaderValue::from_bytes(&cookies.join(&b"; "[..])) {
        headers.insert(header::COOKIE, cookie);
    }
}

struct Open<'a>(&'a AtomicUsize);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What hyper reads of headers, at most.
const MAX_HEADERS: usize = 100;
/// hyper's smallest buffer.
const MIN_BUFFER: usize = 8192;
/// Requests open on one HTTP/2 connection at most.
const MAX_STREAMS: u32 = 256;
/// Streams that a caller opened and took back before they were looked at, at most; a flood of them ends the
/// connection (CVE-2023-44487).
const MAX_PENDING_RESETS: usize = 20;
/// How long an HTTP/2 connection may be silent before it is asked whether it lives, and how long it may
/// take to say so.
const PING: Duration = Duration::from_secs(20);
