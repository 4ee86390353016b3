//! The bytes of a connection, which its own task and whoever reads a request's body share: a body is read from the
//! connection by its reader, without a task in between. One of them reads at a time: the reader until the body has
//! ended or is dropped, then the connection.

use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::io::{AsyncRead, ReadBuf};

use super::half_closed::HalfClosed;
use crate::{
    framing::{
        body::{Body as Rest, Malformed},
        input::Input,
    },
    front::opening::Stream,
    sync::{Mutex, MutexGuard},
};

/// What a connection and a body share.
pub struct Link(Mutex<Shared>);

/// What is behind the lock.
pub struct Shared {
    /// The bytes; none when they are another's.
    pub stream: Option<Stream>,
    /// What has been read.
    pub input: Input,
    /// What is left of the request's body.
    pub body: Rest,
    /// Whether somebody may read it.
    held: bool,
    /// Whether what is left can't be read.
    broken: bool,
    /// Looks for a reset, once the caller has ended its side.
    half_closed: Option<Box<HalfClosed>>,
    go: Go,
    /// The task of whoever reads the body and waits for more.
    reader: Option<Waker>,
    /// The connection's own task, when it waits for the end of the body.
    connection: Option<Waker>,
}

/// Whether the caller waits until the body is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Go {
    /// He does not.
    Given,
    /// He does.
    Awaited,
    /// He is to be told.
    Due,
}

/// Why a body can't be read on.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// It is not framed as it should be, or the connection ended before it did.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The connection broke.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Broken {
    /// Whether the connection has ended.
    pub fn is_gone(&self) -> bool {
        matches!(self, Broken::Malformed(Malformed::Cut) | Broken::Io(_))
    }
}

/// How far a request's body has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// To its end.
    Done,
    /// Somebody may read on.
    Held,
    /// Nobody does, or nobody can.
    GivenUp,
}

impl Link {
    /// Around `stream`, of which nothing has been read.
    pub fn new(stream: Stream) -> Arc<Self> {
        Arc::new(Link(Mutex::new(Shared {
            stream: Some(stream),
            input: Input::default(),
            body: Rest::Ended,
            held: false,
            broken: false,
            half_closed: None,
            go: Go::Given,
            reader: None,
            connection: None,
        })))
    }

    /// Everything behind the lock.
    pub fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0.lock()
    }

    /// The body that follows the head that was read last, for whoever reads it.
    pub fn begin(self: &Arc<Self>, body: Rest, expects: bool) -> Body {
        let mut shared = self.lock();
        shared.body = body;
        shared.held = true;
        shared.go = if expects { Go::Awaited } else { Go::Given };
        Body { link: Some(Arc::clone(self)) }
    }

    /// The connection is over: so is what was to be read of it.
    pub fn close(&self) {
        let mut shared = self.lock();
        shared.stream = None;
        shared.reader.take().into_iter().for_each(Waker::wake);
    }
}

impl Shared {
    /// How far the request's body has been read.
    pub fn reading(&self) -> Reading {
        match (self.body.is_ended(), self.held) {
            _ if self.broken => Reading::GivenUp,
            (true, _) => Reading::Done,
            (false, true) => Reading::Held,
            (false, false) => Reading::GivenUp,
        }
    }

    /// Whether the caller is to be told now to send the body.
    pub fn takes_go(&mut self) -> bool {
        let due = self.go == Go::Due;
        if due {
            self.go = Go::Given;
        }
        due
    }

    /// Says how the connection ends when it is dropped.
    pub fn resets_when_dropped(&self, resets: bool) {
        self.stream.iter().for_each(|stream| stream.resets_when_dropped(resets));
    }

    /// To be woken when the body has ended, is dropped, or is asked for.
    pub fn wake_when_read(&mut self, cx: &Context<'_>) {
        set(&mut self.connection, cx);
    }

    /// The connection's task is awake and will look for itself.
    pub fn is_awake(&mut self) {
        self.connection = None;
    }

    /// Takes what is here of a body that nobody wants; says whether that was all of it.
    pub fn skips_rest(&mut self, cx: &mut Context<'_>) -> bool {
        // A caller that still waits to be told to send it may have sent it all the same, or not.
        for _ in 0..MOST_SKIPPED {
            if self.broken || self.body.is_ended() {
                break;
            }
            match self.body.take(&mut self.input.buffer) {
                Ok(Some(_)) => {}
                Ok(None) if self.body.is_ended() => {}
                Ok(None) => match self.poll_fill(cx) {
                    Poll::Ready(Ok(1..)) => {}
                    Poll::Ready(Ok(0) | Err(_)) | Poll::Pending => break,
                },
                Err(_) => self.broken = true,
            }
        }
        let all = !self.broken && self.body.is_ended();
        self.broken = !all;
        all
    }

    /// Reads more, and tells how much; nothing at the end.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Some(stream) => self.input.poll_fill(stream, cx),
            None => Poll::Ready(Ok(0)),
        }
    }

    /// Is ready when the caller is gone: its connection is reset. One that has only ended its side still waits for its
    /// answer (RFC 9112 section 9.6). What it says meanwhile is read once, and then no more.
    pub fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.input.buffer.is_empty() && self.half_closed.is_none() {
            return Poll::Pending;
        }
        if self.half_closed.is_none() {
            match ready!(self.poll_fill(cx)) {
                Ok(1..) => return Poll::Pending,
                Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Poll::Ready(()),
                // TLS may end without a word of its own.
                Ok(0) | Err(_) => {}
            }
        }
        let Some(stream) = &self.stream else { return Poll::Ready(()) };
        self.half_closed.get_or_insert_with(|| Box::new(HalfClosed::new(stream))).poll_reset(stream, cx)
    }

    /// Whether the caller has ended its side, as far as has been seen.
    pub fn is_half_closed(&self) -> bool {
        self.half_closed.is_some()
    }

    /// Reads and forgets; tells how much, nothing at the end.
    pub fn poll_forget(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(Ok(0)) };
        let mut room = [const { MaybeUninit::uninit() }; FORGOTTEN];
        let mut read = ReadBuf::uninit(&mut room);
        ready!(Pin::new(stream).poll_read(cx, &mut read))?;
        Poll::Ready(Ok(read.filled().len()))
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if self.go == Go::Awaited {
            self.go = Go::Due;
            self.tell();
        }
        loop {
            match self.body.take(&mut self.input.buffer) {
                Ok(None) if self.body.is_ended() => return Poll::Ready(None),
                Ok(None) => {}
                Ok(Some(frame)) => return Poll::Ready(Some(Ok(frame))),
                Err(malformed) => return Poll::Ready(Some(Err(malformed.into()))),
            }
            match self.poll_fill(cx) {
                Poll::Ready(Ok(1..)) => {}
                Poll::Ready(Ok(0)) => return Poll::Ready(Some(Err(Malformed::Cut.into()))),
                Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                Poll::Pending => {
                    set(&mut self.reader, cx);
                    return Poll::Pending;
                }
            }
        }
    }

    /// Nobody reads the body any more.
    fn let_go(&mut self) {
        self.held = false;
        self.reader = None;
        if self.input.buffer.is_empty() {
            // What comes next is small again.
            self.input.reset();
        }
        self.tell();
    }

    /// Wakes the connection's task, if it waits.
    fn tell(&mut self) {
        self.connection.take().into_iter().for_each(Waker::wake);
    }
}

fn set(waker: &mut Option<Waker>, cx: &Context<'_>) {
    match waker {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *waker = Some(cx.waker().clone()),
    }
}

/// The body of a request.
pub struct Body {
    /// None once it has ended: what follows on the connection is another's.
    link: Option<Arc<Link>>,
}

impl Body {
    /// The next frame.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let Some(link) = &self.link else { return Poll::Ready(None) };
        let mut shared = link.lock();
        let frame = ready!(shared.poll_frame(cx));
        shared.broken = matches!(frame, Some(Err(_)));
        if shared.broken || shared.body.is_ended() {
            shared.let_go();
            drop(shared);
            self.link = None;
        }
        Poll::Ready(frame)
    }

    /// Whether no frame will come, as far as is known.
    pub fn is_end_stream(&self) -> bool {
        self.link.is_none()
    }

    /// What is known of the length that is left.
    pub fn size_hint(&self) -> SizeHint {
        self.link.as_ref().map_or(SizeHint::with_exact(0), |link| link.lock().body.size_hint())
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if let Some(link) = &self.link {
            link.lock().let_go();
        }
    }
}

/// Parts of an unwanted body that are read at most, in the hope of its end.
const MOST_SKIPPED: usize = 8;
/// Bytes that are read at once and forgotten.
const FORGOTTEN: usize = 4096;
