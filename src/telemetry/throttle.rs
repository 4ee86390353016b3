//! Log lines about trouble that may come a thousand times: one in a while, with a count.

use std::time::{Duration, Instant};

use crate::sync::Mutex;

/// Lets one log line pass in a while, and counts those that it holds back.
#[derive(Debug)]
pub struct Throttle {
    state: Mutex<State>,
    /// The time between two lines.
    between: Duration,
    /// How far ahead of that some lines may be.
    ahead: Duration,
}

#[derive(Debug)]
struct State {
    /// When the next line is due, if lines are one `between` after the other.
    due: Option<Instant>,
    held_back: u64,
}

impl Throttle {
    /// Lets one line a minute pass: for what goes on until an operator acts.
    pub const fn per_minute() -> Self {
        Throttle::every(Duration::from_secs(60), Duration::ZERO)
    }

    /// Lets one line a second pass: for what comes in bursts.
    pub const fn per_second() -> Self {
        Throttle::every(Duration::from_secs(1), Duration::ZERO)
    }

    /// The same, after some that may come together: for what is worth a line each time, unless it goes on and on.
    pub const fn per_second_after_some() -> Self {
        Throttle::every(Duration::from_secs(1), Duration::from_secs(7))
    }

    const fn every(between: Duration, ahead: Duration) -> Self {
        Throttle { state: Mutex::new(State { due: None, held_back: 0 }), between, ahead }
    }

    /// Whether a line may be written now: then how many were held back since the one before, otherwise `None`.
    pub fn pass(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock();
        let due = state.due.map_or(now, |due| due.max(now));
        if due.saturating_duration_since(now) > self.ahead {
            state.held_back += 1;
            return None;
        }
        state.due = Some(due + self.between);
        Some(std::mem::take(&mut state.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_minute_passes_with_the_count_of_the_others() {
        let (throttle, start) = (Throttle::per_minute(), Instant::now());
        let at = |seconds: u64| throttle.pass(start + Duration::from_secs(seconds));
        assert_eq!([at(0), at(0), at(59)], [Some(0), None, None]);
        assert_eq!([at(60), at(61), at(200)], [Some(2), None, Some(1)]);
    }

    #[test]
    fn some_lines_may_come_together_and_then_one_a_second() {
        let (throttle, start) = (Throttle::per_second_after_some(), Instant::now());
        let passed = |at: u64| {
            (0..100).filter_map(|_| throttle.pass(start + Duration::from_secs(at))).collect::<Vec<_>>()
        };
        assert_eq!(passed(0), [0; 8]);
        assert_eq!(passed(1), [92]);
        assert_eq!(passed(3), [99, 0]);
        assert_eq!(passed(1000).len(), 8);
    }
}
