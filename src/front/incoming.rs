//! The body of a request, whichever HTTP it comes by.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::http1;
use crate::framing::http2::Received;

/// The body of a request.
pub enum Incoming {
    /// There is none.
    Nothing,
    /// By HTTP/1.
    Http1(http1::Body),
    /// By HTTP/2.
    Http2(Box<Received>),
}

/// Why a body can't be read on.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// By HTTP/1.
    #[error(transparent)]
    Http1(#[from] http1::Broken),
    /// By HTTP/2.
    #[error(transparent)]
    Http2(#[from] h2::Error),
}

impl Broken {
    /// Whether the connection, or the stream on it, has ended; otherwise what came is not framed as HTTP frames it.
    pub fn is_gone(&self) -> bool {
        match self {
            Broken::Http1(broken) => broken.is_gone(),
            Broken::Http2(error) => error.is_reset() || error.is_io() || error.is_go_away(),
        }
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.get_mut() {
            Incoming::Nothing => Poll::Ready(None),
            Incoming::Http1(body) => body.poll_frame(cx).map_err(Broken::Http1),
            Incoming::Http2(body) => body.poll_frame(cx).map_err(Broken::Http2),
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
