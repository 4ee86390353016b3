//! The broker's decisions: every request it watches.
//!
//! A hold is a lease on a few facts: an id, an upstream, ages and what the client agent knows. The
//! request itself stays with the client agent. Three waits are enforced here: for an agent to exist, for
//! one to acknowledge, and for the response. When an agent appears, holds are woken, oldest first and no
//! more than it has room for. `watched` knows whether the agents that took requests are still there.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    hash::{BuildHasher, RandomState},
    time::{Duration, Instant},
};

use crate::{
    proto::{
        Machine, SETTLE,
        deadlines::Deadlines,
        roster::{HEARTBEAT, Presence, Roster},
    },
    wire::{
        Ack, Code, Fault, Here, Hold, Known, Lost, Name, ProcessId, Reply, RequestId, Side, State,
        ids::Numbers,
        message::{VERSION, millis},
    },
};

mod inputs;
mod watched;

pub use inputs::{Command, Input, Settings};

use watched::{Due, Watched};

/// Everything one broker watches.
pub struct Supervision<H = RandomState> {
    settings: Settings,
    own: ProcessId,
    numbers: Numbers<H>,
    holds: HashMap<u64, Entry>,
    /// Holds that wait for an agent, by upstream, oldest first.
    waiting: HashMap<Name, Queue>,
    watched: Watched,
    roster: Roster,
    deadlines: Deadlines,
    link: Link,
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
    /// How long after the next waking it is woken again. It outlives the stages: a request that is woken
    /// in vain is sent and waits again each time.
    pause: Duration,
}

/// Holds that wait for an agent of one upstream.
#[derive(Default)]
struct Queue {
    /// Oldest first.
    by_age: BTreeSet<(Instant, u64)>,
    /// When its agents were last asked to announce themselves.
    asked: Option<Instant>,
}

enum Stage {
    /// Nobody has the request. It is woken when `wake` comes and an agent may be there.
    Waiting { opened: Instant, refused: bool, wake: Instant },
    /// Somebody has it, no acknowledgement yet.
    Sent,
    /// This agent took it.
    Taken { agent: ProcessId },
}

/// The connection to NATS.
#[derive(Clone, Copy)]
enum Link {
    /// There since the start.
    First,
    Down,
    /// There again; until then, agents may be reconnecting too.
    Back {
        settled: Instant,
    },
}

impl<H: BuildHasher> Supervision<H> {
    /// Nothing to watch yet; `numbers` are the process's request numbers.
    pub fn new(settings: Settings, own: ProcessId, numbers: Numbers<H>) -> Self {
        Supervision {
            settings,
            own,
            numbers,
            holds: HashMap::new(),
            waiting: HashMap::new(),
            watched: Watched::default(),
            roster: Roster::default(),
            deadlines: Deadlines::default(),
            link: Link::First,
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

    /// Whether nothing is watched and nothing is kept, except which agents there are.
    pub fn is_idle(&self) -> bool {
        self.holds.is_empty()
            && self.waiting.is_empty()
            && self.watched.is_idle()
            && self.deadlines.next().is_none()
            && self.commands.is_empty()
    }

    fn hold(&mut self, hold: Hold, now: Instant) {
        if self.holds.len() >= self.settings.max_holds {
            let mut ack = Ack::new(hold.client_req_id, State::Unheld);
            ack.broker_id = Some(self.own.clone());
            self.commands.push_back(Command::Ack(ack));
            return;
        }
        let number = self.numbers.fresh();
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
            pause: FIRST_WAKE,
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
                let refused = hold.known == Known::Refused;
                entry.until = opened + self.settings.wait;
                entry.stage = Stage::Waiting { opened, refused, wake: now + entry.pause };
                let upstream = entry.upstream.clone();
                self.waiting.entry(upstream.clone()).or_default().by_age.insert((opened, number));
                self.ask_who(&upstream, !refused, now);
            }
            (Known::Taken, Some(agent)) => {
                entry.until = since + self.settings.response_wait;
                entry.stage = Stage::Taken { agent: agent.clone() };
                self.watched.add(&entry.upstream, agent, number, now);
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
            Stage::Taken { agent } => self.watched.remove(&entry.upstream, agent, number),
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
        // Said even when nothing is lost: it tells the client agent that this broker is there.
        self.commands.push_back(Command::Lost { client, lost: Lost { v: VERSION, holds: lost } });
    }

    fn here(&mut self, here: Here, now: Instant) {
        let upstream = here.upstream_target.clone();
        let room = usize::try_from(here.limit.saturating_sub(here.in_flight)).unwrap_or(usize::MAX);
        let accepting = here.accepting;
        let first = self.roster.presence(&upstream) != Presence::Accepting;
        self.watched.heard(&upstream, &here.upstream_id);
        self.roster.announce(here, now);
        self.sweep.get_or_insert(now + HEARTBEAT);
        if accepting {
            self.wake(&upstream, room, first, now);
        }
    }

    /// Wakes the oldest `room` holds of `upstream`; the others keep their own pace. When this is the first agent
    /// that accepts, its holds have been woken in vain only because nobody was there: they start afresh.
    fn wake(&mut self, upstream: &Name, room: usize, first: bool, now: Instant) {
        let Some(queue) = self.waiting.get(upstream) else { return };
        let numbers: Vec<u64> = queue.by_age.iter().take(room).map(|(_, number)| *number).collect();
        for number in numbers {
            if first && let Some(entry) = self.holds.get_mut(&number) {
                entry.pause = FIRST_WAKE;
            }
            self.wake_one(number, now);
        }
    }

    fn wake_one(&mut self, number: u64, now: Instant) {
        let Some(entry) = self.holds.get_mut(&number) else { return };
        let Stage::Waiting { wake, .. } = &mut entry.stage else { return };
        *wake = now + entry.pause;
        entry.pause = (entry.pause * 2).min(LAST_WAKE);
        let mut ack = Ack::new(entry.client_req_id.clone(), State::Wake);
        ack.broker_id = Some(self.own.clone());
        ack.broker_req_id = Some(entry.id.clone());
        ack.broker_req_ttl = Some(millis(entry.until.saturating_duration_since(now)));
        self.commands.push_back(Command::Ack(ack));
        self.schedule(number);
    }

    fn probe_unanswered(&mut self, upstream: &Name, agent: &ProcessId, now: Instant) {
        let settled = self.settled(now);
        if let Some(holds) = self.watched.unheard(upstream, agent, settled, now) {
            self.agent_gone(upstream, agent, holds, "is gone");
        }
    }

    fn agent_gone(&mut self, upstream: &Name, agent: &ProcessId, holds: BTreeSet<u64>, how: &str) {
        self.roster.remove(upstream, agent);
        for number in holds {
            let detail = format!("the agent of '{upstream}' that took the request {how}");
            self.answer(number, Fault::new(Code::AgentGone, Side::Broker, detail));
        }
    }

    /// Whether what is not heard is missing, rather than on its way back after an outage of NATS.
    fn settled(&self, now: Instant) -> bool {
        match self.link {
            Link::First => true,
            Link::Down => false,
            Link::Back { settled } => settled <= now,
        }
    }

    fn link(&mut self, up: bool, now: Instant) {
        self.link = match (up, self.link) {
            (false, Link::First | Link::Down | Link::Back { .. }) => Link::Down,
            (true, Link::Down) => Link::Back { settled: now + SETTLE },
            (true, same @ (Link::First | Link::Back { .. })) => same,
        };
    }

    fn due(&mut self, number: u64, now: Instant) {
        let Some(entry) = self.holds.get(&number) else { return };
        if entry.leased <= now {
            self.forget(number);
        } else if entry.until <= now && entry.leased <= now + LATE_RENEWAL {
            // A renewal is overdue: most likely the request has been answered. The lease tells.
            self.look_again(number, entry.leased);
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
            let upstream = entry.upstream.clone();
            self.schedule(number);
            self.ask_who(&upstream, false, now);
        }
    }

    /// Asks the agents of an upstream to announce themselves: one may be there whose announcement was lost, or was
    /// made before its server knew of our subscription, or that stands by while another one, which is `gone`, does the
    /// work.
    fn ask_who(&mut self, upstream: &Name, gone: bool, now: Instant) {
        match self.roster.presence(upstream) {
            Presence::Absent => {}
            Presence::Accepting if gone => {}
            Presence::Accepting | Presence::Full => return,
        }
        let Some(queue) = self.waiting.get_mut(upstream) else { return };
        if queue.asked.is_none_or(|at| now.duration_since(at) >= ASK_WHO) {
            queue.asked = Some(now);
            self.commands.push_back(Command::Who { upstream: upstream.clone() });
        }
    }

    fn run_out(&self, entry: &Entry) -> Fault {
        let upstream = &entry.upstream;
        match &entry.stage {
            Stage::Waiting { refused, .. } => {
                let full = *refused || self.roster.presence(upstream) == Presence::Full;
                let wait = humantime::format_duration(self.settings.wait);
                if full {
                    let detail = format!(
                        "no upstream agent for '{upstream}' took requests for {wait} (--wait): see `relay ps`"
                    );
                    Fault::new(Code::AgentsFull, Side::Broker, detail)
                } else {
                    let detail = format!("no upstream agent for '{upstream}' came within {wait} (--wait)");
                    Fault::new(Code::NoAgent, Side::Broker, detail)
                }
            }
            Stage::Sent => {
                let wait = humantime::format_duration(self.settings.ack_wait);
                let detail =
                    format!("no agent for '{upstream}' acknowledged the request within {wait} (--ack-wait)");
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
            self.commands.push_back(Command::Answer(Box::new(reply)));
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
        let mut next = entry.until.min(entry.leased);
        if let Stage::Waiting { wake, .. } = entry.stage {
            next = next.min(wake);
        }
        self.look_again(number, next);
    }

    fn look_again(&mut self, number: u64, at: Instant) {
        let Some(entry) = self.holds.get_mut(&number) else { return };
        self.deadlines.change(&mut entry.deadline, at, number);
    }
}

impl<H: BuildHasher> Machine for Supervision<H> {
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
            Input::ProbeUnanswered { upstream, agent } => self.probe_unanswered(&upstream, &agent, now),
            Input::Link { up } => self.link(up, now),
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        while let Some(number) = self.deadlines.pop_due(now) {
            self.due(number, now);
        }
        let settled = self.settled(now);
        while let Some(due) = self.watched.pop_due(settled, now) {
            match due {
                Due::Probe { upstream, agent } => self.commands.push_back(Command::Probe { upstream, agent }),
                Due::Silent { upstream, agent, holds } => {
                    self.agent_gone(&upstream, &agent, holds, "does not answer any more");
                }
            }
        }
        if self.sweep.is_some_and(|at| at <= now) {
            self.roster.expire(now);
            self.sweep = (!self.roster.is_empty()).then(|| now + HEARTBEAT);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let timers = [self.deadlines.next(), self.watched.next(), self.sweep];
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
/// A lease that has no more than this left should have been renewed half a second ago.
const LATE_RENEWAL: Duration = Duration::from_millis(1500);
/// The first pause before a hold is woken on the roster's word alone, and the longest.
const FIRST_WAKE: Duration = Duration::from_millis(20);
const LAST_WAKE: Duration = Duration::from_secs(1);
/// How often the agents of an upstream are asked to announce themselves.
const ASK_WHO: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests;
