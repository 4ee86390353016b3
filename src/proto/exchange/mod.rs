//! The client agent's decisions: every request it has not answered yet.
//!
//! The usual case is two inputs: [`Input::Open`] publishes, [`Input::Reply`] answers. What is not
//! answered within the patience, or reached nobody, is handed to a broker to watch, while this side
//! keeps the request itself and the last word: its TTL.
//!
//! Here is the life of a request from `Open` to `Answer`; `one` is what is known of a single request,
//! `watching` the dealings with brokers, `leases` the holds they keep for us, `silence` what is done about agents that
//! do not answer, `streaming` what a body on its way changes.

use std::{
    collections::VecDeque,
    hash::{BuildHasher, RandomState},
    time::Instant,
};

use crate::{
    proto::{
        Machine,
        deadlines::Deadlines,
        flow,
        retry::{self, AfterRefusal},
        roster::{Presence, Recipient, Roster, Silence},
    },
    wire::{
        Ack, Code, Fault, Here, Name, ProcessId, Reply, Request, RequestId, Side, State,
        ids::{ByName, ByNumber, Numbers},
        message::millis,
    },
};

mod inputs;
mod leases;
mod one;
mod silence;
mod streaming;
mod watching;

pub use inputs::{Answer, Command, Input, Settings};
pub use leases::RENEW;
pub use one::nobody_there;

use leases::{Leases, sorted};
use one::{Exchange, Kept, Phase, Watch};
use watching::{MAX_ASKS, until};

/// Every request of one client agent that is not answered.
pub struct Exchanges<C, H = RandomState> {
    settings: Settings,
    own: ProcessId,
    numbers: Numbers<H>,
    open: ByNumber<Exchange<C>>,
    /// Bytes of responses that may come without credit, over all requests in `open`.
    promised: u64,
    /// Responses that are answered and still arriving.
    streaming: usize,
    per_upstream: ByName<PerUpstream>,
    deadlines: Deadlines,
    leases: Leases,
    /// Which agents there are. Where none is known, nothing is published until a broker, or NATS in its place,
    /// has had its say: somebody who watches `relay.>` would swallow it, and NATS would not say that nobody
    /// else was there.
    roster: Roster,
    sweep: Option<Instant>,
    members: silence::Addressing,
    link: Link,
    commands: VecDeque<Command<C>>,
}

#[derive(Default)]
struct PerUpstream {
    /// Requests that are not answered.
    open: usize,
    /// Whether agents have been heard of requests since NATS last refused one: it let them through.
    got_through: bool,
}

#[derive(Clone, Copy)]
enum Link {
    NeverUp,
    Up { settled: Instant },
    Down { since: Instant },
}

impl<C, H: BuildHasher> Exchanges<C, H> {
    /// No requests yet; `numbers` are the process's request numbers.
    pub fn new(settings: Settings, own: ProcessId, numbers: Numbers<H>) -> Self {
        Exchanges {
            settings,
            own,
            numbers,
            open: ByNumber::default(),
            promised: 0,
            streaming: 0,
            per_upstream: ByName::default(),
            deadlines: Deadlines::default(),
            leases: Leases::default(),
            roster: Roster::default(),
            sweep: None,
            members: silence::Addressing::default(),
            link: Link::NeverUp,
            commands: VecDeque::new(),
        }
    }

    /// The id for a new request to `upstream`.
    pub fn mint(&mut self, upstream: &Name) -> RequestId {
        RequestId::new(&self.own, upstream, self.numbers.fresh())
    }

    /// Requests that are not answered, or whose answer is still arriving.
    pub fn in_flight(&self) -> usize {
        self.open.len() + self.streaming
    }

    /// Requests that a broker holds.
    pub fn held(&self) -> usize {
        self.leases.len()
    }

    /// Whether nothing is open and nothing is kept.
    pub fn is_idle(&self) -> bool {
        self.in_flight() == 0
            && self.per_upstream.values().all(|upstream| upstream.open == 0)
            && self.deadlines.next().is_none()
            && self.leases.is_idle()
            && self.commands.is_empty()
            && self.promised == 0
    }

    fn open(&mut self, mut request: Box<Request>, caller: C, now: Instant) {
        let number = request.client_req_id.number();
        if let Err(fault) = self.admit(&request.upstream_target, now) {
            self.commands.push_back(Command::Answer { caller, number, answer: Answer::Fault(fault) });
            return;
        }
        request.window = flow::first_window(self.promised);
        self.promised += request.window.unwrap_or(flow::USUAL_FIRST);
        let recipient = self.recipient(&request.upstream_target);
        let known = recipient != Recipient::Absent;
        let mut exchange =
            Exchange::new(Kept::new(request), caller, self.settings.ttl, self.settings.patience, now);
        exchange.published = known;
        exchange.address(recipient);
        let publish = exchange.publish();
        self.deadlines.add(exchange.deadline, number);
        self.open.insert(number, exchange);
        if let Some(until) = self.back_by(now) {
            self.park(number, until);
        } else if known {
            self.commands.push_back(publish);
        } else {
            self.wait(number, false, now);
        }
    }

    /// An agent is there. What was not published for want of one is, without waiting to be woken.
    fn here(&mut self, here: Here, now: Instant) {
        let upstream = here.upstream_target.clone();
        let first = self.roster.presence(&upstream) == Presence::Absent;
        self.roster.announce(here, now);
        self.sweep.get_or_insert(now + silence::SWEEP);
        if first && self.up() {
            let unpublished = |e: &Exchange<C>| !e.published && e.request.upstream_target == upstream;
            let numbers = self.open.iter().filter(|(_, e)| unpublished(e)).map(|(number, _)| *number);
            for number in sorted(numbers) {
                self.publish_again(number, now);
                self.tell_broker(number, now);
            }
            // What a silent agent may have goes to this one.
            self.rescue_all(&upstream, now);
        }
    }

    fn admit(&mut self, upstream: &Name, now: Instant) -> Result<(), Fault> {
        let full = |limit: usize, name: &str| {
            let detail = format!("{limit} requests are in flight, the limit of {name}");
            Err(Fault::new(Code::ClientFull, Side::Client, detail))
        };
        if !self.up() && self.back_by(now).is_none() {
            return Err(watching::no_nats());
        }
        if self.in_flight() >= self.settings.max_in_flight {
            return full(self.settings.max_in_flight, "--max-in-flight");
        }
        let of_upstream = self.per_upstream.entry(upstream.clone()).or_default();
        if of_upstream.open >= self.settings.max_per_upstream {
            return full(self.settings.max_per_upstream, "--max-in-flight-per-upstream");
        }
        of_upstream.open += 1;
        Ok(())
    }

    fn ack(&mut self, number: u64, ack: Ack, now: Instant) {
        let Some(exchange) = self.open.get_mut(&number) else {
            self.refuse_late(ack);
            return;
        };
        if exchange.request.client_req_id != ack.client_req_id {
            return;
        }
        match ack.state {
            State::Taken => self.taken(number, ack, now),
            // An agent that had an earlier copy speaks of that one.
            State::Full | State::Draining if !exchange.is_with(ack.upstream_id.as_ref()) => {}
            State::Full => self.refused(number, false, now),
            State::Draining => self.refused(number, true, now),
            State::Held => self.held_by(number, ack, now),
            State::Unheld => self.unheld(number, now),
            State::Wake => self.woken(number, &ack, now),
            // It decides nothing: see `hears`.
            State::Interim => {}
        }
    }

    /// The caller that an interim response is for: one whose request is open at the agent that passes it on.
    pub fn hears(&mut self, number: u64, ack: &Ack) -> Option<&mut C> {
        let exchange = self.open.get_mut(&number)?;
        let fits = match &exchange.phase {
            Phase::Sent => true,
            Phase::Taken { at_agent, .. } => ack.upstream_req_id.as_ref() == Some(at_agent),
            Phase::Refused { .. } | Phase::Waiting { .. } => false,
        };
        (fits && exchange.request.client_req_id == ack.client_req_id).then_some(&mut exchange.caller)
    }

    /// Whoever takes a request that is already answered must stop working on it.
    fn refuse_late(&mut self, ack: Ack) {
        if let (State::Taken, Some(to)) = (ack.state, ack.upstream_req_id) {
            self.commands.push_back(Command::Cancel { to });
        }
    }

    fn taken(&mut self, number: u64, ack: Ack, now: Instant) {
        let (Some(agent), Some(at_agent)) = (ack.upstream_id, ack.upstream_req_id) else { return };
        let Some(exchange) = self.open.get_mut(&number) else { return };
        match exchange.phase {
            Phase::Sent => {
                if exchange.request.streamed {
                    let id = exchange.request.client_req_id.clone();
                    self.commands.push_back(Command::Connect { id, to: at_agent.clone() });
                }
                exchange.phase = Phase::Taken { agent, at_agent };
                exchange.since = now;
                self.tell_broker(number, now);
            }
            // It is out of turn: not the agent that has it, so it must not go on.
            Phase::Taken { .. } | Phase::Refused { .. } | Phase::Waiting { .. } => {
                self.commands.push_back(Command::Cancel { to: at_agent });
            }
        }
    }

    fn refused(&mut self, number: u64, leaving: bool, now: Instant) {
        let Some(exchange) = self.open.get_mut(&number) else { return };
        if !matches!(exchange.phase, Phase::Sent) {
            return;
        }
        exchange.refusals += 1;
        let elsewhere = self.roster.presence(&exchange.request.upstream_target) == Presence::Accepting;
        match retry::after_refusal(leaving, elsewhere, exchange.refusals) {
            AfterRefusal::Again => {
                self.publish_again(number, now);
                self.tell_broker(number, now);
            }
            AfterRefusal::AgainIn(pause) => {
                exchange.phase = Phase::Refused { again: now + pause };
                exchange.since = now;
                self.schedule(number);
                self.tell_broker(number, now);
            }
            AfterRefusal::Wait => self.wait(number, true, now),
        }
    }

    fn nobody_got_it(&mut self, number: u64, now: Instant) {
        let Some(exchange) = self.open.get_mut(&number) else { return };
        if !matches!(exchange.phase, Phase::Sent) {
            return;
        }
        if let Some(agent) = exchange.to.take() {
            self.member_gone(number, &agent, now);
            return;
        }
        match exchange.before.clone() {
            Some(fault) if fault.code != Code::AckTimeout => self.answer(number, Answer::Fault(fault)),
            Some(_) | None => {
                let refused = exchange.refusals > 0;
                self.wait(number, refused, now);
            }
        }
    }

    fn woken(&mut self, number: u64, ack: &Ack, now: Instant) {
        let up = self.up();
        let Some(exchange) = self.open.get_mut(&number) else { return };
        if let Watch::Held { hold, waits, .. } = &mut exchange.watch
            && ack.broker_req_id.as_ref() == Some(hold)
        {
            *waits = until(ack.broker_req_ttl, now);
        }
        // The broker believes in agents that are silent: it has not asked them for anything.
        let silent = self.roster.silence(&exchange.request.upstream_target) == Silence::All;
        if !matches!(exchange.phase, Phase::Waiting { .. } | Phase::Refused { .. }) || !up || silent {
            return;
        }
        // In a cluster, the broker may hear of an agent before our server knows of its subscription: somebody who
        // watches `relay.>` would swallow the request. The agent's announcement comes after that news; should
        // it be lost, the broker's next waking is late enough.
        let known =
            exchange.published || self.roster.presence(&exchange.request.upstream_target) != Presence::Absent;
        if known || std::mem::replace(&mut exchange.woken, true) {
            self.publish_again(number, now);
            self.tell_broker(number, now);
        }
    }

    fn publish_again(&mut self, number: u64, now: Instant) {
        let Some(exchange) = self.open.get(&number) else { return };
        let recipient = self.members.recipient(&mut self.roster, &exchange.request.upstream_target);
        self.publish_to(number, recipient, now);
    }

    fn publish_to(&mut self, number: u64, recipient: Recipient, now: Instant) {
        let Some(exchange) = self.open.get_mut(&number) else { return };
        let left = millis(exchange.ends.saturating_duration_since(now));
        let held = match &exchange.watch {
            Watch::Held { broker, hold, waits, .. } => Some((broker.clone(), hold.clone(), *waits)),
            Watch::Parked { .. } | Watch::Patience { .. } | Watch::Asked { .. } | Watch::NoBroker { .. } => {
                None
            }
        };
        exchange.request.rewrite(|request| {
            request.client_req_ttl = left;
            (request.broker_id, request.broker_req_id, request.broker_req_ttl) = match held {
                Some((broker, hold, waits)) => {
                    (Some(broker), Some(hold), waits.map(|at| millis(at.saturating_duration_since(now))))
                }
                None => (None, None, None),
            };
        });
        exchange.published = true;
        exchange.address(recipient);
        exchange.phase = Phase::Sent;
        exchange.since = now;
        self.commands.push_back(exchange.publish());
    }

    fn reply(&mut self, number: u64, reply: Box<Reply>, now: Instant) {
        let Some(exchange) = self.open.get_mut(&number) else { return };
        if exchange.request.client_req_id != reply.client_req_id {
            return;
        }
        let Some(error) = reply.error else {
            self.answer(number, Answer::Response(reply));
            return;
        };
        let fault = Fault::from(error);
        if !exchange.concerned_by(&fault, reply.broker_req_id.as_ref(), reply.upstream_req_id.as_ref()) {
            return;
        }
        if fault.code == Code::AckTimeout && exchange.to.is_none() {
            self.roster.leaks(&exchange.request.upstream_target, now);
        }
        let kept = &exchange.request;
        let unreached = exchange.unreached.len();
        match retry::after_fault(&fault, &kept.method, kept.streamed, exchange.attempt, unreached) {
            retry::Verdict::Answer => self.answer(number, Answer::Fault(fault)),
            retry::Verdict::Elsewhere => self.ask_another(number, reply.upstream_id, fault, now),
            retry::Verdict::Again => {
                exchange.attempt += 1;
                exchange.before = Some(fault);
                self.release(number);
                self.publish_elsewhere(number, now);
                if let Some(exchange) = self.open.get_mut(&number) {
                    exchange.watch = Watch::Patience { until: now + self.settings.patience };
                    self.schedule(number);
                }
            }
        }
    }

    /// NATS refused a request, or to ask brokers about one, and does not say which.
    fn forbidden(&mut self, upstream: &Name, now: Instant) {
        let of_upstream = |e: &&Exchange<C>| e.request.upstream_target == *upstream;
        let before = self.per_upstream.get(upstream).is_some_and(|upstream| upstream.got_through);
        let got_through = before || self.open.values().filter(of_upstream).any(Exchange::got_through);
        let numbers = self.open.iter().filter(|(_, e)| of_upstream(e)).filter(|(_, e)| !e.is_taken());
        for number in sorted(numbers.map(|(number, _)| *number)) {
            let detail = format!(
                "NATS refuses it: the permissions of the user of {} do not let it ask for '{upstream}'",
                self.own
            );
            let mut fault = Fault::new(Code::NotAllowed, Side::Client, detail);
            // The permission may have been withdrawn after this one was sent: others got through, or it has had
            // the time of a refusal.
            let patience = self.settings.patience;
            fault.maybe_seen = self.open.get(&number).is_some_and(|e| {
                matches!(e.phase, Phase::Sent) && (got_through || now >= e.since + patience)
            });
            self.answer(number, Answer::Fault(fault));
        }
        if let Some(upstream) = self.per_upstream.get_mut(upstream) {
            upstream.got_through = false;
        }
    }

    fn due(&mut self, number: u64, now: Instant) {
        let Some(exchange) = self.open.get(&number) else { return };
        if exchange.ends <= now {
            self.expire(number, now);
            return;
        }
        if let Phase::Refused { again } = exchange.phase
            && again <= now
        {
            if self.up() {
                self.publish_again(number, now);
                self.tell_broker(number, now);
            } else {
                self.wait(number, true, now);
            }
            self.schedule(number);
            return;
        }
        match exchange.watch {
            Watch::Asked { until } if until <= now && exchange.asks >= MAX_ASKS => {
                self.nobody_holds(number, now)
            }
            Watch::Parked { until } if until <= now => {
                self.answer(number, Answer::Fault(watching::no_nats()))
            }
            Watch::Patience { until } if until <= now => {
                self.ask_broker(number, now);
                self.suspect(number, now);
            }
            Watch::Asked { until: again } | Watch::NoBroker { retry: again } if again <= now => {
                self.ask_broker(number, now);
                self.unacknowledged(number, now);
            }
            _ => self.schedule(number),
        }
    }

    fn expire(&mut self, number: u64, now: Instant) {
        let Some(exchange) = self.open.get(&number) else { return };
        let fault = exchange.expired(now);
        self.answer(number, Answer::Fault(fault));
    }

    /// Ends a request: the only way out of `open` that answers.
    fn answer(&mut self, number: u64, mut answer: Answer) {
        let failed = matches!(answer, Answer::Fault(_));
        let streams = matches!(&answer, Answer::Response(reply) if reply.stream);
        if let Some(exchange) = self.forget(number, failed) {
            if streams {
                self.stream_begins(&exchange.request.upstream_target);
            }
            // A fault speaks of the last try; an agent that had an earlier one may have called the origin.
            if let Answer::Fault(fault) = &mut answer {
                fault.maybe_seen |= exchange.before.is_some_and(|before| before.maybe_seen);
            }
            self.commands.push_back(Command::Answer { caller: exchange.caller, number, answer });
        }
    }

    fn forget(&mut self, number: u64, failed: bool) -> Option<Exchange<C>> {
        self.release(number);
        let exchange = self.open.remove(&number)?;
        self.promised -= exchange.request.window;
        self.deadlines.drop(exchange.deadline, number);
        self.members.heard |= exchange.to.is_some() && !failed;
        let upstream = &exchange.request.upstream_target;
        if let Some(upstream) = self.per_upstream.get_mut(upstream) {
            upstream.open -= 1;
            upstream.got_through |= !failed || exchange.got_through();
        }
        self.forget_quiet(upstream);
        if let (true, Phase::Taken { at_agent, .. }) = (failed, &exchange.phase) {
            self.commands.push_back(Command::Cancel { to: at_agent.clone() });
        }
        Some(exchange)
    }

    /// Callers may be allowed to name upstreams, and name whatever they like.
    fn forget_quiet(&mut self, upstream: &Name) {
        let many = self.per_upstream.len() > MAX_QUIET_UPSTREAMS;
        if many && self.per_upstream.get(upstream).is_some_and(|upstream| upstream.open == 0) {
            self.per_upstream.remove(upstream);
        }
    }

    /// Whether request `number` waits for an agent: none has it.
    pub fn waits(&self, number: u64) -> bool {
        self.open.get(&number).is_some_and(|exchange| matches!(exchange.phase, Phase::Waiting { .. }))
    }

    /// Whether any agent of `upstream` is known.
    pub fn knows(&self, upstream: &Name) -> bool {
        self.roster.presence(upstream) != Presence::Absent
    }

    fn schedule(&mut self, number: u64) {
        let Some(exchange) = self.open.get_mut(&number) else { return };
        let next = match exchange.watch {
            Watch::Parked { until } | Watch::Patience { until } | Watch::Asked { until } => until,
            Watch::NoBroker { retry } => retry,
            Watch::Held { .. } => exchange.ends,
        };
        let again = match exchange.phase {
            Phase::Refused { again } => again,
            Phase::Sent | Phase::Taken { .. } | Phase::Waiting { .. } => exchange.ends,
        };
        let next = next.min(again).min(exchange.ends);
        self.deadlines.change(&mut exchange.deadline, next, number);
    }
}

impl<C, H: BuildHasher> Machine for Exchanges<C, H> {
    type Input = Input<C>;
    type Command = Command<C>;

    fn handle(&mut self, input: Input<C>, now: Instant) {
        match input {
            Input::Open { request, caller } => self.open(request, caller, now),
            Input::Abandon { number } => drop(self.forget(number, true)),
            Input::Progress { number } => self.progress(number, now),
            Input::StreamEnded { upstream } => self.stream_ended(&upstream),
            Input::Ack { number, ack } => self.ack(number, ack, now),
            Input::Reply { number, reply } => self.reply(number, reply, now),
            Input::Unreadable { number, why } => {
                let detail = format!("the reply of the upstream agent could not be read: {why}");
                self.answer(number, Answer::Fault(Fault::new(Code::BadReply, Side::Client, detail)));
            }
            Input::NobodyGotIt { number } => self.nobody_got_it(number, now),
            Input::NoBroker { number } => self.nobody_holds(number, now),
            Input::BrokerGone { broker } => self.broker_gone(&broker, now),
            Input::Lost { broker, holds } => self.lost(&broker, &holds, now),
            Input::Link { up } => self.link(up, now),
            Input::Forbidden { upstream } => self.forbidden(&upstream, now),
            Input::Here(here) => self.here(here, now),
            Input::Gone { upstream, agent } => self.agent_gone(&upstream, &agent, now),
            Input::MemberForbidden => self.member_forbidden(now),
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.find_silent(now);
        while let Some(number) = self.deadlines.pop_due(now) {
            self.due(number, now);
        }
        while let Some(due) = self.leases.pop_due(now) {
            match due {
                leases::Due::Renew { broker, upstream, holds } => self.renew(&broker, &upstream, &holds),
                leases::Due::Silent { broker } => self.broker_gone(&broker, now),
            }
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let timers = [self.deadlines.next(), self.leases.next(), self.sweep, self.roster.next_verdict()];
        timers.into_iter().flatten().min()
    }

    fn poll_command(&mut self) -> Option<Command<C>> {
        self.commands.pop_front()
    }
}

/// Upstreams without requests that are remembered.
const MAX_QUIET_UPSTREAMS: usize = 1024;

#[cfg(test)]
mod tests;
