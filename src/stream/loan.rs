//! Bytes of a body that are given back when they are dropped: what is gathered to be written counts as credit until
//! it is written.

use std::sync::Arc;

use bytes::Bytes;

use super::{State, Stream};

/// A part of a body, and the stream that may bring as much again once the part is gone.
struct Loan {
    data: Bytes,
    stream: Arc<Stream>,
}

/// `data` of `stream`, which is locked for `state`.
pub fn lend(stream: &Arc<Stream>, state: &mut State, data: Bytes) -> Bytes {
    state.lent += data.len() as u64;
    Bytes::from_owner(Loan { data, stream: Arc::clone(stream) })
}

impl AsRef<[u8]> for Loan {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        let mut state = self.stream.state();
        let bytes = self.data.len() as u64;
        state.lent -= bytes;
        self.stream.give_back(&mut state, bytes);
    }
}
