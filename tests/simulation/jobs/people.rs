//! People: they cancel jobs and replay dead letters, as the commands do it, at any moment.

use super::*;

/// One step of what somebody wants.
#[derive(Debug)]
pub enum Act {
    Cancel {
        at: At,
    },
    CancelStore {
        at: At,
        revision: u64,
        before: Box<Job>,
        next: Box<Job>,
    },
    Replay {
        at: At,
    },
    ReplayStore {
        at: At,
        revision: u64,
        failed: Box<Job>,
        next: Box<Job>,
    },
    /// The letter of what runs again goes, and the bodies that only it named.
    Unletter {
        at: At,
        failed: Box<Job>,
        next: Box<Job>,
    },
}

impl World {
    /// Somebody will want something of some job.
    pub(super) fn somebody(&mut self) {
        let (at, when) = (self.chance.count(0, 4), self.chance.between(0, 2 * self.weather.lasts));
        let act = if self.chance.per_mille(250) { Act::Cancel { at } } else { Act::Replay { at } };
        self.at(when, Event::Person(act));
    }

    pub(super) fn act(&mut self, act: Act) {
        match act {
            Act::Cancel { at } => {
                let Some(record) = self.kept.records.get(&at) else { return };
                let age = Duration::from_millis(record.job.age + (self.now - record.stored));
                let Some(next) = jobs::cancelled(record.job.clone(), age) else { return };
                let (revision, before) = (record.revision, Box::new(record.job.clone()));
                self.person(Act::CancelStore { at, revision, before, next: Box::new(next) });
            }
            Act::CancelStore { at, revision, before, next } => {
                match self.store(at, revision, &next, Who::Canceller) {
                    Some(_) => self.kept.forget(&[&before], None),
                    None => self.person(Act::Cancel { at }),
                }
            }
            Act::Replay { at } => {
                let Some(letter) = self.kept.letters.get(&at) else { return };
                let record = self.kept.records.get(&at);
                if record.is_some_and(|record| !jobs::is_dead(&record.job)) {
                    return;
                }
                let failed = Box::new(record.map_or(letter, |record| &record.job).clone());
                let revision = record.map_or(0, |record| record.revision);
                let next = Box::new(jobs::replayed((*failed).clone()));
                self.person(Act::ReplayStore { at, revision, failed, next });
            }
            Act::ReplayStore { at, revision, failed, next } => {
                match self.store(at, revision, &next, Who::Replayer) {
                    Some(_) => {
                        self.books.count("replays");
                        self.person(Act::Unletter { at, failed, next });
                    }
                    None => self.person(Act::Replay { at }),
                }
            }
            Act::Unletter { at, failed, next } => {
                self.kept.letters.remove(&at);
                self.kept.forget(&[&failed], Some(&next));
            }
        }
    }

    fn person(&mut self, act: Act) {
        let soon = self.now + self.chance.pick(&[1, 30]);
        self.at(soon, Event::Person(act));
    }
}
