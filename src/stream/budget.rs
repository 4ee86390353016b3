//! What one process has granted over all its streams: the more it is, the smaller the window of each.

use std::sync::atomic::{AtomicU64, Ordering};

use super::State;
use crate::proto::flow::{LARGEST_WINDOW, LEAST_WINDOW};

/// Bytes that are granted and not given back, over all streams of a process.
#[derive(Default)]
pub struct Budget(AtomicU64);

impl Budget {
    /// Bytes that one stream may have ahead of its reader: a quarter of what is free, and never less than
    /// [`LEAST_WINDOW`]. So a few streams have all they ask for, many share what there is, and readers that stand
    /// still never keep the last of it from the others (dynamic thresholds, Choudhury and Hahne 1998).
    pub fn window(&self) -> u64 {
        (self.free() / SHARE).clamp(LEAST_WINDOW, LARGEST_WINDOW)
    }

    /// Whether half of it is used.
    pub fn is_crowded(&self) -> bool {
        self.free() < GRANTED / 2
    }

    fn free(&self) -> u64 {
        GRANTED.saturating_sub(self.0.load(Ordering::Relaxed))
    }

    /// Counts what `state` has granted, and no longer what it had before.
    pub fn count(&self, state: &mut State) {
        let ahead = if state.cut.is_some() { state.lent } else { state.flow.ahead() };
        let before = std::mem::replace(&mut state.counted, ahead);
        if ahead > before {
            self.0.fetch_add(ahead - before, Ordering::Relaxed);
        } else if ahead < before {
            self.0.fetch_sub(before - ahead, Ordering::Relaxed);
        }
    }

    /// A stream that `counted` so many is gone.
    pub fn forget(&self, counted: u64) {
        self.0.fetch_sub(counted, Ordering::Relaxed);
    }
}

/// Bytes that one process grants over all its streams, as long as each still gets its least. A NATS server cuts off
/// a client that it has 64 MiB for.
const GRANTED: u64 = 32 * 1024 * 1024;
/// What part of the free bytes one stream may have.
const SHARE: u64 = 4;

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::proto::flow::FIRST_WINDOW;

    /// What `streams` have granted in all when each takes its whole window and is never read.
    fn stalled(streams: usize) -> (u64, u64) {
        let (budget, now) = (Budget::default(), Instant::now());
        let mut states: Vec<_> = (0..streams).map(|_| State::new(now)).collect();
        for state in &mut states {
            state.flow.open_receiving(FIRST_WINDOW);
            budget.count(state);
        }
        for state in &mut states {
            // Its first window is written, and then nothing.
            state.flow.read(FIRST_WINDOW, budget.window(), now);
            budget.count(state);
        }
        let sum = states.iter().map(|state| state.flow.ahead()).sum();
        assert_eq!(sum, budget.0.load(Ordering::Relaxed));
        for state in states {
            budget.forget(state.counted);
        }
        assert_eq!(budget.0.load(Ordering::Relaxed), 0);
        (sum, budget.window())
    }

    #[test]
    fn readers_that_stand_still_hold_no_more_than_the_budget_and_the_least_of_each() {
        for streams in [1, 10, 100, 500] {
            let (held, _) = stalled(streams);
            assert!(held <= GRANTED, "{streams} hold {held}");
        }
        let (held, _) = stalled(5000);
        assert!(held <= GRANTED + 5000 * LEAST_WINDOW, "{held}");
    }

    #[test]
    fn a_stream_that_is_alone_may_have_the_largest_window() {
        assert_eq!(Budget::default().window(), LARGEST_WINDOW);
    }
}
