//! Log lines about trouble that may come a thousand times: one a minute, with a count.

use std::time::{Duration, Instant};

use crate::sync::Mutex;

/// Lets one log line a minute pass, and counts those that it holds back.
#[derive(Debug, Default)]
pub struct Throttle(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    passed: Option<Instant>,
    held_back: u64,
}

impl Throttle {
    /// Lets every first line of a minute pass.
    pub const fn new() -> Self {
        Throttle(Mutex::new(State { passed: None, held_back: 0 }))
    }

    /// Whether a line may be written now: then how many were held back since the one before, otherwise `None`.
    pub fn pass(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock();
        if state.passed.is_some_and(|passed| now.saturating_duration_since(passed) < BETWEEN) {
            state.held_back += 1;
            return None;
        }
        state.passed = Some(now);
        Some(std::mem::take(&mut state.held_back))
    }
}

/// The least time between two lines.
const BETWEEN: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_minute_passes_with_the_count_of_the_others() {
        let (throttle, start) = (Throttle::new(), Instant::now());
        let at = |seconds: u64| throttle.pass(start + Duration::from_secs(seconds));
        assert_eq!([at(0), at(0), at(59)], [Some(0), None, None]);
        assert_eq!([at(60), at(61), at(200)], [Some(2), None, Some(1)]);
    }
}
