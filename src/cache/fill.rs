//! A body that is stored while it arrives, and those who read it meanwhile.
//!
//! As long as it may be stored, all of it is kept, and each reader reads at its own pace. Once it is too large for
//! that it only passes through: what every reader has read is forgotten, the fastest reader sets the pace, and one
//! that falls too far behind is cut off, because it would hold up the others or the memory of the process.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;

use super::entry::{Head, Pieces};
use crate::{
    sync::{Mutex, MutexGuard},
    wire::{Code, Fault, Side},
};

/// Bytes that all fills together may keep.
pub struct Room {
    used: AtomicU64,
    limit: u64,
}

/// A response whose body is arriving.
pub struct Fill {
    /// Its head.
    pub head: Arc<Head>,
    /// Bytes it may have to be stored.
    limit: u64,
    /// Whether it goes on when nobody reads it.
    persists: bool,
    room: Arc<Room>,
    state: Mutex<State>,
}

struct State {
    /// Whether it may still be stored.
    kept: bool,
    /// What somebody may still read; the first has the number `first`.
    pieces: VecDeque<Bytes>,
    first: u64,
    /// Bytes so far.
    received: u64,
    /// What it has of the room.
    taken: u64,
    end: Option<End>,
    readers: Vec<Option<Position>>,
    writer: Option<Waker>,
}

struct Position {
    /// The piece it reads next.
    next: u64,
    /// Bytes it has read.
    read: u64,
    waker: Option<Waker>,
    is_cut: bool,
}

enum End {
    Whole(HeaderMap),
    Cut(Fault),
}

/// What became of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It is kept.
    Kept,
    /// It was too much: from now on the body passes through.
    Overflowed,
    /// It passes through.
    Passed,
}

/// One who reads a body as it comes.
pub struct Follower {
    fill: Arc<Fill>,
    slot: usize,
    is_done: bool,
}

impl Room {
    /// Room for `limit` bytes.
    pub fn new(limit: u64) -> Arc<Room> {
        Arc::new(Room { used: AtomicU64::new(0), limit })
    }

    /// Bytes taken.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: u64) -> bool {
        let fits = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.limit);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }
}

impl Fill {
    /// A body that begins. It is stored when it has at most `limit` bytes.
    pub fn new(head: Arc<Head>, limit: u64, persists: bool, room: Arc<Room>) -> Arc<Fill> {
        let state = State {
            kept: true,
            pieces: VecDeque::new(),
            first: 0,
            received: 0,
            taken: 0,
            end: None,
            readers: Vec::new(),
            writer: None,
        };
        Arc::new(Fill { head, limit, persists, room, state: Mutex::new(state) })
    }

    /// One more reader, from the beginning; `None` when that is gone.
    pub fn follow(self: &Arc<Self>) -> Option<Follower> {
        let mut state = self.state();
        if !state.kept {
            return None;
        }
        let position = Position { next: 0, read: 0, waker: None, is_cut: false };
        let free = state.readers.iter().position(Option::is_none);
        let slot = free.unwrap_or_else(|| {
            state.readers.push(None);
            state.readers.len() - 1
        });
        state.readers[slot] = Some(position);
        Some(Follower { fill: Arc::clone(self), slot, is_done: false })
    }

    /// Is ready with whether anybody still wants more.
    pub fn poll_wanted(&self, cx: &mut Context<'_>) -> Poll<bool> {
        let mut state = self.state();
        let has_readers = state.readers.iter().any(Option::is_some);
        let last = state.first + state.pieces.len() as u64;
        let wanted = match (state.kept, has_readers) {
            (true, has_readers) => Poll::Ready(has_readers || self.persists),
            (false, false) => Poll::Ready(false),
            (false, true) => match state.readers.iter().flatten().any(|reader| reader.next == last) {
                true => Poll::Ready(true),
                false => Poll::Pending,
            },
        };
        // Told also when it is ready: the last reader may leave while more is waited for.
        state.writer = Some(cx.waker().clone());
        wanted
    }

    /// Adds a part.
    pub fn push(&self, data: &Bytes) -> Pushed {
        let mut state = self.state();
        state.received += data.len() as u64;
        let cost = data.len() as u64 + PER_PIECE;
        let fits = state.kept
            && state.received <= self.limit
            && state.taken + cost <= self.limit.saturating_mul(2) + LEAST_LAG
            && self.room.take(cost);
        if fits {
            state.taken += cost;
            // What came would keep alive all that came with it.
            state.pieces.push_back(Bytes::copy_from_slice(data));
            state.wake_readers();
            return Pushed::Kept;
        }
        let overflowed = std::mem::replace(&mut state.kept, false);
        state.pieces.push_back(data.clone());
        self.cut_laggards(&mut state);
        state.forget_what_is_read();
        state.wake_readers();
        if overflowed { Pushed::Overflowed } else { Pushed::Passed }
    }

    /// It has ended, with these trailers.
    pub fn finish(&self, trailers: HeaderMap) {
        let mut state = self.state();
        state.end.get_or_insert(End::Whole(trailers));
        state.wake_readers();
    }

    /// It broke off.
    pub fn cut(&self, fault: Fault) {
        let mut state = self.state();
        state.kept = false;
        state.end.get_or_insert(End::Cut(fault));
        state.wake_readers();
    }

    /// The whole body, when all of it is here and was kept. One with trailers is not stored: they could be lost.
    pub fn whole(&self) -> Option<Pieces> {
        let state = self.state();
        let is_whole = matches!(&state.end, Some(End::Whole(trailers)) if trailers.is_empty());
        (state.kept && is_whole).then(|| Pieces::new(state.pieces.iter().cloned()))
    }

    fn cut_laggards(&self, state: &mut State) {
        let received = state.received;
        for reader in state.readers.iter_mut().flatten() {
            // Others have read all there was: nothing is asked for otherwise.
            reader.is_cut |= received - reader.read > self.limit + LEAST_LAG;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

impl Drop for Fill {
    fn drop(&mut self) {
        let taken = self.state().taken;
        self.room.used.fetch_sub(taken, Ordering::Relaxed);
    }
}

impl State {
    fn wake_readers(&mut self) {
        self.readers.iter_mut().flatten().filter_map(|reader| reader.waker.take()).for_each(Waker::wake);
    }

    fn forget_what_is_read(&mut self) {
        let readers = self.readers.iter().flatten().filter(|reader| !reader.is_cut);
        let least = readers.map(|reader| reader.next).min().unwrap_or(u64::MAX);
        while self.first < least && self.pieces.pop_front().is_some() {
            self.first += 1;
        }
    }
}

impl Follower {
    /// The next part; `None` at the end.
    pub fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        if self.is_done {
            return Poll::Ready(None);
        }
        let mut state = self.fill.state();
        let State { pieces, first, end, readers, .. } = &mut *state;
        let Some(Some(reader)) = readers.get_mut(self.slot) else { return Poll::Ready(None) };
        if reader.is_cut {
            self.is_done = true;
            let detail = "others read the same body so much faster that what comes next is no longer here";
            return Poll::Ready(Some(Err(Fault::new(Code::StreamCut, Side::Client, detail))));
        }
        let at = usize::try_from(reader.next - *first).unwrap_or(usize::MAX);
        if let Some(piece) = pieces.get(at).cloned() {
            reader.next += 1;
            reader.read += piece.len() as u64;
            if !state.kept {
                state.forget_what_is_read();
                state.writer.take().into_iter().for_each(Waker::wake);
            }
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        match end {
            None => {
                reader.waker = Some(cx.waker().clone());
                Poll::Pending
            }
            Some(End::Cut(fault)) => {
                self.is_done = true;
                Poll::Ready(Some(Err(fault.clone())))
            }
            Some(End::Whole(trailers)) => {
                self.is_done = true;
                Poll::Ready((!trailers.is_empty()).then(|| Ok(Frame::trailers(trailers.clone()))))
            }
        }
    }

    /// Whether the body has been read to its end; a cut is none.
    pub fn is_finished(&self) -> bool {
        let state = self.fill.state();
        let last = state.first + state.pieces.len() as u64;
        let read = state.readers.get(self.slot).and_then(Option::as_ref).is_some_and(|r| r.next == last);
        let is_whole =
            matches!(&state.end, Some(End::Whole(trailers)) if trailers.is_empty() || self.is_done);
        is_whole && read
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut state = self.fill.state();
        state.readers[self.slot] = None;
        if !state.kept {
            state.forget_what_is_read();
        }
        state.writer.take().into_iter().for_each(Waker::wake);
    }
}

/// What a piece takes besides its bytes.
const PER_PIECE: u64 = 64;
/// How far behind one may always be.
const LEAST_LAG: u64 = 1024 * 1024;

#[cfg(test)]
mod tests;
