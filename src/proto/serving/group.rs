//! Membership of the queue group: the reasons to stay out of it, and how far it is with joining.

use crate::wire::State;

/// Whether an agent is a member, and why not.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// The process, or the upstream, ends.
    pub draining: bool,
    /// The origin can't be worked with.
    pub unwell: bool,
    /// Its siblings are much quicker.
    pub standby: bool,
    /// As many requests are at the origin as may be. It stays a member and refuses: leaving loses what NATS has
    /// on its way here, or takes a while.
    pub full: bool,
    membership: Membership,
    turn: u64,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Membership {
    Out,
    /// Until a round trip has shown that the subscription is in force.
    #[default]
    Joining,
    In,
}

/// What is to be done about the membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Join { turn: u64 },
    Leave,
}

/// What an agent is to those that look at it, the first that is true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// It takes nothing new and ends when it has finished.
    Draining,
    /// Its origin can't be worked with.
    Unhealthy,
    /// Its siblings are much quicker and do the work.
    Standby,
    /// It is at its limit.
    Full,
    /// It is about to take requests.
    Joining,
    /// It takes requests.
    Accepting,
}

impl Condition {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Condition::Draining => "draining",
            Condition::Unhealthy => "unhealthy",
            Condition::Standby => "standby",
            Condition::Full => "full",
            Condition::Joining => "joining",
            Condition::Accepting => "accepting",
        }
    }
}

impl Group {
    /// Before the first connection.
    pub fn new(unwell: bool) -> Self {
        let membership = if unwell { Membership::Out } else { Membership::Joining };
        Group { unwell, membership, ..Group::default() }
    }

    pub fn condition(&self) -> Condition {
        match self.membership {
            _ if self.draining => Condition::Draining,
            _ if self.unwell => Condition::Unhealthy,
            _ if self.standby => Condition::Standby,
            _ if self.full => Condition::Full,
            Membership::Out | Membership::Joining => Condition::Joining,
            Membership::In => Condition::Accepting,
        }
    }

    /// Whether nothing speaks against being a member.
    pub fn is_wanted(&self) -> bool {
        !self.draining && !self.unwell && !self.standby
    }

    /// How a request that comes all the same is refused.
    pub fn refusal(&self) -> Option<State> {
        match self.is_wanted() {
            false => Some(State::Draining),
            true if self.full => Some(State::Full),
            true => None,
        }
    }

    /// After its reasons have changed.
    pub fn settle(&mut self, link_up: bool) -> Option<Change> {
        match (self.is_wanted(), self.membership) {
            (true, Membership::Out) if link_up => Some(self.join()),
            (true, Membership::Out | Membership::Joining | Membership::In) => None,
            (false, Membership::Joining | Membership::In) => {
                self.membership = Membership::Out;
                Some(Change::Leave)
            }
            (false, Membership::Out) => None,
        }
    }

    /// After a new connection. The client library subscribes again by itself; what is left is to wait for it.
    pub fn reconnected(&mut self) -> Option<Change> {
        self.is_wanted().then(|| self.join())
    }

    /// Whether it is a member from now on.
    pub fn joined(&mut self, turn: u64) -> bool {
        let news = self.membership == Membership::Joining && self.turn == turn;
        if news {
            self.membership = Membership::In;
        }
        news
    }

    fn join(&mut self) -> Change {
        self.turn += 1;
        self.membership = Membership::Joining;
        Change::Join { turn: self.turn }
    }
}
