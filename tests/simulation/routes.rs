//! Routes: agents that claim them and client agents that keep tables, joined by a bus that delays and loses.
//!
//! Agents start, leave, die, freeze, thaw and are cut off as they like. Once nothing happens and nothing is lost any
//! more, two heartbeats later every table is true: each route is of an upstream that has an agent that claims it, and
//! no route is without one. Where several upstreams claim a route and what was lost let tables see them in different
//! order, they agree a little later.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use relay::{
    proto::{
        Machine,
        claims::Claims,
        roster::HEARTBEAT,
        routes::{Command, Input, Routes, Why},
    },
    wire::{Claim, Here, Name, ProcessId, Refused, Route, message::VERSION, message::millis},
};

use crate::chance::Chance;

/// An agent: its claims, and how it is.
struct Agent {
    id: ProcessId,
    upstream: Name,
    claims: Claims,
    heartbeat: Instant,
    state: Life,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Well,
    /// It hears and says nothing; NATS still takes it for there.
    Frozen,
    /// It hears and says nothing, and NATS knows.
    CutOff,
    Dead,
}

/// What is under way.
#[derive(Debug, Clone)]
enum Sent {
    ToTable(usize, Box<Input>),
    ToAgent(usize, Refused),
    Asked(usize),
    /// A probe, and the table that asks.
    Probed(usize, usize),
}

struct World {
    now: Instant,
    start: Instant,
    agents: Vec<Agent>,
    tables: Vec<Routes>,
    under_way: BTreeMap<(Instant, u64), Sent>,
    serial: u64,
    loss: u64,
    chance: Chance,
    routes: Vec<Route>,
}

#[test]
fn every_table_comes_to_the_same_truth_within_two_heartbeats() {
    let one = std::env::var("RELAY_SIM_SEED").ok().map(|seed| seed.parse::<u64>().expect("a number"));
    let runs = std::env::var("RELAY_SIM_RUNS").ok().map_or(1500, |runs| runs.parse().expect("a number"));
    for seed in one.map_or(1..=runs, |seed| seed..=seed) {
        let mut world = World::new(seed);
        let trouble = world.chance.count(3, 15);
        for _ in 0..trouble {
            world.something_happens();
            let pause = world.chance.pick(&[50, 500, 4_000, 12_000]);
            world.run_for(Duration::from_millis(pause));
        }
        world.calm_down();
        world.run_for(HEARTBEAT * 2 + Duration::from_secs(2));
        world.check(seed);
        world.run_for(HEARTBEAT * 3);
        world.check(seed);
        world.check_agreement(seed);
    }
}

impl World {
    fn new(seed: u64) -> World {
        let mut chance = Chance::new(seed);
        let start = Instant::now() + Duration::from_secs(86_400);
        let routes =
            ["a.example", "b.example/x", "*.example", "/"].map(|route| route.parse().unwrap()).to_vec();
        let loss = chance.pick(&[0, 50, 300]);
        let mut world = World {
            now: start,
            start,
            agents: Vec::new(),
            tables: Vec::new(),
            under_way: BTreeMap::new(),
            serial: 0,
            loss,
            chance,
            routes,
        };
        for _ in 0..world.chance.count(1, 3) {
            world.start_table();
        }
        for _ in 0..world.chance.count(1, 4) {
            world.start_agent();
        }
        world
    }

    fn something_happens(&mut self) {
        let any = self.chance.count(0, 100);
        let agent = self.chance.count(0, self.agents.len() as u64 - 1);
        match any {
            0..30 => self.start_agent(),
            30..40 => self.start_table(),
            40..55 => self.leave(agent),
            55..70 => self.become_(agent, Life::Dead),
            70..80 => self.become_(agent, Life::Frozen),
            80..90 => self.become_(agent, Life::CutOff),
            _ => self.revive(agent),
        }
    }

    fn start_agent(&mut self) {
        let id: ProcessId = format!("agent.{}", self.agents.len()).parse().unwrap();
        let upstream: Name = self.chance.pick(&["u", "v", "w"]).parse().unwrap();
        let mut claims = Claims::new(id.clone(), upstream.clone());
        let count = self.chance.count(1, 3);
        let wanted: Vec<Route> = (0..count).map(|_| self.chance.pick(&self.routes.clone())).collect();
        let strip = self.chance.per_mille(100);
        claims.set(&wanted, strip, self.now);
        self.agents.push(Agent { id, upstream, claims, heartbeat: self.now + HEARTBEAT, state: Life::Well });
        self.announce(self.agents.len() - 1);
    }

    fn start_table(&mut self) {
        let mut table = Routes::default();
        table.handle(Input::Link { up: true }, self.now);
        self.tables.push(table);
        self.settle(self.tables.len() - 1);
    }

    fn leave(&mut self, agent: usize) {
        if self.agents[agent].state == Life::Well {
            let gone = Input::Gone {
                upstream: self.agents[agent].upstream.clone(),
                agent: self.agents[agent].id.clone(),
            };
            self.agents[agent].state = Life::Dead;
            self.publish(&gone);
        }
    }

    fn become_(&mut self, agent: usize, state: Life) {
        if self.agents[agent].state != Life::Dead {
            self.agents[agent].state = state;
        }
    }

    fn revive(&mut self, agent: usize) {
        if matches!(self.agents[agent].state, Life::Frozen | Life::CutOff) {
            self.agents[agent].state = Life::Well;
            self.agents[agent].heartbeat = self.now + HEARTBEAT;
            self.announce(agent);
        }
    }

    fn calm_down(&mut self) {
        self.loss = 0;
    }

    /// All claims and a heartbeat, as when it joins or is asked.
    fn announce(&mut self, agent: usize) {
        let claims = self.agents[agent].claims.all(self.now);
        self.say(agent, claims);
    }

    fn beat(&mut self, agent: usize) {
        self.agents[agent].heartbeat = self.now + HEARTBEAT;
        let (claims, _) = self.agents[agent].claims.beat(self.now);
        self.say(agent, claims);
    }

    fn say(&mut self, agent: usize, claims: Vec<Claim>) {
        for claim in claims {
            self.publish(&Input::Claim(claim));
        }
        let Agent { id, upstream, claims, .. } = &self.agents[agent];
        let here = Here { routes: claims.digest(self.now), ..Here::of(id.clone(), upstream.clone()) };
        self.publish(&Input::Here(here));
    }

    fn publish(&mut self, input: &Input) {
        for table in 0..self.tables.len() {
            self.send(Sent::ToTable(table, Box::new(input.clone())));
        }
    }

    fn send(&mut self, sent: Sent) {
        if self.chance.per_mille(self.loss) {
            return;
        }
        let delay =
            if self.chance.per_mille(50) { self.chance.between(1, 900) } else { self.chance.between(1, 5) };
        self.serial += 1;
        self.under_way.insert((self.now + Duration::from_millis(delay), self.serial), sent);
    }

    fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.next().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.step();
        }
        self.now = end;
    }

    fn next(&self) -> Option<Instant> {
        let message = self.under_way.keys().next().map(|(at, _)| *at);
        let heartbeats =
            self.agents.iter().filter(|agent| agent.state == Life::Well).map(|agent| agent.heartbeat);
        let timers = self.tables.iter().filter_map(Machine::poll_timeout);
        message.into_iter().chain(heartbeats).chain(timers).min()
    }

    fn step(&mut self) {
        while let Some(entry) = self.under_way.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            let sent = entry.remove();
            self.arrive(sent);
        }
        for agent in 0..self.agents.len() {
            if self.agents[agent].state == Life::Well && self.agents[agent].heartbeat <= self.now {
                self.beat(agent);
            }
        }
        for table in 0..self.tables.len() {
            if self.tables[table].poll_timeout().is_some_and(|at| at <= self.now) {
                self.tables[table].handle_timeout(self.now);
                self.settle(table);
            }
        }
    }

    fn arrive(&mut self, sent: Sent) {
        match sent {
            Sent::ToTable(table, input) => {
                self.tables[table].handle(*input, self.now);
                self.settle(table);
            }
            Sent::ToAgent(agent, told) if self.agents[agent].state == Life::Well => {
                let (_, said) = self.agents[agent].claims.refused(&told, self.now);
                if let Some(claim) = said {
                    self.publish(&Input::Claim(claim));
                }
            }
            Sent::Asked(agent) if self.agents[agent].state == Life::Well => self.announce(agent),
            Sent::Probed(agent, table) => self.probed(agent, table),
            Sent::ToAgent(..) | Sent::Asked(_) => {}
        }
    }

    fn probed(&mut self, agent: usize, table: usize) {
        let Agent { id, upstream, claims, state, .. } = &self.agents[agent];
        let answer = match state {
            Life::Well => Input::Here(Here {
                routes: claims.digest(self.now),
                ..Here::of(id.clone(), upstream.clone())
            }),
            // NATS says so.
            Life::Dead | Life::CutOff => Input::Gone { upstream: upstream.clone(), agent: id.clone() },
            Life::Frozen => return,
        };
        self.send(Sent::ToTable(table, Box::new(answer)));
    }

    /// Does what a table wants done.
    fn settle(&mut self, table: usize) {
        while let Some(command) = self.tables[table].poll_command() {
            match command {
                Command::AskAll => (0..self.agents.len()).for_each(|agent| self.send(Sent::Asked(agent))),
                Command::Ask { upstream } => {
                    let asked = |agent: &usize| self.agents[*agent].upstream == upstream;
                    let asked: Vec<usize> = (0..self.agents.len()).filter(asked).collect();
                    asked.into_iter().for_each(|agent| self.send(Sent::Asked(agent)));
                }
                Command::Probe { agent, .. } => {
                    let agent = self.index(&agent);
                    self.send(Sent::Probed(agent, table));
                }
                Command::Refuse { upstream, agent, route, why } => {
                    let agent = self.index(&agent);
                    self.send(Sent::ToAgent(agent, refused(upstream, &route, why)));
                }
            }
        }
    }

    fn index(&self, id: &ProcessId) -> usize {
        self.agents.iter().position(|agent| agent.id == *id).expect("an agent of this run")
    }

    fn check(&self, seed: u64) {
        let mut live: BTreeMap<Route, BTreeSet<(Name, bool)>> = BTreeMap::new();
        for agent in self.agents.iter().filter(|agent| agent.state == Life::Well) {
            for row in agent.claims.rows() {
                live.entry(row.route).or_default().insert((agent.upstream.clone(), row.strip));
            }
        }
        let after = self.now - self.start;
        for table in &self.tables {
            assert!(table.is_known(), "seed {seed}: a table is not known after {after:?}");
            let rows: BTreeMap<Route, (Name, bool)> =
                table.rows().into_iter().map(|row| (row.route, (row.upstream, row.strip))).collect();
            assert!(rows.keys().eq(live.keys()), "seed {seed}: {:?} where {:?} is claimed", rows, live);
            for (route, holder) in &rows {
                assert!(live[route].contains(holder), "seed {seed}: {route} is of {holder:?}");
            }
        }
    }

    fn check_agreement(&self, seed: u64) {
        for table in &self.tables {
            assert_eq!(self.tables[0].rows(), table.rows(), "seed {seed}: two tables differ");
        }
    }
}

fn refused(upstream: Name, route: &Route, why: Why) -> Refused {
    let (by, earlier, why) = match why {
        Why::Taken { by, earlier } => (Some(by), millis(earlier), None),
        Why::Limit(why) => (None, 0, Some(why.to_owned())),
    };
    Refused { v: VERSION, upstream_target: upstream, route: route.to_string(), by, earlier, why }
}
