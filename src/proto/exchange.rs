//! The client agent's decisions: every request it has not answered yet.
//!
//! The usual case is two inputs: [`Input::Open`] publishes, [`Input::Reply`] answers. What is not
//! answered within the patience, or reached nobody, is handed to a broker to watch, while this side
//! keeps the request itself and the last word: its TTL.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    proto::{Machine, deadlines::Deadlines, retry},
    wire::{
        Ack, Code, Fault, Hold, Known, Lease, Name, ProcessId, Reply, Request, RequestId, Side, State,
        message::{VERSION, millis},
    },
};

/// What a client agent is allowed and how patient it is.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How long a request may take in all.
    pub ttl: Duration,
    /// How long a response may take before a broker is asked to watch.
    pub patience: Duration,
    /// Requests in flight at most.
    pub max_in_flight: usize,
    /// Requests in flight at most for one upstream.
    pub max_per_upstream: usize,
}

/// What can happen. `C` is how a caller is answered.
pub enum Input<C> {
    /// A caller asks; [`Exchanges::mint`] made the id.
    Open {
        /// The request.
        request: Request,
        /// Where its answer goes.
        caller: C,
    },
    /// The caller went away.
    Abandon {
        /// The request's number.
        number: u64,
    },
    /// A message on `relay.ack.<id>`.
    Ack {
        /// The request's number.
        number: u64,
        /// The message.
        ack: Ack,
    },
    /// A message on `relay.resp.<id>`.
    Reply {
        /// The request's number.
        number: u64,
        /// The message.
        reply: Reply,
    },
    /// NATS says that nobody received the request.
    NobodyGotIt {
        /// The request's number.
        number: u64,
    },
    /// NATS says that no broker received the hold.
    NoBroker {
        /// The request's number.
        number: u64,
    },
    /// NATS says that a broker is gone.
    BrokerGone {
        /// The broker.
        broker: ProcessId,
    },
    /// A broker does not have these holds.
    Lost {
        /// The broker.
        broker: ProcessId,
        /// The holds, by their number at the broker.
        holds: Vec<u64>,
    },
    /// The connection to NATS came or went.
    Link {
        /// Whether it is there.
        up: bool,
    },
    /// NATS refused to carry a request for this upstream.
    Forbidden {
        /// The upstream.
        upstream: Name,
    },
}

/// What is to be done.
pub enum Command<C> {
    /// Publish on `relay.req.<upstream>`; "no responders" comes back as [`Input::NobodyGotIt`].
    Publish(Arc<Request>),
    /// Publish on `relay.hold.<upstream>`; "no responders" comes back as [`Input::NoBroker`].
    Hold(Hold),
    /// Tell the broker that holds it what is new.
    Update {
        /// The hold at the broker.
        to: RequestId,
        /// The news.
        hold: Hold,
    },
    /// Renew leases; "no responders" comes back as [`Input::BrokerGone`].
    Renew {
        /// The broker.
        broker: ProcessId,
        /// The upstream the holds are for.
        upstream: Name,
        /// The holds.
        lease: Lease,
    },
    /// Tell an agent to stop working on a request.
    Cancel {
        /// The request at the agent.
        to: RequestId,
    },
    /// Answer the caller; comes exactly once for each opened request that is not abandoned.
    Answer {
        /// The caller.
        caller: C,
        /// The request's number.
        number: u64,
        /// The answer.
        answer: Answer,
    },
}

/// The one answer to a request.
#[derive(Debug)]
pub enum Answer {
    /// The origin's response.
    Response(Box<Reply>),
    /// What went wrong.
    Fault(Fault),
}

/// Every request of one client agent that is not answered.
pub struct Exchanges<C> {
    settings: Settings,
    own: ProcessId,
    numbers: crate::wire::ids::Numbers,
    open: HashMap<u64, Exchange<C>>,
    per_upstream: HashMap<Name, usize>,
    deadlines: Deadlines,
    leases: BTreeMap<(ProcessId, Name), Leased>,
    renewals: Deadlines<(ProcessId, Name)>,
    link: Link,
    commands: VecDeque<Command<C>>,
}

struct Exchange<C> {
    request: Arc<Request>,
    caller: C,
    opened: Instant,
    ends: Instant,
    attempt: u32,
    refusals: u32,
    phase: Phase,
    since: Instant,
    watch: Watch,
    deadline: Instant,
    /// The fault that let it be sent again; the answer if that reaches nobody.
    before: Option<Fault>,
}

/// What is known of the request.
enum Phase {
    /// Published; nothing heard.
    Sent,
    /// An agent took it.
    Taken { agent: ProcessId, at_agent: RequestId },
    /// It reached nobody, or only agents that refused; it waits to be woken.
    Waiting { refused: bool },
}

/// Who watches the request.
enum Watch {
    /// Nobody but us, until the patience ends.
    Patience { until: Instant },
    /// A broker was asked and has not said yes.
    Asked { until: Instant, told: Known },
    /// This broker holds it and was last told `told`.
    Held { broker: ProcessId, hold: RequestId, told: Known },
    /// No broker takes it; ask again then.
    NoBroker { retry: Instant },
}

/// The holds at one broker for one upstream.
struct Leased {
    holds: HashMap<u64, u64>,
    renew: Instant,
}

#[derive(Clone, Copy)]
enum Link {
    NeverUp,
    Up { settled: Instant },
    Down,
}

impl<C> Exchanges<C> {
    /// No requests yet; `numbers` are the process's request numbers.
    pub fn new(settings: Settings, own: ProcessId, numbers: crate::wire::ids::Numbers) -> Self {
        Exchanges {
            settings,
            own,
            numbers,
            open: HashMap::new(),
            per_upstream: HashMap::new(),
            deadlines: Deadlines::default(),
            leases: BTreeMap::new(),
            renewals: Deadlines::default(),
            link: Link::NeverUp,
            commands: VecDeque::new(),
        }
    }

    /// The id for a new request to `upstream`.
    pub fn mint(&mut self, upstream: &Name) -> RequestId {
        RequestId::new(&self.own, upstream, self.numbers.next())
    }

    /// Requests that are not answered.
    pub fn in_flight(&self) -> usize {
        self.open.len()
    }

    /// Requests that a broker holds.
    pub fn held(&self) -> usize {
        self.leases.values().map(|leased| leased.holds.len()).sum()
    }

    fn open(&mut self, request: Request, caller: C, now: Instant) {
        let number = request.client_req_id.number();
        if let Err(fault) = self.admit(&request.upstream_target) {
            self.commands.push_back(Command::Answer { caller, number, answer: Answer::Fault(fault) });
            return;
        }
        *self.per_upstream.entry(request.upstream_target.clone()).or_default() += 1;
        let request = Arc::new(request);
        let ends = now + self.settings.ttl;
        let until = now + self.settings.patience;
        let deadline = until.min(ends);
        self.deadlines.add(deadline, number);
        self.commands.push_back(Command::Publish(Arc::clone(&request)));
        let exchange = Exchange {
            request,
            caller,
            opened: now,
            ends,
            attempt: 1,
            refusals: 0,
            phase: Phase::Sent,
            since: now,
            watch: Watch::Patience { until },
            deadline,
            before: None,
        };
        self.open.insert(number, exchange);
    }

    fn admit(&self, upstream: &Name) -> Result<(), Fault> {
        let full = |limit: usize, name: &str| {
            let detail = format!("{limit} requests are in flight, the limit of {name}");
            Err(Fault::new(Code::ClientFull, Side::Client, detail))
        };
        if !matches!(self.link, Link::Up { .. }) {
            return Err(Fault::new(
                Code::NatsUnreachable,
                Side::Client,
                "the client agent has no connection to NATS; it keeps trying",
            ));
        }
        if self.open.len() >= self.settings.max_in_flight {
            return full(self.settings.max_in_flight, "--max-in-flight");
        }
        if self.per_upstream.get(upstream).is_some_and(|&n| n >= self.settings.max_per_upstream) {
            return full(self.settings.max_per_upstream, "--max-in-flight-per-upstream");
        }
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
            State::Full | State::Draining => self.refused(number, now),
            State::Held => self.held_by(number, ack, now),
            State::Unheld => self.unheld(number, now),
            State::Wake => self.woken(number, now),
        }
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
                exchange.phase = Phase::Taken { agent, at_agent };
                exchange.since = now;
                self.tell_broker(number, now);
            }
            // It is out of turn: not the agent that has it, so it must not go on.
            Phase::Taken { .. } | Phase::Waiting { .. } => {
                self.commands.push_back(Command::Cancel { to: at_agent });
            }
        }
    }

    fn refused(&mut self, number: u64, now: Instant) {
        let Some(exchange) = self.open.get_mut(&number) else { return };
        if !matches!(exchange.phase, Phase::Sent) {
            return;
        }
        exchange.refusals += 1;
        if retry::after_refusal(exchange.refusals) == retry::Verdict::Again {
            self.publish_again(number, now);
        } else {
            self.wait(number, true, now);
        }
    }

    fn nobody_got_it(&mut self, number: u64, now: Instant) {
        let Some(exchange) = self.open.get_mut(&number) else { return };
        if !matches!(exchange.phase, Phase::Sent) {
            return;
        }
        match exchange.before.take() {
            Some(fault) => self.answer(number, Answer::Fault(fault)),
            None => {
                let refused = exchange.refusals > 0;
                self.wait(number, refused, now);
            }
        }
    }

    /// Nobody has the request: from now on a broker waits for somebody who would.
    fn wait(&mut self, number: u64, refused: bool, now: Instant) {
        let Some(exchange) = self.open.get_mut(&number) else { return };
        exchange.phase = Phase::Waiting { refused };
        exchange.since = now;
        match exchange.watch {
            Watch::Held { .. } => self.tell_broker(number, now),
            Watch::Patience { .. } | Watch::NoBroker { .. } => self.ask_broker(number, now),
            Watch::Asked { .. } => {}
        }
    }

    fn woken(&mut self, number: u64, now: Instant) {
        let Some(exchange) = self.open.get(&number) else { return };
        if matches!(exchange.phase, Phase::Waiting { .. }) && self.up() {
            self.publish_again(number, now);
            self.tell_broker(number, now);
        }
    }

    fn publish_again(&mut self, number: u64, now: Instant) {
        let Some(exchange) = self.open.get_mut(&number) else { return };
        let request = Arc::make_mut(&mut exchange.request);
        request.client_req_ttl = millis(exchange.ends.saturating_duration_since(now));
        if let Watch::Held { broker, hold, .. } = &exchange.watch {
            request.broker_id = Some(broker.clone());
            request.broker_req_id = Some(hold.clone());
        }
        exchange.phase = Phase::Sent;
        exchange.since = now;
        self.commands.push_back(Command::Publish(Arc::clone(&exchange.request)));
    }

    fn held_by(&mut self, number: u64, ack: Ack, now: Instant) {
        let (Some(broker), Some(hold)) = (ack.broker_id, ack.broker_req_id) else { return };
        let Some(exchange) = self.open.get_mut(&number) else { return };
        let Watch::Asked { told, .. } = exchange.watch else {
            return; // A broker that was asked in vain before: it forgets what is not renewed.
        };
        exchange.watch = Watch::Held { broker: broker.clone(), hold: hold.clone(), told };
        let key = (broker, exchange.request.upstream_target.clone());
        let renewals = &mut self.renewals;
        let leased = self.leases.entry(key.clone()).or_insert_with(|| {
            let renew = now + RENEW;
            renewals.add(renew, key);
            Leased { holds: HashMap::new(), renew }
        });
        leased.holds.insert(hold.number(), number);
        self.schedule(number);
        self.tell_broker(number, now);
    }

    fn unheld(&mut self, number: u64, now: Instant) {
        let detail = "the broker holds as many requests as it may (--max-holds)";
        self.no_broker(number, Fault::new(Code::BrokerFull, Side::Broker, detail), now);
    }

    fn nobody_holds(&mut self, number: u64, now: Instant) {
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
        match exchange.phase {
            Phase::Waiting { .. } if !settling => self.answer(number, Answer::Fault(fault)),
            Phase::Waiting { .. } | Phase::Sent | Phase::Taken { .. } => {
                let pause = if settling { ASK_AGAIN / 4 } else { ASK_AGAIN };
                exchange.watch = Watch::NoBroker { retry: now + pause };
                self.schedule(number);
            }
        }
    }

    fn broker_gone(&mut self, broker: &ProcessId, now: Instant) {
        let keys: Vec<_> = self.leases.keys().filter(|(b, _)| b == broker).cloned().collect();
        for key in keys {
            if let Some(leased) = self.leases.remove(&key) {
                self.renewals.drop(leased.renew, key);
                for number in sorted(leased.holds.into_values()) {
                    self.ask_broker(number, now);
                }
            }
        }
    }

    fn lost(&mut self, broker: &ProcessId, holds: &[u64], now: Instant) {
        let mut lost = Vec::new();
        for ((_, _), leased) in self.leases.iter_mut().filter(|((b, _), _)| b == broker) {
            lost.extend(holds.iter().filter_map(|hold| leased.holds.remove(hold)));
        }
        for number in sorted(lost) {
            self.ask_broker(number, now);
        }
    }

    fn ask_broker(&mut self, number: u64, now: Instant) {
        let up = self.up();
        let Some(exchange) = self.open.get_mut(&number) else { return };
        let hold = exchange.hold(&self.own, now);
        exchange.watch = Watch::Asked { until: now + ASK_AGAIN, told: hold.known };
        self.schedule(number);
        if up {
            self.commands.push_back(Command::Hold(hold));
        }
    }

    /// Tells the broker that holds the request what is known, when that is news.
    fn tell_broker(&mut self, number: u64, now: Instant) {
        let up = self.up();
        let Some(exchange) = self.open.get_mut(&number) else { return };
        let news = exchange.hold(&self.own, now);
        if let Watch::Held { hold, told, .. } = &mut exchange.watch
            && *told != news.known
            && up
        {
            *told = news.known;
            self.commands.push_back(Command::Update { to: hold.clone(), hold: news });
        }
    }

    fn reply(&mut self, number: u64, reply: Reply, now: Instant) {
        let Some(exchange) = self.open.get_mut(&number) else { return };
        if exchange.request.client_req_id != reply.client_req_id {
            return;
        }
        let Some(error) = reply.error else {
            self.answer(number, Answer::Response(Box::new(reply)));
            return;
        };
        let fault = Fault::from(error);
        if !exchange.concerned_by(&fault, reply.broker_req_id.as_ref(), reply.upstream_req_id.as_ref()) {
            return;
        }
        match retry::after_fault(&fault, &exchange.request.method, exchange.attempt) {
            retry::Verdict::Answer => self.answer(number, Answer::Fault(fault)),
            retry::Verdict::Again => {
                exchange.attempt += 1;
                exchange.before = Some(fault);
                self.release(number);
                self.publish_again(number, now);
                if let Some(exchange) = self.open.get_mut(&number) {
                    exchange.watch = Watch::Patience { until: now + self.settings.patience };
                    self.schedule(number);
                }
            }
        }
    }

    fn link(&mut self, up: bool, now: Instant) {
        if !up {
            self.link = Link::Down;
            return;
        }
        let settled = match self.link {
            Link::NeverUp => now,
            Link::Up { settled } => settled,
            Link::Down => now + SETTLE,
        };
        self.link = Link::Up { settled };
        // What brokers were told during the outage is lost, and they may have forgotten: start over.
        for (key, leased) in std::mem::take(&mut self.leases) {
            self.renewals.drop(leased.renew, key);
        }
        let escalated = self.open.iter().filter(|(_, e)| !matches!(e.watch, Watch::Patience { .. }));
        for number in sorted(escalated.map(|(number, _)| *number).collect::<Vec<_>>()) {
            self.ask_broker(number, now);
        }
    }

    fn forbidden(&mut self, upstream: &Name) {
        let of_upstream = |e: &Exchange<C>| e.request.upstream_target == *upstream && matches!(e.phase, Phase::Sent);
        let numbers = self.open.iter().filter(|(_, e)| of_upstream(e)).map(|(number, _)| *number);
        for number in sorted(numbers.collect::<Vec<_>>()) {
            let detail = format!("NATS permissions do not let this client agent ask for '{upstream}'");
            self.answer(number, Answer::Fault(Fault::new(Code::NotAllowed, Side::Client, detail)));
        }
    }

    fn due(&mut self, number: u64, now: Instant) {
        let Some(exchange) = self.open.get(&number) else { return };
        if exchange.ends <= now {
            self.expire(number, now);
            return;
        }
        match exchange.watch {
            Watch::Patience { until } | Watch::Asked { until, .. } if until <= now => self.ask_broker(number, now),
            Watch::NoBroker { retry } if retry <= now => self.ask_broker(number, now),
            _ => self.schedule(number),
        }
    }

    fn expire(&mut self, number: u64, now: Instant) {
        let Some(exchange) = self.open.get(&number) else { return };
        let waited = now.duration_since(exchange.opened).as_secs_f32();
        let fault = match &exchange.phase {
            Phase::Waiting { refused } => nobody_there(&exchange.request.upstream_target, *refused),
            Phase::Sent => {
                let detail = format!("no agent acknowledged the request in {waited:.1} s, the client agent's --ttl");
                Fault::new(Code::TtlExpired, Side::Client, detail)
            }
            Phase::Taken { .. } => {
                let detail = format!("no response came in {waited:.1} s, the client agent's --ttl");
                Fault::new(Code::TtlExpired, Side::Client, detail)
            }
        };
        self.answer(number, Answer::Fault(fault));
    }

    /// Ends a request: the only way out of `open` that answers.
    fn answer(&mut self, number: u64, answer: Answer) {
        let failed = matches!(answer, Answer::Fault(_));
        if let Some(exchange) = self.forget(number, failed) {
            self.commands.push_back(Command::Answer { caller: exchange.caller, number, answer });
        }
    }

    fn forget(&mut self, number: u64, cancel: bool) -> Option<Exchange<C>> {
        self.release(number);
        let exchange = self.open.remove(&number)?;
        self.deadlines.drop(exchange.deadline, number);
        let upstream = &exchange.request.upstream_target;
        if let Some(count) = self.per_upstream.get_mut(upstream) {
            *count -= 1;
            if *count == 0 {
                self.per_upstream.remove(upstream);
            }
        }
        if let (true, Phase::Taken { at_agent, .. }) = (cancel, &exchange.phase) {
            self.commands.push_back(Command::Cancel { to: at_agent.clone() });
        }
        Some(exchange)
    }

    /// Stops renewing; the broker forgets by itself.
    fn release(&mut self, number: u64) {
        let Some(exchange) = self.open.get(&number) else { return };
        let Watch::Held { broker, hold, .. } = &exchange.watch else { return };
        let key = (broker.clone(), exchange.request.upstream_target.clone());
        if let Some(leased) = self.leases.get_mut(&key) {
            leased.holds.remove(&hold.number());
        }
    }

    fn schedule(&mut self, number: u64) {
        let Some(exchange) = self.open.get_mut(&number) else { return };
        self.deadlines.drop(exchange.deadline, number);
        let next = match exchange.watch {
            Watch::Patience { until } | Watch::Asked { until, .. } => until,
            Watch::NoBroker { retry } => retry,
            Watch::Held { .. } => exchange.ends,
        };
        exchange.deadline = next.min(exchange.ends);
        self.deadlines.add(exchange.deadline, number);
    }

    fn renew(&mut self, key: (ProcessId, Name), now: Instant) {
        let Some(leased) = self.leases.get_mut(&key) else { return };
        if leased.holds.is_empty() {
            self.leases.remove(&key);
            return;
        }
        leased.renew = now + RENEW;
        let holds = sorted(leased.holds.keys().copied().collect::<Vec<_>>());
        self.renewals.add(leased.renew, key.clone());
        if !matches!(self.link, Link::Up { .. }) {
            return;
        }
        for part in holds.chunks(MAX_LEASE) {
            let lease = Lease { v: VERSION, client_id: self.own.clone(), holds: part.to_vec() };
            let (broker, upstream) = key.clone();
            self.commands.push_back(Command::Renew { broker, upstream, lease });
        }
    }

    fn up(&self) -> bool {
        matches!(self.link, Link::Up { .. })
    }

    /// Just after a reconnection, agents and brokers are reconnecting too: nobody there proves little.
    fn settling(&self, now: Instant) -> bool {
        matches!(self.link, Link::Up { settled } if now < settled)
    }
}

impl<C> Machine for Exchanges<C> {
    type Input = Input<C>;
    type Command = Command<C>;

    fn handle(&mut self, input: Input<C>, now: Instant) {
        match input {
            Input::Open { request, caller } => self.open(request, caller, now),
            Input::Abandon { number } => drop(self.forget(number, true)),
            Input::Ack { number, ack } => self.ack(number, ack, now),
            Input::Reply { number, reply } => self.reply(number, reply, now),
            Input::NobodyGotIt { number } => self.nobody_got_it(number, now),
            Input::NoBroker { number } => self.nobody_holds(number, now),
            Input::BrokerGone { broker } => self.broker_gone(&broker, now),
            Input::Lost { broker, holds } => self.lost(&broker, &holds, now),
            Input::Link { up } => self.link(up, now),
            Input::Forbidden { upstream } => self.forbidden(&upstream),
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        while let Some(number) = self.deadlines.pop_due(now) {
            self.due(number, now);
        }
        while let Some(key) = self.renewals.pop_due(now) {
            self.renew(key, now);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.deadlines.next().into_iter().chain(self.renewals.next()).min()
    }

    fn poll_command(&mut self) -> Option<Command<C>> {
        self.commands.pop_front()
    }
}

impl<C> Exchange<C> {
    /// Whether a fault speaks of what this request is doing now. A broker decides on what it was last
    /// told; when that is overtaken (it gave up waiting while its own wake-up was being followed, say)
    /// its word must not end the request: "no agent" would claim that the origin can't have seen it.
    fn concerned_by(&self, fault: &Fault, hold: Option<&RequestId>, at_agent: Option<&RequestId>) -> bool {
        match fault.raised_by {
            Side::Broker => {
                let held_there = matches!(&self.watch, Watch::Held { hold: ours, .. } if Some(ours) == hold);
                let fits = match &self.phase {
                    Phase::Waiting { .. } => !fault.maybe_seen,
                    Phase::Sent => fault.code == Code::AckTimeout,
                    Phase::Taken { .. } => matches!(fault.code, Code::ResponseTimeout | Code::AgentGone),
                };
                held_there && fits
            }
            Side::Client | Side::Upstream => match &self.phase {
                Phase::Taken { at_agent: ours, .. } => Some(ours) == at_agent,
                Phase::Sent => true,
                Phase::Waiting { .. } => false,
            },
        }
    }

    fn hold(&self, own: &ProcessId, now: Instant) -> Hold {
        let (known, upstream_id) = match &self.phase {
            Phase::Sent => (Known::Sent, None),
            Phase::Taken { agent, .. } => (Known::Taken, Some(agent.clone())),
            Phase::Waiting { refused: false } => (Known::Nobody, None),
            Phase::Waiting { refused: true } => (Known::Refused, None),
        };
        Hold {
            v: VERSION,
            client_id: own.clone(),
            client_req_id: self.request.client_req_id.clone(),
            client_req_ttl: millis(self.ends.saturating_duration_since(now)),
            upstream_target: self.request.upstream_target.clone(),
            age: millis(now.duration_since(self.opened)),
            known,
            known_for: millis(now.duration_since(self.since)),
            upstream_id,
        }
    }
}

/// The fault of a request that nobody has.
pub fn nobody_there(upstream: &Name, refused: bool) -> Fault {
    if refused {
        let detail = format!("every upstream agent for '{upstream}' is at its limit (--max-in-flight)");
        Fault::new(Code::AgentsFull, Side::Client, detail)
    } else {
        let detail = format!("no upstream agent is there for '{upstream}', and no broker to wait for one");
        Fault::new(Code::NoAgent, Side::Client, detail)
    }
}

/// In order, so that a run can be repeated: a map's order is not.
fn sorted(numbers: impl IntoIterator<Item = u64>) -> Vec<u64> {
    numbers.into_iter().collect::<BTreeSet<_>>().into_iter().collect()
}

/// How often a lease is renewed; a broker forgets one after [`super::supervision::LEASE`].
pub const RENEW: Duration = Duration::from_secs(1);
/// How long a broker may take to say that it holds a request before another is asked.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// How long after a reconnection "nobody there" is not yet an answer.
const SETTLE: Duration = Duration::from_secs(2);
/// Holds in one renewal at most.
const MAX_LEASE: usize = 1000;
