//! Whether the NATS server answers: round trips of the process's own. A connection whose other end is frozen, or cut off, stays
//! open for as long as TCP believes in it.

use std::time::{Duration, Instant};

/// The round trips of one connection.
#[derive(Debug)]
pub struct Pulse {
    /// When this was last looked at.
    looked: Instant,
    /// When the last round trip began.
    began: Instant,
    /// The one that has not ended.
    trip: Option<u64>,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beat {
    /// Nothing.
    Rest,
    /// Begin a round trip and say which with [`Pulse::began`].
    Begin,
    /// The server does not answer: connect anew.
    Silent,
}

impl Pulse {
    /// A connection that is there since `now`.
    pub fn new(now: Instant) -> Pulse {
        Pulse { looked: now, began: now, trip: None }
    }

    /// What is due, when `heard` is the last round trip that has ended. `busy` says whether a request waits for an answer.
    pub fn look(&mut self, heard: u64, busy: bool, now: Instant) -> Beat {
        let late = now.saturating_duration_since(self.looked) > STALLED;
        self.looked = now;
        if late {
            // This process stood still itself: messages that arrived meanwhile are not read yet.
            self.began = now;
            return Beat::Rest;
        }
        let since = now.saturating_duration_since(self.began);
        match self.trip {
            Some(trip) if trip > heard => {
                if since >= NO_ECHO {
                    Beat::Silent
                } else {
                    Beat::Rest
                }
            }
            Some(_) | None => {
                self.trip = None;
                if since >= (if busy { BUSY } else { AT_REST }) { Beat::Begin } else { Beat::Rest }
            }
        }
    }

    /// A round trip has begun.
    pub fn began(&mut self, trip: u64, now: Instant) {
        (self.trip, self.began) = (Some(trip), now);
    }
}

/// How often this is looked at.
pub const LOOK: Duration = Duration::from_millis(250);
/// How often there is a round trip while requests are open, and at rest.
const BUSY: Duration = Duration::from_secs(1);
const AT_REST: Duration = Duration::from_millis(2_250);
/// How long a round trip may take. With the pause before it, and the looks, it is within 5 s that silence is noticed.
const NO_ECHO: Duration = Duration::from_secs(2);
/// A look that comes later than this is that of a process that stood still.
const STALLED: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks every quarter of a second; how it ended, and when.
    fn watch(busy: bool, answers: impl Fn(u64) -> bool) -> Vec<(u128, Beat)> {
        let start = Instant::now();
        let (mut pulse, mut trip, mut heard, mut beats) = (Pulse::new(start), 0, 0, Vec::new());
        for look in 1..=20 {
            let now = start + LOOK * look;
            let beat = pulse.look(heard, busy, now);
            match beat {
                Beat::Rest => continue,
                Beat::Begin => {
                    trip += 1;
                    pulse.began(trip, now);
                    heard = if answers(trip) { trip } else { heard };
                }
                Beat::Silent => {}
            }
            beats.push(((now - start).as_millis(), beat));
            if beat == Beat::Silent {
                break;
            }
        }
        beats
    }

    #[test]
    fn a_server_that_answers_is_asked_every_second_while_requests_are_open_and_less_often_at_rest() {
        let beats = |busy| watch(busy, |_| true).into_iter().map(|(at, _)| at).collect::<Vec<_>>();
        assert_eq!(beats(true), [1000, 2000, 3000, 4000, 5000]);
        assert_eq!(beats(false), [2250, 4500]);
    }

    #[test]
    fn a_server_that_does_not_answer_is_silent_within_five_seconds() {
        assert_eq!(watch(true, |_| false).last(), Some(&(3000, Beat::Silent)));
        assert_eq!(watch(false, |_| false).last(), Some(&(4250, Beat::Silent)));
    }

    #[test]
    fn a_process_that_stood_still_itself_gives_the_server_its_time_anew() {
        let start = Instant::now();
        let mut pulse = Pulse::new(start);
        pulse.began(1, start);
        assert_eq!(pulse.look(0, true, start + Duration::from_secs(60)), Beat::Rest);
        assert_eq!(pulse.look(0, true, start + Duration::from_secs(60) + LOOK), Beat::Rest);
    }
}
