//! A stream after an extended CONNECT was granted (RFC 8441 section 5): nothing but bytes.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use h2::SendStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::sending::room;
use crate::framing::http2::Received;

/// The bytes of a stream.
pub struct Switched {
    received: Received,
    sending: SendStream<Bytes>,
    /// Bytes that have arrived and are not read yet.
    piece: Bytes,
}

impl Switched {
    pub(super) fn new(received: Received, sending: SendStream<Bytes>) -> Self {
        Switched { received, sending, piece: Bytes::new() }
    }
}

impl AsyncRead for Switched {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.piece.is_empty() {
            match ready!(this.received.poll_frame(cx)) {
                Some(Ok(frame)) => this.piece = frame.into_data().unwrap_or_default(),
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let length = this.piece.len().min(buf.remaining());
        buf.put_slice(&this.piece[..length]);
        this.piece.advance(length);
        if this.piece.is_empty() {
            // An empty slice would keep the memory for as long as the stream lasts.
            this.piece = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Switched {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let Some(room) = ready!(room(&mut this.sending, buf.len(), cx)) else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        let length = room.min(buf.len());
        let sent = this.sending.send_data(Bytes::copy_from_slice(&buf[..length]), false);
        Poll::Ready(sent.map(|()| length).map_err(io::Error::other))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection's task writes what it has.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = self.get_mut().sending.send_data(Bytes::new(), true);
        Poll::Ready(ended.map_err(io::Error::other))
    }
}
