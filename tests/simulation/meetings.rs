//! Rendezvous: the machines of senders and receivers at several client agents, joined by messages that are lost,
//! late and out of order, by news that may not come, and by one record; client agents die. The host receives again
//! and again, guests send.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use relay::{
    proto::{
        Machine,
        rendezvous::{
            life::Life,
            receiver::{self, Kept, Receiver, absent},
            sender::{self, Sender},
        },
    },
    wire::{
        Meet, News, ProcessId, RequestId, SessionId, SessionState,
        message::VERSION,
        session::{Role, Say, upstream},
    },
};

use crate::chance::Chance;

#[test]
fn every_message_is_received_once_or_its_sender_is_told() {
    for seed in seeds(2000) {
        let mut world = World::new(seed, 60);
        world.run();
        world.is_consistent();
    }
}

#[test]
fn in_good_weather_every_message_is_received() {
    for seed in seeds(500) {
        let mut world = World::new(seed, 0);
        world.run();
        world.is_consistent();
        let told: Vec<_> = world.told.values().collect();
        let all = told.iter().all(|told| matches!(told, sender::Outcome::Delivered { whole: true, .. }));
        assert!(told.len() == SENDERS && all, "seed {seed}: {told:?}");
    }
}

/// Runs, or the one that `RELAY_SEED` names.
fn seeds(runs: u64) -> Vec<u64> {
    match std::env::var("RELAY_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => vec![seed],
        None => (0..runs).collect(),
    }
}

struct World {
    seed: u64,
    chance: Chance,
    /// Of a thousand messages, so many are lost.
    loss: u64,
    now: Instant,
    start: Instant,
    events: BTreeMap<(Instant, u64), Event>,
    count: u64,
    requests: BTreeMap<u64, Request>,
    kept: BTreeMap<u64, Kept>,
    dead: BTreeSet<u64>,
    /// The record: its revision and who received last.
    revision: u64,
    slot: Option<RequestId>,
    /// What each receiver was promised, and what each sender has begun.
    matched: BTreeMap<u64, u64>,
    begun: BTreeMap<u64, u64>,
    received: BTreeMap<u64, u64>,
    told: BTreeMap<u64, sender::Outcome>,
}

struct Request {
    agent: u64,
    until: Instant,
    machine: Either,
    stream: Option<RequestId>,
}

enum Either {
    Receives(Receiver),
    Sends(Sender),
}

enum Event {
    /// A guest sends.
    Send,
    /// The host receives.
    Receive,
    Hear(RequestId, Meet),
    Nobody(u64),
    News(u64, News),
    Looked(u64, u64, Option<RequestId>),
    Timer(u64),
    /// What a receiver receives has come to an end.
    End(u64, RequestId),
    Die(u64),
}

impl World {
    fn new(seed: u64, loss: u64) -> World {
        let start = Instant::now();
        let mut world = World {
            seed,
            chance: Chance::new(seed),
            loss,
            now: start,
            start,
            events: BTreeMap::new(),
            count: 0,
            requests: BTreeMap::new(),
            kept: BTreeMap::new(),
            dead: BTreeSet::new(),
            revision: 1,
            slot: None,
            matched: BTreeMap::new(),
            begun: BTreeMap::new(),
            received: BTreeMap::new(),
            told: BTreeMap::new(),
        };
        for _ in 0..SENDERS {
            world.later(0, 3000, Event::Send);
        }
        world.later(0, 3000, Event::Receive);
        if loss > 0 {
            for agent in 1..AGENTS {
                if world.chance.per_mille(400) {
                    world.later(0, 20_000, Event::Die(agent));
                }
            }
        }
        world
    }

    fn run(&mut self) {
        while let Some(((at, _), event)) = self.events.pop_first() {
            self.now = at;
            assert!(at < self.start + Duration::from_secs(600), "seed {}: it does not end", self.seed);
            self.happen(event);
        }
    }

    /// Something happens after so many milliseconds, at least and at most.
    fn later(&mut self, least: u64, most: u64, event: Event) {
        let after = Duration::from_micros(self.chance.between(least * 1000, most * 1000));
        self.count += 1;
        self.events.insert((self.now + after, self.count), event);
    }

    fn happen(&mut self, event: Event) {
        let now = self.now;
        let number = match event {
            Event::Send => return self.send(),
            Event::Receive => return self.receive(),
            Event::Die(agent) => {
                self.dead.insert(agent);
                let gone: Vec<u64> =
                    self.requests.iter().filter(|(_, one)| one.agent == agent).map(|(id, _)| *id).collect();
                for number in gone {
                    self.requests.remove(&number);
                    // Whoever received there goes elsewhere.
                    self.later(500, 2000, Event::Receive);
                }
                return;
            }
            Event::End(number, from) => return self.ended(number, from),
            Event::Hear(to, said) => {
                let number = to.number();
                match self.requests.get_mut(&number).map(|request| &mut request.machine) {
                    Some(Either::Receives(machine)) => machine.handle(receiver::Input::Meet(said), now),
                    Some(Either::Sends(machine)) => machine.handle(sender::Input::Meet(said), now),
                    None => {
                        let kept = self.kept.get(&number);
                        let answer = kept.map_or_else(|| absent(&said), |kept| kept.answer(&said));
                        if let Some(answer) = answer {
                            self.tell(answer);
                        }
                        return;
                    }
                }
                number
            }
            Event::Nobody(number) => {
                match self.requests.get_mut(&number).map(|request| &mut request.machine) {
                    Some(Either::Receives(machine)) => machine.handle(receiver::Input::Nobody, now),
                    Some(Either::Sends(machine)) => machine.handle(sender::Input::Nobody, now),
                    None => return,
                }
                number
            }
            Event::News(number, news) => {
                match self.requests.get_mut(&number).map(|request| &mut request.machine) {
                    Some(Either::Receives(machine)) => machine.handle(receiver::Input::News(news), now),
                    Some(Either::Sends(machine)) => machine.handle(sender::Input::News(news), now),
                    None => return,
                }
                number
            }
            Event::Looked(number, revision, slot) => {
                match self.requests.get_mut(&number).map(|request| &mut request.machine) {
                    Some(Either::Receives(machine)) => {
                        machine.handle(receiver::Input::Looked(Some(revision)), now);
                    }
                    Some(Either::Sends(machine)) => {
                        machine.handle(sender::Input::Looked(Some((revision, slot))), now);
                    }
                    None => return,
                }
                number
            }
            Event::Timer(number) => {
                match self.requests.get_mut(&number).map(|request| &mut request.machine) {
                    Some(Either::Receives(machine)) => machine.handle_timeout(now),
                    Some(Either::Sends(machine)) => machine.handle_timeout(now),
                    None => return,
                }
                number
            }
        };
        self.work(number);
    }

    fn agent(&mut self) -> u64 {
        loop {
            let agent = self.chance.between(0, AGENTS - 1);
            if !self.dead.contains(&agent) {
                return agent;
            }
        }
    }

    fn fresh(&mut self, agent: u64) -> RequestId {
        self.count += 1;
        let process: ProcessId = format!("client.p{agent}").parse().unwrap();
        RequestId::new(&process, &upstream(), self.count)
    }

    fn send(&mut self) {
        let agent = self.agent();
        let own = self.fresh(agent);
        self.revision += 1;
        let until = self.now + WAIT;
        let life = Life::new(TTL, self.revision, self.now);
        let slot = self.slot.clone();
        let machine =
            Sender::new(own.clone(), session(), Role::Guest, None, Some(1), until, life, slot, self.now);
        let machine = Either::Sends(machine);
        self.requests.insert(own.number(), Request { agent, until, machine, stream: None });
        self.work(own.number());
    }

    fn receive(&mut self) {
        // Who is there is asked; what is answered is what is so.
        let taken = self.slot.as_ref().map(RequestId::number);
        let there = |number| {
            let waits = self.requests.contains_key(&number);
            waits || matches!(self.kept.get(&number), Some(Kept::Receiving { .. }))
        };
        if taken.is_some_and(there) || self.now > self.start + Duration::from_secs(60) {
            return;
        }
        let agent = self.agent();
        let own = self.fresh(agent);
        self.revision += 1;
        self.slot = Some(own.clone());
        let until = self.now + WAIT;
        let life = Life::new(TTL, self.revision, self.now);
        let machine = Either::Receives(Receiver::new(own.clone(), session(), Role::Host, until, life));
        self.requests.insert(own.number(), Request { agent, until, machine, stream: None });
        self.work(own.number());
    }

    fn ended(&mut self, number: u64, from: RequestId) {
        let agent = self.kept_agent(number);
        if self.dead.contains(&agent) {
            return;
        }
        self.received.insert(number, from.number());
        self.kept.insert(number, Kept::Received { from: from.clone(), bytes: number, whole: true });
        let process: ProcessId = format!("client.p{agent}").parse().unwrap();
        let own = RequestId::new(&process, &upstream(), number);
        self.tell(Meet { bytes: Some(number), whole: true, ..Meet::new(own, from, Say::Over) });
        self.later(1, 100, Event::Receive);
    }

    /// The agent of a receiver that is answered: its id has it.
    fn kept_agent(&self, number: u64) -> u64 {
        let slot = self.slot.as_ref().filter(|slot| slot.number() == number);
        slot.map_or(0, agent_of)
    }

    /// Does what a request wants done.
    fn work(&mut self, number: u64) {
        loop {
            let Some(request) = self.requests.get_mut(&number) else { return };
            let goes_on = match &mut request.machine {
                Either::Receives(machine) => match machine.poll_command() {
                    Some(command) => self.receives(number, command),
                    None => false,
                },
                Either::Sends(machine) => match machine.poll_command() {
                    Some(command) => self.sends(number, command),
                    None => false,
                },
            };
            if !goes_on {
                break;
            }
        }
        let due = match self.requests.get(&number).map(|request| &request.machine) {
            Some(Either::Receives(machine)) => machine.poll_timeout(),
            Some(Either::Sends(machine)) => machine.poll_timeout(),
            None => None,
        };
        if let Some(due) = due {
            self.count += 1;
            self.events.insert((due.max(self.now), self.count), Event::Timer(number));
        }
    }

    fn receives(&mut self, number: u64, command: receiver::Command) -> bool {
        let own = self.slot_of(number);
        match command {
            receiver::Command::Tell(said) => self.tell(said),
            receiver::Command::Accept(offer) => {
                let stream = self.fresh(agent_of(&own));
                self.requests.get_mut(&number).unwrap().stream = Some(stream.clone());
                self.tell(Meet { stream: Some(stream), ..Meet::new(own, offer.from, Say::Accept) });
            }
            receiver::Command::AcceptAgain(offer) => {
                let stream = self.requests[&number].stream.clone();
                self.tell(Meet { stream, ..Meet::new(own, offer.from, Say::Accept) });
            }
            receiver::Command::Release => self.requests.get_mut(&number).unwrap().stream = None,
            receiver::Command::Announce => self.announce(own),
            receiver::Command::Look => self.look(number),
            receiver::Command::Expire(_) => panic!("seed {}: the session is used", self.seed),
            receiver::Command::End(outcome) => {
                let request = self.requests.remove(&number).unwrap();
                let late = self.now.saturating_duration_since(request.until);
                assert!(late <= HANDSHAKE, "seed {}: it waited {late:?} too long", self.seed);
                if let receiver::Outcome::Matched(offer) = outcome {
                    self.matched.insert(number, offer.from.number());
                    self.kept.insert(number, Kept::Receiving { from: offer.from.clone() });
                    self.later(0, 5000, Event::End(number, offer.from));
                } else {
                    self.later(1, 100, Event::Receive);
                }
                return false;
            }
        }
        true
    }

    fn sends(&mut self, number: u64, command: sender::Command) -> bool {
        match command {
            sender::Command::Tell(said) => self.tell(said),
            sender::Command::Look => self.look(number),
            sender::Command::Begin { begin, .. } => {
                let again = self.begun.insert(number, begin.to.number());
                assert_eq!(again, None, "seed {}: it begins once", self.seed);
                self.tell(begin);
            }
            sender::Command::Expire(_) => panic!("seed {}: the session is used", self.seed),
            sender::Command::End(outcome) => {
                self.requests.remove(&number);
                self.told.insert(number, outcome);
                return false;
            }
        }
        true
    }

    fn slot_of(&self, number: u64) -> RequestId {
        let agent = self.requests[&number].agent;
        RequestId::new(&format!("client.p{agent}").parse().unwrap(), &upstream(), number)
    }

    fn tell(&mut self, said: Meet) {
        if self.chance.per_mille(self.loss) {
            return;
        }
        let (from, to) = (said.from.number(), said.to.clone());
        if self.dead.contains(&agent_of(&to)) {
            self.later(0, 1, Event::Nobody(from));
        } else {
            self.later(0, if self.loss > 0 { 300 } else { 3 }, Event::Hear(to, said));
        }
    }

    fn announce(&mut self, receiver: RequestId) {
        let (state, role) = (SessionState::Used, Some(Role::Host));
        let news = News {
            v: VERSION,
            session: session(),
            state,
            revision: self.revision,
            role,
            receiver: Some(receiver),
        };
        let all: Vec<u64> = self.requests.keys().copied().collect();
        for number in all {
            if !self.chance.per_mille(self.loss * 5) {
                self.later(0, 50, Event::News(number, news.clone()));
            }
        }
    }

    fn look(&mut self, number: u64) {
        let event = Event::Looked(number, self.revision, self.slot.clone());
        self.later(0, 20, event);
    }

    fn is_consistent(&self) {
        let seed = self.seed;
        assert!(self.requests.is_empty(), "seed {seed}: {} are left", self.requests.len());
        let senders: BTreeSet<_> = self.matched.values().collect();
        assert_eq!(senders.len(), self.matched.len(), "seed {seed}: a message for two receivers");
        for (receiver, sender) in &self.matched {
            assert_eq!(self.begun.get(sender), Some(receiver), "seed {seed}: what is promised has begun");
        }
        for (number, told) in &self.told {
            match told {
                sender::Outcome::Delivered { bytes, .. } => {
                    assert_eq!(self.received.get(bytes), Some(number), "seed {seed}: what it is told is so");
                }
                sender::Outcome::TimedOut => {
                    assert!(!self.received.values().any(|sender| sender == number), "seed {seed}");
                }
                sender::Outcome::Lost => {
                    assert!(self.loss > 0, "seed {seed}: nobody was lost");
                }
                sender::Outcome::Gone => panic!("seed {seed}: the session is there"),
            }
        }
    }
}

fn agent_of(id: &RequestId) -> u64 {
    id.process().strip_prefix("client.p").and_then(|agent| agent.parse().ok()).unwrap()
}

fn session() -> SessionId {
    SessionId::new([1; 16])
}

const AGENTS: u64 = 4;
const SENDERS: usize = 6;
const WAIT: Duration = Duration::from_secs(90);
const TTL: Duration = Duration::from_secs(3600);
/// What a receiver may take longer when somebody comes in the last moment.
const HANDSHAKE: Duration = Duration::from_secs(3);
