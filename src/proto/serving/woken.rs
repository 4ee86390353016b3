//! An agent that has stood still: its process was frozen, or its machine was. Requests that were sent to it meanwhile
//! are still there, and those who asked have given up on them or asked another agent.

use std::{
    hash::BuildHasher,
    time::{Duration, Instant},
};

use super::{Command, Serving};
use crate::wire::State;

impl<H: BuildHasher> Serving<H> {
    /// Notices by a look at the clock that is long overdue that time has passed without it.
    pub(super) fn notice_waking(&mut self, now: Instant) {
        if !self.woken && self.look.is_some_and(|at| now > at + FROZEN) {
            self.woken = true;
            self.commands.push_back(Command::CatchUp);
        }
    }

    /// Looks at the clock when it is time to.
    pub(super) fn look(&mut self, now: Instant) {
        if self.look.is_some_and(|at| at <= now) {
            self.look = Some(now + LOOK);
        }
    }

    /// How a request that comes now is refused.
    pub(super) fn refusal(&self) -> Option<State> {
        if self.woken { Some(State::Draining) } else { self.group.refusal() }
    }
}

/// How often it looks at the clock, once it is connected.
pub(super) const LOOK: Duration = Duration::from_secs(1);
/// A process that is only busy is not later than this.
const FROZEN: Duration = Duration::from_secs(2);
