//! A broker's shell: messages to inputs, commands to messages.

use std::time::Instant;

use bytes::Bytes;
use relay::{
    proto::{
        Machine,
        supervision::{Command, Input, Supervision},
    },
    wire::{Address, Kind, Lease, codec, ids::Numbers},
};

use crate::{
    bus::Message,
    chance::Keyed,
    process::{Core, Settings, Shell},
};

/// A broker.
pub struct Broker {
    machine: Supervision<Keyed>,
}

impl Broker {
    /// A broker that watches nothing.
    pub fn new(core: &mut Core, settings: &Settings, key: Keyed) -> Self {
        for kind in [Kind::Here, Kind::Gone] {
            core.subscribe(core.subjects.every(kind), false);
        }
        core.subscribe(core.subjects.every_hold(), true);
        Broker { machine: Supervision::new(settings.broker.clone(), core.id.clone(), Numbers::new(key)) }
    }

    /// Holds now.
    pub fn held(&self) -> usize {
        self.machine.held()
    }

    fn feed(&mut self, core: &mut Core, input: Input, now: Instant) {
        self.machine.handle(input, now);
        self.perform(core);
    }

    fn perform(&mut self, core: &mut Core) {
        while let Some(command) = self.machine.poll_command() {
            match command {
                Command::Ack(ack) => {
                    core.publish(
                        core.subjects.of_request(Kind::Ack, &ack.client_req_id),
                        codec::encode(&ack),
                    );
                }
                Command::Answer(reply) => {
                    let subject = core.subjects.of_request(Kind::Resp, &reply.client_req_id);
                    core.publish(subject, codec::encode(&reply));
                }
                Command::Lost { client, lost } => {
                    core.publish(core.subjects.lost(&client, &core.id), codec::encode(&lost));
                }
                Command::Who { upstream } => core.publish(core.subjects.who_of(&upstream), Bytes::new()),
                Command::Probe { upstream, agent } => {
                    let reply = core.subjects.probe_reply(&core.id, &upstream, &agent);
                    core.ask(core.subjects.probe(&agent, &upstream), reply, Bytes::new());
                }
            }
        }
    }
}

impl Shell for Broker {
    fn on_public(&mut self, core: &mut Core, message: &Message, now: Instant) {
        let input = match core.subjects.kind(&message.subject) {
            Some(Kind::Hold) => Input::Hold(codec::decode(&message.payload).expect("a hold")),
            Some(Kind::Here) => Input::Here(codec::decode(&message.payload).expect("an announcement")),
            Some(Kind::Gone) => {
                let (upstream, agent) = core.subjects.announced(&message.subject).expect("who is gone");
                Input::Gone { upstream, agent }
            }
            kind => panic!("{kind:?} is not for a broker"),
        };
        self.feed(core, input, now);
    }

    fn on_private(&mut self, core: &mut Core, address: Address<'_>, message: &Message, now: Instant) {
        let input = match (address, message.nobody) {
            (Address::Request { kind: Kind::Lease, number, .. }, false) => {
                Input::Update { number, hold: codec::decode(&message.payload).expect("news of a hold") }
            }
            (Address::Renewal, false) => {
                let lease: Lease = codec::decode(&message.payload).expect("a renewal");
                Input::Renew { client: lease.client_id, holds: lease.holds }
            }
            (Address::Probe { upstream, agent }, true) => {
                Input::ProbeUnanswered { upstream: upstream.parse().expect("a name"), agent }
            }
            (Address::Probe { .. }, false) => {
                Input::Here(codec::decode(&message.payload).expect("the answer to a probe"))
            }
            (address, nobody) => panic!("{address:?} (nobody: {nobody}) is not for a broker"),
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
