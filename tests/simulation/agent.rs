//! An upstream agent's shell: messages to inputs, commands to messages and calls.

use std::time::Instant;

use bytes::Bytes;
use relay::{
    proto::{
        Machine,
        serving::{self, Command, Input, Serving},
    },
    wire::{Address, Here, Kind, Name, Reply, StreamMessage, Word, codec, ids::Numbers},
};

use crate::{
    bus::Message,
    chance::Keyed,
    process::{Core, Effect, Settings, Shell},
};

/// An upstream agent.
pub struct Agent {
    machine: Serving<Keyed>,
    upstream: Name,
    /// Turns of joining that wait for a round trip.
    joins: Vec<u64>,
    /// Replies that were published before a round trip.
    settling: Vec<(u8, u64)>,
    /// The round trip after which nothing old comes any more.
    catching_up: Option<u8>,
    leaving: Leaving,
}

/// How far it is with its end.
enum Leaving {
    No,
    /// Told to; out of the queue group once this round trip has ended.
    Told {
        trip: u8,
    },
    /// Nothing new comes any more.
    Left,
    Gone,
}

impl Agent {
    /// An agent of `upstream` without requests.
    pub fn new(core: &mut Core, upstream: &Name, settings: &Settings, key: Keyed) -> Self {
        core.subscribe(core.subjects.who(), false);
        core.subscribe(core.subjects.who_of(upstream), false);
        core.subscribe(core.subjects.req(upstream), true);
        let settings = serving::Settings { upstream: upstream.clone(), ..settings.agent.clone() };
        let machine = Serving::new(settings, core.id.clone(), Numbers::new(key));
        Agent {
            machine,
            upstream: upstream.clone(),
            joins: Vec::new(),
            settling: Vec::new(),
            catching_up: None,
            leaving: Leaving::No,
        }
    }

    /// A call has ended.
    pub fn done(&mut self, core: &mut Core, number: u64, reply: Reply, now: Instant) {
        self.feed(core, Input::Done { number, reply }, now);
    }

    /// It is told to stop.
    pub fn drain(&mut self, core: &mut Core, now: Instant) {
        if let Leaving::No = self.leaving {
            self.feed(core, Input::Drain, now);
            core.start_round_trip();
            self.leaving = Leaving::Told { trip: core.trips };
        }
    }

    fn feed(&mut self, core: &mut Core, input: Input, now: Instant) {
        self.machine.handle(input, now);
        self.perform(core);
    }

    fn perform(&mut self, core: &mut Core) {
        while let Some(command) = self.machine.poll_command() {
            match command {
                Command::Call { number, request, .. } => {
                    let key = request.url.to_string()[1..].parse().expect("a caller's key");
                    core.effects.push(Effect::Call { number, key, reply_to: request.client_req_id });
                }
                Command::Abort { number } => core.effects.push(Effect::Abort { number }),
                Command::Ack(ack) => {
                    core.publish(
                        core.subjects.of_request(Kind::Ack, &ack.client_req_id),
                        codec::encode(&ack),
                    );
                }
                Command::Reply { number, to, payload, .. } => {
                    let reply = core.subjects.of_own(Kind::Resp, &core.id, &self.upstream, number);
                    core.ask(core.subjects.of_request(Kind::Resp, &to), reply, payload);
                }
                Command::Join { turn } => {
                    self.joins.push(turn);
                    core.start_round_trip();
                }
                Command::Settle { published } => {
                    core.start_round_trip();
                    self.settling.push((core.trips, published));
                }
                Command::CatchUp => {
                    core.start_round_trip();
                    self.catching_up = Some(core.trips);
                }
                Command::Leave => {
                    core.effects.push(Effect::Unsubscribe { pattern: core.subjects.req(&self.upstream) });
                }
                Command::Announce(here) | Command::Heartbeat(here) => self.announce(core, &here),
                Command::Check | Command::Tell(_) | Command::TellTurn(_) => {
                    panic!("origins are not checked here, and nobody stands by")
                }
                Command::Farewell => core.publish(core.subjects.gone(&self.upstream, &core.id), Bytes::new()),
            }
        }
        if matches!(self.leaving, Leaving::Left) && self.machine.unfinished() == 0 {
            self.leaving = Leaving::Gone;
            core.effects.push(Effect::Exit);
        }
    }

    fn announce(&self, core: &mut Core, here: &Here) {
        core.publish(core.subjects.here(&self.upstream, &core.id), codec::encode(here));
    }
}

impl Shell for Agent {
    fn on_public(&mut self, core: &mut Core, message: &Message, now: Instant) {
        let input = match core.subjects.kind(&message.subject) {
            Some(Kind::Req) => {
                Input::Request(Box::new(codec::decode_request(&message.payload).expect("a request")))
            }
            Some(Kind::Who) => Input::Who,
            kind => panic!("{kind:?} is not for an agent"),
        };
        self.feed(core, input, now);
    }

    fn on_private(&mut self, core: &mut Core, address: Address<'_>, message: &Message, now: Instant) {
        match (address, message.nobody) {
            (Address::Request { kind: Kind::Body, number, .. }, false) => {
                let cancel = StreamMessage::decode(&message.payload).expect("a cancellation");
                assert_eq!(cancel.word, Word::Cancel);
                assert!(core.subjects.is_about(&message.subject, &cancel.to), "{}", message.subject);
                self.feed(core, Input::Cancel { number }, now);
            }
            (Address::Request { kind: Kind::Resp, number, .. }, true) => {
                self.feed(core, Input::ReplyUnheard { number }, now);
            }
            (Address::Asked { .. }, false) => {
                let request = codec::decode_request(&message.payload).expect("a request");
                self.feed(core, Input::Request(Box::new(request)), now);
            }
            (Address::Probed { .. }, false) => {
                let reply = message.reply.clone().expect("a probe says where its answer goes");
                core.publish(reply, codec::encode(&self.machine.here()));
            }
            (address, nobody) => panic!("{address:?} (nobody: {nobody}) is not for an agent"),
        }
    }

    fn on_link(&mut self, core: &mut Core, up: bool, now: Instant) {
        self.feed(core, Input::Link { up }, now);
    }

    fn on_round_trip(&mut self, core: &mut Core, ended: u8, now: Instant) {
        for turn in std::mem::take(&mut self.joins) {
            self.feed(core, Input::Joined { turn }, now);
        }
        for (trip, published) in std::mem::take(&mut self.settling) {
            if trip <= ended {
                self.feed(core, Input::Settled { published }, now);
            } else {
                self.settling.push((trip, published));
            }
        }
        if self.catching_up.is_some_and(|trip| trip <= ended) {
            self.catching_up = None;
            self.feed(core, Input::CaughtUp, now);
        }
        if matches!(self.leaving, Leaving::Told { trip } if trip <= ended) {
            self.leaving = Leaving::Left;
            self.perform(core);
        }
    }

    fn on_timeout(&mut self, core: &mut Core, now: Instant) {
        self.machine.handle_timeout(now);
        self.perform(core);
    }

    fn next(&self) -> Option<Instant> {
        self.machine.poll_timeout()
    }

    fn is_idle(&self) -> bool {
        self.machine.is_idle()
    }
}
