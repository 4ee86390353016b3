//! Jobs: brokers that share them, a store that hands out revisions, servers that answer as they like, and people who
//! cancel and replay.
//!
//! Brokers die and are stopped between any two steps, what they hear from the store is lost, agents are away, servers
//! answer with anything or not at all. `books` has the rules, which are checked as it goes and at the end: every job
//! ends once, hops run in order with what the one before answered and with one key each, nothing is done twice without a
//! reason, and what fails is told and is among the dead letters.

use std::{collections::BTreeMap, time::Duration};

use relay::{
    proto::jobs::{self, Came, Policy, Todo},
    wire::{
        Code, Fault, Job, JobId, JobState, Side,
        job::{Content, Hop, Outcome},
    },
};
use uuid::Uuid;

use self::{
    books::{Books, Call, Who},
    kept::{Kept, Turn},
};
use crate::chance::Chance;

#[path = "jobs/books.rs"]
mod books;
#[path = "jobs/brokers.rs"]
mod brokers;
#[path = "jobs/kept.rs"]
mod kept;
#[path = "jobs/people.rs"]
mod people;

use brokers::{Broker, Run, Step};

/// Which job.
type At = usize;
/// Milliseconds of the run.
type Ms = u64;

#[test]
fn no_job_is_lost_and_no_hop_is_skipped_whenever_brokers_die_or_stop() {
    check("no_job_is_lost_and_no_hop_is_skipped_whenever_brokers_die_or_stop", 3000, |chance| Weather {
        crash: chance.pick(&[0, 10, 60]),
        pause: chance.pick(&[0, 10, 60]),
        loss: chance.pick(&[0, 20, 200]),
        trouble: chance.pick(&[100, 300, 600]),
        people: chance.pick(&[0, 3, 10]),
        kills: 0,
        lasts: chance.between(60_000, 900_000),
    });
}

#[test]
fn without_deaths_and_pauses_no_revision_is_done_twice() {
    let name = "without_deaths_and_pauses_no_revision_is_done_twice";
    check(name, 1000, |chance| Weather {
        crash: 0,
        pause: 0,
        loss: chance.pick(&[0, 200]),
        trouble: chance.pick(&[0, 300]),
        people: 0,
        kills: 0,
        lasts: 300_000,
    });
}

#[test]
fn a_store_that_forgets_what_it_handed_out_has_nothing_run_twice_that_may_not() {
    let name = "a_store_that_forgets_what_it_handed_out_has_nothing_run_twice_that_may_not";
    check(name, 1000, |chance| Weather {
        crash: 0,
        pause: 0,
        loss: 0,
        trouble: chance.pick(&[0, 300]),
        people: 0,
        kills: chance.pick(&[1, 5, 20]),
        lasts: 120_000,
    });
}

fn check(name: &str, runs: u64, weather: fn(&mut Chance) -> Weather) {
    let setting = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let one = setting("RELAY_SIM_SEED");
    let runs = setting("RELAY_SIM_RUNS").unwrap_or(runs);
    let mut tally = BTreeMap::new();
    for seed in one.map_or(1..=runs, |seed| seed..=seed) {
        let mut world = World::new(seed, weather, one.is_some());
        world.run();
        if let Some(broken) = &world.books.broken {
            panic!("{broken}\nRELAY_SIM_SEED={seed} cargo test --test simulation {name} -- --nocapture");
        }
        for (what, count) in &world.books.tally {
            *tally.entry(*what).or_insert(0) += count;
        }
    }
    println!("{name}: {tally:?}");
}

/// How often what goes wrong, in a thousand steps.
#[derive(Debug)]
struct Weather {
    crash: u64,
    pause: u64,
    /// Of what the store says to brokers.
    loss: u64,
    /// Of what servers are asked.
    trouble: u64,
    /// How often people cancel and replay.
    people: u64,
    /// How often the store is killed, and is there again without what it knew of who has what.
    kills: u64,
    /// After this long nothing goes wrong any more.
    lasts: Ms,
}

/// What happens.
#[derive(Debug)]
enum Event {
    /// A chain's id is taken; its first server answers after a while, unless its client agent goes away.
    Begin { at: At, job: Box<Job>, answered: Option<Ms> },
    /// A client agent stores that a job runs, in the place of this revision.
    Accept { at: At, revision: u64, job: Box<Job> },
    /// A revision is to be handed to somebody.
    Turn { at: At, turn: Turn },
    /// A broker goes on.
    Step { run: u64, step: Step },
    /// A request reaches a server.
    Call(Box<Call>),
    /// A broker that died is there again.
    Start { broker: usize },
    /// Agents come or go.
    Agents { there: bool },
    /// A record is too old.
    Expire { at: At, revision: u64 },
    /// The store is killed.
    Kill,
    /// Somebody does what somebody wanted.
    Person(people::Act),
}

struct World {
    now: Ms,
    serial: u64,
    events: BTreeMap<(Ms, u64), Event>,
    chance: Chance,
    weather: Weather,
    policy: Policy,
    kept: Kept,
    books: Books,
    brokers: Vec<Broker>,
    runs: BTreeMap<u64, Run>,
    agents: bool,
    /// When the store was there again, last.
    returned: Option<Ms>,
    traced: bool,
}

impl World {
    fn new(seed: u64, weather: fn(&mut Chance) -> Weather, traced: bool) -> World {
        let mut chance = Chance::new(seed);
        let weather = weather(&mut chance);
        let policy = Policy {
            attempts: chance.pick(&[1, 3, 5]),
            backoff: Duration::from_millis(chance.pick(&[100, 1_000])),
            backoff_max: Duration::from_secs(chance.pick(&[5, 60])),
            lifetime: Duration::from_secs(chance.pick(&[60, 600])),
            retry_status: vec![429, 503],
            retry_unsafe: chance.per_mille(200),
            unheard: Duration::from_secs(70),
        };
        let brokers = chance.count(1, 3);
        let mut world = World {
            now: 0,
            serial: 0,
            events: BTreeMap::new(),
            chance,
            weather,
            policy,
            kept: Kept::default(),
            books: Books::default(),
            brokers: (0..brokers).map(|_| Broker::default()).collect(),
            runs: BTreeMap::new(),
            agents: true,
            returned: None,
            traced,
        };
        world.books.once = world.weather.kills > 0 && !world.policy.retry_unsafe;
        for _ in 0..world.weather.kills {
            let when = world.chance.between(0, world.weather.lasts);
            world.at(when, Event::Kill);
        }
        for at in 0..world.chance.count(1, 5) {
            world.begin(at);
        }
        for _ in 0..world.chance.between(0, 3) {
            let when = world.chance.between(0, world.weather.lasts);
            let back = when + world.chance.pick(&[1_000, 30_000, 200_000]);
            world.at(when, Event::Agents { there: false });
            world.at(back.min(world.weather.lasts), Event::Agents { there: true });
        }
        for _ in 0..world.weather.people {
            world.somebody();
        }
        world
    }

    fn run(&mut self) {
        while let Some(((now, _), event)) = self.events.pop_first() {
            self.now = now;
            if self.traced {
                println!("{now:>8} {event:?}");
            }
            self.happens(event);
            if self.books.broken.is_some() {
                return;
            }
        }
        self.books.settle_up(&self.kept);
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Begin { at, job, answered } => {
                let begun = Job { state: JobState::Begun, hops: Vec::new(), ..(*job).clone() };
                let revision = self.store(at, 0, &begun, Who::Client).expect("the first revision");
                if let Some(age) = answered {
                    let job = Box::new(Job { age, ..*job });
                    self.at(self.now + age, Event::Accept { at, revision, job });
                }
            }
            Event::Accept { at, revision, job } => drop(self.store(at, revision, &job, Who::Client)),
            Event::Turn { at, turn } => self.hand_out(at, turn),
            Event::Step { run, step } => self.step(run, step),
            Event::Call(call) => self.books.runs(*call),
            Event::Start { broker } => self.brokers[broker].is_there = true,
            Event::Agents { there } => self.agents = there,
            Event::Expire { at, revision } => {
                if let Some(record) = self.kept.records.get(&at).filter(|record| record.revision == revision)
                {
                    self.books.expires(at, &record.job, self.now);
                    self.kept.records.remove(&at);
                }
            }
            Event::Kill => self.forgets(),
            Event::Person(act) => self.act(act),
        }
    }

    /// A job is asked for.
    fn begin(&mut self, at: At) {
        let when = self.chance.between(0, self.weather.lasts / 2);
        let job = Box::new(self.any_job());
        let event = if job.is_chain() {
            let asked = self.chance.pick(&[50, 5_000, 170_000, 181_000]);
            Event::Begin { at, job, answered: self.chance.per_mille(900).then_some(asked) }
        } else {
            Event::Accept { at, revision: 0, job }
        };
        self.at(when, event);
    }

    fn any_job(&mut self) -> Job {
        let uuid = Uuid::from_u64_pair(self.chance.next(), self.chance.next());
        let client = "client.abc".parse().expect("an id");
        let body = self.chance.next().to_be_bytes().to_vec();
        let input = Content { size: body.len() as u64, body, ..Content::default() };
        if self.chance.per_mille(300) {
            let upstream = "shop".parse().expect("a name");
            let id = JobId { upstream: Some("shop".parse().expect("a name")), uuid };
            let job = Job::new(id, client, JobState::Running, input);
            let repeatable = self.chance.per_mille(500);
            let hop = Hop { method: "POST".into(), url: "/".into(), upstream: Some(upstream), repeatable };
            let callback = self.chance.per_mille(500).then(|| "http://caller".to_owned());
            return Job { hops: vec![hop], callback, ..job };
        }
        let hops = self.chance.count(1, 5);
        let put = self.chance.per_mille(500);
        let hop = |n| Hop {
            method: if put && n == hops { "PUT" } else { "POST" }.into(),
            url: format!("http://hop{n}"),
            upstream: None,
            repeatable: put && n == hops,
        };
        Job {
            hops: (1..=hops).map(hop).collect(),
            path: "/".into(),
            referer: "http://first/".into(),
            errors_to: Some("http://errors".into()),
            ..Job::new(JobId { upstream: None, uuid }, client, JobState::Running, input)
        }
    }

    /// Stores a revision in the place of another; its number, unless somebody else was quicker.
    fn store(&mut self, at: At, revision: u64, job: &Job, who: Who) -> Option<u64> {
        let turn = self.kept.replace(at, revision, job, self.now)?;
        self.books.stored(at, job, who);
        let soon = self.now + self.chance.between(1, 20);
        self.at(soon, Event::Turn { at, turn });
        let lifetime = self.policy.lifetime + KEPT;
        let revision = turn.revision;
        self.at(self.now + ms(lifetime), Event::Expire { at, revision });
        Some(revision)
    }

    /// Whether something of which so many in a thousand go wrong goes wrong now.
    fn fails(&mut self, often: u64) -> bool {
        let drawn = self.chance.per_mille(often);
        drawn && self.now < self.weather.lasts
    }

    fn at(&mut self, when: Ms, event: Event) {
        self.serial += 1;
        self.events.insert((when, self.serial), event);
    }
}

fn ms(duration: Duration) -> Ms {
    Ms::try_from(duration.as_millis()).expect("a run is short")
}

/// How long a record is kept after its lifetime.
const KEPT: Duration = Duration::from_secs(600);
