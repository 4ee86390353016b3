//! How long a session lasts, as those who wait in it have it.
//!
//! A session lasts for a time after its record was last written. Nobody's clock is asked when that was: whoever
//! has seen the same revision for that long knows that it is over, whatever NATS still has. When to look is
//! decided here too: news may be lost, and looking is what is certain.

use std::time::{Duration, Instant};

use crate::wire::{News, SessionState};

/// The life of one session.
#[derive(Debug)]
pub struct Life {
    ttl: Duration,
    revision: u64,
    since: Instant,
    look: Instant,
    pause: Duration,
    looking: bool,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It lasts.
    Lasts,
    /// It is gone.
    Gone,
    /// It has not been used for as long as it lasts: this revision is to be deleted, and what is there then is
    /// [looked](Life::looked) at. It is gone only once it is deleted: until then another may use it.
    Expired(u64),
}

impl Life {
    /// A session whose record was written at `now`.
    pub fn new(ttl: Duration, revision: u64, now: Instant) -> Self {
        let look = now + FIRST_LOOK.min(ttl);
        Life { ttl, revision, since: now, look, pause: FIRST_LOOK, looking: false }
    }

    /// Takes news of it.
    pub fn news(&mut self, news: &News, now: Instant) -> Fate {
        match news.state {
            SessionState::Gone => Fate::Gone,
            SessionState::Used => self.seen(news.revision, now),
        }
    }

    /// Takes what was found when it was looked for: its revision, unless there was none.
    pub fn looked(&mut self, revision: Option<u64>, now: Instant) -> Fate {
        self.looking = false;
        self.pause = (self.pause * 2).min(LONGEST_LOOK);
        let fate = revision.map_or(Fate::Gone, |revision| self.seen(revision, now));
        // Not later than its end, which is the moment to know.
        self.look = (now + self.pause).min(self.since + self.ttl);
        fate
    }

    /// It could not be looked for; it is tried again.
    pub fn looked_in_vain(&mut self, now: Instant) {
        self.looking = false;
        self.look = now + LONGEST_LOOK;
    }

    fn seen(&mut self, revision: u64, now: Instant) -> Fate {
        if revision > self.revision {
            self.revision = revision;
            self.since = now;
        } else if now >= self.since + self.ttl {
            self.looking = true;
            return Fate::Expired(self.revision);
        }
        Fate::Lasts
    }

    /// When it is next to be looked for.
    pub fn due(&self) -> Option<Instant> {
        (!self.looking).then_some(self.look)
    }

    /// Whether it is to be looked for now; once.
    pub fn looks(&mut self, now: Instant) -> bool {
        let due = self.due().is_some_and(|due| due <= now);
        self.looking |= due;
        due
    }
}

/// When a session is first looked for again, and how rarely at last.
const FIRST_LOOK: Duration = Duration::from_millis(300);
const LONGEST_LOOK: Duration = Duration::from_secs(5);
