//! A response's body on its stream. A caller may keep a stream open and take nothing of it, by its flow control, while
//! its connection lives: after a while its stream is reset.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use h2::{Reason, SendStream};
use hyper::body::{Body, Frame};

use crate::front::patience::Patience;

/// How a body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// With its last byte, or as far as the caller wanted.
    Done,
    /// The caller took nothing for too long.
    Stalled,
}

/// A body on its way out.
pub struct Sending<B> {
    stream: SendStream<Bytes>,
    body: B,
    /// What waits until the caller makes room for it.
    piece: Bytes,
    patience: Patience,
}

impl<B: Body<Data = Bytes> + Unpin> Sending<B> {
    /// Sends `body` on `stream`, whose caller may take nothing for `limit`.
    pub fn new(stream: SendStream<Bytes>, body: B, limit: Duration) -> Self {
        Sending { stream, body, piece: Bytes::new(), patience: Patience::new(limit) }
    }

    /// Sends what is here and what the caller has room for. Of the body no more is asked for than can be sent.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        loop {
            if self.stream.poll_reset(cx).is_ready() {
                return Poll::Ready(Ended::Done);
            }
            if !self.piece.is_empty() {
                let Poll::Ready(room) = self.poll_room(cx) else {
                    return self.patience.poll(cx).map(|()| {
                        self.stream.send_reset(Reason::CANCEL);
                        Ended::Stalled
                    });
                };
                self.patience.rest();
                let Some(room) = room else { return Poll::Ready(Ended::Done) };
                let part = self.piece.split_to(room.min(self.piece.len()));
                let last = self.piece.is_empty() && self.body.is_end_stream();
                if self.stream.send_data(part, last).is_err() || last {
                    return Poll::Ready(Ended::Done);
                }
                continue;
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)).map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => self.piece = data,
                Some(Ok(Err(frame))) => {
                    // What goes wrong now, the caller has caused.
                    self.stream.reserve_capacity(0);
                    self.stream.send_trailers(frame.into_trailers().unwrap_or_default()).ok();
                    return Poll::Ready(Ended::Done);
                }
                Some(Err(_)) => {
                    self.stream.send_reset(Reason::INTERNAL_ERROR);
                    return Poll::Ready(Ended::Done);
                }
                None => {
                    self.stream.send_data(Bytes::new(), true).ok();
                    return Poll::Ready(Ended::Done);
                }
            }
        }
    }

    /// For how many bytes the caller has room; none when it wants no more.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Option<usize>> {
        room(&mut self.stream, self.piece.len(), cx)
    }
}

/// Waits for room on `stream` for some of `wanted` bytes; says for how many there is, and none when the stream is over.
pub fn room(stream: &mut SendStream<Bytes>, wanted: usize, cx: &mut Context<'_>) -> Poll<Option<usize>> {
    // No more than is sent at once: what one stream has reserved, others on the connection can't have.
    stream.reserve_capacity(wanted.min(PART));
    while stream.capacity() == 0 {
        if !matches!(ready!(stream.poll_capacity(cx)), Some(Ok(_))) {
            return Poll::Ready(None);
        }
    }
    Poll::Ready(Some(stream.capacity().min(PART)))
}

/// Bytes that are sent at once at most: what HTTP/2 has in one frame unless it is told otherwise.
const PART: usize = 16 * 1024;
