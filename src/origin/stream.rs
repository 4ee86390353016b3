//! The bytes of a connection to the origin, whatever carries them.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::client::TlsStream;

use crate::descriptors::Descriptor;

/// A connection's bytes.
///
/// A write that fails does not fail here: an origin that answers before it has read all of a request, and
/// closes, has its answer on the way back already. What is written after that goes nowhere, and reading
/// tells of the answer and then of the end.
pub struct Stream {
    carrier: Carrier,
    /// Whether the origin takes nothing more.
    deaf: bool,
    /// Held for as long as it is open.
    _descriptor: Option<Descriptor>,
}

/// What carries the bytes.
pub enum Carrier {
    /// TCP.
    Tcp(TcpStream),
    /// A UNIX socket.
    Unix(UnixStream),
    /// TLS over TCP.
    Tls(Box<TlsStream<TcpStream>>),
}

impl From<Carrier> for Stream {
    fn from(carrier: Carrier) -> Self {
        Stream { carrier, deaf: false, _descriptor: None }
    }
}

/// Calls a method of whatever carries the bytes.
macro_rules! carried {
    ($stream:expr, $method:ident $(, $argument:expr)*) => {
        match &mut $stream.carrier {
            Carrier::Tcp(tcp) => Pin::new(tcp).$method($($argument),*),
            Carrier::Unix(unix) => Pin::new(unix).$method($($argument),*),
            Carrier::Tls(tls) => Pin::new(tls).$method($($argument),*),
        }
    };
}

impl Stream {
    /// The same, which keeps `descriptor` for as long as it is open.
    pub fn holding(self, descriptor: Descriptor) -> Self {
        Stream { _descriptor: Some(descriptor), ..self }
    }

    /// Whether the origin takes nothing more, as far as is known.
    pub fn is_deaf(&self) -> bool {
        self.deaf
    }

    /// Whether nothing of a write that fails has been sent.
    pub fn takes_all_or_nothing(&self) -> bool {
        match self.carrier {
            Carrier::Tcp(_) | Carrier::Unix(_) => true,
            // One write is several records, and what fails may be the second.
            Carrier::Tls(_) => false,
        }
    }

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
            Carrier::Tcp(tcp) => tcp.is_write_vectored(),
            Carrier::Unix(unix) => unix.is_write_vectored(),
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn what_is_written_in_pieces_arrives_in_order() {
        for size in [0, 1, 1000, FLAT / 3, FLAT / 3 + 1, FLAT] {
            let (near, mut far) = UnixStream::pair().unwrap();
            let mut stream = Stream::from(Carrier::Unix(near));
            let pieces = [vec![1; size], vec![2; size], vec![3; size]];
            let written = stream.write_vectored(&pieces.each_ref().map(|piece| IoSlice::new(piece))).await;
            assert_eq!(written.unwrap(), 3 * size);
            drop(stream);
            let mut read = Vec::new();
            far.read_to_end(&mut read).await.unwrap();
            assert_eq!(read, pieces.concat());
        }
    }

    #[tokio::test]
    async fn what_the_other_side_said_is_read_though_it_listens_no_more() {
        let (near, mut far) = UnixStream::pair().unwrap();
        let mut stream = Stream::from(Carrier::Unix(near));
        far.write_all(b"no").await.unwrap();
        drop(far);
        for size in [1, 2 * FLAT] {
            let piece = vec![0; size];
            assert_eq!(stream.write_vectored(&[IoSlice::new(&piece)]).await.unwrap(), size);
            stream.flush().await.unwrap();
        }
        let mut read = Vec::new();
        stream.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, b"no");
    }
}
