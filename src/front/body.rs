//! Bodies at the listener: a request's read whole within limits, or begun; a response's whole or as it
//! arrives. What is in memory is counted against one budget.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt;
use http::HeaderMap;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, SizeHint};

use super::{
    http::Ask,
    incoming::{Broken, Incoming},
    rendezvous::Relayed,
    served::{Decision, Told},
};
use crate::{
    cache::fill::Follower,
    stream::{Gathered, Reader},
    wire::{Code, Fault, Side},
};

/// Bytes of bodies that one process may hold.
#[derive(Clone)]
pub struct Budget {
    left: Arc<AtomicUsize>,
    limit: usize,
}

/// A share of a [`Budget`], given back when it is dropped.
pub struct Share {
    left: Arc<AtomicUsize>,
    bytes: usize,
}

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Budget { left: Arc::new(AtomicUsize::new(limit)), limit }
    }

    /// Takes `bytes`.
    ///
    /// # Errors
    /// A fault when there are not that many left.
    pub fn take(&self, bytes: usize) -> Result<Share, Fault> {
        let taken =
            self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes));
        match taken {
            Ok(_) => Ok(Share { left: Arc::clone(&self.left), bytes }),
            Err(_) => {
                let detail =
                    format!("{} bytes of bodies are in memory, the limit of --max-buffered", self.limit);
                Err(Fault::new(Code::ClientFull, Side::Client, detail))
            }
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.left.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

/// What a body is held to.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes at most.
    pub max: usize,
    /// How long the sender may pause.
    pub pause: Duration,
}

/// A request's body, as far as it goes into the request's message.
pub struct Begun {
    /// The whole body, or its beginning.
    pub bytes: Bytes,
    /// Trailers of a whole body.
    pub trailers: HeaderMap,
    /// The rest, when it is to be streamed.
    pub rest: Option<Rest>,
    /// What it takes of the budget.
    pub share: Option<Share>,
}

/// What of a request's body does not go into its message.
pub struct Rest {
    /// What is here already.
    pub ahead: Bytes,
    /// Where more of it comes from.
    pub body: Incoming,
    /// Trailers, when they are here already.
    pub trailers: HeaderMap,
}

impl Begun {
    /// No body.
    pub fn nothing() -> Self {
        Begun { bytes: Bytes::new(), trailers: HeaderMap::new(), rest: None, share: None }
    }
}

/// Reads what goes into a request's message: a body of no more than `inline` bytes whole, otherwise what is
/// here already. With `expects`, nothing: to read is to ask the caller to send.
///
/// # Errors
/// A fault when it is too large, stops arriving, breaks off, or does not fit in the budget.
pub async fn begin(
    mut body: Incoming,
    expects: bool,
    limits: Limits,
    inline: usize,
    budget: &Budget,
) -> Result<Begun, Unread> {
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > limits.max {
        return Err(too_large(limits.max).into());
    }
    let sized = body.size_hint().exact().is_some();
    let whole = sized && announced <= inline && !expects;
    let room = if whole { announced } else { inline };
    let mut share = budget.take(room)?;
    let mut gathered = Gathered::with_room(announced.min(room));
    let mut trailers = HeaderMap::new();
    let mut ended = false;
    while !ended && !expects && gathered.len() < inline {
        let frame = if whole {
            next(&mut body, limits.pause).await?
        } else {
            // What is not here yet may take as long as the caller likes, and follows in frames.
            match body.frame().now_or_never() {
                Some(frame) => frame.transpose().map_err(|error| unreadable(&error))?,
                None => break,
            }
        };
        match frame.map(Frame::into_data) {
            None => ended = true,
            Some(Ok(data)) => gathered.push(data),
            Some(Err(frame)) => trailers = frame.into_trailers().unwrap_or_default(),
        }
        ended |= body.is_end_stream();
    }
    let mut bytes = gathered.freeze();
    if bytes.len() > limits.max {
        return Err(too_large(limits.max).into());
    }
    share.fit(bytes.len());
    // The last part may be more than goes into the message.
    let ahead = bytes.split_off(bytes.len().min(inline));
    let whole = ended && ahead.is_empty();
    let rest = (!whole).then(|| Rest { ahead, body, trailers: std::mem::take(&mut trailers) });
    Ok(Begun { bytes, trailers, rest, share: Some(share) })
}

impl Share {
    /// Gives back what `bytes` do not need. The last part may be larger than what was foreseen, by no more than
    /// what one read brings; that much more is not refused now.
    fn fit(&mut self, bytes: usize) {
        let spare = self.bytes.saturating_sub(bytes);
        self.bytes -= spare;
        self.left.fetch_add(spare, Ordering::Relaxed);
    }
}

/// The next part of a body, whose sender may pause for `pause`.
///
/// # Errors
/// A fault when it pauses for longer, or breaks off.
async fn next(body: &mut Incoming, pause: Duration) -> Result<Option<Frame<Bytes>>, Unread> {
    match tokio::time::timeout(pause, body.frame()).await {
        Ok(frame) => frame.transpose().map_err(|error| unreadable(&error)),
        Err(_) => Err(paused(pause).into()),
    }
}

/// Why a request's body was not read to its end.
pub struct Unread {
    /// What is answered, should there be somebody.
    pub fault: Fault,
    /// Whether the caller went away.
    pub gone: bool,
}

impl From<Fault> for Unread {
    fn from(fault: Fault) -> Self {
        Unread { fault, gone: false }
    }
}

/// What comes of a body that breaks off, or is not framed as HTTP frames bodies.
pub fn unreadable(error: &Broken) -> Unread {
    let detail = format!("the request's body could not be read: {error}");
    Unread { fault: Fault::new(Code::BadRequest, Side::Client, detail), gone: error.is_gone() }
}

/// The fault of a body that stopped arriving.
pub fn paused(pause: Duration) -> Fault {
    let pause = humantime::format_duration(pause);
    let detail = format!("nothing of the request's body came for {pause} (--body-timeout)");
    Fault::new(Code::BodyTimeout, Side::Client, detail)
}

/// The fault of a body that arrives too slowly.
pub fn trickled(least: usize, pause: Duration) -> Fault {
    let pause = humantime::format_duration(pause);
    let detail = format!("less than {least} bytes of the request's body came in {pause} (--body-timeout)");
    Fault::new(Code::BodyTimeout, Side::Client, detail)
}

/// The fault of a body over the limit.
pub fn too_large(max: usize) -> Fault {
    let detail = format!("the request's body is over {max} bytes, the limit of --max-body");
    Fault::new(Code::BodyTooLarge, Side::Client, detail)
}

/// A response's body.
pub enum Outgoing<A: Ask> {
    /// Here as a whole.
    Whole(Held),
    /// From the cache.
    Stored(Stored),
    /// Still arriving.
    Streamed(Box<Streamed<A>>),
    /// What somebody sends in a session.
    Relayed(Box<Relayed<A>>),
}

/// Where a body comes from.
pub enum Source {
    /// From its upstream agent.
    Agent(Reader),
    /// From the cache, which is storing it.
    Cache(Follower),
}

impl Source {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        match self {
            Source::Agent(reader) => reader.poll_lent(cx),
            Source::Cache(follower) => follower.poll_data(cx),
        }
    }

    fn is_finished(&self) -> bool {
        match self {
            Source::Agent(reader) => reader.is_finished(),
            Source::Cache(follower) => follower.is_finished(),
        }
    }
}

/// A body of the cache, or a part of one.
pub struct Stored {
    pieces: VecDeque<Bytes>,
    left: u64,
}

impl Stored {
    /// These pieces.
    pub fn new(pieces: VecDeque<Bytes>) -> Self {
        let left = pieces.iter().map(|piece| piece.len() as u64).sum();
        Stored { pieces, left }
    }

    /// Bytes that are left.
    pub fn len(&self) -> u64 {
        self.left
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }

    fn next(&mut self) -> Option<Frame<Bytes>> {
        let piece = self.pieces.pop_front()?;
        self.left -= piece.len() as u64;
        Some(Frame::data(piece))
    }
}

/// A response's body that is still arriving; with it ends the request.
pub struct Streamed<A: Ask> {
    first: Option<Bytes>,
    source: Source,
    /// What it ends with when nothing breaks it off.
    end: Decision,
    /// What broke it off, until what came before is written.
    broken: Option<Fault>,
    told: Told<A>,
}

impl<A: Ask> Streamed<A> {
    /// The body that begins with `first` and goes on with what `source` has.
    pub fn new(first: Bytes, source: Source, end: Decision, told: Told<A>) -> Self {
        Streamed { first: (!first.is_empty()).then_some(first), source, end, broken: None, told }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        if let Some(fault) = self.broken.take() {
            return Poll::Ready(Some(Err(fault)));
        }
        let frame = match self.first.take() {
            Some(first) => Some(Ok(Frame::data(first))),
            None => ready!(self.source.poll_data(cx)),
        };
        match &frame {
            Some(Ok(frame)) => {
                self.told.served.bytes_out += frame.data_ref().map_or(0, Bytes::len) as u64;
            }
            Some(Err(fault)) => {
                self.told.cut(fault);
                // At an error hyper drops what it has not written of HTTP/2, the head included; when it has to
                // wait, it writes first.
                self.broken = Some(fault.clone());
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            None => {}
        }
        // Nobody asks for more than the bytes that Content-Length announced.
        if self.source.is_finished() {
            self.told.served.decision = self.end;
        }
        Poll::Ready(frame)
    }
}

impl<A: Ask> Body for Outgoing<A> {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        match self.get_mut() {
            Outgoing::Whole(held) => Poll::Ready(held.next().map(Ok)),
            Outgoing::Stored(stored) => Poll::Ready(stored.next().map(Ok)),
            Outgoing::Streamed(streamed) => streamed.poll(cx),
            Outgoing::Relayed(relayed) => relayed.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Outgoing::Whole(held) => held.is_end_stream(),
            Outgoing::Stored(stored) => stored.is_empty(),
            Outgoing::Streamed(streamed) => streamed.first.is_none() && streamed.source.is_finished(),
            Outgoing::Relayed(relayed) => relayed.is_over(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Outgoing::Whole(held) => held.size_hint(),
            Outgoing::Stored(stored) => SizeHint::with_exact(stored.len()),
            Outgoing::Streamed(_) | Outgoing::Relayed(_) => SizeHint::default(),
        }
    }
}

/// A whole body, and its share of the budget until the caller has it.
pub struct Held {
    bytes: Option<Bytes>,
    trailers: Option<HeaderMap>,
    _share: Option<Share>,
}

impl Held {
    /// `bytes` and `trailers`, counted by `share`.
    pub fn new(bytes: Bytes, trailers: HeaderMap, share: Option<Share>) -> Self {
        let trailers = (!trailers.is_empty()).then_some(trailers);
        Held { bytes: (!bytes.is_empty()).then_some(bytes), trailers, _share: share }
    }

    /// No body.
    pub fn empty() -> Self {
        Held { bytes: None, trailers: None, _share: None }
    }

    /// The bytes.
    pub fn into_bytes(self) -> Bytes {
        self.bytes.unwrap_or_default()
    }

    /// The bytes, when there is nothing else.
    pub fn only_bytes(&self) -> Option<&[u8]> {
        self.trailers.is_none().then(|| self.bytes.as_deref().unwrap_or_default())
    }

    fn next(&mut self) -> Option<Frame<Bytes>> {
        self.bytes.take().map(Frame::data).or_else(|| self.trailers.take().map(Frame::trailers))
    }
}

impl Body for Held {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(self.next().map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let bytes = self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64);
        // Trailers need chunked framing, which a known length would rule out.
        if self.trailers.is_some() { SizeHint::default() } else { SizeHint::with_exact(bytes) }
    }
}
