//! What is to be written to a connection: small things copied together, large ones as they are.

use std::{
    collections::VecDeque,
    io::{self, IoSlice},
    ops::Deref,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::io::AsyncWrite;

/// What is to be written. It holds nothing when there is nothing.
#[derive(Default)]
pub struct Output {
    /// What goes first, and how much of it is out.
    first: Piece,
    out: usize,
    rest: VecDeque<Piece>,
    /// Bytes that are not written.
    left: usize,
    /// Bytes that were copied since all was written. Whoever they came from takes them for written.
    copied: usize,
    /// Whether some that are written may not be out.
    kept: bool,
}

enum Piece {
    Copied(Vec<u8>),
    Large(Bytes),
}

impl Output {
    /// Whether all is out.
    pub fn is_empty(&self) -> bool {
        self.left == 0 && !self.kept
    }

    /// Whether more should be had before it is written.
    pub fn has_room(&self) -> bool {
        self.left < ENOUGH && self.copied < ENOUGH_COPIED && self.rest.len() < MAX_PIECES
    }

    /// Where small things are copied to, with room for `more`.
    pub fn small(&mut self, more: usize) -> Small<'_> {
        if let Piece::Large(_) = self.rest.back().unwrap_or(&self.first) {
            self.rest.push_back(Piece::default());
        }
        let last = self.rest.back_mut().unwrap_or(&mut self.first);
        let Piece::Copied(bytes) = last else { unreachable!("it is one, or one was added") };
        bytes.reserve(more);
        Small { before: bytes.len(), bytes, left: &mut self.left }
    }

    /// Adds `data`.
    pub fn push(&mut self, data: Bytes) {
        if data.len() <= SMALL {
            self.copied += data.len();
            self.small(data.len()).extend(&data);
            return;
        }
        self.left += data.len();
        let is_first = self.rest.is_empty() && self.first.is_empty();
        if is_first {
            self.first = Piece::Large(data);
        } else {
            self.rest.push_back(Piece::Large(data));
        }
    }

    /// Writes all of it and sees to it that it leaves; `wrote` is told how much each time. When nothing is left,
    /// nothing is held.
    ///
    /// # Errors
    /// When the connection takes no more.
    pub fn poll_write(
        &mut self,
        stream: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
        mut wrote: impl FnMut(usize),
    ) -> Poll<io::Result<()>> {
        while self.left > 0 {
            let written = ready!(self.poll_once(stream, cx))?;
            self.kept = true;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            wrote(written);
            self.advance(written);
        }
        if self.kept {
            ready!(Pin::new(stream).poll_flush(cx))?;
            self.kept = false;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_once(
        &self,
        stream: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let first = &self.first[self.out..];
        if self.rest.is_empty() {
            return Pin::new(stream).poll_write(cx, first);
        }
        let mut slices = [IoSlice::new(&[]); MAX_PIECES + 4];
        let pieces = std::iter::once(first).chain(self.rest.iter().map(|piece| &**piece));
        let count = slices.iter_mut().zip(pieces).map(|(slice, piece)| *slice = IoSlice::new(piece)).count();
        Pin::new(stream).poll_write_vectored(cx, &slices[..count])
    }

    fn advance(&mut self, written: usize) {
        self.left -= written;
        self.out += written;
        while self.out >= self.first.len() {
            self.out -= self.first.len();
            // What is out is held no longer.
            self.first = self.rest.pop_front().unwrap_or_default();
            if self.first.is_empty() && self.rest.is_empty() {
                self.rest = VecDeque::new();
                self.copied = 0;
                return;
            }
        }
    }
}

/// Where small things are copied to.
pub struct Small<'a> {
    bytes: &'a mut Vec<u8>,
    before: usize,
    left: &'a mut usize,
}

impl Small<'_> {
    /// Adds `bytes`.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The bytes that are there, with what was there before.
    pub fn bytes(&mut self) -> &mut Vec<u8> {
        self.bytes
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        *self.left += self.bytes.len() - self.before;
    }
}

impl Default for Piece {
    fn default() -> Self {
        Piece::Copied(Vec::new())
    }
}

impl Deref for Piece {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Piece::Copied(bytes) => bytes,
            Piece::Large(bytes) => bytes,
        }
    }
}

/// Up to how many bytes something is copied behind what comes before it.
pub const SMALL: usize = 4 * 1024;
/// Bytes that are gathered before they are written.
const ENOUGH: usize = 256 * 1024;
/// Bytes of them that are copied: they are no longer counted as unread.
const ENOUGH_COPIED: usize = 32 * 1024;
/// As many pieces at most.
const MAX_PIECES: usize = 32;

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_what_was_given_in_order(
            sizes in proptest::collection::vec(prop_oneof![0..40_usize, 4000..6000_usize], 0..40),
            steps in proptest::collection::vec(1..9000_usize, 1..20),
        ) {
            let mut output = Output::default();
            let mut given = Vec::new();
            for (at, size) in sizes.into_iter().enumerate() {
                let part = vec![at as u8; size];
                given.extend_from_slice(&part);
                if at % 3 == 0 { output.small(size).extend(&part) } else { output.push(part.into()) }
            }
            let mut stream = Slow { steps: steps.into_iter().cycle().take(100_000).collect(), taken: Vec::new() };
            let mut told = 0;
            let mut now = Context::from_waker(Waker::noop());
            let written = output.poll_write(&mut stream, &mut now, |bytes| told += bytes);
            prop_assert!(matches!(written, Poll::Ready(Ok(()))));
            prop_assert!(output.is_empty() && output.first.is_empty() && output.rest.capacity() == 0);
            prop_assert_eq!(told, given.len());
            prop_assert!(stream.taken == given);
        }
    }

    #[test]
    fn large_things_are_written_from_where_they_are_and_small_ones_in_one_piece() {
        let mut output = Output::default();
        output.small(10).extend(b"head");
        output.push(Bytes::from_static(b"body"));
        assert!(output.rest.is_empty() && &*output.first == b"headbody");
        let large = Bytes::from(vec![1; SMALL + 1]);
        output.push(large.clone());
        output.small(1).extend(b"end");
        assert_eq!(output.rest.len(), 2);
        assert_eq!(output.rest[0].as_ptr(), large.as_ptr());
    }

    /// Takes as much at a time as it is told.
    struct Slow {
        steps: VecDeque<usize>,
        taken: Vec<u8>,
    }

    impl AsyncWrite for Slow {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let step = self.steps.pop_front().unwrap().min(bytes.len());
            self.taken.extend_from_slice(&bytes[..step]);
            Poll::Ready(Ok(step))
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let step = self.steps.pop_front().unwrap();
            let all: Vec<u8> = bytes.iter().flat_map(|slice| slice.iter().copied()).take(step).collect();
            self.taken.extend_from_slice(&all);
            Poll::Ready(Ok(all.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }
}
