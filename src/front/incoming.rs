//! The body of a request, whichever HTTP it comes by.

use std::{
    error::Error,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming as Received, SizeHint};

use super::http1;

/// The body of a request.
pub enum Incoming {
    /// There is none.
    Nothing,
    /// By HTTP/1.
    Http1(http1::Body),
    /// By HTTP/2.
    Http2(Box<Http2Body>),
}

/// Why a body can't be read on.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// By HTTP/1.
    #[error(transparent)]
    Http1(#[from] http1::Broken),
    /// By HTTP/2.
    #[error(transparent)]
    Http2(#[from] hyper::Error),
    /// The stream of HTTP/2 was reset before END_STREAM, by a code that hyper takes for an end.
    #[error("its stream was reset before the end of its body")]
    Reset,
}

/// The body of a request by HTTP/2. Only END_STREAM ends it (RFC 9113 section 8.1).
pub struct Http2Body {
    received: Received,
    /// The part that completes the length that was told. It waits for END_STREAM: by HTTP/1 it would complete a request
    /// that may still be reset.
    last: Bytes,
    /// What comes after it.
    trailers: Option<Frame<Bytes>>,
}

impl From<Received> for Incoming {
    fn from(received: Received) -> Self {
        Incoming::Http2(Box::new(Http2Body { received, last: Bytes::new(), trailers: None }))
    }
}

impl Http2Body {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        loop {
            if let Some(trailers) = self.trailers.take() {
                return Poll::Ready(Some(Ok(trailers)));
            }
            let frame = ready!(Pin::new(&mut self.received).poll_frame(cx)?).map(Frame::into_data);
            let ended = self.received.is_end_stream();
            match frame {
                Some(Ok(data)) if data.is_empty() => {}
                Some(Ok(data)) if !ended && self.received.size_hint().exact() == Some(0) => self.last = data,
                Some(Ok(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Some(Err(trailers)) => match std::mem::take(&mut self.last) {
                    none if none.is_empty() => return Poll::Ready(Some(Ok(trailers))),
                    last => {
                        self.trailers = Some(trailers);
                        return Poll::Ready(Some(Ok(Frame::data(last))));
                    }
                },
                None if !ended => return Poll::Ready(Some(Err(Broken::Reset))),
                None if self.last.is_empty() => return Poll::Ready(None),
                None => return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.last))))),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.last.is_empty() && self.trailers.is_none() && self.received.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.received.size_hint().exact() {
            Some(left) => SizeHint::with_exact(left + self.last.len() as u64),
            None => SizeHint::default(),
        }
    }
}

impl Broken {
    /// Whether the connection, or the stream on it, has ended; otherwise what came is not framed as HTTP frames it.
    pub fn is_gone(&self) -> bool {
        match self {
            Broken::Reset => true,
            Broken::Http1(broken) => broken.is_gone(),
            Broken::Http2(error) => match error.source() {
                None => false,
                Some(source) => match source.downcast_ref::<h2::Error>() {
                    Some(error) => error.is_reset() || error.is_io(),
                    None => source.downcast_ref().is_some_and(is_end),
                },
            },
        }
    }
}

fn is_end(error: &io::Error) -> bool {
    let ends = [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe];
    ends.contains(&error.kind())
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.get_mut() {
            Incoming::Nothing => Poll::Ready(None),
            Incoming::Http1(body) => body.poll_frame(cx).map_err(Broken::Http1),
            Incoming::Http2(body) => body.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Incoming::Nothing => true,
            Incoming::Http1(body) => body.is_end_stream(),
            Incoming::Http2(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Incoming::Nothing => SizeHint::with_exact(0),
            Incoming::Http1(body) => body.size_hint(),
            Incoming::Http2(body) => body.size_hint(),
        }
    }
}
