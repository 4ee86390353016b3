//! The simulated NATS: who is subscribed, what is routed where, what is late, lost or reordered.
//!
//! A message goes up its sender's connection, is routed by what is subscribed at that moment, and goes down
//! the receiver's. Order is kept on a connection (on one server) or between two processes (in a cluster), and
//! nowhere else. "No responders" is exact: it comes when, and only when, nobody was there to route to. Somebody
//! who watches all traffic is there for everything.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::chance::Chance;

/// A process's place in the run.
pub type At = usize;
/// Microseconds since the run began.
pub type Micros = u64;

/// A message as it crosses NATS.
#[derive(Debug, Clone)]
pub struct Message {
    pub subject: String,
    pub reply: Option<String>,
    pub payload: Bytes,
    /// Not a message but NATS's word that nobody received ours.
    pub nobody: bool,
}

/// How the network behaves.
#[derive(Debug, Clone)]
pub struct Weather {
    /// A message's usual way up or down takes up to this long.
    pub delay: Micros,
    /// Now and then (per mille) it takes up to this much longer.
    pub stalls: (u64, Micros),
    /// Messages lost, per mille, each way.
    pub loss: u64,
    /// Somebody watches everything (`nats sub 'relay.>'`): to NATS there is always a receiver.
    pub tapped: bool,
    /// Several servers, up to so far apart: order only between two processes, and what one server knows of
    /// subscriptions, another does not know yet.
    pub cluster: Option<Micros>,
}

/// What is on its way through the bus.
#[derive(Debug, Clone)]
pub enum Transit {
    /// Up to the server.
    Publish {
        from: At,
        epoch: u32,
        message: Message,
    },
    Subscribe {
        by: At,
        epoch: u32,
        pattern: String,
        group: bool,
    },
    Unsubscribe {
        by: At,
        epoch: u32,
        pattern: String,
    },
    /// Down to a process.
    Deliver {
        to: At,
        epoch: u32,
        message: Message,
    },
}

/// NATS.
pub struct Bus {
    weather: Weather,
    chance: Chance,
    connections: Vec<Connection>,
    subscriptions: Vec<Subscription>,
    /// When the last message of each lane arrives: nothing overtakes it.
    lanes: BTreeMap<(Lane, Lane), Micros>,
    /// When the last that one server sent to another arrives: messages and news of subscriptions alike.
    routes: [[Micros; SERVERS]; SERVERS],
}

/// A process's connection, and what its client library keeps.
#[derive(Debug)]
struct Connection {
    epoch: u32,
    wire: Wire,
    wanted: Vec<(String, bool)>,
    unsent: Vec<Message>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wire {
    Up,
    /// Nothing passes, and the process has not noticed.
    Cut,
    /// The process knows; its client library keeps what is published.
    Away,
    /// The process has ended.
    Closed,
}

#[derive(Debug)]
struct Subscription {
    by: At,
    epoch: u32,
    pattern: String,
    group: bool,
    /// When each server of a cluster knows of it.
    known: [Micros; SERVERS],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Lane {
    Server,
    Process(At),
}

impl Bus {
    /// A bus without connections.
    pub fn new(weather: Weather, chance: Chance) -> Self {
        Bus {
            weather,
            chance,
            connections: Vec::new(),
            subscriptions: Vec::new(),
            lanes: BTreeMap::new(),
            routes: [[0; SERVERS]; SERVERS],
        }
    }

    /// Adds the next process, not yet connected.
    pub fn add(&mut self) -> At {
        let connection = Connection { epoch: 0, wire: Wire::Away, wanted: Vec::new(), unsent: Vec::new() };
        self.connections.push(connection);
        self.connections.len() - 1
    }

    /// A process publishes.
    pub fn publish(&mut self, from: At, message: Message, now: Micros) -> Option<(Micros, Transit)> {
        let connection = &mut self.connections[from];
        match connection.wire {
            Wire::Up => {
                let transit = Transit::Publish { from, epoch: connection.epoch, message };
                Some((self.arrival(Lane::Process(from), Lane::Server, now), transit))
            }
            Wire::Away => {
                connection.unsent.push(message);
                None
            }
            Wire::Cut | Wire::Closed => None,
        }
    }

    /// A process subscribes; its client library remembers it over reconnections.
    pub fn subscribe(
        &mut self,
        by: At,
        pattern: String,
        group: bool,
        now: Micros,
    ) -> Option<(Micros, Transit)> {
        let connection = &mut self.connections[by];
        if connection.wanted.iter().any(|(wanted, _)| *wanted == pattern) {
            return None;
        }
        connection.wanted.push((pattern.clone(), group));
        let transit = Transit::Subscribe { by, epoch: connection.epoch, pattern, group };
        (connection.wire == Wire::Up).then(|| (self.arrival(Lane::Process(by), Lane::Server, now), transit))
    }

    /// A process ends a subscription.
    pub fn unsubscribe(&mut self, by: At, pattern: String, now: Micros) -> Option<(Micros, Transit)> {
        let connection = &mut self.connections[by];
        connection.wanted.retain(|(wanted, _)| *wanted != pattern);
        let transit = Transit::Unsubscribe { by, epoch: connection.epoch, pattern };
        (connection.wire == Wire::Up).then(|| (self.arrival(Lane::Process(by), Lane::Server, now), transit))
    }

    /// Something arrives at the server: what goes on from there.
    pub fn arrive(&mut self, transit: Transit, now: Micros) -> Vec<(Micros, Transit)> {
        match transit {
            Transit::Publish { from, epoch, message } => {
                if self.passes_up(from, epoch) && !self.lost() {
                    self.route(from, message, now)
                } else {
                    Vec::new()
                }
            }
            Transit::Subscribe { by, epoch, pattern, group } => {
                if self.passes(by, epoch) {
                    let known = self.spread(by, now);
                    self.subscriptions.push(Subscription { by, epoch, pattern, group, known });
                }
                Vec::new()
            }
            Transit::Unsubscribe { by, epoch, pattern } => {
                self.subscriptions.retain(|s| !(s.by == by && s.epoch == epoch && s.pattern == pattern));
                Vec::new()
            }
            Transit::Deliver { .. } => Vec::new(),
        }
    }

    /// Whether a message that was sent down arrives.
    pub fn delivers(&mut self, to: At, epoch: u32) -> bool {
        self.passes(to, epoch) && !self.lost()
    }

    /// Cuts a connection; the process does not know yet, and neither does the server.
    pub fn cut(&mut self, process: At) {
        if self.connections[process].wire == Wire::Up {
            self.connections[process].wire = Wire::Cut;
        }
    }

    /// The process notices that its connection is gone.
    pub fn notice(&mut self, process: At) {
        if self.connections[process].wire == Wire::Cut {
            self.connections[process].wire = Wire::Away;
        }
    }

    /// The server notices that the process's connections before the present one are gone.
    pub fn notice_at_server(&mut self, process: At) {
        let connection = &self.connections[process];
        let (epoch, up) = (connection.epoch, connection.wire == Wire::Up);
        self.subscriptions.retain(|s| s.by != process || (up && s.epoch == epoch));
    }

    /// The process connects again: first its subscriptions, then what was not sent.
    pub fn reconnect(&mut self, process: At, now: Micros) -> Vec<(Micros, Transit)> {
        let connection = &mut self.connections[process];
        connection.epoch += 1;
        connection.wire = Wire::Up;
        let epoch = connection.epoch;
        let wanted = connection.wanted.clone();
        let unsent = std::mem::take(&mut connection.unsent);
        let subscribe = |(pattern, group)| Transit::Subscribe { by: process, epoch, pattern, group };
        let publish = |message| Transit::Publish { from: process, epoch, message };
        let transits = wanted.into_iter().map(subscribe).chain(unsent.into_iter().map(publish));
        transits.map(|transit| (self.arrival(Lane::Process(process), Lane::Server, now), transit)).collect()
    }

    /// The process has ended. What it had written still arrives: when the last of it does.
    pub fn close(&mut self, process: At) -> Micros {
        self.connections[process].wire = Wire::Closed;
        self.lanes.get(&(Lane::Process(process), Lane::Server)).copied().unwrap_or(0)
    }

    /// When each server knows of a subscription that a process makes now.
    fn spread(&mut self, by: At, now: Micros) -> [Micros; SERVERS] {
        std::array::from_fn(|server| self.crosses(by % SERVERS, server, now))
    }

    /// When something that is at one server now is at another.
    fn crosses(&mut self, from: usize, to: usize, now: Micros) -> Micros {
        match self.weather.cluster {
            Some(lag) if from != to => {
                let late = now + self.chance.between(0, lag);
                self.routes[from][to] = self.routes[from][to].max(late);
                self.routes[from][to]
            }
            Some(_) | None => now,
        }
    }

    fn route(&mut self, from: At, message: Message, now: Micros) -> Vec<(Micros, Transit)> {
        let seen = |s: &&Subscription| s.known[from % SERVERS] <= now;
        let matching =
            self.subscriptions.iter().filter(seen).filter(|s| matches(&s.pattern, &message.subject));
        let (members, all): (Vec<_>, Vec<_>) = matching.map(|s| (s.by, s.epoch, s.group)).partition(|s| s.2);
        let member = (!members.is_empty()).then(|| self.chance.pick(&members));
        let receivers: Vec<_> = all.into_iter().chain(member).collect();
        if receivers.is_empty()
            && !self.weather.tapped
            && let Some(reply) = message.reply
        {
            let epoch = self.connections[from].epoch;
            let nobody = Message { subject: reply, reply: None, payload: Bytes::new(), nobody: true };
            let at = self.arrival(Lane::Server, Lane::Process(from), now);
            return vec![(at, Transit::Deliver { to: from, epoch, message: nobody })];
        }
        let sender = if self.weather.cluster.is_some() { Lane::Process(from) } else { Lane::Server };
        let deliver = |(to, epoch, _): (At, u32, bool)| {
            let there = self.crosses(from % SERVERS, to % SERVERS, now);
            let at = self.arrival(sender, Lane::Process(to), there);
            (at, Transit::Deliver { to, epoch, message: message.clone() })
        };
        receivers.into_iter().map(deliver).collect()
    }

    fn passes(&self, process: At, epoch: u32) -> bool {
        let connection = &self.connections[process];
        connection.epoch == epoch && connection.wire == Wire::Up
    }

    /// What a process wrote before it ended still arrives.
    fn passes_up(&self, process: At, epoch: u32) -> bool {
        let connection = &self.connections[process];
        connection.epoch == epoch && matches!(connection.wire, Wire::Up | Wire::Closed)
    }

    fn lost(&mut self) -> bool {
        self.weather.loss > 0 && self.chance.per_mille(self.weather.loss)
    }

    fn arrival(&mut self, from: Lane, to: Lane, now: Micros) -> Micros {
        let mut delay = self.chance.between(20, self.weather.delay);
        let (often, long) = self.weather.stalls;
        if self.chance.per_mille(often) {
            delay += self.chance.between(0, long);
        }
        let last = self.lanes.entry((from, to)).or_default();
        *last = (now + delay).max(*last + 1);
        *last
    }
}

/// Servers in a cluster.
const SERVERS: usize = 3;

/// Whether a subject is covered by a subscription's pattern.
fn matches(pattern: &str, subject: &str) -> bool {
    let mut tokens = subject.split('.');
    for wanted in pattern.split('.') {
        match (wanted, tokens.next()) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (wanted, Some(token)) if wanted == token => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}
