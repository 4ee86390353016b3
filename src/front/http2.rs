//! HTTP/2 to callers (RFC 9113), spoken by hyper. What is added here is time: a caller may keep a stream open and take
//! nothing of it, by its flow control, while its connection lives. hyper asks a body for more only when more may be
//! sent. So a response that waits while its body does not is one that its caller stalls; after a while its stream is
//! reset.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use hyper::{
    body::{Body, Frame, SizeHint},
    rt::Executor,
};

use super::{patience::Patience, stalled};

/// Runs the requests of a connection.
#[derive(Clone)]
pub struct Requests {
    limit: Duration,
    /// Told of a caller that took nothing for so long.
    stalled: Arc<dyn Fn() + Send + Sync>,
}

impl Requests {
    /// A caller may take nothing for `limit`; then `stalled` is told.
    pub fn new(limit: Duration, stalled: impl Fn() + Send + Sync + 'static) -> Self {
        Requests { limit, stalled: Arc::new(stalled) }
    }
}

impl<F> Executor<F> for Requests
where
    F: Future + Send + 'static,
{
    fn execute(&self, request: F) {
        let Requests { limit, stalled } = self.clone();
        tokio::spawn(async move {
            if !in_time(request, limit).await {
                stalled();
            }
        });
    }
}

/// Runs `request` to its end, unless its caller takes nothing for `limit`: then it is dropped, which resets the stream.
async fn in_time(request: impl Future, limit: Duration) -> bool {
    let mut request = Box::pin(request);
    let mut patience = Patience::new(limit);
    let ended = poll_fn(|cx| {
        TURN.set(Turn::Nothing);
        if request.as_mut().poll(cx).is_ready() {
            return Poll::Ready(true);
        }
        match TURN.get() {
            // Whoever answers has nothing yet.
            Turn::Waits => {
                patience.rest();
                return Poll::Pending;
            }
            Turn::Sent => patience.rest(),
            Turn::Nothing => {}
        }
        patience.poll(cx).map(|()| false)
    })
    .await;
    stalled::drop_body(!ended, request);
    ended
}

/// What a request did when it was last looked at.
#[derive(Clone, Copy)]
enum Turn {
    /// It was not asked for anything.
    Nothing,
    /// It gave a part of its response.
    Sent,
    /// It waits for its response, or for the next part of it.
    Waits,
}

thread_local! {
    static TURN: Cell<Turn> = const { Cell::new(Turn::Nothing) };
}

/// What `answer` comes to; while it does not, nobody waits for the caller.
pub async fn awaited<F: Future>(answer: F) -> F::Output {
    let mut answer = pin!(answer);
    poll_fn(|cx| noted(answer.as_mut().poll(cx))).await
}

/// Notes that nothing is here yet, if so.
fn noted<T>(polled: Poll<T>) -> Poll<T> {
    TURN.set(if polled.is_pending() { Turn::Waits } else { Turn::Sent });
    polled
}

/// A response's body, in parts small enough for each to be progress. It ends only when all has been asked for: by then
/// the caller has made room for it, and nothing of it is kept for a caller that does not.
pub struct Parts<B> {
    body: B,
    rest: Bytes,
    /// Whether the end may be told with the last part.
    small: bool,
}

impl<B: Body<Data = Bytes>> Parts<B> {
    /// The parts of `body`.
    pub fn new(body: B) -> Self {
        let small = body.size_hint().exact().is_some_and(|bytes| bytes <= PART as u64);
        Parts { body, rest: Bytes::new(), small }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Parts<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        if this.rest.is_empty() {
            match ready!(noted(Pin::new(&mut this.body).poll_frame(cx)))
                .map(|frame| frame.map(Frame::into_data))
            {
                Some(Ok(Ok(data))) => this.rest = data,
                Some(Ok(Err(frame))) => return Poll::Ready(Some(Ok(frame))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
        TURN.set(Turn::Sent);
        let part = match this.rest.len() {
            ..=PART => std::mem::take(&mut this.rest),
            _ => this.rest.split_to(PART),
        };
        Poll::Ready(Some(Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.small && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.body.size_hint().exact() {
            Some(bytes) => SizeHint::with_exact(bytes + self.rest.len() as u64),
            None => SizeHint::default(),
        }
    }
}

/// Bytes of a part at most: what HTTP/2 sends in one frame unless it is told otherwise.
const PART: usize = 16 * 1024;
