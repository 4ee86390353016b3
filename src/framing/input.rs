//! What has come over a connection and has not been taken yet. Nothing is allocated while nothing comes: ten
//! thousand connections on which nothing is said hold no buffer.

use std::{
    future::Future,
    io,
    mem::MaybeUninit,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

/// Bytes of a connection.
pub struct Input {
    /// What has been read. Whoever takes from it takes slices, not copies.
    pub buffer: BytesMut,
    /// How much is read at once: more while reads are filled.
    size: usize,
}

/// Nothing yet.
impl Default for Input {
    fn default() -> Self {
        Input { buffer: BytesMut::new(), size: LEAST }
    }
}

impl Input {
    /// Holds nothing for what comes next.
    pub fn reset(&mut self) {
        *self = Input::default();
    }

    /// Reads more, and tells how much; nothing at the end.
    ///
    /// # Errors
    /// When the connection is broken.
    pub fn poll_fill(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let (room, length) = if self.size == LEAST {
            (LEAST, ready!(self.poll_little(stream, cx))?)
        } else {
            ready!(self.poll_much(stream, cx))?
        };
        if length == room {
            self.size = (4 * self.size).min(MOST);
        } else if length < self.size / 4 {
            self.size = (self.size / 2).max(LEAST);
        }
        Poll::Ready(Ok(length))
    }

    /// Reads to the stack, so that what is kept is as large as what came.
    fn poll_little(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let mut room = [const { MaybeUninit::uninit() }; LEAST];
        let mut read = ReadBuf::uninit(&mut room);
        ready!(Pin::new(stream).poll_read(cx, &mut read))?;
        if self.buffer.is_empty() {
            self.buffer = BytesMut::from(read.filled());
        } else {
            self.buffer.extend_from_slice(read.filled());
        }
        Poll::Ready(Ok(read.filled().len()))
    }

    /// Reads to where it stays; tells also for how much there was room.
    fn poll_much(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<(usize, usize)>> {
        let free = self.buffer.capacity() - self.buffer.len();
        if free < self.size / 4 {
            if self.buffer.is_empty() {
                self.buffer = BytesMut::with_capacity(self.size);
            } else {
                self.buffer.reserve(self.size);
            }
        }
        let room = self.buffer.capacity() - self.buffer.len();
        let read = pin!(stream.read_buf(&mut self.buffer)).poll(cx);
        if read.is_pending() && self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
        Poll::Ready(Ok((room, ready!(read)?)))
    }
}

/// How much is read at once in the beginning: a small message.
const LEAST: usize = 16 * 1024;
/// How much is read at once while much comes fast.
const MOST: usize = 128 * 1024;

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncWriteExt, net::UnixStream};

    use super::*;

    #[tokio::test]
    async fn reads_grow_while_much_comes_and_nothing_is_held_while_nothing_comes() {
        let (mut stream, mut far) = UnixStream::pair().unwrap();
        let mut input = Input::default();
        let sent = tokio::spawn(async move {
            for byte in 0..=255_u8 {
                far.write_all(&[byte; 10_000]).await.unwrap();
            }
            far
        });
        let mut read = Vec::new();
        let mut most = 0;
        while read.len() < 2_560_000 {
            let length = std::future::poll_fn(|cx| input.poll_fill(&mut stream, cx)).await.unwrap();
            most = most.max(length);
            read.extend_from_slice(&input.buffer.split());
        }
        assert!(most > LEAST && read.chunks(10_000).zip(0..=255).all(|(part, byte)| part == [byte; 10_000]));
        let _far = sent.await.unwrap();
        let mut now = Context::from_waker(std::task::Waker::noop());
        assert!(input.poll_fill(&mut stream, &mut now).is_pending());
        assert_eq!(input.buffer.capacity(), 0);
    }
}
