//! Brokers: each step that one takes with a revision, and what may come between.

use relay::{
    bus::store::{PATIENCE, WORK_UNHEARD},
    wire::ProcessId,
};

use super::*;

/// A broker. It dies with all it has in hand.
#[derive(Debug)]
pub struct Broker {
    pub is_there: bool,
    stopped_until: Ms,
}

impl Default for Broker {
    fn default() -> Self {
        Broker { is_there: true, stopped_until: 0 }
    }
}

/// A revision that a broker has in hand.
#[derive(Debug)]
pub struct Run {
    broker: usize,
    at: At,
    revision: u64,
    delivered: u64,
    job: Job,
    stored: Ms,
    /// Whether its request is on its way.
    asks: bool,
}

/// What a broker does next with a revision.
#[derive(Debug)]
pub enum Step {
    Begin,
    /// It says that it is at work.
    Beat,
    /// It stores that it is, for other brokers.
    Hold,
    /// It hears what its request came to, and whether a server got it.
    Came {
        came: Came,
        ran: bool,
    },
    /// It stores the next revision.
    Store(Box<Job>),
    /// It reads what somebody stored, after its own was not taken.
    Read(Box<Job>),
    /// It forgets bodies.
    Forget {
        next: Box<Job>,
        now: Option<Box<Job>>,
    },
    /// It writes a dead letter.
    Bury,
    Settle,
}

impl World {
    /// Somebody gets a revision whose turn it is.
    pub(super) fn hand_out(&mut self, at: At, turn: Turn) {
        let there: Vec<usize> = (0..self.brokers.len()).filter(|&at| self.brokers[at].is_there).collect();
        if there.is_empty() {
            return self.at(self.now + 500, Event::Turn { at, turn });
        }
        let broker = self.chance.pick(&there);
        let Some((record, delivered)) = self.kept.hand_out(at, turn) else { return };
        let own = record.job.held_by.as_ref() == Some(&name_of(broker));
        let has =
            |run: &Run| (run.broker, run.at) == (broker, at) && (run.revision >= record.revision || own);
        if self.runs.values().any(has) {
            return self.heard(at, record.revision, ms(WORK_UNHEARD));
        }
        self.serial += 1;
        let (run, revision) = (self.serial, record.revision);
        let taken =
            Run { broker, at, revision, delivered, job: record.job, stored: record.stored, asks: false };
        self.runs.insert(run, taken);
        self.heard(at, revision, ms(WORK_UNHEARD));
        self.soon(run, Step::Begin);
        self.later(run, HEARD, Step::Beat);
    }

    /// The revision's next turn is after `pause`.
    fn heard(&mut self, at: At, revision: u64, pause: Ms) {
        if let Some(turn) = self.kept.heard(at, revision) {
            self.at(self.now + pause, Event::Turn { at, turn });
        }
    }

    pub(super) fn step(&mut self, run: u64, step: Step) {
        let Some(Run { broker, at, revision, .. }) = self.runs.get(&run) else { return };
        let (broker, at, revision) = (*broker, *at, *revision);
        if self.brokers[broker].stopped_until > self.now {
            self.books.disturbed.insert((at, revision));
            let until = self.brokers[broker].stopped_until + self.chance.between(0, 100);
            return self.at(until, Event::Step { run, step });
        }
        if !matches!(step, Step::Beat) && self.goes_wrong(run, broker) {
            if self.runs.contains_key(&run) {
                self.soon(run, step);
            }
            return;
        }
        match step {
            Step::Begin => self.take(run),
            Step::Beat => {
                self.heard(at, revision, ms(WORK_UNHEARD));
                self.later(run, HEARD, Step::Beat);
            }
            Step::Hold => self.holds(run),
            Step::Came { came, ran } => self.hears(run, came, ran),
            Step::Store(next) => self.replaces(run, next),
            Step::Read(next) => {
                let now = self.kept.records.get(&at).map(|record| Box::new(record.job.clone()));
                self.soon(run, Step::Forget { next, now });
            }
            Step::Forget { next, now } => {
                let job = &self.runs[&run].job;
                if let Some(now) = now {
                    self.kept.forget(&[job, &next], Some(&now));
                }
                self.soon(run, Step::Settle);
            }
            Step::Bury => {
                let job = self.runs[&run].job.clone();
                if self.kept.records.get(&at).is_none_or(|record| record.revision != revision) {
                    self.books.late_letters.insert(at);
                }
                self.kept.letters.insert(at, job);
                self.soon(run, Step::Settle);
            }
            Step::Settle => {
                if !self.fails(self.weather.loss) {
                    self.kept.settle(at, revision);
                }
                self.runs.remove(&run);
            }
        }
    }

    /// The broker dies or is stopped before the next step, as it may be.
    fn goes_wrong(&mut self, run: u64, broker: usize) -> bool {
        if self.fails(self.weather.crash) {
            let dead: Vec<u64> =
                self.runs.iter().filter(|(_, run)| run.broker == broker).map(|(run, _)| *run).collect();
            for run in dead {
                let Some(Run { at, revision, .. }) = self.runs.remove(&run) else { continue };
                self.books.disturbed.insert((at, revision));
            }
            self.books.count("deaths");
            self.brokers[broker].is_there = false;
            let back = self.now + self.chance.pick(&[10, 2_000, 30_000]);
            self.at(back, Event::Start { broker });
            return true;
        }
        if self.fails(self.weather.pause) {
            self.books.count("pauses");
            let lasts = self.chance.pick(&[500, 9_000, 15_000, 40_000]);
            self.brokers[broker].stopped_until = self.now + lasts;
            let Run { at, revision, .. } = self.runs[&run];
            self.books.disturbed.insert((at, revision));
            return true;
        }
        false
    }

    fn take(&mut self, run: u64) {
        let Run { job, delivered, .. } = &self.runs[&run];
        match jobs::todo(job, self.age(run), *delivered, &self.policy) {
            Todo::Nothing => self.soon(run, Step::Settle),
            Todo::Wait(pause) => self.put_off(run, ms(pause)),
            Todo::Store(next) => self.soon(run, Step::Store(next)),
            Todo::Bury => self.soon(run, Step::Bury),
            Todo::Ask if !self.agents && jobs::waits_for_agents(job) && self.chance.per_mille(700) => {
                self.put_off(run, 250 << (*delivered).min(5));
            }
            Todo::Ask | Todo::Tell => match self.returned.map(|at| at + AFTER_RETURN) {
                Some(until) if until > self.now && self.runs_once(run) => self.put_off(run, until - self.now),
                _ => self.ask(run),
            },
        }
    }

    /// The store is there again, and knows of no broker that works on anything.
    pub(super) fn forgets(&mut self) {
        self.returned = Some(self.now);
        self.books.count("kills");
        for (at, turn) in self.kept.forget_turns() {
            let soon = self.now + self.chance.between(1, 300);
            self.at(soon, Event::Turn { at, turn });
        }
        let all: Vec<u64> = self.runs.keys().copied().collect();
        for run in all {
            // What may run twice may be done by two brokers then.
            let Run { at, revision, .. } = self.runs[&run];
            self.books.disturbed.insert((at, revision));
            let after = self.chance.between(1, AFTER_RETURN - 500);
            self.later(run, after, Step::Hold);
        }
    }

    fn runs_once(&self, run: u64) -> bool {
        let job = &self.runs[&run].job;
        let is_repeatable = job.next_hop().is_some_and(|hop| hop.repeatable) || self.policy.retry_unsafe;
        job.state == JobState::Running && !is_repeatable
    }

    fn holds(&mut self, run: u64) {
        let Run { broker, at, revision, asks, .. } = self.runs[&run];
        if !asks || !self.runs_once(run) {
            return;
        }
        let held = jobs::held(self.runs[&run].job.clone(), self.age(run), &name_of(broker));
        if let Some(stored) = self.store(at, revision, &held, Who::Broker)
            && let Some(run) = self.runs.get_mut(&run)
        {
            run.revision = stored;
        }
    }

    fn put_off(&mut self, run: u64, pause: Ms) {
        let Some(Run { at, revision, .. }) = self.runs.remove(&run) else { return };
        if !self.fails(self.weather.loss) {
            self.heard(at, revision, pause);
        }
    }

    fn ask(&mut self, run: u64) {
        let age = self.age(run);
        if let Some(run) = self.runs.get_mut(&run) {
            run.asks = true;
        }
        let Run { at, revision, job, .. } = &self.runs[&run];
        let (at, revision, job) = (*at, *revision, job.clone());
        self.books.asks(at, revision, &job, age, &self.policy);
        let hop = (job.state == JobState::Running).then_some(job.done);
        let content = if hop.is_some() {
            Some(&job.input)
        } else {
            job.outcome.as_ref().map(|outcome| &outcome.content)
        };
        let input = content.cloned().unwrap_or_default();
        if let Some(object) = &input.object
            && !self.kept.objects.contains(object)
        {
            let last = self.kept.records.get(&at).is_some_and(|record| record.revision == revision);
            self.books.check(!last, || format!("the body {object} that job {at} is to send is lost"));
            let fault = Fault::new(Code::JobsUnavailable, Side::Broker, "the body is not there");
            return self.soon(run, Step::Came { came: Came::Fault(fault), ran: false });
        }
        let (came, ran) = self.fate(job.is_chain() || hop.is_none());
        let answer = match &came {
            Came::Answer { outcome, .. } => Some(outcome.clone()),
            Came::Fault(_) => None,
        };
        let there = self.chance.between(1, 50);
        if ran {
            let call = Call { at, hop, key: jobs::key(&job), input, answer };
            self.at(self.now + there, Event::Call(Box::new(call)));
        }
        let takes = there + self.chance.pick(&[1, 200, 3_000, 25_000]);
        self.later(run, takes, Step::Came { came, ran });
    }

    /// What a request comes to, and whether a server gets it.
    fn fate(&mut self, several: bool) -> (Came, bool) {
        let answer = |world: &mut World, status: u16, retry_after: Option<Duration>| {
            let body = world.chance.next().to_be_bytes().to_vec();
            let size = body.len() as u64;
            // Its body may be stored apart, before anything else is.
            let apart = world.chance.per_mille(300).then(|| format!("{body:?}"));
            world.kept.objects.extend(apart.clone());
            let body = if apart.is_some() { Vec::new() } else { body };
            let content = Content { headers: Vec::new(), body, object: apart, size };
            (Came::Answer { outcome: Outcome { status, content }, retry_after }, true)
        };
        let fault = |code: Code| Came::Fault(Fault::new(code, Side::Upstream, "for a test"));
        if !self.agents {
            let code = if several { Code::NoRoute } else { Code::NoAgent };
            return (fault(code), false);
        }
        if !self.fails(self.weather.trouble) {
            return answer(self, 200, None);
        }
        let seen = self.chance.per_mille(500);
        match self.chance.between(0, 9) {
            0..=2 => {
                let years = Duration::from_secs(100_000_000);
                let after = self.chance.pick(&[None, Some(Duration::from_secs(20)), Some(years)]);
                answer(self, 503, after)
            }
            3 => answer(self, 404, None),
            4 => answer(self, 500, None),
            5 => (fault(self.chance.pick(&[Code::OriginRefused, Code::AgentsFull, Code::NoAgent])), false),
            6 => (fault(Code::OriginDns), false),
            7 => (fault(self.chance.pick(&[Code::AgentGone, Code::ResponseTimeout])), seen),
            8 => (fault(Code::NotAllowed), false),
            _ => {
                let unsure = Fault::new(Code::NoAgent, Side::Client, "for a test");
                (Came::Fault(Fault { maybe_seen: true, ..unsure }), seen)
            }
        }
    }

    fn hears(&mut self, run: u64, came: Came, ran: bool) {
        if let Some(run) = self.runs.get_mut(&run) {
            run.asks = false;
        }
        let (age, random) = (self.age(run), self.chance.next());
        let Run { at, job, .. } = &self.runs[&run];
        let (at, job) = (*at, job.clone());
        let next = if job.state == JobState::Running {
            jobs::asked(job.clone(), age, came.clone(), &self.policy, random)
        } else {
            jobs::told(job.clone(), age, came.clone(), &self.policy, random)
        };
        self.books.decides(at, &job, &came, ran, &next, &self.policy);
        self.soon(run, Step::Store(Box::new(next)));
    }

    fn replaces(&mut self, run: u64, next: Box<Job>) {
        let Run { at, revision, .. } = self.runs[&run];
        // Neither heard nor stored.
        if self.fails(self.weather.loss / 2) {
            return self.later(run, ms(PATIENCE), Step::Store(next));
        }
        let stored = self.store(at, revision, &next, Who::Broker);
        // Stored, and not heard of.
        if self.fails(self.weather.loss / 2) {
            return self.later(run, ms(PATIENCE), Step::Store(next));
        }
        match stored {
            Some(_) => {
                let now = Some(next.clone());
                self.soon(run, Step::Forget { next, now });
            }
            None => self.soon(run, Step::Read(next)),
        }
    }

    fn age(&self, run: u64) -> Duration {
        let Run { job, stored, .. } = &self.runs[&run];
        Duration::from_millis(job.age + (self.now - stored))
    }

    fn soon(&mut self, run: u64, step: Step) {
        let after = self.chance.between(1, 10);
        self.later(run, after, step);
    }

    fn later(&mut self, run: u64, after: Ms, step: Step) {
        self.at(self.now + after, Event::Step { run, step });
    }
}

fn name_of(broker: usize) -> ProcessId {
    format!("broker.{broker}").parse().expect("an id")
}

/// How long after the store was away nothing is begun that may not run twice, as with brokers.
const AFTER_RETURN: Ms = 5_000;
/// How often a broker says that it is at work, as brokers do.
const HEARD: Ms = 3_000;
