//! One run: a virtual clock, the processes, the bus between them, and what happens to them.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use relay::wire::{Name, show};

use crate::{
    bus::{At, Bus, Message, Micros, Transit},
    chance::Chance,
    faults::Step,
    ledger::Ledger,
    origin::Origins,
    plan::{Fault, MS, Plan, SECOND},
    process::{Effect, Item, Kind, Process, Role},
};

/// One run.
pub struct World {
    pub plan: Plan,
    pub ledger: Ledger,
    pub origins: Origins,
    pub now: Micros,
    pub chance: Chance,
    pub bus: Bus,
    pub hosts: Vec<Host>,
    base: Instant,
    events: BTreeMap<(Micros, u64), Event>,
    sequence: u64,
    upstreams: Vec<Name>,
    /// When everything that was planned is over.
    planned_until: Micros,
    settled: bool,
    trace: Option<Vec<String>>,
}

/// A process and the machine it runs on.
pub struct Host {
    pub kind: Kind,
    pub life: Life,
    /// What came while it was stopped.
    pub backlog: VecDeque<Item>,
    pub stopped_for: Micros,
    process: Process,
    timer: Option<(Micros, u64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    Running,
    Stopped { since: Micros },
    Dead,
}

#[derive(Debug)]
pub enum Event {
    Transit(Transit),
    Timer(At),
    Item(At, Item),
    Fault(Fault),
    Step(At, Step),
    CallStarts(At, u64),
    CallEnds(At, u64),
    CallerComes(usize),
    PlanEnds,
    Check(Check),
}

/// What is looked at once every caller has been answered.
#[derive(Debug, Clone, Copy)]
pub enum Check {
    Clients,
    Brokers,
    Agents,
}

impl World {
    /// A run of `plan`.
    pub fn new(plan: Plan, chance: &mut Chance, traced: bool) -> World {
        let bus = Bus::new(plan.weather.clone(), chance.fork());
        let origins = Origins::new(plan.temper.clone(), chance.fork());
        let names = ["one", "two"].into_iter().take(plan.upstreams);
        let mut world = World {
            ledger: Ledger::default(),
            origins,
            base: Instant::now(),
            now: 0,
            events: BTreeMap::new(),
            sequence: 0,
            chance: chance.fork(),
            bus,
            upstreams: names.map(|name| name.parse().expect("a name")).collect(),
            hosts: Vec::new(),
            planned_until: 0,
            settled: false,
            trace: traced.then(Vec::new),
            plan,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        for (when, kind) in self.plan.processes.clone() {
            let at = self.add(kind);
            self.plan_event(when, Event::Step(at, Step::Connects));
        }
        for (index, ask) in self.plan.asks.clone().into_iter().enumerate() {
            self.ledger.expect(ask.client, ask.upstream, ask.method);
            self.plan_event(ask.when, Event::CallerComes(index));
        }
        for (when, fault) in self.plan.faults.clone() {
            self.planned_until = self.planned_until.max(when + fault.lasts());
            self.plan_event(when, Event::Fault(fault));
        }
        self.schedule(self.planned_until, Event::PlanEnds);
    }

    pub fn add(&mut self, kind: Kind) -> At {
        let at = self.bus.add();
        let upstream = match kind {
            Kind::Agent(index) => &self.upstreams[index],
            Kind::Client | Kind::Broker => &self.upstreams[0],
        };
        let process = Process::new(kind, at, upstream, &self.plan.settings, &mut self.chance);
        let backlog = VecDeque::new();
        self.hosts.push(Host { kind, process, life: Life::Running, backlog, timer: None, stopped_for: 0 });
        self.carry_out(at);
        at
    }

    /// Runs until everything planned is over, everybody is answered and nothing is left.
    ///
    /// # Errors
    /// The first rule that was broken.
    pub fn run(&mut self) -> Result<(), String> {
        let mut events = 0_u64;
        while let Some(((at, _), event)) = self.events.pop_first() {
            self.now = at;
            events += 1;
            let last = matches!(event, Event::Check(Check::Agents));
            self.happen(event);
            if !self.settled && self.now >= self.planned_until && self.ledger.is_settled() {
                self.settled = true;
                self.plan_checks();
            }
            if let Some(broken) = self.ledger.broken() {
                return Err(format!("{broken} (at {})", seconds(self.now)));
            }
            if last {
                return Ok(());
            }
            if self.now > self.planned_until + TOO_LONG || events > TOO_MANY {
                let open: Vec<_> = (0..self.ledger.asked.len()).filter(|&key| self.waits(key)).collect();
                return Err(format!("{events} events, and these requests have no answer yet: {open:?}"));
            }
        }
        Err("nothing happens any more".to_owned())
    }

    /// The trace, if it was asked for.
    pub fn trace(&self) -> &[String] {
        self.trace.as_deref().unwrap_or_default()
    }

    /// The process that was stopped for longest.
    pub fn stopped_longest(&self) -> At {
        (0..self.hosts.len()).max_by_key(|&at| self.hosts[at].stopped_for).unwrap_or(0)
    }

    /// Whether a process has ended.
    pub fn is_dead(&self, at: At) -> bool {
        self.hosts[at].life == Life::Dead
    }

    fn waits(&self, key: usize) -> bool {
        let asked = &self.ledger.asked[key];
        asked.answer.is_none() && asked.abandoned.is_none() && !asked.orphaned
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Transit(transit) => self.transit(transit),
            Event::Timer(at) => self.timer(at),
            Event::Item(at, item) => self.give(at, item),
            Event::Fault(fault) => self.fault(fault),
            Event::Step(at, step) => self.step(at, step),
            Event::CallStarts(at, number) => {
                if let Some(call) = self.origins.running(at, number) {
                    let key = call.key;
                    self.say(|world| format!("{} origin starts request {key}", world.name(at)));
                    self.ledger.started(key, at, self.now);
                }
            }
            Event::CallEnds(at, number) => {
                if let Some((key, reply)) = self.origins.end(at, number) {
                    self.ledger.asked[key as usize].call_ended = Some(self.now);
                    self.give(at, Item::Done { number, reply: Box::new(reply) });
                }
            }
            Event::CallerComes(index) => self.caller_comes(index),
            Event::PlanEnds => {}
            Event::Check(check) => self.check(check),
        }
    }

    fn caller_comes(&mut self, index: usize) {
        let ask = self.plan.asks[index].clone();
        let key = u32::try_from(index).expect("few callers");
        if self.hosts[ask.client].life == Life::Dead {
            self.ledger.asked[index].orphaned = true;
            return;
        }
        let upstream = self.upstreams[ask.upstream].clone();
        self.say(|world| format!("{} caller {key} asks {} {upstream}", world.name(ask.client), ask.method));
        self.give(ask.client, Item::Open { key, upstream, method: ask.method });
        if let Some(patience) = ask.patience {
            self.schedule(self.now + patience, Event::Item(ask.client, Item::Abandon { key }));
        }
    }

    fn transit(&mut self, transit: Transit) {
        if let Transit::Deliver { to, epoch, message } = transit {
            if self.bus.delivers(to, epoch) {
                self.say(|world| format!("{} ← {}", world.name(to), text(&message)));
                self.give(to, Item::Message(message));
            } else {
                self.say(|world| format!("{} ← lost: {}", world.name(to), text(&message)));
            }
            return;
        }
        let question = match &transit {
            Transit::Publish { from, message, .. } if message.subject.starts_with("relay.req.") => {
                let number = message.reply.as_ref().and_then(|reply| reply.rsplit('.').next());
                let number = number.and_then(|number| u64::from_str_radix(number, 16).ok());
                number.and_then(|number| self.ledger.key_of(*from, number))
            }
            _ => None,
        };
        for (at, transit) in self.bus.arrive(transit, self.now) {
            if let (Some(key), Transit::Deliver { to, message, .. }) = (question, &transit)
                && !message.nobody
            {
                self.ledger.routed(key, *to, self.now);
            }
            self.schedule(at, Event::Transit(transit));
        }
    }

    pub fn give(&mut self, at: At, item: Item) {
        match self.hosts[at].life {
            Life::Dead => {}
            Life::Stopped { .. } => self.hosts[at].backlog.push_back(item),
            Life::Running => {
                if let Item::Abandon { key } = item {
                    let asked = &mut self.ledger.asked[key as usize];
                    if asked.answer.is_some() {
                        return;
                    }
                    asked.abandoned = Some(self.now);
                    self.say(|_| format!("caller {key} leaves"));
                }
                let now = self.instant();
                self.hosts[at].process.take(item, now);
                self.carry_out(at);
            }
        }
    }

    pub fn timer(&mut self, at: At) {
        self.hosts[at].timer = None;
        if self.hosts[at].life == Life::Running {
            let now = self.instant();
            self.hosts[at].process.timeout(now);
            self.carry_out(at);
        }
    }

    /// Does what a process wants done, and sets its timer.
    pub fn carry_out(&mut self, at: At) {
        for effect in std::mem::take(&mut self.hosts[at].process.core.effects) {
            self.effect(at, effect);
        }
        self.check_limits(at);
        if let Some(timer) = self.hosts[at].timer.take() {
            self.events.remove(&timer);
        }
        if self.hosts[at].life == Life::Running
            && let Some(next) = self.hosts[at].process.next()
        {
            // A timer is never early; how late it is varies.
            let late = self.chance.between(1, MS);
            let due =
                u64::try_from(next.saturating_duration_since(self.base).as_micros()).expect("a short run");
            let due = due.max(self.now) + late;
            self.hosts[at].timer = Some((due, self.sequence));
            self.schedule(due, Event::Timer(at));
        }
    }

    fn effect(&mut self, at: At, effect: Effect) {
        let now = self.now;
        match effect {
            Effect::Publish(message) => {
                self.say(|world| format!("{} → {}", world.name(at), text(&message)));
                let transit = self.bus.publish(at, message, now);
                self.send(transit);
            }
            Effect::Subscribe { pattern, group } => {
                let transit = self.bus.subscribe(at, pattern, group, now);
                self.send(transit);
            }
            Effect::Unsubscribe { pattern } => {
                let transit = self.bus.unsubscribe(at, pattern, now);
                self.send(transit);
            }
            Effect::Call { number, key, reply_to } => {
                let course = self.origins.call(at, number, key, reply_to, now);
                course.starts.into_iter().for_each(|when| self.schedule(when, Event::CallStarts(at, number)));
                course.ends.into_iter().for_each(|when| self.schedule(when, Event::CallEnds(at, number)));
            }
            Effect::Abort { number } => {
                if let Some(key) = self.origins.abort(at, number) {
                    self.say(|world| format!("{} aborts the call of request {key}", world.name(at)));
                    self.ledger.asked[key as usize].call_ended = Some(now);
                }
            }
            Effect::Opened { key, number } => self.ledger.opened(key, number, now),
            Effect::Sent { number } => self.ledger.sent(at, number),
            Effect::Answer { key, answer } => {
                self.ledger.answered(key, &answer, now);
                self.say(|world| format!("caller {key} gets {}", world.ledger.asked[key as usize].told()));
                self.check_in_time(key);
            }
            Effect::Exit => self.end(at, MS),
        }
    }

    fn send(&mut self, transit: Option<(Micros, Transit)>) {
        if let Some((when, transit)) = transit {
            self.schedule(when, Event::Transit(transit));
        }
    }

    fn check_limits(&mut self, at: At) {
        let settings = &self.plan.settings;
        let (what, count, limit) = match &self.hosts[at].process.role {
            Role::Client(client) => ("requests open", client.in_flight(), settings.client.max_in_flight),
            Role::Broker(broker) => ("holds", broker.held(), settings.broker.max_holds),
            Role::Agent(_) => ("calls", self.origins.of_agent(at), settings.agent.max_in_flight),
        };
        if count > limit {
            let name = self.name(at);
            self.ledger.break_rule(format!("{name} has {count} {what}, its limit is {limit}"));
        }
    }

    fn check_in_time(&mut self, key: u32) {
        let asked = &self.ledger.asked[key as usize];
        let ttl = micros(self.plan.settings.client.ttl) + self.hosts[asked.client].stopped_for + SLACK;
        if asked.waited().is_some_and(|waited| waited > ttl) {
            self.ledger.break_rule(format!("the caller of request {key} waited longer than its TTL"));
        }
    }

    fn plan_checks(&mut self) {
        // What was late or not yet sent still arrives, up and down.
        let late = 2 * (self.plan.weather.delay + self.plan.weather.stalls.1);
        let agents = micros(self.plan.settings.agent.ttl) + FORGOTTEN_BY_AGENTS;
        for (after, check) in [
            (FORGOTTEN_BY_CLIENTS, Check::Clients),
            (late + FORGOTTEN_BY_BROKERS, Check::Brokers),
            (2 * late + agents, Check::Agents),
        ] {
            self.schedule(self.now + after, Event::Check(check));
        }
    }

    fn check(&mut self, check: Check) {
        for at in 0..self.hosts.len() {
            let host = &self.hosts[at];
            let checked = match check {
                Check::Clients => host.kind == Kind::Client,
                Check::Brokers => host.kind == Kind::Broker,
                Check::Agents => matches!(host.kind, Kind::Agent(_)),
            };
            if checked && host.life == Life::Running && !host.process.is_idle() {
                let name = self.name(at);
                self.ledger.break_rule(format!("{name} still keeps something of requests that ended"));
            }
        }
    }

    fn plan_event(&mut self, when: Micros, event: Event) {
        self.planned_until = self.planned_until.max(when);
        self.schedule(when, event);
    }

    pub fn schedule(&mut self, when: Micros, event: Event) {
        self.events.insert((when, self.sequence), event);
        self.sequence += 1;
    }

    fn instant(&self) -> Instant {
        self.base + Duration::from_micros(self.now)
    }

    pub fn name(&self, at: At) -> String {
        self.hosts[at].process.core.id.process().to_owned()
    }

    pub fn say(&mut self, what: impl FnOnce(&World) -> String) {
        if self.trace.is_some() {
            let line = format!("{} {}", seconds(self.now), what(self));
            self.trace.get_or_insert_default().push(line);
        }
    }
}

/// A message for people.
fn text(message: &Message) -> String {
    let subject = &message.subject;
    if message.nobody {
        return format!("{subject} NOBODY");
    }
    format!("{subject} {}", show::to_json(&message.payload, None).unwrap_or_default())
}

fn seconds(micros: Micros) -> String {
    format!("{:>10.6}", Duration::from_micros(micros).as_secs_f64())
}

/// A duration in microseconds.
pub fn micros(duration: Duration) -> Micros {
    u64::try_from(duration.as_micros()).expect("a short duration")
}

/// How late a timer may be.
const SLACK: Micros = 5 * MS;
/// A run that lasts longer than this after everything planned, or has more events, goes nowhere.
const TOO_LONG: Micros = 120 * SECOND;
const TOO_MANY: u64 = 200_000;
/// When nothing may be left after the last answer: an empty lease is dropped at its next renewal,
const FORGOTTEN_BY_CLIENTS: Micros = 1_100 * MS;
/// a hold when its lease ends, an agent's probing a second later,
const FORGOTTEN_BY_BROKERS: Micros = 5_500 * MS;
/// and a reply two seconds after its request's TTL, or at the heartbeat fifteen seconds after that, when the connection went
/// meanwhile and did not come back.
const FORGOTTEN_BY_AGENTS: Micros = 22_500 * MS;
