//! What stands between hyper and the bytes of an HTTP/1 connection.
//!
//! hyper answers by itself what it cannot read as a request, with an empty body, and tells nobody. Such an
//! answer is known by when it comes: nothing was asked since everything was sent. Ours goes out instead.
//! Requests with two framings are noticed ([`super::framing`]), and small writes are sent in one piece.

use std::{
    io::{self, IoSlice, Write},
    mem::MaybeUninit,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use futures_util::FutureExt;
use http::StatusCode;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, SizeHint};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};

use super::{
    body::Held, framing::Framing, message::Response, opening::Stream, rendezvous::delivery::Delivery,
};

/// What a connection's service and its bytes know of each other.
#[derive(Clone, Default)]
pub struct Conversation(Arc<Shared>);

#[derive(Default)]
struct Shared {
    phase: AtomicU8,
    /// Requests that the service was given.
    asked: AtomicU64,
    /// The request that has two framings, or 0.
    doubled: AtomicU64,
    /// The message of a session that is being answered with.
    delivery: Mutex<Option<Delivery>>,
    delivers: AtomicBool,
}

/// Nothing is asked, and the last answer was given whole.
const IDLE: u8 = 0;
/// A request is with the service, or its answer is on its way.
const ANSWERING: u8 = 1;
/// It is no longer HTTP.
const TUNNEL: u8 = 2;

/// Whether the end of a request is beyond doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framed {
    /// It is.
    Once,
    /// It has two framings.
    Twice,
}

impl Conversation {
    /// A request is given to the service.
    pub fn ask(&self) -> Framed {
        let shared = &*self.0;
        // One task does all of this: the order among the fields is its own.
        shared.phase.store(ANSWERING, Ordering::Relaxed);
        let asked = shared.asked.load(Ordering::Relaxed) + 1;
        shared.asked.store(asked, Ordering::Relaxed);
        if shared.doubled.load(Ordering::Relaxed) == asked { Framed::Twice } else { Framed::Once }
    }

    /// The service gives `response`.
    pub fn answer<B>(&self, mut response: Response<B>) -> http::Response<Answer<B>> {
        if let Some(delivery) = response.delivery.take() {
            delivery.attach();
            *self.delivery() = Some(delivery);
            self.0.delivers.store(true, Ordering::Relaxed);
        }
        if response.status == StatusCode::SWITCHING_PROTOCOLS {
            self.0.phase.store(TUNNEL, Ordering::Relaxed);
        }
        let nth = self.0.asked.load(Ordering::Relaxed);
        response.map(|body| Answer { body, _until: Until { nth, shared: Arc::clone(&self.0) } }).into()
    }
}

impl Conversation {
    fn delivery(&self) -> std::sync::MutexGuard<'_, Option<Delivery>> {
        self.0.delivery.lock().expect("no panic while a delivery is looked at")
    }

    fn delivers(&self) -> bool {
        self.0.delivers.load(Ordering::Relaxed)
    }

    fn wrote(&self, bytes: usize) {
        if self.delivers()
            && let Some(delivery) = &*self.delivery()
        {
            delivery.wrote(bytes);
        }
    }

    fn flushed(&self) {
        if !self.delivers() {
            return;
        }
        let mut delivery = self.delivery();
        if delivery.as_ref().is_some_and(Delivery::flushed) {
            *delivery = None;
            self.0.delivers.store(false, Ordering::Relaxed);
        }
    }

    /// Whether the last chunk, which is to be written now, is to have a trailer.
    fn cuts(&self, written: &[u8]) -> bool {
        self.delivers()
            && written.starts_with(LAST_CHUNK)
            && self.delivery().as_ref().is_some_and(Delivery::takes_trailer)
    }
}

/// A response's body, by which it is known when all of it was given.
pub struct Answer<B> {
    body: B,
    _until: Until,
}

struct Until {
    nth: u64,
    shared: Arc<Shared>,
}

impl Drop for Until {
    fn drop(&mut self) {
        let Shared { phase, asked, .. } = &*self.shared;
        if phase.load(Ordering::Relaxed) == ANSWERING && asked.load(Ordering::Relaxed) == self.nth {
            phase.store(IDLE, Ordering::Relaxed);
        }
    }
}

impl<B: Body + Unpin> Body for Answer<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The bytes of an HTTP/1 connection.
pub struct Guard<F> {
    stream: Stream,
    conversation: Conversation,
    framing: Framing,
    /// How many requests there had been when everything was last sent.
    sent: Option<u64>,
    /// What is answered to a request that hyper refuses with a status.
    refuse: F,
    refusal: Refusal,
    /// The end of a message that breaks off, as far as it is still to be sent.
    cut: &'static [u8],
}

/// Our answer in place of hyper's.
enum Refusal {
    /// There was no need.
    None,
    /// So much of it is still to be sent.
    Sending(Bytes),
    /// It is sent; what the caller still sends is read and forgotten.
    Lingering { left: usize, until: Pin<Box<Sleep>> },
}

impl<F: FnMut(StatusCode) -> Response<Held>> Guard<F> {
    /// Around `stream`, whose service takes part in `conversation`.
    pub fn new(stream: Stream, conversation: Conversation, refuse: F) -> Self {
        Guard {
            stream,
            conversation,
            framing: Framing::default(),
            sent: Some(0),
            refuse,
            refusal: Refusal::None,
            cut: &[],
        }
    }

    fn phase(&self) -> u8 {
        self.conversation.0.phase.load(Ordering::Relaxed)
    }

    /// Whether what hyper is about to write is a refusal of its own; then ours is to be sent.
    fn replaces(&mut self, message: &[u8]) -> bool {
        // A request since then, even one that is answered already, makes it the service's.
        let asked = self.conversation.0.asked.load(Ordering::Relaxed);
        let is_own = self.sent.take() == Some(asked) && self.phase() == IDLE;
        let status = message.get(9..12).filter(|_| is_own && message.starts_with(b"HTTP/1."));
        let Some(status) = status.and_then(|status| StatusCode::from_bytes(status).ok()) else {
            return false;
        };
        if !status.is_client_error() {
            return false;
        }
        let response = (self.refuse)(status);
        self.refusal = Refusal::Sending(encode(response, message));
        true
    }

    /// Sends what is ours.
    fn poll_refusal(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.cut.is_empty() {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, self.cut))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.cut = &self.cut[written..],
            }
        }
        while let Refusal::Sending(bytes) = &mut self.refusal {
            if bytes.is_empty() {
                self.refusal =
                    Refusal::Lingering { left: LINGER_BYTES, until: Box::pin(tokio::time::sleep(LINGER)) };
                break;
            }
            match ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => bytes.advance(written),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads what the caller still sends: closing before would reset the connection, and the caller might
    /// lose the answer that he has not read yet (RFC 9112 §9.6).
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Refusal::Lingering { left, until } = &mut self.refusal else { return Poll::Ready(()) };
        loop {
            let mut space = [MaybeUninit::uninit(); FLAT];
            let mut read = ReadBuf::uninit(&mut space);
            match Pin::new(&mut self.stream).poll_read(cx, &mut read) {
                Poll::Ready(Ok(())) if !read.filled().is_empty() && *left > read.filled().len() => {
                    *left -= read.filled().len();
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return until.as_mut().poll_unpin(cx),
            }
        }
    }
}

impl<F: FnMut(StatusCode) -> Response<Held> + Unpin> AsyncRead for Guard<F> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let guard = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut guard.stream).poll_read(cx, buf))?;
        if guard.phase() != TUNNEL {
            guard.framing.read(&buf.filled()[before..]);
            if let Some(nth) = guard.framing.doubled() {
                guard.conversation.0.doubled.store(nth, Ordering::Relaxed);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<F: FnMut(StatusCode) -> Response<Held> + Unpin> AsyncWrite for Guard<F> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let guard = self.get_mut();
        if guard.sent.is_some() && guard.replaces(buf) {
            return Poll::Ready(Ok(buf.len()));
        }
        ready!(guard.poll_refusal(cx))?;
        if guard.conversation.cuts(buf) {
            guard.cut = CUT;
            return Poll::Ready(Ok(LAST_CHUNK.len()));
        }
        let written = ready!(Pin::new(&mut guard.stream).poll_write(cx, buf))?;
        guard.conversation.wrote(written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let guard = self.get_mut();
        let total: usize = bufs.iter().map(|buf| buf.len()).sum();
        if guard.sent.is_some() && guard.replaces(bufs.first().map_or(&[], |buf| buf)) {
            return Poll::Ready(Ok(total));
        }
        ready!(guard.poll_refusal(cx))?;
        if guard.conversation.cuts(bufs.iter().find(|buf| !buf.is_empty()).map_or(&[], |buf| buf)) {
            guard.cut = CUT;
            return Poll::Ready(Ok(LAST_CHUNK.len()));
        }
        let stream = Pin::new(&mut guard.stream);
        let written = ready!(match bufs {
            [one] => stream.poll_write(cx, one),
            // A copy on the stack and `send` cost less than `writev`.
            bufs if total <= FLAT => {
                let mut space = [MaybeUninit::uninit(); FLAT];
                let mut flat = ReadBuf::uninit(&mut space);
                bufs.iter().for_each(|buf| flat.put_slice(buf));
                stream.poll_write(cx, flat.filled())
            }
            bufs => stream.poll_write_vectored(cx, bufs),
        })?;
        guard.conversation.wrote(written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let guard = self.get_mut();
        ready!(guard.poll_refusal(cx))?;
        // hyper flushes when it has handed over all it has.
        guard.sent = (guard.phase() == IDLE).then(|| guard.conversation.0.asked.load(Ordering::Relaxed));
        ready!(Pin::new(&mut guard.stream).poll_flush(cx))?;
        guard.conversation.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let guard = self.get_mut();
        ready!(guard.poll_refusal(cx))?;
        ready!(Pin::new(&mut guard.stream).poll_shutdown(cx))?;
        ready!(guard.poll_linger(cx));
        Poll::Ready(Ok(()))
    }
}

/// The bytes of `response`, with the date of the message that it replaces.
fn encode(response: Response<Held>, replaced: &[u8]) -> Bytes {
    let Response { status, headers, mut body, .. } = response;
    let mut bytes = Vec::with_capacity(1024);
    // Writing to a vector can't fail.
    let _ = write!(bytes, "HTTP/1.1 {}\r\n", status);
    for (name, value) in &headers {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            bytes.extend_from_slice(part);
        }
    }
    let mut lines = replaced.split_inclusive(|&b| b == b'\n');
    bytes.extend_from_slice(
        lines
            .find(|line| line.get(..6).is_some_and(|name| name.eq_ignore_ascii_case(b"date: ")))
            .unwrap_or_default(),
    );
    bytes.extend_from_slice(b"\r\n");
    // It is in memory.
    while let Some(Some(Ok(frame))) = body.frame().now_or_never() {
        bytes.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
    }
    bytes.into()
}

/// The end of a body in chunks, as hyper writes it and as one that breaks off has it.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
const CUT: &[u8] = b"0\r\nX-Relay-Incomplete: 1\r\n\r\n";
/// Writes of several parts up to this size are sent as one.
const FLAT: usize = 4096;
/// What is read after a refusal, at most.
const LINGER_BYTES: usize = 1024 * 1024;
/// How long, at most.
const LINGER: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use http_body_util::Empty;

    use super::*;

    #[test]
    fn a_conversation_is_idle_when_its_last_answer_is_given() {
        let conversation = Conversation::default();
        assert_eq!(conversation.ask(), Framed::Once);
        let first = conversation.answer(Response::new(Empty::<Bytes>::new()));
        assert_eq!(phase(&conversation), ANSWERING);
        conversation.ask();
        drop(first);
        assert_eq!(phase(&conversation), ANSWERING, "the second is still to be answered");
        drop(conversation.answer(Response::new(Empty::<Bytes>::new())));
        assert_eq!(phase(&conversation), IDLE);
    }

    #[test]
    fn a_tunnel_stays_one() {
        let conversation = Conversation::default();
        conversation.ask();
        let mut switched = Response::new(Empty::<Bytes>::new());
        switched.status = StatusCode::SWITCHING_PROTOCOLS;
        drop(conversation.answer(switched));
        assert_eq!(phase(&conversation), TUNNEL);
    }

    fn phase(conversation: &Conversation) -> u8 {
        conversation.0.phase.load(Ordering::Relaxed)
    }
}
