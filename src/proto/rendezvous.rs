//! Rendezvous sessions: who may do what in one ([`admission`]), how a sender and a receiver find each other
//! ([`sender`], [`receiver`]), how long a session lasts for those who wait in it ([`life`]), and what an
//! address may do how often ([`rates`]).
//!
//! A receiver's request is written into the session's record; a sender offers to whoever is there. The receiver
//! accepts one offer, the sender confirms, and only then is anything sent: a request that times out or goes away
//! in between costs the other side nothing. NATS delivers at most once, so what is not answered is said again.

pub mod admission;
pub mod life;
pub mod rates;
pub mod receiver;
pub mod sender;

use std::time::{Duration, Instant};

/// When something is said again, and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Again {
    at: Instant,
    left: u32,
}

impl Again {
    fn new(now: Instant) -> Self {
        Again { at: now + AGAIN, left: TIMES }
    }

    /// The next time, until it was often enough.
    fn next(self, now: Instant) -> Option<Again> {
        let left = self.left.checked_sub(1)?;
        Some(Again { at: now + AGAIN, left })
    }
}

/// What has no answer is said again after this, so often.
const AGAIN: Duration = Duration::from_millis(400);
const TIMES: u32 = 4;

#[cfg(test)]
mod tests;
