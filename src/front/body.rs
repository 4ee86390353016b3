//! Bodies at the listener: a request's collected within limits, or begun; a response's whole or as it
//! arrives. What is in memory is counted against one budget.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::timeout;

use super::{
    http::Ask,
    incoming::{Broken, Incoming},
    rendezvous::Relayed,
    served::{Decision, Told},
};
use crate::{
    cache::fill::Follower,
    framing,
    stream::{
        Reader,
        collector::{Collected, Collector, Rules, Uncollected},
        memory::{Budget, Share, owned},
    },
    wire::{Code, Fault, Headers, Side},
};

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

/// Reads what goes into a request's message: a body of no more than `inline` bytes whole if it arrives soon after its
/// head, otherwise what is here already. With `expects`, nothing: to read is to ask the caller to send. What takes its
/// time counts together with the request's `head`.
///
/// # Errors
/// A fault when it is too large, breaks off, or does not fit in the budget.
pub async fn begin(
    mut body: Incoming,
    head: &Headers,
    limits: Limits,
    inline: usize,
    budget: &Budget,
) -> Result<Begun, Unread> {
    let hint = body.size_hint();
    let too_large = || too_large(limits.max);
    if hint.lower() > limits.max as u64 {
        return Err(too_large().into());
    }
    let expects = head.contains_key(header::EXPECT);
    let announced = hint.exact();
    let rules = Rules { most: limits.max, announced, pause: Some(limits.pause) };
    let mut collector = Collector::new(rules, budget.share());
    let is_small = announced.is_some_and(|bytes| bytes <= inline as u64) && !expects;
    // The rest may take as long as the caller likes, and follows in frames.
    let mut here = !expects;
    while here && !collector.is_ended() && collector.len() < inline {
        here = collector.now(&mut body).map_err(|why| unread(why, too_large))?;
    }
    if !collector.is_ended() {
        collector.beside(framing::size(head.iter()));
        if is_small {
            collector.within(&mut body, SOON).await.map_err(|why| unread(why, too_large))?;
        }
    }
    let ended = collector.is_ended();
    let collected = collector.collected().map_err(|why| unread(why, too_large))?;
    let Collected { mut bytes, mut trailers, hold } = collected;
    // The last part may be more than goes into the message.
    let ahead = bytes.split_off(bytes.len().min(inline));
    let whole = ended && ahead.is_empty();
    let rest = (!whole).then(|| Rest { ahead, body, trailers: std::mem::take(&mut trailers) });
    Ok(Begun { bytes, trailers, rest, share: Some(hold) })
}

/// Collects a body for those that need it whole, in memory of `budget`. It counts together with the request's `head`.
///
/// # Errors
/// A fault when it is `too_large`, stops arriving or trickles, breaks off, or does not fit in the budget.
pub async fn whole(
    mut body: Incoming,
    head: &Headers,
    limits: Limits,
    budget: &Budget,
    too_large: impl FnOnce() -> Fault,
) -> Result<Bytes, Unread> {
    let rules = Rules { most: limits.max, announced: body.size_hint().exact(), pause: Some(limits.pause) };
    let mut collector = Collector::new(rules, budget.share());
    collector.beside(framing::size(head.iter()));
    match collector.all(&mut body).await {
        Ok(collected) => Ok(collected.into_bytes()),
        Err(why) => {
            // To read of a caller that waits to be told to send would be to tell it.
            if !matches!(why, Uncollected::Broken(_)) && !head.contains_key(header::EXPECT) {
                tokio::spawn(linger(body));
            }
            Err(unread(why, too_large))
        }
    }
}

/// Reads on for a while and forgets: to close a connection on a caller that is still sending would take the answer from
/// it (RFC 9112 §9.6).
async fn linger(mut body: Incoming) {
    let reading = async { while let Ok(Some(Ok(_))) = timeout(LINGER_PAUSE, body.frame()).await {} };
    timeout(LINGER, reading).await.ok();
}

fn unread(why: Uncollected<Broken>, too_large: impl FnOnce() -> Fault) -> Unread {
    match why {
        Uncollected::TooLarge => too_large().into(),
        Uncollected::Refused(fault) => fault.into(),
        Uncollected::Broken(error) => unreadable(&error),
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
                // A reset drops what is not written yet of HTTP/2, the head included; when it has to
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
    share: Option<Share>,
}

impl Held {
    /// `bytes` and `trailers`, counted by `share`.
    pub fn new(bytes: Bytes, trailers: HeaderMap, share: Option<Share>) -> Self {
        let trailers = (!trailers.is_empty()).then_some(trailers);
        Held { bytes: (!bytes.is_empty()).then_some(bytes), trailers, share }
    }

    /// No body.
    pub fn empty() -> Self {
        Held { bytes: None, trailers: None, share: None }
    }

    /// The bytes, which own their share.
    pub fn into_bytes(self) -> Bytes {
        let bytes = self.bytes.unwrap_or_default();
        match self.share {
            Some(share) => owned(bytes, share),
            None => bytes,
        }
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

/// How long the rest of a small body may take for all of it to go into the request's message. Many callers write a head
/// and its body one after the other.
const SOON: Duration = Duration::from_millis(20);
/// How long a caller is read after it was refused at most, and how long it may pause then.
const LINGER: Duration = Duration::from_secs(30);
const LINGER_PAUSE: Duration = Duration::from_secs(5);
