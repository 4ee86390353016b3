//! One simulated process: a machine, its shell (what `src/role` does with real NATS), its round trips.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;
use relay::{
    proto::{exchange::Answer, serving, supervision},
    wire::{Address, Name, ProcessId, Reply, Subjects},
};

use crate::{agent::Agent, broker::Broker, bus::Message, chance::Chance, client::Client};

/// What can happen to a process.
#[derive(Debug, Clone)]
pub enum Item {
    /// A message arrives.
    Message(Message),
    /// Its client library has connected.
    Connected,
    /// Its client library has noticed that the connection is gone.
    Disconnected,
    /// A caller asks.
    Open { key: u32, upstream: Name, method: Method },
    /// A caller leaves.
    Abandon { key: u32 },
    /// An origin's call has ended.
    Done { number: u64, reply: Box<Reply> },
    /// It is told to stop.
    Drain,
}

/// What a process does to the world.
#[derive(Debug)]
pub enum Effect {
    Publish(Message),
    Subscribe {
        pattern: String,
        group: bool,
    },
    Unsubscribe {
        pattern: String,
    },
    /// An agent issues a request to its origin.
    Call {
        number: u64,
        key: u32,
        reply_to: relay::wire::RequestId,
    },
    /// An agent aborts a call.
    Abort {
        number: u64,
    },
    /// A client agent has taken a caller's request.
    Opened {
        key: u32,
        number: u64,
    },
    /// A client agent publishes a caller's request.
    Sent {
        number: u64,
    },
    /// A client agent answers a caller.
    Answer {
        key: u32,
        answer: Answer,
    },
    /// A drained agent has finished.
    Exit,
}

/// What is set for every process of a run.
#[derive(Debug, Clone)]
pub struct Settings {
    pub client: relay::proto::exchange::Settings,
    pub agent: serving::Settings,
    pub broker: supervision::Settings,
}

/// A process.
pub struct Process {
    pub core: Core,
    pub role: Role,
    connected: bool,
    link_up: bool,
    /// When to try a round trip again.
    retry: Option<Instant>,
}

/// What every process has.
pub struct Core {
    pub id: ProcessId,
    pub subjects: Subjects,
    pub effects: Vec<Effect>,
    /// Round trips begun, and whether the last is waited for.
    pub trips: u8,
    waits: bool,
}

/// Its role.
#[expect(clippy::large_enum_variant, reason = "there are few of them")]
pub enum Role {
    Client(Client),
    Agent(Agent),
    Broker(Broker),
}

/// Which role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Client,
    /// An agent of the upstream with this index.
    Agent(usize),
    Broker,
}

/// What a shell does.
pub trait Shell {
    /// A message to a public subject.
    fn on_public(&mut self, core: &mut Core, message: &Message, now: Instant);
    /// A message to a private subject.
    fn on_private(&mut self, core: &mut Core, address: Address<'_>, message: &Message, now: Instant);
    /// The connection came (after a round trip) or went.
    fn on_link(&mut self, core: &mut Core, up: bool, now: Instant);
    /// The `trip`th round trip has ended: every subscription made before it is in force.
    fn on_round_trip(&mut self, core: &mut Core, trip: u8, now: Instant);
    /// A timer.
    fn on_timeout(&mut self, core: &mut Core, now: Instant);
    /// The machine's next timer.
    fn next(&self) -> Option<Instant>;
    /// Whether the machine keeps nothing.
    fn is_idle(&self) -> bool;
}

impl Process {
    /// The `n`th process of the run, connecting.
    pub fn new(kind: Kind, n: usize, upstream: &Name, settings: &Settings, chance: &mut Chance) -> Self {
        let realm = match kind {
            Kind::Client => "client",
            Kind::Agent(_) => "agent",
            Kind::Broker => "broker",
        };
        let id: ProcessId = format!("{realm}.{}{n}", &realm[..1]).parse().expect("a process id");
        let subjects = Subjects::new("relay".parse().expect("a name"));
        let mut core = Core { id, subjects, effects: Vec::new(), trips: 0, waits: false };
        core.subscribe(core.subjects.inbox(&core.id), false);
        let key = chance.key();
        let role = match kind {
            Kind::Client => Role::Client(Client::new(&mut core, settings, key)),
            Kind::Agent(_) => Role::Agent(Agent::new(&mut core, upstream, settings, key)),
            Kind::Broker => Role::Broker(Broker::new(&mut core, settings, key)),
        };
        Process { core, role, connected: false, link_up: false, retry: None }
    }

    /// Takes what happens; what it does about it is in `core.effects`.
    pub fn take(&mut self, item: Item, now: Instant) {
        match (&mut self.role, item) {
            (_, Item::Message(message)) => self.message(&message, now),
            (_, Item::Connected) => {
                self.connected = true;
                self.core.start_round_trip();
            }
            (_, Item::Disconnected) => {
                (self.connected, self.link_up) = (false, false);
                let (shell, core) = self.parts();
                shell.on_link(core, false, now);
            }
            (Role::Client(client), Item::Open { key, upstream, method }) => {
                client.open(&mut self.core, key, &upstream, method, now);
            }
            (Role::Client(client), Item::Abandon { key }) => client.abandon(&mut self.core, key, now),
            (Role::Agent(agent), Item::Done { number, reply }) => {
                agent.done(&mut self.core, number, *reply, now);
            }
            (Role::Agent(agent), Item::Drain) => agent.drain(&mut self.core, now),
            (Role::Client(_) | Role::Agent(_) | Role::Broker(_), item) => {
                panic!("{item:?} is for another role")
            }
        }
        self.arm_retry(now);
    }

    /// Does what is due.
    pub fn timeout(&mut self, now: Instant) {
        let (shell, core) = self.parts();
        shell.on_timeout(core, now);
        if self.retry.is_some_and(|at| at <= now) {
            self.retry = None;
            self.core.start_round_trip();
        }
        self.arm_retry(now);
    }

    /// When something is due.
    pub fn next(&self) -> Option<Instant> {
        self.shell().next().into_iter().chain(self.retry).min()
    }

    /// Whether its machine keeps nothing.
    pub fn is_idle(&self) -> bool {
        self.shell().is_idle()
    }

    fn message(&mut self, message: &Message, now: Instant) {
        let subjects = self.core.subjects.clone();
        let id = self.core.id.clone();
        match subjects.address(&id, &message.subject) {
            Some(Address::Ready) => self.round_trip(message.payload.first().copied().unwrap_or(0), now),
            Some(address) => {
                let (shell, core) = self.parts();
                shell.on_private(core, address, message, now);
            }
            None => {
                let (shell, core) = self.parts();
                shell.on_public(core, message, now);
            }
        }
    }

    fn round_trip(&mut self, trip: u8, now: Instant) {
        if trip == self.core.trips {
            self.core.waits = false;
            self.retry = None;
        }
        if self.connected && !self.link_up {
            self.link_up = true;
            let (shell, core) = self.parts();
            shell.on_link(core, true, now);
        }
        let (shell, core) = self.parts();
        shell.on_round_trip(core, trip, now);
    }

    fn arm_retry(&mut self, now: Instant) {
        if self.core.waits && self.retry.is_none() {
            self.retry = Some(now + ROUND_TRIP);
        }
    }

    fn parts(&mut self) -> (&mut dyn Shell, &mut Core) {
        let shell: &mut dyn Shell = match &mut self.role {
            Role::Client(client) => client,
            Role::Agent(agent) => agent,
            Role::Broker(broker) => broker,
        };
        (shell, &mut self.core)
    }

    fn shell(&self) -> &dyn Shell {
        match &self.role {
            Role::Client(client) => client,
            Role::Agent(agent) => agent,
            Role::Broker(broker) => broker,
        }
    }
}

impl Core {
    /// Publishes.
    pub fn publish(&mut self, subject: String, payload: Bytes) {
        self.effects.push(Effect::Publish(Message { subject, reply: None, payload, nobody: false }));
    }

    /// Publishes with a reply subject, where "no responders" comes back.
    pub fn ask(&mut self, subject: String, reply: String, payload: Bytes) {
        self.effects.push(Effect::Publish(Message { subject, reply: Some(reply), payload, nobody: false }));
    }

    /// Subscribes.
    pub fn subscribe(&mut self, pattern: String, group: bool) {
        self.effects.push(Effect::Subscribe { pattern, group });
    }

    /// Sends itself a message: what was sent before it has reached the server when it comes back.
    pub fn start_round_trip(&mut self) {
        self.trips = self.trips.wrapping_add(1);
        self.waits = true;
        self.publish(self.subjects.ready(&self.id), vec![self.trips].into());
    }
}

const ROUND_TRIP: Duration = Duration::from_secs(1);
