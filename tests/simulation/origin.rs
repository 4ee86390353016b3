//! The origins behind the agents: how long they take, how they fail, what they have begun.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::StatusCode;
use relay::wire::{Code, Fault, Headers, Reply, RequestId, Side};

use crate::{
    bus::{At, Micros},
    chance::Chance,
};

/// How origins behave; the numbers are per mille.
#[derive(Debug, Clone)]
pub struct Temper {
    /// They refuse the connection.
    pub refuses: u64,
    /// They break the connection after they began.
    pub breaks: u64,
    /// They never answer.
    pub hangs: u64,
    /// How long they take: between two bounds of this list.
    pub takes: Vec<(Micros, Micros)>,
}

/// All calls that run.
pub struct Origins {
    temper: Temper,
    chance: Chance,
    calls: BTreeMap<(At, u64), Call>,
}

/// One call.
pub struct Call {
    pub key: u32,
    reply_to: RequestId,
    ends: Ends,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ends {
    Responds,
    Refuses,
    Breaks,
    Never,
}

/// When a call begins to have an effect, and when it ends.
pub struct Course {
    pub starts: Option<Micros>,
    pub ends: Option<Micros>,
}

impl Origins {
    /// Idle origins.
    pub fn new(temper: Temper, chance: Chance) -> Self {
        Origins { temper, chance, calls: BTreeMap::new() }
    }

    /// An agent calls.
    pub fn call(&mut self, agent: At, number: u64, key: u32, reply_to: RequestId, now: Micros) -> Course {
        let (temper, chance) = (&self.temper, &mut self.chance);
        let ends = if chance.per_mille(temper.refuses) {
            Ends::Refuses
        } else if chance.per_mille(temper.breaks) {
            Ends::Breaks
        } else if chance.per_mille(temper.hangs) {
            Ends::Never
        } else {
            Ends::Responds
        };
        let (least, most) = chance.pick(&temper.takes);
        let starts = now + chance.between(50, CONNECT);
        let ended = starts + chance.between(least, most);
        self.calls.insert((agent, number), Call { key, reply_to, ends });
        Course {
            starts: (ends != Ends::Refuses).then_some(starts),
            ends: (ends != Ends::Never).then_some(ended),
        }
    }

    /// A call that still runs.
    pub fn running(&self, agent: At, number: u64) -> Option<&Call> {
        self.calls.get(&(agent, number))
    }

    /// Calls of one agent.
    pub fn of_agent(&self, agent: At) -> usize {
        self.calls.range((agent, 0)..=(agent, u64::MAX)).count()
    }

    /// A call ends by itself.
    pub fn end(&mut self, agent: At, number: u64) -> Option<(u32, Reply)> {
        let call = self.calls.remove(&(agent, number))?;
        let fault =
            |code| Reply::error(call.reply_to.clone(), &Fault::new(code, Side::Upstream, "simulated"));
        let key = call.key;
        let reply = match call.ends {
            Ends::Refuses => fault(Code::OriginRefused),
            Ends::Breaks | Ends::Never => fault(Code::OriginBroken),
            Ends::Responds => {
                let body = Bytes::from(key.to_string());
                Reply::response(call.reply_to.clone(), StatusCode::OK, Headers::new(), body)
            }
        };
        Some((key, reply))
    }

    /// A call is aborted.
    pub fn abort(&mut self, agent: At, number: u64) -> Option<u32> {
        self.calls.remove(&(agent, number)).map(|call| call.key)
    }

    /// An agent has died with its calls.
    pub fn abort_all(&mut self, agent: At) {
        self.calls.retain(|(by, _), _| *by != agent);
    }
}

/// Until a connection is there and the request has been written.
const CONNECT: Micros = 2_000;
