//! Replies that were published, and are kept in case nobody heard them.

use std::{
    hash::BuildHasher,
    time::{Duration, Instant},
};

use super::{Command, Serving, Stage};

impl<H: BuildHasher> Serving<H> {
    /// Finds out which replies were heard, when there are many: what is kept of them is cold by the time it is
    /// dropped, and a thousand of them push everything else out of the processor's cache.
    pub(super) fn settle(&mut self) {
        if !self.settling && self.recent.len() >= MANY_RECENT {
            self.settling = true;
            self.commands.push_back(Command::Settle { published: self.published });
        }
    }

    /// Drops the replies of the first `published` ones that are still kept: NATS has said all it will of them.
    pub(super) fn settled(&mut self, published: u64) {
        self.settling = false;
        while self.published - (self.recent.len() as u64) < published && self.drop_oldest() {}
        self.settle();
    }

    /// Drops replies that were published long enough ago: "no responders" would have come by now.
    pub(super) fn forget_recent(&mut self, now: Instant) {
        while let Some(&(_, at, _)) = self.recent.front() {
            let at = self.down.map_or(at, |_| now.min(at + RECONNECTED));
            let fits = self.recent_bytes <= MAX_RECENT_BYTES && self.recent.len() <= MAX_RECENT;
            if fits && now.duration_since(at) < HEARD {
                break;
            }
            self.drop_oldest();
        }
    }

    /// The connection is there again: what was published just before it went may have been lost with it, and is published
    /// again. Who has heard it drops it.
    pub(super) fn doubt_recent(&mut self, now: Instant) {
        let Some(down) = self.down.take() else { return };
        self.recent_bytes = 0;
        for (number, at, _) in std::mem::take(&mut self.recent) {
            let Some(job) = self.jobs.get_mut(&number) else { continue };
            match &job.stage {
                Stage::Published { reply, pause, at: last } if *last == at => {
                    if at + HEARD < down || now > down + RECONNECTED {
                        self.jobs.remove(&number);
                        continue;
                    }
                    job.stage = Stage::Unheard { reply: reply.clone(), pause: *pause };
                    job.ends = job.ends.max(now);
                    self.unheard += 1;
                    self.schedule(number, now);
                }
                Stage::Calling { .. }
                | Stage::Streaming
                | Stage::Unheard { .. }
                | Stage::Published { .. } => {}
            }
        }
    }

    /// Drops the reply that was published first; false when there is none.
    fn drop_oldest(&mut self) -> bool {
        let Some((number, at, bytes)) = self.recent.pop_front() else { return false };
        self.recent_bytes -= bytes;
        // A reply that nobody heard is here once for each time it was published; the last one counts.
        let stage = self.jobs.get(&number).map(|job| &job.stage);
        if matches!(stage, Some(Stage::Published { at: last, .. }) if *last == at) {
            self.jobs.remove(&number);
        }
        true
    }
}

/// How long a published reply is kept in case nobody hears it, and how much of them.
const HEARD: Duration = Duration::from_secs(5);
/// How long the connection may be gone for what was published before to be published again.
const RECONNECTED: Duration = Duration::from_secs(10);
pub(super) const MAX_RECENT: usize = 1024;
/// So many of them are worth a round trip that tells whether they were heard.
pub(super) const MANY_RECENT: usize = 64;
const MAX_RECENT_BYTES: usize = 1024 * 1024;
