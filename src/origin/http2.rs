//! HTTP/2 to the origin: many calls share a connection, which has a task of its own. A call's own task sends
//! its body and reads its response.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use h2::{
    Reason, SendStream,
    client::{self, ResponseFuture, SendRequest},
};
use http::{
    HeaderMap, Request, Response, StatusCode, Uri, header,
    uri::{self, PathAndQuery, Scheme},
};
use http_body::{Body as _, Frame, SizeHint};
use tokio::sync::oneshot;

use super::{
    outgoing::{self, BodyCut, Go, Hear, Payload, declared_length},
    stream::Stream,
};
use crate::{
    framing::http2::Received,
    wire::{Code, Fault, Side, UnfitByte, headers::trailers},
};

/// A connection, and a seat on it for one call.
pub struct Connection {
    sender: SendRequest<Bytes>,
    seats: Arc<Seats>,
}

/// Who is on a connection.
struct Seats {
    taken: AtomicUsize,
    closed: AtomicBool,
}

/// The connections to one origin, a bounded number.
pub struct Lines {
    lines: Vec<Line>,
    /// How long a connection is given to new calls.
    max_age: Duration,
}

struct Line {
    sender: SendRequest<Bytes>,
    seats: Arc<Seats>,
    used: Instant,
    /// When it was made.
    since: Instant,
}

/// Why there is no response, and the body when the request may be sent again.
pub struct Failure {
    /// What is told to whoever asked.
    pub fault: Fault,
    /// The body, as it was.
    pub unsent: Option<Payload>,
    /// Whether the origin wants the request by HTTP/1.1.
    pub wants_http1: bool,
}

/// The body of a response, and what is left of the request's.
pub struct Body {
    received: Received,
    upload: Option<Upload>,
    _seat: Connection,
}

/// The body of a request while it is sent.
struct Upload {
    stream: SendStream<Bytes>,
    body: Payload,
    /// What waits until the origin has room for it.
    piece: Bytes,
    /// Whether something was taken from the body.
    touched: bool,
}

impl Lines {
    /// None yet; each is given to new calls for `max_age`.
    pub fn new(max_age: Duration) -> Self {
        Lines { lines: Vec::new(), max_age }
    }

    /// A seat on a connection: where one is free, or where fewest wait when there are as many connections
    /// as there may be.
    pub fn seat(&mut self) -> Option<Connection> {
        // Calls on one that is left keep it until they end.
        let is_young = |line: &Line| line.since.elapsed() < self.max_age;
        self.lines.retain(|line| !line.seats.closed.load(Ordering::Relaxed) && is_young(line));
        let full = self.lines.len() >= MAX_CONNECTIONS;
        let fewest = self.lines.iter_mut().min_by_key(|line| line.taken())?;
        if fewest.taken() >= fewest.sender.current_max_send_streams().min(MAX_STREAMS) && !full {
            return None;
        }
        fewest.used = Instant::now();
        Some(Connection::on(&fewest.sender, &fewest.seats))
    }

    /// Keeps a connection for others.
    pub fn add(&mut self, connection: &Connection) {
        let (sender, seats) = (connection.sender.clone(), Arc::clone(&connection.seats));
        let now = Instant::now();
        self.lines.push(Line { sender, seats, used: now, since: now });
    }

    /// Closes connections that nobody has used for as long.
    pub fn close_idle(&mut self, keep: Duration) {
        self.lines.retain(|line| line.taken() > 0 || line.used.elapsed() < keep);
    }
}

impl Line {
    fn taken(&self) -> usize {
        self.seats.taken.load(Ordering::Relaxed)
    }
}

impl Connection {
    /// Begins to speak HTTP/2, and waits until the origin has said what it takes.
    ///
    /// # Errors
    /// When it says something else.
    pub async fn open(stream: Stream) -> Result<Self, h2::Error> {
        let (sender, connection) = client::Builder::new()
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(STREAM_WINDOW * MAX_STREAMS as u32)
            .max_header_list_size(MAX_HEADER_BYTES)
            .initial_max_send_streams(UNTOLD)
            .handshake(stream)
            .await?;
        let seats = Arc::new(Seats { taken: AtomicUsize::new(0), closed: AtomicBool::new(false) });
        let (told, ready) = oneshot::channel();
        tokio::spawn(drive(connection, Arc::clone(&seats), told));
        match ready.await {
            Ok(Ok(())) => Ok(Connection::on(&sender, &seats)),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(Reason::CONNECT_ERROR.into()),
        }
    }

    fn on(sender: &SendRequest<Bytes>, seats: &Arc<Seats>) -> Self {
        seats.taken.fetch_add(1, Ordering::Relaxed);
        Connection { sender: sender.clone(), seats: Arc::clone(seats) }
    }

    /// Sends a request and waits for the head of its response. Its body may still be on its way then.
    ///
    /// # Errors
    /// When there is none. The body comes back when the origin has not touched the request, or when the
    /// connection is lost and the method is idempotent.
    pub async fn head(
        mut self,
        head: Request<()>,
        body: Payload,
        go: Option<&Go>,
        hear: Option<Hear<'_>>,
    ) -> Result<Response<Body>, Failure> {
        let ends = body.is_end_stream();
        let idempotent = head.method().is_idempotent();
        let spare = body.again();
        let (mut response, stream) = match self.sender.send_request(head, ends) {
            Ok(sent) => sent,
            Err(error) => {
                let fault = Fault { maybe_seen: false, ..broken(&error) };
                return Err(Failure { fault, unsent: Some(body), wants_http1: false });
            }
        };
        let mut upload = (!ends).then(|| Upload { stream, body, piece: Bytes::new(), touched: false });
        let outcome = poll_fn(|cx| {
            if let Poll::Ready(Err(fault)) = send(&mut upload, cx) {
                return Poll::Ready(Err((fault, Again::Never)));
            }
            if let Err(fault) = listen(&mut response, go, hear, cx) {
                return Poll::Ready(Err((fault, Again::Never)));
            }
            let response = ready!(Pin::new(&mut response).poll(cx));
            Poll::Ready(response.map_err(|error| {
                let again = match () {
                    () if wants_http1(&error) => Again::ByHttp1,
                    () if is_untouched(&error) || (idempotent && error.is_io()) => Again::Here,
                    () => Again::Never,
                };
                (broken(&error), again)
            }))
        });
        match outcome.await {
            Ok(response) => {
                let length = declared_length(response.headers().get_all(header::CONTENT_LENGTH).iter());
                let received = |stream| Received::new(stream, length);
                let upload = upload.filter(|_| !go.is_some_and(Go::waits));
                Ok(response.map(|stream| Body { received: received(stream), upload, _seat: self }))
            }
            Err((fault, Again::Never)) => Err(Failure { fault, unsent: None, wants_http1: false }),
            Err((fault, again)) => {
                let here = upload.filter(|upload| !upload.touched).map(|upload| upload.body);
                Err(Failure { fault, unsent: spare.or(here), wants_http1: again == Again::ByHttp1 })
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.seats.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The target of a request as h2 takes it; none when it has a byte that is not sent by HTTP/2.
pub fn target(bytes: &Bytes) -> Option<PathAndQuery> {
    let target = PathAndQuery::from_maybe_shared(bytes.clone()).ok()?;
    // It leaves out a fragment without a word.
    (target.as_str().len() == bytes.len()).then_some(target)
}

/// The fault of a target that is not sent by HTTP/2, where nothing else is spoken.
pub fn unfit_target(target: &[u8]) -> Fault {
    let is_text = std::str::from_utf8(target).is_ok();
    let mut is_query = false;
    let is_unfit = |byte| {
        is_query |= byte == b'?';
        let another = if is_query { b'"' } else { b'`' };
        matches!(byte, b'<' | b'>') || byte == another || (byte > 0x7F && !is_text)
    };
    let unfit =
        UnfitByte::first(target, is_unfit).map(|unfit| format!("{unfit}, as the origin speaks HTTP/2 alone"));
    let detail = unfit.unwrap_or_else(|| "the request target is none of HTTP/2".to_owned());
    Fault::new(Code::BadTarget, Side::Upstream, detail)
}

/// The head of a request as HTTP/2 has it: the `Host` header is the authority, and what frames an HTTP/1
/// message or concerns its connection is left out.
///
/// # Errors
/// When the `Host` header is no authority.
pub fn head(request: &outgoing::Request, target: PathAndQuery, scheme: Scheme) -> Result<Request<()>, Fault> {
    let mut head = Request::new(());
    let mut headers = HeaderMap::from(request.headers.clone());
    for name in [header::TRANSFER_ENCODING, header::CONNECTION, header::UPGRADE] {
        headers.remove(name);
    }
    let refused = |_| Fault::new(Code::BadRequest, Side::Upstream, "the Host header is not a host");
    let host = headers.remove(header::HOST);
    let mut parts = uri::Parts::default();
    parts.path_and_query = Some(target);
    parts.authority =
        Some(host.as_ref().map_or(&b""[..], |host| host.as_bytes()).try_into().map_err(refused)?);
    parts.scheme = Some(scheme);
    *head.uri_mut() = Uri::from_parts(parts)
        .map_err(|_| Fault::new(Code::BadTarget, Side::Upstream, "the request target is not a valid path"))?;
    if let Payload::Whole(body) = &request.payload
        && !body.is_empty()
    {
        headers.insert(header::CONTENT_LENGTH, body.len().into());
    }
    *head.method_mut() = request.method.clone();
    *head.headers_mut() = headers;
    *head.version_mut() = http::Version::HTTP_2;
    Ok(head)
}

impl Body {
    /// The next frame. What is left of the request's body is sent meanwhile.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        if let Poll::Ready(Err(fault)) = send(&mut self.upload, cx) {
            return Poll::Ready(Some(Err(fault)));
        }
        self.received.poll_frame(cx).map_err(|error| broken(&error))
    }

    /// Waits for the end of a response that has no content (RFC 9110 section 6.4.1), whose length may be another's.
    ///
    /// # Errors
    /// When content comes all the same, or the stream is reset before END_STREAM.
    pub async fn no_content(mut self, to_head: bool) -> Result<(), Fault> {
        if self.is_end_stream() {
            return Ok(());
        }
        let end = poll_fn(|cx| {
            if let Poll::Ready(Err(fault)) = send(&mut self.upload, cx) {
                return Poll::Ready(Err(fault));
            }
            match ready!(self.received.poll_frame(cx)) {
                Some(Ok(frame)) if frame.is_data() => Poll::Ready(Err(unexpected_content())),
                None | Some(Ok(_)) => Poll::Ready(Ok(())),
                // h2 misses the bytes of a length that tells of another response.
                Some(Err(error)) if !to_head && error.is_library() && error.is_reset() => Poll::Ready(Ok(())),
                Some(Err(error)) => Poll::Ready(Err(broken(&error))),
            }
        });
        end.await
    }

    /// What is known of the length that is left.
    pub fn size_hint(&self) -> SizeHint {
        self.received.size_hint()
    }

    /// Whether no frame will come, as far as is known.
    pub fn is_end_stream(&self) -> bool {
        self.received.is_end_stream()
    }
}

impl Body {
    /// Whether some of the request's body is still to be sent.
    pub fn is_sending(&self) -> bool {
        self.upload.is_some()
    }

    /// Sends what is left of the request's body, as far as the origin takes it.
    pub async fn sent(mut self) {
        // What goes wrong is the origin's matter: it has answered.
        poll_fn(|cx| send(&mut self.upload, cx)).await.ok();
    }
}

impl Upload {
    /// Sends as much as is here and as the origin has room for; ready when that was all.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        loop {
            // Who wants no more of it says so; why, the response tells.
            if self.stream.poll_reset(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            if !self.piece.is_empty() {
                self.stream.reserve_capacity(self.piece.len());
                while self.stream.capacity() == 0 {
                    let Some(Ok(_)) = ready!(self.stream.poll_capacity(cx)) else {
                        return Poll::Ready(Ok(()));
                    };
                }
                let part = self.piece.split_to(self.stream.capacity().min(self.piece.len()));
                let last = self.piece.is_empty() && self.body.is_end_stream();
                if self.stream.send_data(part, last).is_err() || last {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
            self.touched = true;
            match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => self.piece = data,
                Some(Ok(Err(frame))) => {
                    let trailers = trailers::sift(frame.into_trailers().unwrap_or_default());
                    self.stream.reserve_capacity(0);
                    self.stream.send_trailers(trailers).ok();
                    return Poll::Ready(Ok(()));
                }
                Some(Err(BodyCut(fault))) => {
                    self.stream.send_reset(Reason::CANCEL);
                    return Poll::Ready(Err(Fault { maybe_seen: true, ..fault }));
                }
                None => {
                    self.stream.send_data(Bytes::new(), true).ok();
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

/// Goes on with a request's body, if there is more of it.
fn send(upload: &mut Option<Upload>, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
    let Some(sending) = upload else { return Poll::Ready(Ok(())) };
    let sent = ready!(sending.poll(cx));
    *upload = None;
    Poll::Ready(sent)
}

/// Listens for interim responses. There is no 101 among them: HTTP/2 has no such thing (RFC 9113 section 8.6), and nothing
/// would follow it.
fn listen(
    response: &mut ResponseFuture,
    go: Option<&Go>,
    hear: Option<Hear<'_>>,
    cx: &mut Context<'_>,
) -> Result<(), Fault> {
    while let Poll::Ready(Some(Ok(interim))) = response.poll_informational(cx) {
        let (head, ()) = interim.into_parts();
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            let detail = "the origin switched protocols, which HTTP/2 does not know";
            return Err(Fault::new(Code::OriginBroken, Side::Upstream, detail));
        }
        if let Some(go) = go {
            go.on(head.status);
        }
        if let Some(hear) = hear {
            hear(head.status, head.headers.into());
        }
    }
    Ok(())
}

/// Drives a connection to its end, and tells once the origin has sent its settings.
async fn drive(
    mut connection: client::Connection<Stream, Bytes>,
    seats: Arc<Seats>,
    told: oneshot::Sender<Result<(), h2::Error>>,
) {
    let mut told = Some(told);
    let end = poll_fn(|cx| {
        let end = Pin::new(&mut connection).poll(cx);
        if connection.max_concurrent_send_streams() != UNTOLD
            && let Some(told) = told.take()
        {
            told.send(Ok(())).ok();
        }
        end
    })
    .await;
    seats.closed.store(true, Ordering::Relaxed);
    if let (Some(told), Err(error)) = (told, end) {
        told.send(Err(error)).ok();
    }
}

/// Whether a request that failed may be sent again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Again {
    /// No.
    Never,
    /// On another stream.
    Here,
    /// On a connection of HTTP/1.1.
    ByHttp1,
}

/// Whether the origin wants the request by HTTP/1.1, and not as it was (RFC 9113 section 7).
fn wants_http1(error: &h2::Error) -> bool {
    error.is_remote() && error.reason() == Some(Reason::HTTP_1_1_REQUIRED)
}

/// Whether the origin says that it has done nothing with the request (RFC 9113 sections 6.8 and 8.7).
fn is_untouched(error: &h2::Error) -> bool {
    let refused = error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
    error.is_remote() && (refused || error.is_go_away())
}

fn unexpected_content() -> Fault {
    let detail = "the origin's answer has content where its status or HEAD allows none";
    Fault::new(Code::OriginBroken, Side::Upstream, detail)
}

fn broken(error: &h2::Error) -> Fault {
    let untouched = is_untouched(error);
    let detail = match wants_http1(error) {
        true => "the origin wants HTTP/1.1 for this request: set --origin-http 1.1".to_owned(),
        false => format!("the origin's answer was not complete HTTP/2: {error}"),
    };
    let fault = Fault::new(Code::OriginBroken, Side::Upstream, detail);
    Fault { maybe_seen: fault.maybe_seen && !untouched, ..fault }
}

/// How much of one response waits here until it is read. All streams of a connection together may have as
/// much, so that one that nobody reads does not stop the others.
const STREAM_WINDOW: u32 = 256 * 1024;
/// Calls on one connection at most; the origin may allow fewer.
const MAX_STREAMS: usize = 100;
/// Connections at most; more calls wait on them.
const MAX_CONNECTIONS: usize = 16;
/// A response's header block at most.
const MAX_HEADER_BYTES: u32 = 256 * 1024;
/// What stands for a number of streams that the origin has not told yet.
const UNTOLD: usize = 0x7fff_fff1;
