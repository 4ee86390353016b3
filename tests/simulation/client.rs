//! A client agent's shell: messages to inputs, commands to messages.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::Method;
use relay::{
    proto::{
        Machine,
        exchange::{Command, Exchanges, Input},
    },
    wire::{
        Ack, Address, Headers, Kind, Lost, Name, Request, StreamMessage, Word, codec,
        ids::Numbers,
        message::{VERSION, millis},
    },
};

use crate::{
    bus::Message,
    chance::Keyed,
    process::{Core, Effect, Settings, Shell},
};

/// A client agent. A caller is its key.
pub struct Client {
    machine: Exchanges<u32, Keyed>,
    ttl: Duration,
    numbers: BTreeMap<u32, u64>,
}

impl Client {
    /// A client agent without requests.
    pub fn new(core: &mut Core, settings: &Settings, key: Keyed) -> Self {
        for kind in [Kind::Here, Kind::Gone] {
            core.subscribe(core.subjects.every(kind), false);
        }
        let machine = Exchanges::new(settings.client.clone(), core.id.clone(), Numbers::new(key));
        Client { machine, ttl: settings.client.ttl, numbers: BTreeMap::new() }
    }

    /// A caller asks.
    pub fn open(&mut self, core: &mut Core, key: u32, upstream: &Name, method: Method, now: Instant) {
        let id = self.machine.mint(upstream);
        let number = id.number();
        self.numbers.insert(key, number);
        core.effects.push(Effect::Opened { key, number });
        let request = Request {
            v: VERSION,
            client_id: core.id.clone(),
            client_req_id: id,
            client_req_ttl: millis(self.ttl),
            upstream_target: upstream.clone(),
            method,
            url: format!("/{key}").into(),
            headers: Headers::new(),
            body: Bytes::from_static(b"question"),
            stream: false,
            trailers: http::HeaderMap::new(),
            upgrade: None,
            interim: false,
            window: None,
            broker_id: None,
            broker_req_id: None,
            broker_req_ttl: None,
        };
        self.feed(core, Input::Open { request: Box::new(request), caller: key }, now);
    }

    /// A caller leaves.
    pub fn abandon(&mut self, core: &mut Core, key: u32, now: Instant) {
        if let Some(&number) = self.numbers.get(&key) {
            self.feed(core, Input::Abandon { number }, now);
        }
    }

    /// Requests in flight.
    pub fn in_flight(&self) -> usize {
        self.machine.in_flight()
    }

    fn feed(&mut self, core: &mut Core, input: Input<u32>, now: Instant) {
        self.machine.handle(input, now);
        self.perform(core);
    }

    fn perform(&mut self, core: &mut Core) {
        while let Some(command) = self.machine.poll_command() {
            match command {
                Command::Publish { id, upstream, to, payload, .. } => {
                    core.effects.push(Effect::Sent { number: id.number() });
                    let subject = match to {
                        Some(agent) => core.subjects.req_to(&agent, &upstream),
                        None => core.subjects.req(&upstream),
                    };
                    core.ask(subject, core.subjects.of_request(Kind::Ack, &id), payload);
                }
                Command::Probe { upstream, agent } => {
                    let reply = core.subjects.probe_reply(&core.id, &upstream, &agent);
                    core.ask(core.subjects.probe(&agent, &upstream), reply, Bytes::new());
                }
                Command::Who { upstream } => core.publish(core.subjects.who_of(&upstream), Bytes::new()),
                Command::Hold(hold) => {
                    let reply = core.subjects.of_request(Kind::Hold, &hold.client_req_id);
                    core.ask(core.subjects.hold(&hold.upstream_target), reply, codec::encode(&hold));
                }
                Command::Update { to, hold } => {
                    core.publish(core.subjects.of_request(Kind::Lease, &to), codec::encode(&hold));
                }
                Command::Renew { broker, upstream, lease } => {
                    let reply = core.subjects.lost(&core.id, &broker);
                    core.ask(core.subjects.renew(&broker, &upstream), reply, codec::encode(&lease));
                }
                Command::Cancel { to } => {
                    let cancel = StreamMessage { to, word: Word::Cancel };
                    core.publish(core.subjects.of_request(Kind::Body, &cancel.to), cancel.encode());
                }
                // No body is streamed here: `tests/simulation/streams.rs` is about those.
                Command::Connect { id, .. } => panic!("{id} is not streamed"),
                Command::Answer { caller, answer, .. } => {
                    self.numbers.remove(&caller);
                    core.effects.push(Effect::Answer { key: caller, answer });
                }
            }
        }
    }
}

impl Shell for Client {
    fn on_public(&mut self, core: &mut Core, message: &Message, now: Instant) {
        let input = match core.subjects.kind(&message.subject) {
            Some(Kind::Here) => Input::Here(codec::decode(&message.payload).expect("an announcement")),
            Some(Kind::Gone) => {
                let (upstream, agent) = core.subjects.announced(&message.subject).expect("who is gone");
                Input::Gone { upstream, agent }
            }
            kind => panic!("{kind:?} is not for a client agent"),
        };
        self.feed(core, input, now);
    }

    fn on_private(&mut self, core: &mut Core, address: Address<'_>, message: &Message, now: Instant) {
        let input = match (address, message.nobody) {
            (Address::Request { kind: Kind::Ack, number, .. }, true) => Input::NobodyGotIt { number },
            (Address::Request { kind: Kind::Hold, number, .. }, true) => Input::NoBroker { number },
            (Address::Request { kind: Kind::Ack, number, .. }, false) => {
                let ack: Ack = codec::decode(&message.payload).expect("an acknowledgement");
                assert!(core.subjects.is_about(&message.subject, &ack.client_req_id), "{}", message.subject);
                Input::Ack { number, ack }
            }
            (Address::Request { kind: Kind::Resp, number, .. }, false) => {
                let reply = codec::decode_reply(&message.payload).expect("a reply");
                assert!(
                    core.subjects.is_about(&message.subject, &reply.client_req_id),
                    "{}",
                    message.subject
                );
                Input::Reply { number, reply: Box::new(reply) }
            }
            (Address::Probe { upstream, agent }, true) => {
                Input::Gone { upstream: upstream.parse().expect("an upstream"), agent }
            }
            (Address::Probe { .. }, false) => {
                Input::Here(codec::decode(&message.payload).expect("an announcement"))
            }
            (Address::Lost { broker }, true) => Input::BrokerGone { broker },
            (Address::Lost { broker }, false) => {
                let lost: Lost = codec::decode(&message.payload).expect("lost holds");
                Input::Lost { broker, holds: lost.holds }
            }
            (address, _) => panic!("{address:?} is not for a client agent"),
        };
        self.feed(core, input, now);
    }

    fn on_link(&mut self, core: &mut Core, up: bool, now: Instant) {
        self.feed(core, Input::Link { up }, now);
        if up {
            core.publish(core.subjects.who(), Bytes::new());
        }
    }

    fn on_round_trip(&mut self, _: &mut Core, _: u8, _: Instant) {}

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
