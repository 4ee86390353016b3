//! One request that has something to send.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::Bytes;
use serde_bytes::ByteBuf;

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
pub struct Sender {
    own: RequestId,
    session: SessionId,
    role: Role,
    content_type: Option<Bytes>,
    length: Option<u64>,
    until: Instant,
    life: Life,
    state: State,
    commands: VecDeque<Command>,
}

#[derive(Debug)]
enum State {
    Waiting,
    /// A receiver was asked.
    Offered {
        to: RequestId,
        again: Again,
    },
    /// A receiver takes it.
    Matched {
        to: RequestId,
        stream: RequestId,
        /// When it is next asked whether it is there.
        ask: Instant,
        /// When it was last heard of.
        heard: Instant,
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
    /// The session was looked for: the revision of its record and who received last.
    Looked(Option<(u64, Option<RequestId>)>),
    /// The session could not be looked for.
    LookedInVain,
}

/// What it wants done.
#[derive(Debug, PartialEq)]
pub enum Command {
    /// Say this, and hear when nobody is there.
    Tell(Meet),
    /// Look for the session.
    Look,
    /// Delete this revision of the session, as it has expired, and look for what is there then.
    Expire(u64),
    /// Open a stream to that one of the receiver, then say this.
    Begin {
        /// The receiver's stream.
        stream: RequestId,
        /// What the receiver waits for.
        begin: Meet,
    },
    /// It is over.
    End(Outcome),
}

/// What it has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver has so much of it.
    Delivered {
        /// Bytes.
        bytes: u64,
        /// Whether they are all.
        whole: bool,
    },
    /// Nobody came.
    TimedOut,
    /// The session is gone.
    Gone,
    /// The receiver is gone, and nobody knows what it has.
    Lost,
}

impl Sender {
    /// A request that has something of this type and length to send, and waits until then; `receiver` may be
    /// there.
    #[allow(clippy::too_many_arguments)] // What it is made of; none of them has another place.
    pub fn new(
        own: RequestId,
        session: SessionId,
        role: Role,
        content_type: Option<Bytes>,
        length: Option<u64>,
        until: Instant,
        life: Life,
        receiver: Option<RequestId>,
        now: Instant,
    ) -> Self {
        let (state, commands) = (State::Waiting, VecDeque::new());
        let mut sender = Sender { own, session, role, content_type, length, until, life, state, commands };
        if let Some(receiver) = receiver {
            sender.offer(receiver, now);
        }
        sender
    }

    fn offer(&mut self, to: RequestId, now: Instant) {
        self.commands.push_back(Command::Tell(self.offer_to(to.clone())));
        self.state = State::Offered { to, again: Again::new(now) };
    }

    fn offer_to(&self, to: RequestId) -> Meet {
        Meet {
            session: Some(self.session.clone()),
            role: Some(self.role),
            content_type: self.content_type.as_ref().map(|kind| ByteBuf::from(kind.to_vec())),
            length: self.length,
            ..Meet::new(self.own.clone(), to, Say::Offer)
        }
    }

    fn hear(&mut self, said: Meet, now: Instant) {
        match (said.say, &mut self.state) {
            (Say::Accept, State::Offered { to, .. }) if *to == said.from => {
                let Some(stream) = said.stream else { return };
                let begin = Meet::new(self.own.clone(), said.from.clone(), Say::Begin);
                self.commands.push_back(Command::Begin { stream: stream.clone(), begin });
                self.state = State::Matched { to: said.from, stream, ask: now + ASK, heard: now };
            }
            // It has not heard that it is begun.
            (Say::Accept, State::Matched { to, stream, .. })
                if *to == said.from && Some(&*stream) == said.stream.as_ref() =>
            {
                self.tell(said.from, Say::Begin);
            }
            (Say::Accept, _) => self.tell(said.from, Say::Withdraw),
            (Say::Refuse, State::Offered { to, .. }) if *to == said.from => self.state = State::Waiting,
            (Say::There, State::Matched { to, heard, .. }) if *to == said.from => *heard = now,
            (Say::Over, State::Matched { to, .. }) if *to == said.from => {
                let outcome = match said.bytes {
                    Some(bytes) => Outcome::Delivered { bytes, whole: said.whole },
                    None => Outcome::Lost,
                };
                self.end(outcome);
            }
            (Say::Over, State::Offered { to, .. }) if *to == said.from => self.state = State::Waiting,
            (Say::Refuse | Say::There | Say::Over, _) => {}
            // For receivers.
            (Say::Offer | Say::Begin | Say::Withdraw | Say::Ask, _) => {}
        }
    }

    /// Somebody receives there, it is said.
    fn found(&mut self, receiver: RequestId, now: Instant) {
        let known = matches!(&self.state, State::Offered { to, .. } if *to == receiver);
        if !known && !self.is_matched() {
            self.offer(receiver, now);
        }
    }

    fn tell(&mut self, to: RequestId, say: Say) {
        self.commands.push_back(Command::Tell(Meet::new(self.own.clone(), to, say)));
    }

    fn meet_fate(&mut self, fate: Fate) {
        if self.is_matched() {
            return;
        }
        match fate {
            Fate::Lasts => {}
            Fate::Gone => self.end(Outcome::Gone),
            Fate::Expired(revision) => self.commands.push_back(Command::Expire(revision)),
        }
    }

    fn end(&mut self, outcome: Outcome) {
        self.state = State::Over;
        self.commands.push_back(Command::End(outcome));
    }

    /// Whether a receiver takes it, or it is over.
    pub fn is_matched(&self) -> bool {
        matches!(self.state, State::Matched { .. } | State::Over)
    }
}

impl Machine for Sender {
    type Input = Input;
    type Command = Command;

    fn handle(&mut self, input: Input, now: Instant) {
        match input {
            Input::Meet(said) => self.hear(said, now),
            Input::Nobody => match self.state {
                State::Offered { .. } => self.state = State::Waiting,
                State::Matched { .. } => self.end(Outcome::Lost),
                State::Waiting | State::Over => {}
            },
            Input::News(news) => {
                let fate = self.life.news(&news, now);
                self.meet_fate(fate);
                if let (Some(receiver), true) = (news.receiver, news.role == Some(self.role.other())) {
                    self.found(receiver, now);
                }
            }
            Input::Looked(found) => {
                let fate = self.life.looked(found.as_ref().map(|(revision, _)| *revision), now);
                self.meet_fate(fate);
                if let Some((_, Some(receiver))) = found {
                    self.found(receiver, now);
                }
            }
            Input::LookedInVain => self.life.looked_in_vain(now),
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        match &mut self.state {
            State::Over => return,
            State::Matched { to, ask, heard, .. } => {
                if *heard + LOST <= now {
                    return self.end(Outcome::Lost);
                }
                if *ask <= now {
                    *ask = now + ASK;
                    let to = to.clone();
                    self.tell(to, Say::Ask);
                }
                return;
            }
            State::Waiting | State::Offered { .. } if self.until <= now => {
                return self.end(Outcome::TimedOut);
            }
            State::Offered { to, again } if again.at <= now => match again.next(now) {
                Some(next) => {
                    *again = next;
                    let to = to.clone();
                    let offer = self.offer_to(to);
                    self.commands.push_back(Command::Tell(offer));
                }
                None => self.state = State::Waiting,
            },
            State::Waiting | State::Offered { .. } => {}
        }
        if self.life.looks(now) {
            self.commands.push_back(Command::Look);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let own = match &self.state {
            State::Over => return None,
            State::Matched { ask, heard, .. } => return Some((*ask).min(*heard + LOST)),
            State::Waiting => self.until,
            State::Offered { again, .. } => again.at.min(self.until),
        };
        Some(self.life.due().map_or(own, |due| due.min(own)))
    }

    fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }
}

/// How often a receiver is asked whether it is there, and how long it may be silent.
const ASK: Duration = Duration::from_secs(3);
const LOST: Duration = Duration::from_secs(20);
