//! How far a sender may be ahead of its reader. What is on its way is also what everything behind it waits for,
//! small requests too, so it is no more than the distance asks for: the window is small at first and grows
//! while credit, over a long way, comes too late.

use std::time::{Duration, Instant};

use super::LARGEST_WINDOW;

/// The window of one direction.
#[derive(Debug)]
pub struct Ahead {
    window: u64,
    /// When credit was last given, and how much had been given before.
    told: Option<(Instant, u64)>,
    /// Credits in a row that came late.
    late: u32,
}

impl Ahead {
    /// The window of a body that begins.
    pub fn new() -> Self {
        Ahead { window: START_WINDOW, told: None, late: 0 }
    }

    /// Bytes that may be on their way or unread.
    pub fn window(&self) -> u64 {
        self.window
    }

    /// Credit beyond `granted` is given.
    pub fn told(&mut self, granted: u64, now: Instant) {
        self.told = Some((now, granted));
    }

    /// A frame comes after `received` bytes, `read` of which are read. When the sender stood still at the end of
    /// its credit and the reader had read all, the credit was late by about a round trip.
    pub fn heard(&mut self, received: u64, read: u64, now: Instant) {
        let Some((at, granted)) = self.told.filter(|(_, granted)| received >= *granted) else { return };
        self.told = None;
        let stood_still = received == granted && read == received;
        if !stood_still || now.saturating_duration_since(at) < FAR {
            self.late = 0;
            return;
        }
        self.late += 1;
        if self.late == OFTEN {
            self.late = 0;
            self.window = (self.window * 2).min(LARGEST_WINDOW);
        }
    }
}

/// Bytes that one stream may have ahead of its reader at first. With 4 MiB, a request of 200 bytes waited 15 ms
/// behind a bulk body on one machine, with this 1.5 ms, at the same rate.
pub const START_WINDOW: u64 = 512 * 1024;
/// A shorter round trip holds nobody up: it is met by 100 MB/s.
const FAR: Duration = Duration::from_millis(5);
/// Late credits in a row after which the window grows: on one busy machine some are late, on a long way all are.
const OFTEN: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    /// Credits of half a window, each of which the sender waited for as long as `pause`.
    fn after(credits: u64, pause: Duration) -> u64 {
        let mut ahead = Ahead::new();
        let mut now = Instant::now();
        for number in 1..=credits {
            ahead.told(number * 1000, now);
            now += pause;
            ahead.heard(number * 1000, number * 1000, now);
        }
        ahead.window()
    }

    #[test]
    fn it_grows_over_a_long_way_and_not_without_end() {
        assert_eq!(after(3, FAR), START_WINDOW);
        assert_eq!(after(4, FAR), START_WINDOW * 2);
        assert_eq!(after(1000, FAR), LARGEST_WINDOW);
    }

    #[test]
    fn it_stays_small_over_a_short_way() {
        assert_eq!(after(1000, FAR / 2), START_WINDOW);
    }

    #[test]
    fn it_stays_small_when_the_sender_or_the_reader_is_slow() {
        let mut ahead = Ahead::new();
        let mut now = Instant::now();
        for number in 1..100 {
            ahead.told(number * 1000, now);
            now += FAR;
            // The sender had not used all of its credit; then the reader had not read all that came.
            ahead.heard(number * 1000 - 1, number * 1000 - 1, now);
            ahead.heard(number * 1000 + 1, number * 1000 + 1, now);
            ahead.told(number * 1000 + 500, now);
            now += FAR;
            ahead.heard(number * 1000 + 500, number * 1000, now);
        }
        assert_eq!(ahead.window(), START_WINDOW);
    }
}
