//! A caller that has ended its side of the connection and waits for an answer, or is gone: both send the same FIN. One that
//! is gone answers what is sent to it with a reset. Reading does not tell that any more, so it is asked of the socket, now
//! and then; and probes are sent, so that a caller that gets nothing else is asked.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Interval, MissedTickBehavior, interval_at};

use crate::front::opening::Stream;

/// Looks for a reset.
pub struct HalfClosed {
    looks: Interval,
}

impl HalfClosed {
    /// From now on `stream` is asked.
    pub fn new(stream: &Stream) -> Self {
        stream.socket().probe(BETWEEN_PROBES);
        let mut looks = interval_at(tokio::time::Instant::now() + LOOK, LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        HalfClosed { looks }
    }

    /// Is ready once `stream` is reset.
    pub fn poll_reset(&mut self, stream: &Stream, cx: &mut Context<'_>) -> Poll<()> {
        while self.looks.poll_tick(cx).is_ready() {
            if stream.socket().is_reset() {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }
}

/// How often it is looked for.
const LOOK: Duration = Duration::from_millis(500);
/// How often a caller that gets nothing else is sent a probe.
const BETWEEN_PROBES: Duration = Duration::from_secs(10);
