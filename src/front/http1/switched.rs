//! A caller's connection after `101 Switching Protocols`: nothing but bytes.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::front::opening::Stream;

/// The bytes of a connection.
pub struct Switched {
    /// What came together with the request.
    early: Bytes,
    stream: Stream,
}

impl Switched {
    pub(super) fn new(early: Bytes, stream: Stream) -> Self {
        // Nothing else tells an end of these bytes from one that comes too soon.
        stream.resets_when_dropped(true);
        Switched { early, stream }
    }
}

impl AsyncRead for Switched {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.early.is_empty() {
            return Pin::new(&mut this.stream).poll_read(cx, buf);
        }
        let length = this.early.len().min(buf.remaining());
        buf.put_slice(&this.early.split_to(length));
        if this.early.is_empty() {
            // An empty slice would keep the memory for as long as the connection lasts.
            this.early = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Switched {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = &mut self.get_mut().stream;
        stream.resets_when_dropped(false);
        Pin::new(stream).poll_shutdown(cx)
    }
}
