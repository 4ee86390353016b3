//! Dealings with brokers: asking one to watch a request, telling it news, renewing what it holds, and
//! going to another when it is gone.

use std::{
    hash::BuildHasher,
    time::{Duration, Instant},
};

use super::{
    Answer, Command, Exchanges, Link,
    leases::sorted,
    one::{Phase, Told, Watch, nobody_there},
};
use crate::{
    proto::SETTLE,
    wire::{Ack, Code, Fault, Lease, Name, ProcessId, Side, message::VERSION},
};

impl<C, H: BuildHasher> Exchanges<C, H> {
    /// Nobody has the request: from now on a broker waits for somebody who would.
    pub(super) fn wait(&mut self, number: u64, refused: bool, now: Instant) {
        let Some(exchange) = self.open.get_mut(&number) else { return };
        exchange.phase = Phase::Waiting { refused };
        exchange.since = now;
        match exchange.watch {
            Watch::Held { .. } => self.tell_broker(number, now),
            Watch::Parked { .. } | Watch::Patience { .. } | Watch::NoBroker { .. } => {
                self.ask_broker(number, now);
            }
            Watch::Asked { .. } => {}
        }
    }

    pub(super) fn held_by(&mut self, number: u64, ack: Ack, now: Instant) {
        let (Some(broker), Some(hold)) = (ack.broker_id, ack.broker_req_id) else { return };
        let Some(exchange) = self.open.get_mut(&number) else { return };
        let (Watch::Asked { .. }, Some(told)) = (&exchange.watch, exchange.asked) else {
            return; // A broker that was asked in vain before: it forgets what is not renewed.
        };
        let waits = until(ack.broker_req_ttl, now);
        exchange.watch = Watch::Held { broker: broker.clone(), hold: hold.clone(), told, waits };
        exchange.asks = 0;
        let upstream = exchange.request.upstream_target.clone();
        self.leases.add(broker, upstream, hold.number(), number, now);
        self.schedule(number);
        self.tell_broker(number, now);
    }

    pub(super) fn unheld(&mut self, number: u64, now: Instant) {
        let detail = "the broker holds as many requests as it may (--max-holds)";
        self.no_broker(number, Fault::new(Code::BrokerFull, Side::Broker, detail), now);
    }

    pub(super) fn nobody_holds(&mut self, number: u64, now: Instant) {
        let Some(exchange) = self.open.get(&number) else { return };
        let refused = matches!(exchange.phase, Phase::Waiting { refused: true });
        self.no_broker(number, nobody_there(&exchange.request.upstream_target, refused), now);
    }

    /// No broker watches it. When nobody has the request either, that is the answer.
    fn no_broker(&mut self, number: u64, fault: Fault, now: Instant) {
        let settling = self.settling(now);
        let Some(exchange) = self.open.get_mut(&number) else { return };
        if !matches!(exchange.watch, Watch::Asked { .. }) {
            return;
        }
        exchange.asks = 0;
        match exchange.phase {
            // Without a broker only NATS itself knows whether somebody is there.
            Phase::Waiting { .. } if !exchange.published => {
                exchange.watch = Watch::NoBroker { retry: now + ASK_AGAIN };
                self.schedule(number);
                self.publish_again(number, now);
            }
            Phase::Waiting { .. } if !settling => self.answer(number, Answer::Fault(fault)),
            Phase::Waiting { .. } | Phase::Refused { .. } | Phase::Sent | Phase::Taken { .. } => {
                let pause = if settling { ASK_AGAIN / 4 } else { ASK_AGAIN };
                exchange.watch = Watch::NoBroker { retry: now + pause };
                self.schedule(number);
            }
        }
    }

    pub(super) fn broker_gone(&mut self, broker: &ProcessId, now: Instant) {
        for number in self.leases.remove_broker(broker) {
            self.ask_broker(number, now);
        }
    }

    pub(super) fn lost(&mut self, broker: &ProcessId, holds: &[u64], now: Instant) {
        for number in self.leases.remove_lost(broker, holds) {
            self.ask_broker(number, now);
        }
    }

    pub(super) fn ask_broker(&mut self, number: u64, now: Instant) {
        let up = self.up();
        let Some(exchange) = self.open.get_mut(&number) else { return };
        let news = exchange.news();
        let same = exchange.asked.is_none_or(|before| before == news);
        exchange.asked = Some(if same { news } else { Told::DifferentThings });
        exchange.watch = Watch::Asked { until: now + ASK_AGAIN };
        exchange.asks += u32::from(up);
        if up {
            self.commands.push_back(Command::Hold(exchange.hold(&self.own, now)));
        }
        self.schedule(number);
    }

    /// Tells the broker that holds the request what is known, when that is news.
    pub(super) fn tell_broker(&mut self, number: u64, now: Instant) {
        let up = self.up();
        let Some(exchange) = self.open.get_mut(&number) else { return };
        let news = exchange.news();
        if let Watch::Held { hold, told, .. } = &mut exchange.watch
            && *told != news
            && up
        {
            *told = news;
            let to = hold.clone();
            self.commands.push_back(Command::Update { to, hold: exchange.hold(&self.own, now) });
        }
    }

    pub(super) fn link(&mut self, up: bool, now: Instant) {
        if !up {
            if let Link::Up { .. } = self.link {
                self.link = Link::Down { since: now };
            }
            return;
        }
        let settled = match self.link {
            Link::NeverUp => now,
            Link::Up { settled } => settled,
            Link::Down { .. } => now + SETTLE,
        };
        self.link = Link::Up { settled };
        self.trust_members();
        // What brokers were told during the outage is lost, and they may have forgotten: start over.
        self.leases.clear();
        self.unpark(now);
        let escalated = self.open.iter().filter(|(_, e)| !matches!(e.watch, Watch::Patience { .. }));
        for number in sorted(escalated.map(|(number, _)| *number)) {
            self.ask_broker(number, now);
        }
    }

    /// Until when a request waits for a connection that has just gone: most are there again at once, with another server.
    pub(super) fn back_by(&self, now: Instant) -> Option<Instant> {
        match self.link {
            Link::NeverUp | Link::Up { .. } => None,
            Link::Down { since } => Some(since + MOVING).filter(|until| *until > now),
        }
    }

    pub(super) fn park(&mut self, number: u64, until: Instant) {
        let Some(exchange) = self.open.get_mut(&number) else { return };
        (exchange.published, exchange.to) = (false, None);
        exchange.phase = Phase::Waiting { refused: false };
        exchange.watch = Watch::Parked { until };
        self.schedule(number);
    }

    /// What waited for the connection goes on as if it had come now.
    fn unpark(&mut self, now: Instant) {
        let parked = self.open.iter().filter(|(_, e)| matches!(e.watch, Watch::Parked { .. }));
        for number in sorted(parked.map(|(number, _)| *number)) {
            let patience = self.settings.patience;
            let Some(exchange) = self.open.get_mut(&number) else { continue };
            exchange.watch = Watch::Patience { until: now + patience };
            let upstream = exchange.request.upstream_target.clone();
            if self.knows(&upstream) {
                self.publish_again(number, now);
                self.schedule(number);
            } else {
                self.wait(number, false, now);
            }
        }
    }

    pub(super) fn renew(&mut self, broker: &ProcessId, upstream: &Name, holds: &[u64]) {
        if !self.up() {
            return;
        }
        for part in holds.chunks(MAX_LEASE) {
            let lease = Lease { v: VERSION, client_id: self.own.clone(), holds: part.to_vec() };
            let (broker, upstream) = (broker.clone(), upstream.clone());
            self.commands.push_back(Command::Renew { broker, upstream, lease });
        }
    }

    /// Stops renewing; the broker forgets by itself.
    pub(super) fn release(&mut self, number: u64) {
        let Some(exchange) = self.open.get(&number) else { return };
        let Watch::Held { broker, hold, .. } = &exchange.watch else { return };
        self.leases.remove(broker, &exchange.request.upstream_target, hold.number());
    }

    pub(super) fn up(&self) -> bool {
        matches!(self.link, Link::Up { .. })
    }

    /// Just after a reconnection, agents and brokers are reconnecting too: nobody there proves little.
    fn settling(&self, now: Instant) -> bool {
        matches!(self.link, Link::Up { settled } if now < settled)
    }
}

/// When the time that a broker said is left runs out; a time that is out of all reason has no end.
pub(super) fn until(left: Option<u64>, now: Instant) -> Option<Instant> {
    left.and_then(|left| now.checked_add(Duration::from_millis(left)))
}

/// The fault of a request that comes while there is no connection.
pub(super) fn no_nats() -> Fault {
    let detail = "the client agent has no connection to NATS; it keeps trying";
    Fault::new(Code::NatsUnreachable, Side::Client, detail)
}

/// How long requests wait for a connection that has gone.
const MOVING: Duration = Duration::from_millis(500);
/// How long a broker may take to say that it holds a request before another is asked.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// How often brokers are asked before the silence means that there is none: NATS says so at once, unless
/// somebody watches `relay.>` and hears every hold. Messages may be seconds late.
pub(super) const MAX_ASKS: u32 = 10;
/// Holds in one renewal at most.
const MAX_LEASE: usize = 1000;

#[cfg(test)]
mod tests;
