//! The broker's decisions: every request it watches.
//!
//! A hold is a lease on a few facts: an id, an upstream, ages and what the client agent knows. The
//! request itself stays with the client agent. Three waits are enforced here: for an agent to exist, for
//! one to acknowledge, and for the response. When an agent appears, holds are woken, oldest first and no
//! more than it has room for.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    time::{Duration, Instant},
};

use crate::{
    proto::{
        Machine,
        deadlines::Deadlines,
        roster::{HEARTBEAT, Presence, Roster},
    },
    wire::{
        Ack, Code, Fault, Here, Hold, Known, Lost, Name, ProcessId, Reply, RequestId, Side, State,
        ids::Numbers,
        message::{VERSION, millis},
    },
};

/// The three waits, and how much a broker holds.
#[derive(Debug, Clone)]
pub struct Settings {
    /// For an agent to exist, from the request's first publication.
    pub wait: Duration,
    /// For an agent to acknowledge, from the publication that reached one.
    pub ack_wait: Duration,
    /// For the response, from the acknowledgement.
    pub response_wait: Duration,
    /// Holds at most.
    pub max_holds: usize,
}

/// What can happen.
#[derive(Debug)]
pub enum Input {
    /// A client agent asks to watch a request.
    Hold(Hold),
    /// A client agent has news of a hold.
    Update {
        /// The hold's number here.
        number: u64,
        /// The news.
        hold: Hold,
    },
    /// A client agent renews holds.
    Renew {
        /// The client agent.
        client: ProcessId,
        /// The holds, by their number here.
        holds: Vec<u64>,
    },
    /// An agent announced itself.
    Here(Here),
    /// An agent left.
    Gone {
        /// The upstream.
        upstream: Name,
        /// The agent.
        agent: ProcessId,
    },
    /// NATS says that a probed agent is gone.
    ProbeUnanswered {
        /// The upstream.
        upstream: Name,
        /// The agent.
        agent: ProcessId,
    },
}

/// What is to be done.
#[derive(Debug)]
pub enum Command {
    /// Publish on `relay.ack.<id>`.
    Ack(Ack),
    /// Publish on `relay.resp.<id>`.
    Answer(Reply),
    /// Answer a renewal.
    Lost {
        /// The client agent.
        client: ProcessId,
        /// The holds that are not here.
        lost: Lost,
    },
    /// Ask an agent whether it is there; NATS's "no responders" comes back as [`Input::ProbeUnanswered`].
    Probe {
        /// The upstream.
        upstream: Name,
        /// The agent.
        agent: ProcessId,
    },
}

/// Everything one broker watches.
pub struct Supervision {
    settings: Settings,
    own: ProcessId,
    numbers: Numbers,
    holds: HashMap<u64, Entry>,
    waiting: HashMap<Name, Queue>,
    watched: BTreeMap<(Name, ProcessId), Watched>,
    roster: Roster,
    deadlines: Deadlines,
    probes: Deadlines<(Name, ProcessId)>,
    sweep: Option<Instant>,
    commands: VecDeque<Command>,
}

struct Entry {
    id: RequestId,
    client: ProcessId,
    client_req_id: RequestId,
    upstream: Name,
    stage: Stage,
    /// The wait that runs, and when the lease runs out; the entry never outlives the later of the two.
    until: Instant,
    leased: Instant,
    deadline: Instant,
}

enum Stage {
    /// Nobody has the request. It is woken when `wake` comes and an agent may be there.
    Waiting { opened: Instant, refused: bool, wake: Instant, pause: Duration },
    /// Somebody has it, no acknowledgement yet.
    Sent,
    /// This agent took it.
    Taken { agent: ProcessId },
}

/// Holds that wait for an agent of one upstream, oldest first, and how many may be woken at once.
#[derive(Default)]
struct Queue {
    by_age: BTreeSet<(Instant, u64)>,
}

/// An agent that works on requests held here.
struct Watched {
    holds: BTreeSet<u64>,
    probe: Instant,
}

impl Supervision {
    /// Nothing to watch yet; `numbers` are the process's request numbers.
    pub fn new(settings: Settings, own: ProcessId, numbers: Numbers) -> Self {
        Supervision {
            settings,
            own,
            numbers,
            holds: HashMap::new(),
            waiting: HashMap::new(),
            watched: BTreeMap::new(),
            roster: Roster::default(),
            deadlines: Deadlines::default(),
            probes: Deadlines::default(),
            sweep: None,
            commands: VecDeque::new(),
        }
    }

    /// Holds now.
    pub fn held(&self) -> usize {
        self.holds.len()
    }

    /// Agents known.
    pub fn agents(&self) -> usize {
        self.roster.len()
    }

    fn hold(&mut self, hold: Hold, now: Instant) {
        if self.holds.len() >= self.settings.max_holds {
            let mut ack = Ack::new(hold.client_req_id, State::Unheld);
            ack.broker_id = Some(self.own.clone());
            self.commands.push_back(Command::Ack(ack));
            return;
        }
        let number = self.numbers.next();
        let id = RequestId::new(&self.own, &hold.upstream_target, number);
        let entry = Entry {
            id: id.clone(),
            client: hold.client_id.clone(),
            client_req_id: hold.client_req_id.clone(),
            upstream: hold.upstream_target.clone(),
            stage: Stage::Sent,
            until: now,
            leased: now + LEASE,
            deadline: now,
        };
        self.holds.insert(number, entry);
        self.set_stage(number, &hold, now);
        let mut ack = Ack::new(hold.client_req_id, State::Held);
        ack.broker_id = Some(self.own.clone());
        ack.broker_req_id = Some(id);
        ack.broker_req_ttl = self.holds.get(&number).map(|e| millis(e.until.saturating_duration_since(now)));
        self.commands.push_back(Command::Ack(ack));
    }

    fn update(&mut self, number: u64, hold: &Hold, now: Instant) {
        match self.holds.get_mut(&number) {
            Some(entry) if entry.client_req_id == hold.client_req_id => {
                entry.leased = now + LEASE;
                self.set_stage(number, hold, now);
            }
            Some(_) | None => {} // Forgotten; the next renewal tells the client agent.
        }
    }

    /// Moves a hold to what the client agent says is known.
    fn set_stage(&mut self, number: u64, hold: &Hold, now: Instant) {
        self.leave_stage(number);
        let Some(entry) = self.holds.get_mut(&number) else { return };
        let since = before(now, hold.known_for);
        let opened = before(now, hold.age);
        match (hold.known, &hold.upstream_id) {
            (Known::Nobody | Known::Refused, _) => {
                let pause = match entry.stage {
                    Stage::Waiting { pause, .. } => pause,
                    Stage::Sent | Stage::Taken { .. } => FIRST_WAKE,
                };
                let refused = hold.known == Known::Refused;
                entry.until = opened + self.settings.wait;
                entry.stage = Stage::Waiting { opened, refused, wake: now + pause, pause };
                self.waiting.entry(entry.upstream.clone()).or_default().by_age.insert((opened, number));
            }
            (Known::Taken, Some(agent)) => {
                entry.until = since + self.settings.response_wait;
                entry.stage = Stage::Taken { agent: agent.clone() };
                let key = (entry.upstream.clone(), agent.clone());
                let probes = &mut self.probes;
                let watched = self.watched.entry(key.clone()).or_insert_with(|| {
                    probes.add(now, key);
                    Watched { holds: BTreeSet::new(), probe: now }
                });
                watched.holds.insert(number);
            }
            (Known::Sent, _) | (Known::Taken, None) => {
                entry.until = since + self.settings.ack_wait;
                entry.stage = Stage::Sent;
            }
        }
        self.schedule(number);
    }

    fn leave_stage(&mut self, number: u64) {
        let Some(entry) = self.holds.get(&number) else { return };
        match &entry.stage {
            Stage::Waiting { opened, .. } => {
                if let Some(queue) = self.waiting.get_mut(&entry.upstream) {
                    queue.by_age.remove(&(*opened, number));
                    if queue.by_age.is_empty() {
                        self.waiting.remove(&entry.upstream);
                    }
                }
            }
            Stage::Taken { agent } => {
                if let Some(watched) = self.watched.get_mut(&(entry.upstream.clone(), agent.clone())) {
                    watched.holds.remove(&number);
                }
            }
            Stage::Sent => {}
        }
    }

    fn renew(&mut self, client: ProcessId, holds: &[u64], now: Instant) {
        let mut lost = Vec::new();
        for &number in holds {
            match self.holds.get_mut(&number) {
                // The deadline in the queue is only ever early; `due` looks again.
                Some(entry) if entry.client == client => entry.leased = now + LEASE,
                Some(_) | None => lost.push(number),
            }
        }
        if !lost.is_empty() {
            self.commands.push_back(Command::Lost { client, lost: Lost { v: VERSION, holds: lost } });
        }
    }

    fn here(&mut self, here: Here, now: Instant) {
        let upstream = here.upstream_target.clone();
        let room = here.limit.saturating_sub(here.in_flight);
        let accepting = here.accepting;
        self.roster.announce(here, now);
        self.sweep.get_or_insert(now + HEARTBEAT);
        if accepting {
            self.wake(&upstream, usize::try_from(room).unwrap_or(usize::MAX), now);
        }
    }

    /// Wakes the oldest `room` holds of `upstream`; the others keep their own pace.
    fn wake(&mut self, upstream: &Name, room: usize, now: Instant) {
        let Some(queue) = self.waiting.get(upstream) else { return };
        let numbers: Vec<u64> = queue.by_age.iter().take(room).map(|(_, number)| *number).collect();
        for number in numbers {
            self.wake_one(number, now);
        }
    }

    fn wake_one(&mut self, number: u64, now: Instant) {
        let Some(entry) = self.holds.get_mut(&number) else { return };
        let Stage::Waiting { wake, pause, .. } = &mut entry.stage else { return };
        *wake = now + *pause;
        *pause = (*pause * 2).min(LAST_WAKE);
        let mut ack = Ack::new(entry.client_req_id.clone(), State::Wake);
        ack.broker_id = Some(self.own.clone());
        ack.broker_req_id = Some(entry.id.clone());
        ack.broker_req_ttl = Some(millis(entry.until.saturating_duration_since(now)));
        self.commands.push_back(Command::Ack(ack));
        self.schedule(number);
    }

    fn agent_gone(&mut self, upstream: Name, agent: ProcessId) {
        self.roster.remove(&upstream, &agent);
        let Some(watched) = self.watched.remove(&(upstream.clone(), agent.clone())) else { return };
        self.probes.drop(watched.probe, (upstream.clone(), agent));
        for number in watched.holds {
            let detail = format!("the agent of '{upstream}' that took the request is gone");
            self.answer(number, Fault::new(Code::AgentGone, Side::Broker, detail));
        }
    }

    fn probe(&mut self, key: (Name, ProcessId), now: Instant) {
        let Some(watched) = self.watched.get_mut(&key) else { return };
        if watched.holds.is_empty() {
            self.watched.remove(&key);
            return;
        }
        watched.probe = now + PROBE;
        self.probes.add(watched.probe, key.clone());
        let (upstream, agent) = key;
        self.commands.push_back(Command::Probe { upstream, agent });
    }

    fn due(&mut self, number: u64, now: Instant) {
        let Some(entry) = self.holds.get(&number) else { return };
        if entry.leased <= now {
            self.forget(number);
        } else if entry.until <= now {
            let fault = self.run_out(entry);
            self.answer(number, fault);
        } else if matches!(entry.stage, Stage::Waiting { wake, .. } if wake <= now) {
            self.wake_if_accepting(number, now);
        } else {
            self.schedule(number);
        }
    }

    fn wake_if_accepting(&mut self, number: u64, now: Instant) {
        let Some(entry) = self.holds.get_mut(&number) else { return };
        if self.roster.presence(&entry.upstream) == Presence::Accepting {
            self.wake_one(number, now);
        } else if let Stage::Waiting { wake, .. } = &mut entry.stage {
            *wake = now + LAST_WAKE;
            self.schedule(number);
        }
    }

    fn run_out(&self, entry: &Entry) -> Fault {
        let upstream = &entry.upstream;
        match &entry.stage {
            Stage::Waiting { refused, .. } => {
                let full = *refused || self.roster.presence(upstream) == Presence::Full;
                let wait = humantime::format_duration(self.settings.wait);
                if full {
                    let detail = format!("every upstream agent for '{upstream}' was at its limit for {wait} (--wait)");
                    Fault::new(Code::AgentsFull, Side::Broker, detail)
                } else {
                    let detail = format!("no upstream agent for '{upstream}' came within {wait} (--wait)");
                    Fault::new(Code::NoAgent, Side::Broker, detail)
                }
            }
            Stage::Sent => {
                let wait = humantime::format_duration(self.settings.ack_wait);
                let detail = format!("no agent for '{upstream}' acknowledged the request within {wait} (--ack-wait)");
                Fault::new(Code::AckTimeout, Side::Broker, detail)
            }
            Stage::Taken { .. } => {
                let wait = humantime::format_duration(self.settings.response_wait);
                let detail = format!("no response from '{upstream}' within {wait} (--response-wait)");
                Fault::new(Code::ResponseTimeout, Side::Broker, detail)
            }
        }
    }

    fn answer(&mut self, number: u64, fault: Fault) {
        if let Some(entry) = self.forget(number) {
            let mut reply = Reply::error(entry.client_req_id, &fault);
            reply.broker_req_id = Some(entry.id);
            self.commands.push_back(Command::Answer(reply));
        }
    }

    fn forget(&mut self, number: u64) -> Option<Entry> {
        self.leave_stage(number);
        let entry = self.holds.remove(&number)?;
        self.deadlines.drop(entry.deadline, number);
        Some(entry)
    }

    fn schedule(&mut self, number: u64) {
        let Some(entry) = self.holds.get_mut(&number) else { return };
        self.deadlines.drop(entry.deadline, number);
        let mut next = entry.until.min(entry.leased);
        if let Stage::Waiting { wake, .. } = entry.stage {
            next = next.min(wake);
        }
        entry.deadline = next;
        self.deadlines.add(next, number);
    }
}

impl Machine for Supervision {
    type Input = Input;
    type Command = Command;

    fn handle(&mut self, input: Input, now: Instant) {
        match input {
            Input::Hold(hold) => self.hold(hold, now),
            Input::Update { number, hold } => self.update(number, &hold, now),
            Input::Renew { client, holds } => self.renew(client, &holds, now),
            Input::Here(here) => self.here(here, now),
            // What it took it still finishes; the probe tells when it is really gone.
            Input::Gone { upstream, agent } => self.roster.remove(&upstream, &agent),
            Input::ProbeUnanswered { upstream, agent } => self.agent_gone(upstream, agent),
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        while let Some(number) = self.deadlines.pop_due(now) {
            self.due(number, now);
        }
        while let Some(key) = self.probes.pop_due(now) {
            self.probe(key, now);
        }
        if self.sweep.is_some_and(|at| at <= now) {
            self.roster.expire(now);
            self.sweep = (!self.roster.is_empty()).then(|| now + HEARTBEAT);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let timers = [self.deadlines.next(), self.probes.next(), self.sweep];
        timers.into_iter().flatten().min()
    }

    fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }
}

/// `age` milliseconds before `now`, or `now` when a hostile age reaches before the clock's start.
fn before(now: Instant, age: u64) -> Instant {
    now.checked_sub(Duration::from_millis(age)).unwrap_or(now)
}

/// How long a hold lives without being renewed.
pub const LEASE: Duration = Duration::from_secs(3);
/// How often an agent that works on held requests is asked whether it is there.
const PROBE: Duration = Duration::from_secs(1);
/// The first pause before a hold is woken on the roster's word alone, and the longest.
const FIRST_WAKE: Duration = Duration::from_millis(20);
const LAST_WAKE: Duration = Duration::from_secs(1);
