//! Where an agent stands: whether it is full, healthy, quick enough, or about to end, and what follows for its place
//! in the queue group.

use std::{hash::BuildHasher, time::Instant};

use super::{Command, Condition, News, Serving, Settings, Turn, group::Change, health::Sign};
use crate::wire::{Code, Reply};

impl<H: BuildHasher> Serving<H> {
    pub(super) fn check_full(&mut self) {
        let room = self.settings.max_in_flight.saturating_sub(self.at_origin);
        let full = match self.group.full {
            false => room == 0,
            // Not at the first free place: to say so for every request would cost more than it gives.
            true => room < (self.settings.max_in_flight / 4).max(1),
        };
        if std::mem::replace(&mut self.group.full, full) != full && self.link_up && self.group.is_wanted() {
            self.announce();
        }
    }

    /// What the end of a call, or its head, says about the origin.
    pub(super) fn learn(&mut self, began: Option<Instant>, reply: &Reply, now: Instant) {
        let error = reply.error.as_ref();
        if let (None, Some(began)) = (error, began) {
            self.load.add(now.saturating_duration_since(began));
        }
        let sign = Sign::of(error.map(|error| Code::parse(&error.code)));
        let news = self.health.saw(sign, error.map_or("", |error| &error.message), now);
        self.tell(news);
    }

    pub(super) fn tell(&mut self, news: Option<News>) {
        if let Some(news) = news {
            self.commands.push_back(Command::Tell(news));
            self.regroup();
        }
    }

    pub(super) fn turn(&mut self, turn: Option<Turn>) {
        if let Some(turn) = turn {
            self.commands.push_back(Command::TellTurn(turn));
            self.regroup();
        }
    }

    /// Looks at the siblings, and at itself beside them.
    pub(super) fn compare(&mut self, now: Instant) {
        self.siblings.expire(now);
        self.able = self.siblings.able();
        if self.health.is_well() || self.load.is_standing_by() {
            let turn = self.load.consider(self.able, self.at_origin as u64, now);
            self.turn(turn);
        }
        self.regroup();
    }

    /// Leaves the group or joins it, as its reasons are now, and says so.
    pub(super) fn regroup(&mut self) {
        self.group.unwell = self.health.keeps_away(self.able.count == 0);
        self.group.standby = self.load.is_standing_by();
        let change = self.group.settle(self.link_up);
        self.change(change);
        match self.group.condition() {
            // It ends anyway, or will say so in a moment.
            Condition::Draining | Condition::Joining => {}
            Condition::Unhealthy | Condition::Standby | Condition::Full | Condition::Accepting => {
                let here = self.here();
                if self.link_up && (here.accepting, here.failing) != self.said {
                    self.announce();
                }
            }
        }
    }

    pub(super) fn announce(&mut self) {
        let here = self.here();
        self.said = (here.accepting, here.failing);
        self.commands.push_back(Command::Announce(here));
    }

    pub(super) fn change(&mut self, change: Option<Change>) {
        match change {
            Some(Change::Join { turn }) => self.commands.push_back(Command::Join { turn }),
            Some(Change::Leave) => self.commands.push_back(Command::Leave),
            None => {}
        }
    }

    pub(super) fn joined(&mut self, turn: u64) {
        if self.group.joined(turn) {
            self.announce();
        }
    }

    /// There is a new connection.
    pub(super) fn begin(&mut self, now: Instant) {
        self.health.begin(now);
        self.load.begin(now);
        match self.group.reconnected() {
            None if self.group.draining => {}
            None => self.announce(),
            change => self.change(change),
        }
    }

    pub(super) fn drain(&mut self) {
        if std::mem::replace(&mut self.group.draining, true) {
            return;
        }
        let change = self.group.settle(self.link_up);
        self.change(change);
        self.commands.push_back(Command::Farewell);
    }

    pub(super) fn resume(&mut self) {
        self.group.draining = false;
        let change = self.group.settle(self.link_up);
        self.change(change);
    }

    pub(super) fn configure(&mut self, settings: Settings, now: Instant) {
        self.health.configure(settings.health, now);
        let turn = self.load.configure(settings.stand_by, now);
        self.settings = settings;
        self.turn(turn);
        self.check_full();
        self.regroup();
    }

    /// When an agent that leaves the work to its siblings looks at them again at the latest.
    pub(super) fn back_at(&self) -> Option<Instant> {
        let waits = self.group.unwell || self.group.standby;
        let expiry = if waits { self.siblings.poll_timeout() } else { None };
        self.load.poll_timeout().into_iter().chain(expiry).min()
    }
}
