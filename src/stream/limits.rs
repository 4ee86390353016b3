//! How long a stream may stand still. A peer may be hostile: it may take a body and never ask for it, announce one
//! and never send it, or say for ever that it is there. Every stream ends, whatever its peer says.
//!
//! A stream that is not settled belongs to a request that is not answered, and that ends in its own time.

use std::time::{Duration, Instant};

use super::State;
use crate::wire::{Code, Fault, Side};

/// What the streams of a process are held to.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Streams that are open at once, at most.
    pub streams: usize,
    /// How long bytes may wait for somebody who takes them (`--send-timeout`).
    pub stall: Duration,
    /// How long a stream may move no byte (`--stream-idle`).
    pub idle: Duration,
}

/// When a stream moved last.
pub struct Moves {
    /// A byte, in any direction.
    any: Instant,
    /// A byte was sent, or the end.
    sent: Instant,
    /// A byte was taken of what was received; or one came when all was taken.
    read: Instant,
    /// Since when the writer waits for credit, or for somebody to send to.
    starved: Option<Instant>,
}

impl Moves {
    pub fn new(now: Instant) -> Self {
        Moves { any: now, sent: now, read: now, starved: None }
    }

    /// Bytes came.
    pub fn received(&mut self, bytes: usize, now: Instant) {
        if bytes > 0 {
            self.any = now;
        }
    }

    /// Bytes that came were taken.
    pub fn read(&mut self, now: Instant) {
        (self.any, self.read) = (now, now);
    }

    /// Bytes were sent, or the end.
    pub fn sent(&mut self, now: Instant) {
        (self.any, self.sent, self.starved) = (now, now, None);
    }

    /// The writer has something to send, and may not.
    pub fn starves(&mut self) {
        self.starved.get_or_insert_with(Instant::now);
    }
}

impl State {
    /// Why the stream must end now, if it must.
    pub fn overdue(&mut self, side: Side, limits: &Limits, now: Instant) -> Option<Fault> {
        let since = |at: Instant| now.saturating_duration_since(at);
        let cut = |why: String| Some(Fault::new(Code::StreamCut, side, why));
        if self.queue.is_empty() && self.lent == 0 {
            self.moves.read = now;
        }
        let stall = humantime::format_duration(limits.stall);
        if side == Side::Upstream && !self.settled && since(self.moves.read) >= limits.stall {
            let why = format!("the origin took nothing of the request's body for {stall} (--send-timeout)");
            return Some(Fault::new(Code::SendTimeout, side, why));
        }
        if self.flow.awaits_done() && since(self.moves.sent) >= limits.stall {
            return cut(format!("the other side did not say for {stall} that it has the whole body"));
        }
        if self.answered && self.moves.starved.is_some_and(|at| since(at) >= limits.stall) {
            return cut(format!("the upstream agent asked for nothing of the request's body for {stall}"));
        }
        if self.settled && since(self.moves.any) >= limits.idle {
            let idle = humantime::format_duration(limits.idle);
            return cut(format!("no byte of a body moved for {idle} (--stream-idle)"));
        }
        None
    }
}
