//! The bytes of a connection to the origin, whatever carries them.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

/// A connection's bytes.
///
/// A write that fails does not fail here: an origin that answers before it has read all of a request, and
/// closes, has its answer on the way back already. What is written after that goes nowhere, and reading
/// tells of the answer and then of the end.
pub struct Stream {
    carrier: Carrier,
    /// Whether the origin takes nothing more.
    deaf: bool,
}

/// What carries the bytes.
pub enum Carrier {
    /// They go as they are.
    Plain(TcpStream),
    /// Through TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

impl From<Carrier> for Stream {
    fn from(carrier: Carrier) -> Self {
        Stream { carrier, deaf: false }
    }
}

/// Calls a method of whatever carries the bytes.
macro_rules! carried {
    ($stream:expr, $method:ident $(, $argument:expr)*) => {
        match &mut $stream.carrier {
            Carrier::Plain(tcp) => Pin::new(tcp).$method($($argument),*),
            Carrier::Tls(tls) => Pin::new(tls).$method($($argument),*),
        }
    };
}

impl Stream {
    fn written(&mut self, outcome: io::Result<usize>, length: usize) -> Poll<io::Result<usize>> {
        self.deaf |= outcome.is_err();
        Poll::Ready(Ok(outcome.unwrap_or(length)))
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        carried!(self.get_mut(), poll_read, cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.deaf {
            return Poll::Ready(Ok(buf.len()));
        }
        let outcome = ready!(carried!(this, poll_write, cx, buf));
        this.written(outcome, buf.len())
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = bufs.iter().map(|buf| buf.len()).sum();
        // `send` of one buffer is cheaper than `writev` of many, copying included.
        if length <= FLAT {
            let mut flat = [0; FLAT];
            let mut end = 0;
            for buf in bufs {
                flat[end..end + buf.len()].copy_from_slice(buf);
                end += buf.len();
            }
            return self.poll_write(cx, &flat[..length]);
        }
        let this = self.get_mut();
        if this.deaf {
            return Poll::Ready(Ok(length));
        }
        let outcome = ready!(carried!(this, poll_write_vectored, cx, bufs));
        this.written(outcome, length)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.carrier {
            Carrier::Plain(tcp) => tcp.is_write_vectored(),
            Carrier::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.deaf {
            this.deaf = ready!(carried!(this, poll_flush, cx)).is_err();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        carried!(self.get_mut(), poll_shutdown, cx)
    }
}

/// Up to how many bytes are written as one buffer.
const FLAT: usize = 4096;
