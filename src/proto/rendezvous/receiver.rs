//! One request that waits for something to receive.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::{
    Again,
    life::{Fate, Life},
};
use crate::{
    proto::Machine,
    wire::{
        Meet, News, RequestId,
        session::{Role, Say, SessionId},
    },
};

/// The request.
#[derive(Debug)]
pub struct Receiver {
    own: RequestId,
    session: SessionId,
    role: Role,
    until: Instant,
    life: Life,
    state: State,
    commands: VecDeque<Command>,
}

#[derive(Debug)]
enum State {
    Open,
    /// An offer is accepted, and its sender has not confirmed.
    Accepted {
        offer: Box<Meet>,
        again: Again,
    },
    Over,
}

/// What can happen to it.
#[derive(Debug)]
pub enum Input {
    /// Somebody says something to it.
    Meet(Meet),
    /// Nobody is there to whom it said something.
    Nobody,
    /// News of the session.
    News(News),
    /// The session was looked for, and its record has this revision.
    Looked(Option<u64>),
    /// The session could not be looked for.
    LookedInVain,
}

/// What it wants done.
#[derive(Debug, PartialEq)]
pub enum Command {
    /// Say this.
    Tell(Meet),
    /// Open a stream for this offer, and accept it.
    Accept(Box<Meet>),
    /// Accept it once more, with the same stream.
    AcceptAgain(Box<Meet>),
    /// The stream is not needed.
    Release,
    /// Tell all senders that this one waits.
    Announce,
    /// Look for the session.
    Look,
    /// Delete this revision of the session, as it has expired, and look for what is there then.
    Expire(u64),
    /// It is over.
    End(Outcome),
}

/// What it has come to.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// This offer is being sent.
    Matched(Box<Meet>),
    /// Nobody came.
    TimedOut,
    /// The session is gone.
    Gone,
}

impl Receiver {
    /// A request that waits in this part of the session until then.
    pub fn new(own: RequestId, session: SessionId, role: Role, until: Instant, life: Life) -> Self {
        let commands = VecDeque::from([Command::Announce]);
        Receiver { own, session, role, until, life, state: State::Open, commands }
    }

    fn hear(&mut self, said: Meet, now: Instant) {
        match said.say {
            Say::Offer => self.offered(said, now),
            Say::Begin => {
                if let State::Accepted { offer, .. } = &self.state
                    && offer.from == said.from
                {
                    let offer = offer.clone();
                    self.end(Outcome::Matched(offer));
                }
            }
            Say::Withdraw => {
                if matches!(&self.state, State::Accepted { offer, .. } if offer.from == said.from) {
                    self.reopen();
                }
            }
            Say::Ask => {
                let answer = if matches!(self.state, State::Over) { Say::Over } else { Say::There };
                self.tell(said.from, answer);
            }
            // For senders.
            Say::Accept | Say::Refuse | Say::There | Say::Over => {}
        }
    }

    fn offered(&mut self, offer: Meet, now: Instant) {
        let fits = offer.session.as_ref() == Some(&self.session) && offer.role == Some(self.role.other());
        match &self.state {
            State::Open if fits && now < self.until => {
                self.commands.push_back(Command::Accept(Box::new(offer.clone())));
                self.state = State::Accepted { offer: Box::new(offer), again: Again::new(now) };
            }
            State::Accepted { offer: accepted, .. } if accepted.from == offer.from => {
                self.commands.push_back(Command::AcceptAgain(accepted.clone()));
            }
            State::Open | State::Accepted { .. } | State::Over => self.tell(offer.from, Say::Refuse),
        }
    }

    /// The sender of what was accepted is not there any more: another may come.
    fn reopen(&mut self) {
        self.state = State::Open;
        self.commands.extend([Command::Release, Command::Announce]);
    }

    fn tell(&mut self, to: RequestId, say: Say) {
        self.commands.push_back(Command::Tell(Meet::new(self.own.clone(), to, say)));
    }

    fn meet_fate(&mut self, fate: Fate) {
        match fate {
            Fate::Lasts => {}
            Fate::Gone => self.end(Outcome::Gone),
            Fate::Expired(revision) => self.commands.push_back(Command::Expire(revision)),
        }
    }

    fn end(&mut self, outcome: Outcome) {
        if let State::Accepted { offer, .. } = &self.state
            && !matches!(outcome, Outcome::Matched(_))
        {
            let from = offer.from.clone();
            self.tell(from, Say::Refuse);
            self.commands.push_back(Command::Release);
        }
        self.state = State::Over;
        self.commands.push_back(Command::End(outcome));
    }

    fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }
}

impl Machine for Receiver {
    type Input = Input;
    type Command = Command;

    fn handle(&mut self, input: Input, now: Instant) {
        match input {
            Input::Meet(said) => self.hear(said, now),
            _ if self.is_over() => {}
            Input::Nobody => {
                if matches!(self.state, State::Accepted { .. }) {
                    self.reopen();
                }
            }
            Input::News(news) => {
                let fate = self.life.news(&news, now);
                self.meet_fate(fate);
            }
            Input::Looked(revision) => {
                let fate = self.life.looked(revision, now);
                self.meet_fate(fate);
            }
            Input::LookedInVain => self.life.looked_in_vain(now),
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        match &mut self.state {
            State::Over => return,
            State::Accepted { offer, again } if again.at <= now => match again.next(now) {
                Some(next) => {
                    *again = next;
                    self.commands.push_back(Command::AcceptAgain(offer.clone()));
                }
                None => self.reopen(),
            },
            State::Open if self.until <= now => return self.end(Outcome::TimedOut),
            State::Open | State::Accepted { .. } => {}
        }
        if self.life.looks(now) {
            self.commands.push_back(Command::Look);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let own = match &self.state {
            State::Over => return None,
            State::Open => self.until,
            State::Accepted { again, .. } => again.at,
        };
        Some(self.life.due().map_or(own, |due| due.min(own)))
    }

    fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }
}

/// What is kept of a receiver when its request is answered: somebody may ask.
#[derive(Debug, Clone, PartialEq)]
pub enum Kept {
    /// It receives from this sender.
    Receiving {
        /// The sender.
        from: RequestId,
    },
    /// It has received.
    Received {
        /// The sender.
        from: RequestId,
        /// Bytes.
        bytes: u64,
        /// Whether they were all.
        whole: bool,
    },
}

impl Kept {
    /// What it answers.
    pub fn answer(&self, said: &Meet) -> Option<Meet> {
        let answer = |say| Meet::new(said.to.clone(), said.from.clone(), say);
        match (self, said.say) {
            (_, Say::Offer) => Some(answer(Say::Refuse)),
            (Kept::Receiving { .. }, Say::Ask) => Some(answer(Say::There)),
            (Kept::Received { from, bytes, whole }, Say::Ask) if *from == said.from => {
                Some(Meet { bytes: Some(*bytes), whole: *whole, ..answer(Say::Over) })
            }
            (Kept::Received { .. }, Say::Ask) => Some(answer(Say::Over)),
            (_, Say::Accept | Say::Refuse | Say::Begin | Say::Withdraw | Say::There | Say::Over) => None,
        }
    }
}

/// What whoever is not there any more answers.
pub fn absent(said: &Meet) -> Option<Meet> {
    let answer = |say| Some(Meet::new(said.to.clone(), said.from.clone(), say));
    match said.say {
        Say::Offer => answer(Say::Refuse),
        Say::Accept => answer(Say::Withdraw),
        Say::Ask => answer(Say::Over),
        Say::Refuse | Say::Begin | Say::Withdraw | Say::There | Say::Over => None,
    }
}

/// For how long it is known what a receiver has received.
pub const KEPT: Duration = Duration::from_secs(60);
