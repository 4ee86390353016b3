//! A connection that speaks another protocol than HTTP: nothing but bytes.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

use super::stream::Stream;

/// A connection after the origin has switched protocols. Reading fails when nothing has been read or
/// written for too long.
pub struct Switched {
    /// What came together with the head of the response.
    early: Bytes,
    stream: Stream,
    idle: Duration,
    /// When something was read or written last.
    active: Instant,
    silence: Pin<Box<Sleep>>,
}

impl Switched {
    pub(super) fn new(early: Bytes, stream: Stream, idle: Duration) -> Self {
        let silence = Box::pin(tokio::time::sleep(idle));
        Switched { early, stream, idle, active: Instant::now(), silence }
    }

    /// Notes that something happened, if so.
    fn note<T>(&mut self, polled: Poll<T>) -> Poll<T> {
        if polled.is_ready() {
            self.active = Instant::now();
        }
        polled
    }

    /// Ready when nothing has happened for too long.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.silence.as_mut().poll(cx).is_ready() {
            let until = self.active + self.idle;
            if until <= Instant::now() {
                return Poll::Ready(());
            }
            self.silence.as_mut().reset(until);
        }
        Poll::Pending
    }
}

impl AsyncRead for Switched {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.early.is_empty() {
            let length = this.early.len().min(buf.remaining());
            buf.put_slice(&this.early.split_to(length));
            return Poll::Ready(Ok(()));
        }
        let read = Pin::new(&mut this.stream).poll_read(cx, buf);
        if read.is_pending() && this.poll_silence(cx).is_ready() {
            let why = "nothing was read or written for too long (--stream-idle)";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, why)));
        }
        this.note(read)
    }
}

impl AsyncWrite for Switched {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.note(written)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
