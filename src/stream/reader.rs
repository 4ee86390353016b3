//! The receiving end of a stream: a body for whoever wants one.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};

use super::{
    State, Stream,
    collector::{Collector, Rules},
    loan,
    memory::Hold,
};
use crate::wire::{Fault, Side, Word};

/// What is received. Dropping it before its end tells the other side: at a client agent the request is not
/// wanted any more, at an upstream agent the rest of the request's body is not.
pub struct Reader {
    stream: Arc<Stream>,
    ended: bool,
}

impl Reader {
    pub(super) fn new(stream: Arc<Stream>) -> Self {
        Reader { stream, ended: false }
    }

    /// Whose side it is.
    pub fn side(&self) -> Side {
        self.stream.streams.side
    }

    /// Whether the body has been read to its end; a cut is none.
    pub fn is_finished(&self) -> bool {
        let state = self.stream.state();
        self.ended && state.cut.is_none()
            || state.last.as_ref().is_some_and(HeaderMap::is_empty) && state.queue.is_empty()
    }

    /// `first` and all that follows, for those that need it whole: no more than `most` bytes, which own what they take of
    /// `hold`. `announced` is how many there are, if that is known.
    ///
    /// # Errors
    /// When it is cut or `too_large`, or there is no memory for it.
    pub async fn whole(
        mut self,
        first: Bytes,
        (most, announced): (usize, Option<u64>),
        hold: impl Hold,
        too_large: impl Fn() -> Fault,
    ) -> Result<Bytes, Fault> {
        let mut collector = Collector::new(Rules { most, announced, pause: None }, hold);
        collector.push(first).map_err(|why| why.fault(&too_large))?;
        let collected = collector.all(&mut self).await.map_err(|why| why.fault(too_large))?;
        Ok(collected.into_bytes())
    }

    /// The next part, for whoever keeps it or is done with it at once: the other side may send as many bytes again.
    /// `None` at the end.
    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        self.poll(cx, |stream, state, data| {
            stream.give_back(state, data.len() as u64);
            data
        })
    }

    /// The next part, for whoever writes it to a connection: the other side may send as many bytes again once it is
    /// written, and so dropped. `None` at the end.
    pub fn poll_lent(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        self.poll(cx, loan::lend)
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        take: impl FnOnce(&Arc<Stream>, &mut State, Bytes) -> Bytes,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let mut state = self.stream.state();
        // What came before a cut is passed on first: the caller may have use for it.
        if let Some(data) = state.queue.pop() {
            return Poll::Ready(Some(Ok(Frame::data(take(&self.stream, &mut state, data)))));
        }
        if let Some(trailers) = state.last.take() {
            self.ended = true;
            return Poll::Ready(some_trailers(trailers));
        }
        if let Some(fault) = &state.cut {
            self.ended = true;
            return Poll::Ready(Some(Err(fault.clone())));
        }
        state.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}

fn some_trailers(trailers: HeaderMap) -> Option<Result<Frame<Bytes>, Fault>> {
    (!trailers.is_empty()).then(|| Ok(Frame::trailers(trailers)))
}

impl Body for Reader {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        self.get_mut().poll_lent(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.is_finished()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.stream.state();
        state.queue.clear();
        if state.flow.is_receiving() && state.cut.is_none() {
            match self.stream.streams.side {
                Side::Client => {
                    drop(state);
                    let gone = Fault::new(crate::wire::Code::StreamCut, Side::Client, "the caller went away");
                    self.stream.fail(gone);
                    return;
                }
                Side::Broker | Side::Upstream => {
                    state.flow.stop_receiving();
                    self.stream.tell(&state, Word::Stop);
                }
            }
        }
        self.stream.forget_when_over(state);
    }
}
