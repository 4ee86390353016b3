//! A message's body as HTTP/2 brings it (RFC 9113 section 8.1). Only END_STREAM ends it: a stream that is reset before,
//! whatever the reason, has not ended, and neither has one whose connection goes away.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http_body::{Frame, SizeHint};

/// What is left of a message's body on one stream.
pub struct Received {
    stream: RecvStream,
    /// Whether nothing but trailers can follow.
    data_done: bool,
    /// Bytes to come, where a length was told; h2 refuses frames that exceed it and an end that comes before it.
    left: Option<u64>,
    /// The part that completes the told length. It waits for END_STREAM: a reader that passes it on by HTTP/1 would complete
    /// a message that may still be reset.
    last: Bytes,
}

impl Received {
    /// The body on `stream`, of which the head told that it has `length` bytes.
    pub fn new(stream: RecvStream, length: Option<u64>) -> Self {
        let left = if stream.is_end_stream() { Some(0) } else { length };
        Received { stream, data_done: false, left, last: Bytes::new() }
    }

    /// The next frame. Its bytes count as taken: the sender may send as many again.
    ///
    /// # Errors
    /// When the stream is reset, or its connection ends, before END_STREAM.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        while !self.data_done {
            match ready!(self.stream.poll_data(cx)?) {
                Some(data) => {
                    self.stream.flow_control().release_capacity(data.len()).ok();
                    if data.is_empty() {
                        continue;
                    }
                    self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                    if self.left == Some(0) && !self.stream.is_end_stream() {
                        self.last = data;
                        continue;
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                None => self.data_done = true,
            }
        }
        if !self.last.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.last)))));
        }
        let trailers = ready!(self.stream.poll_trailers(cx)?);
        Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
    }

    /// What is known of the length that is left.
    pub fn size_hint(&self) -> SizeHint {
        match self.left {
            Some(left) => SizeHint::with_exact(left + self.last.len() as u64),
            None => SizeHint::default(),
        }
    }

    /// Whether the body has ended and all of it was taken.
    pub fn is_end_stream(&self) -> bool {
        self.last.is_empty() && self.stream.is_end_stream()
    }
}
