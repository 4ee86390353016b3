//! What JetStream does with records: one for each job, replaced only by whoever knows its revision; each revision is
//! handed to one broker at a time, again when nothing was heard of it for too long, and later when that is asked for.

use std::collections::{BTreeMap, BTreeSet};

use relay::wire::Job;

use super::{At, Ms};

/// Records, letters, bodies, and what is to be handed out.
#[derive(Debug, Default)]
pub struct Kept {
    pub records: BTreeMap<At, Record>,
    pub letters: BTreeMap<At, Job>,
    pub objects: BTreeSet<String>,
    pending: BTreeMap<At, Pending>,
    revisions: u64,
}

/// The last revision of a job.
#[derive(Debug, Clone)]
pub struct Record {
    pub job: Job,
    pub revision: u64,
    pub stored: Ms,
}

/// A revision that nobody has settled.
#[derive(Debug)]
struct Pending {
    revision: u64,
    delivered: u64,
    /// Changes with everything that is heard of it.
    turn: u64,
}

/// The next time that a revision may be handed out, should nothing be heard of it before.
#[derive(Debug, Clone, Copy)]
pub struct Turn {
    pub revision: u64,
    turn: u64,
}

impl Kept {
    /// Stores the revision after `revision`, unless the last one is another; 0 is none.
    pub fn replace(&mut self, at: At, revision: u64, job: &Job, now: Ms) -> Option<Turn> {
        let last = self.records.get(&at).map_or(0, |record| record.revision);
        if last != revision {
            return None;
        }
        self.revisions += 1;
        let revision = self.revisions;
        self.records.insert(at, Record { job: job.clone(), revision, stored: now });
        self.pending.insert(at, Pending { revision, delivered: 0, turn: 0 });
        Some(Turn { revision, turn: 0 })
    }

    /// Hands a revision out, when it is its turn still; how often it was handed out by now.
    pub fn hand_out(&mut self, at: At, turn: Turn) -> Option<(Record, u64)> {
        let pending = self.pending.get_mut(&at).filter(|pending| pending.is_at(turn))?;
        pending.delivered += 1;
        Some((self.records.get(&at)?.clone(), pending.delivered))
    }

    /// Something was heard of a revision: its next turn is another.
    pub fn heard(&mut self, at: At, revision: u64) -> Option<Turn> {
        let pending = self.pending.get_mut(&at).filter(|pending| pending.revision == revision)?;
        pending.turn += 1;
        Some(Turn { revision, turn: pending.turn })
    }

    /// Forgets who has what: all that is not settled is to be handed out as if it were new.
    pub fn forget_turns(&mut self) -> Vec<(At, Turn)> {
        let again = |(&at, pending): (&At, &mut Pending)| {
            (pending.delivered, pending.turn) = (0, pending.turn + 1);
            (at, Turn { revision: pending.revision, turn: pending.turn })
        };
        self.pending.iter_mut().map(again).collect()
    }

    /// A revision needs nothing more.
    pub fn settle(&mut self, at: At, revision: u64) {
        self.pending.retain(|&of, pending| of != at || pending.revision != revision);
    }

    /// Forgets what `now` does not name of what others did.
    pub fn forget(&mut self, others: &[&Job], now: Option<&Job>) {
        let kept: BTreeSet<&str> = now.iter().flat_map(|job| job.objects()).collect();
        for object in others.iter().flat_map(|job| job.objects()) {
            if !kept.contains(object) {
                self.objects.remove(object);
            }
        }
    }
}

impl Pending {
    fn is_at(&self, turn: Turn) -> bool {
        (self.revision, self.turn) == (turn.revision, turn.turn)
    }
}
