//! The upstream agent's decisions: every request it took.
//!
//! A request is called at once, acknowledged when its response is not ready within the ack delay, and
//! answered once. An agent at its limit says so and refuses before it starts; one that is told to stop refuses
//! everything.

use std::{
    collections::VecDeque,
    hash::{BuildHasher, RandomState},
    time::{Duration, Instant},
};

use bytes::Bytes;

use crate::{
    proto::{Machine, deadlines::Deadlines, roster::HEARTBEAT},
    wire::{
        Ack, Code, Fault, Here, ProcessId, Reply, Request, RequestId, Side, State, codec,
        ids::{ByNumber, Numbers},
        message::millis,
    },
};

mod group;
mod health;
mod inputs;
mod load;
mod recent;
mod siblings;
mod standing;
mod woken;

pub use group::Condition;
pub use health::{News, Rules};
pub use inputs::{Command, Input, Settings};
pub use load::Turn;

use group::Group;
use health::Health;
use load::Load;
use siblings::{Able, Siblings};

/// Every request of one upstream agent.
pub struct Serving<H = RandomState> {
    settings: Settings,
    own: ProcessId,
    numbers: Numbers<H>,
    jobs: ByNumber<Job>,
    at_origin: usize,
    /// Jobs in [`Stage::Unheard`].
    unheard: usize,
    /// Replies that were published and may still turn out unheard, oldest first.
    recent: VecDeque<(u64, Instant, usize)>,
    recent_bytes: usize,
    /// Replies published since the start.
    published: u64,
    /// Whether a round trip is on its way that will tell which of them were heard.
    settling: bool,
    deadlines: Deadlines,
    group: Group,
    health: Health,
    load: Load,
    siblings: Siblings,
    /// What the siblings could do when they were last looked at.
    able: Able,
    /// Whether it said last that it accepts, and that it fails.
    said: (bool, bool),
    link_up: bool,
    /// Since when the connection is gone.
    down: Option<Instant>,
    heartbeat: Option<Instant>,
    /// When it looks at the clock next.
    look: Option<Instant>,
    /// It stood still: what it is sent may be old until a round trip has ended.
    woken: bool,
    commands: VecDeque<Command>,
}

struct Job {
    client_req_id: RequestId,
    /// When it came; nothing for one whose body is streamed, whose time is not the origin's alone.
    began: Option<Instant>,
    ends: Instant,
    stage: Stage,
    deadline: Instant,
}

enum Stage {
    /// At the origin.
    Calling { acknowledged: bool },
    /// Its response's head is published, the rest is streamed.
    Streaming,
    /// Answered, but the link is down or nobody heard it: published again then.
    Unheard { reply: Encoded, pause: Duration },
    /// Published; kept for a moment in case nobody hears it.
    Published { reply: Encoded, pause: Duration, at: Instant },
}

/// A reply as it is kept: its bytes, which are dropped at once. Headers that are cold by then took a twentieth
/// of an agent's time to drop.
#[derive(Clone)]
struct Encoded {
    payload: Bytes,
    failed: bool,
}

impl Encoded {
    fn new(reply: &Reply) -> Self {
        Encoded { payload: codec::encode(reply), failed: reply.error.is_some() }
    }
}

impl<H: BuildHasher> Serving<H> {
    /// No requests yet; `numbers` are the process's request numbers.
    pub fn new(settings: Settings, own: ProcessId, numbers: Numbers<H>) -> Self {
        let (health, load) = (Health::new(settings.health), Load::new(settings.stand_by));
        Serving {
            settings,
            own,
            numbers,
            jobs: ByNumber::default(),
            at_origin: 0,
            unheard: 0,
            recent: VecDeque::new(),
            recent_bytes: 0,
            published: 0,
            settling: false,
            deadlines: Deadlines::default(),
            group: Group::new(health.keeps_away(true)),
            health,
            load,
            siblings: Siblings::default(),
            able: Able::default(),
            said: (false, false),
            link_up: false,
            down: None,
            heartbeat: None,
            look: None,
            woken: false,
            commands: VecDeque::new(),
        }
    }

    /// Requests at the origin.
    pub fn in_flight(&self) -> usize {
        self.at_origin
    }

    /// Requests at the origin, and replies that nobody has heard yet.
    pub fn unfinished(&self) -> usize {
        self.at_origin + self.unheard
    }

    /// Whether nothing is worked on and nothing is kept.
    pub fn is_idle(&self) -> bool {
        self.jobs.is_empty()
            && self.unfinished() == 0
            && self.recent.is_empty()
            && self.recent_bytes == 0
            && self.deadlines.next().is_none()
            && self.commands.is_empty()
    }

    /// What it is to those that look at it.
    pub fn condition(&self) -> Condition {
        self.group.condition()
    }

    /// Whether it is to be a member of the queue group.
    pub fn is_wanted(&self) -> bool {
        self.group.is_wanted()
    }

    /// Whether its origin is believed to work.
    pub fn is_healthy(&self) -> bool {
        self.health.is_well()
    }

    /// What the agent says of itself.
    pub fn here(&self) -> Here {
        Here {
            accepting: self.condition() == Condition::Accepting,
            in_flight: self.at_origin as u64,
            limit: self.settings.max_in_flight as u64,
            variant: self.settings.variant.clone(),
            failing: !self.health.is_well() && !self.group.unwell,
            response: self
                .load
                .typical()
                .map_or(0, |took| u64::try_from(took.as_micros()).unwrap_or(u64::MAX)),
            ..Here::of(self.own.clone(), self.settings.upstream.clone())
        }
    }

    fn request(&mut self, request: Box<Request>, now: Instant) {
        if request.upstream_target != self.settings.upstream {
            return;
        }
        self.notice_waking(now);
        if let Some(state) = self.refusal() {
            let mut ack = Ack::new(request.client_req_id, state);
            ack.upstream_id = Some(self.own.clone());
            self.commands.push_back(Command::Ack(ack));
            return;
        }
        let ttl = self.settings.ttl.min(Duration::from_millis(request.client_req_ttl));
        if ttl.is_zero() {
            return; // The asker has given up; nobody waits for a word.
        }
        let number = self.numbers.fresh();
        let ends = now + ttl;
        let streamed = request.stream;
        let deadline = ends.min(now + self.settings.ack_delay);
        let job = Job {
            client_req_id: request.client_req_id.clone(),
            began: (!streamed).then_some(now),
            ends,
            stage: Stage::Calling { acknowledged: false },
            deadline,
        };
        self.at_origin += 1;
        self.jobs.insert(number, job);
        self.deadlines.add(deadline, number);
        // Whoever streams its body waits to be told where to.
        if self.settings.ack_delay.is_zero() || streamed {
            self.acknowledge(number, now);
        }
        self.commands.push_back(Command::Call { number, request, ttl });
        self.check_full();
    }

    fn acknowledge(&mut self, number: u64, now: Instant) {
        let Some(job) = self.jobs.get_mut(&number) else { return };
        let Stage::Calling { acknowledged } = &mut job.stage else { return };
        *acknowledged = true;
        let mut ack = Ack::new(job.client_req_id.clone(), State::Taken);
        ack.upstream_id = Some(self.own.clone());
        ack.upstream_req_id = Some(RequestId::new(&self.own, &self.settings.upstream, number));
        ack.upstream_req_ttl = Some(millis(job.ends.saturating_duration_since(now)));
        self.commands.push_back(Command::Ack(ack));
        self.schedule(number, job_end(&self.jobs, number, now));
    }

    fn head(&mut self, number: u64, mut reply: Reply, now: Instant) {
        let Some(job) = self.jobs.get_mut(&number) else { return };
        let Stage::Calling { .. } = job.stage else { return };
        job.stage = Stage::Streaming;
        let began = job.began;
        self.learn(began, &reply, now);
        let Some(job) = self.jobs.get_mut(&number) else { return };
        self.deadlines.drop(job.deadline, number);
        let to = job.client_req_id.clone();
        self.sign(&mut reply, number);
        let Encoded { payload, failed } = Encoded::new(&reply);
        self.commands.push_back(Command::Reply { number, to, payload, failed });
    }

    fn stream_ended(&mut self, number: u64) {
        if let Some(Job { stage: Stage::Streaming, .. }) = self.jobs.get(&number) {
            self.jobs.remove(&number);
            self.left_origin();
        }
    }

    fn progress(&mut self, number: u64, now: Instant) {
        if let Some(job) = self.jobs.get_mut(&number) {
            job.ends = now + self.settings.ttl;
        }
    }

    fn sign(&self, reply: &mut Reply, number: u64) {
        reply.upstream_id = Some(self.own.clone());
        reply.upstream_req_id = Some(RequestId::new(&self.own, &self.settings.upstream, number));
    }

    fn done(&mut self, number: u64, mut reply: Reply, now: Instant) {
        self.sign(&mut reply, number);
        let Some(job) = self.jobs.get_mut(&number) else { return };
        let is_head_told = match job.stage {
            Stage::Calling { .. } => false,
            Stage::Streaming => true,
            Stage::Unheard { .. } | Stage::Published { .. } => return,
        };
        let began = job.began;
        job.stage = Stage::Unheard { reply: Encoded::new(&reply), pause: FIRST_PAUSE };
        self.unheard += 1;
        self.left_origin();
        if !is_head_told {
            self.learn(began, &reply, now);
        }
        self.publish(number, now);
    }

    /// Publishes a finished reply, or keeps it while the link is down.
    fn publish(&mut self, number: u64, now: Instant) {
        let Some(job) = self.jobs.get_mut(&number) else { return };
        let Stage::Unheard { reply, pause } = &job.stage else { return };
        if !self.link_up {
            let ends = job.ends + SPARE;
            self.schedule(number, ends);
            return;
        }
        let (reply, pause) = (reply.clone(), *pause);
        job.stage = Stage::Published { reply: reply.clone(), pause, at: now };
        self.unheard -= 1;
        let Encoded { payload, failed } = reply;
        self.recent.push_back((number, now, payload.len()));
        self.recent_bytes += payload.len();
        self.deadlines.drop(job.deadline, number);
        let to = job.client_req_id.clone();
        self.commands.push_back(Command::Reply { number, to, payload, failed });
        self.published += 1;
        self.forget_recent(now);
        self.settle();
    }

    fn reply_unheard(&mut self, number: u64, now: Instant) {
        let Some(job) = self.jobs.get_mut(&number) else { return };
        if let Stage::Streaming = job.stage {
            // What followed the head was not heard either. That much is worth telling again.
            let why = "nobody heard the response's head, and the rest of it was on its way";
            let fault = Fault::new(Code::StreamCut, Side::Upstream, why);
            let reply = Reply::error(job.client_req_id.clone(), &fault);
            self.commands.push_back(Command::Abort { number });
            self.done(number, reply, now);
            return;
        }
        let Stage::Published { reply, pause, at: _ } = &job.stage else { return };
        let (reply, pause) = (reply.clone(), *pause);
        if now + pause >= job.ends + SPARE || self.unheard >= self.settings.max_in_flight {
            self.jobs.remove(&number);
            return;
        }
        self.unheard += 1;
        job.stage = Stage::Unheard { reply, pause: (pause * 2).min(LAST_PAUSE) };
        self.schedule(number, now + pause);
    }

    fn cancel(&mut self, number: u64) {
        let Some(job) = self.jobs.get(&number) else { return };
        match job.stage {
            Stage::Calling { .. } | Stage::Streaming => {
                self.forget(number);
                self.left_origin();
                self.commands.push_back(Command::Abort { number });
            }
            Stage::Unheard { .. } | Stage::Published { .. } => self.forget(number),
        }
    }

    fn forget(&mut self, number: u64) {
        let Some(job) = self.jobs.remove(&number) else { return };
        self.deadlines.drop(job.deadline, number);
        if let Stage::Unheard { .. } = job.stage {
            self.unheard -= 1;
        }
    }

    fn left_origin(&mut self) {
        self.at_origin -= 1;
        self.check_full();
    }

    fn link(&mut self, up: bool, now: Instant) {
        self.link_up = up;
        if !up {
            self.down.get_or_insert(now);
            return;
        }
        self.doubt_recent(now);
        self.heartbeat = Some(now + HEARTBEAT);
        self.look = Some(now + woken::LOOK);
        self.begin(now);
        let kept = self.jobs.iter().filter(|(_, job)| matches!(job.stage, Stage::Unheard { .. }));
        let mut kept: Vec<u64> = kept.map(|(number, _)| *number).collect();
        kept.sort_unstable();
        for number in kept {
            self.publish(number, now);
        }
    }

    fn due(&mut self, number: u64, now: Instant) {
        let Some(job) = self.jobs.get(&number) else { return };
        match &job.stage {
            Stage::Calling { .. } if job.ends <= now => {
                let ttl = humantime::format_duration(self.settings.ttl);
                let detail = format!(
                    "the origin of '{}' did not answer in time (agent's --ttl {ttl})",
                    self.settings.upstream
                );
                let fault = Fault::new(Code::ResponseTimeout, Side::Upstream, detail);
                let reply = Reply::error(job.client_req_id.clone(), &fault);
                self.commands.push_back(Command::Abort { number });
                self.done(number, reply, now);
            }
            Stage::Calling { acknowledged: false } => self.acknowledge(number, now),
            Stage::Calling { acknowledged: true } => self.schedule(number, job_end(&self.jobs, number, now)),
            Stage::Unheard { .. } if job.ends + SPARE <= now => self.forget(number),
            Stage::Unheard { .. } => self.publish(number, now),
            Stage::Published { .. } | Stage::Streaming => {}
        }
    }

    fn schedule(&mut self, number: u64, at: Instant) {
        let Some(job) = self.jobs.get_mut(&number) else { return };
        self.deadlines.change(&mut job.deadline, at, number);
    }
}

impl<H: BuildHasher> Machine for Serving<H> {
    type Input = Input;
    type Command = Command;

    fn handle(&mut self, input: Input, now: Instant) {
        match input {
            Input::Request(request) => self.request(request, now),
            Input::Done { number, reply } => self.done(number, reply, now),
            Input::Head { number, reply } => self.head(number, reply, now),
            Input::StreamEnded { number } => self.stream_ended(number),
            Input::Progress { number } => self.progress(number, now),
            Input::Cancel { number } => self.cancel(number),
            Input::ReplyUnheard { number } => self.reply_unheard(number, now),
            Input::Link { up } => self.link(up, now),
            Input::Who | Input::Sought if self.group.draining => {}
            Input::Who => self.announce(),
            Input::Sought => {
                let turn = self.load.sought(now);
                self.turn(turn);
                self.announce();
            }
            Input::Sibling(here) if here.upstream_id == self.own || here.variant != self.settings.variant => {
            }
            Input::Sibling(here) => {
                let newcomer = self.siblings.announce(&here, now);
                if newcomer {
                    // It does not know this agent yet. Not at once, as many may come together.
                    self.heartbeat = self.heartbeat.map(|at| at.min(now + INTRODUCTION));
                }
                self.compare(now);
            }
            Input::SiblingGone(agent) => {
                self.siblings.remove(&agent);
                self.compare(now);
            }
            Input::Checked { failure } => {
                let news = self.health.checked(failure, now);
                self.tell(news);
            }
            Input::NotChecked => self.health.not_checked(now),
            Input::Joined { turn } => self.joined(turn),
            Input::Settled { published } => self.settled(published),
            Input::CaughtUp => self.woken = false,
            Input::Drain => self.drain(),
            Input::Resume => self.resume(),
            Input::Configure(settings) => self.configure(settings, now),
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.notice_waking(now);
        self.look(now);
        while let Some(number) = self.deadlines.pop_due(now) {
            self.due(number, now);
        }
        if self.health.is_due(now) {
            self.commands.push_back(Command::Check);
        }
        if self.back_at().is_some_and(|at| at <= now) {
            self.compare(now);
        }
        if self.heartbeat.is_some_and(|at| at <= now) {
            self.heartbeat = Some(now + HEARTBEAT);
            self.forget_recent(now);
            self.compare(now);
            if self.link_up && !self.group.draining {
                self.commands.push_back(Command::Heartbeat(self.here()));
            }
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let health = self.health.poll_timeout();
        self.deadlines
            .next()
            .into_iter()
            .chain(self.heartbeat)
            .chain(self.look)
            .chain(health)
            .chain(self.back_at())
            .min()
    }

    fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }
}

fn job_end(jobs: &ByNumber<Job>, number: u64, now: Instant) -> Instant {
    jobs.get(&number).map_or(now, |job| job.ends)
}

/// How soon an agent announces itself to a newcomer.
const INTRODUCTION: Duration = Duration::from_millis(100);
/// The pauses before a reply that nobody heard is published again.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(1);
/// How long after the request's end a reply is still worth delivering: its asker may be reconnecting.
const SPARE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
