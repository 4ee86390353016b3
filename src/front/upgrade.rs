//! What a caller's connection, or a stream of it, is after a change of protocols: nothing but bytes.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::oneshot,
};

use super::{http1, http2};

/// Comes to the bytes once the head of the response is out; fails when the caller went away before.
pub type OnUpgrade = oneshot::Receiver<Upgraded>;

/// The bytes, whichever HTTP was spoken before.
pub enum Upgraded {
    /// A connection's.
    Http1(http1::Switched),
    /// A stream's.
    Http2(http2::Switched),
}

impl AsyncRead for Upgraded {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Upgraded::Http1(bytes) => Pin::new(bytes).poll_read(cx, buf),
            Upgraded::Http2(bytes) => Pin::new(bytes).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Upgraded {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Upgraded::Http1(bytes) => Pin::new(bytes).poll_write(cx, buf),
            Upgraded::Http2(bytes) => Pin::new(bytes).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Upgraded::Http1(bytes) => Pin::new(bytes).poll_flush(cx),
            Upgraded::Http2(bytes) => Pin::new(bytes).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Upgraded::Http1(bytes) => Pin::new(bytes).poll_shutdown(cx),
            Upgraded::Http2(bytes) => Pin::new(bytes).poll_shutdown(cx),
        }
    }
}
