//! What a run is made of: who is there, who asks what and when, what goes wrong.

use std::time::Duration;

use http::Method;
use relay::proto::{exchange, serving, supervision};

use crate::{
    bus::{At, Micros, Weather},
    chance::Chance,
    origin::Temper,
    process::{Kind, Settings},
};

/// A millisecond and a second of the run.
pub const MS: Micros = 1_000;
pub const SECOND: Micros = 1_000_000;

/// One run before it begins.
#[derive(Debug, Clone)]
pub struct Plan {
    pub weather: Weather,
    pub settings: Settings,
    pub temper: Temper,
    pub upstreams: usize,
    /// Who starts when; the place in this list is the process's [`At`].
    pub processes: Vec<(Micros, Kind)>,
    pub asks: Vec<Ask>,
    pub faults: Vec<(Micros, Fault)>,
}

/// A caller.
#[derive(Debug, Clone)]
pub struct Ask {
    pub when: Micros,
    pub client: At,
    pub upstream: usize,
    pub method: Method,
    /// How long it waits, when it does not wait for the end.
    pub patience: Option<Micros>,
}

/// Something goes wrong, or is done on purpose. Times count from its beginning.
#[derive(Debug, Clone)]
pub enum Fault {
    /// The process dies; the server notices after a while; another may take its place.
    Crash { process: At, noticed: Micros, replaced: Option<Micros> },
    /// The process's connection carries nothing, until it connects again.
    Cut { process: At, noticed: Micros, noticed_at_server: Micros, reconnects: Micros },
    /// The process is stopped for a while (SIGSTOP).
    Pause { process: At, lasts: Micros },
    /// An agent is told to stop (SIGTERM).
    Drain { process: At },
    /// Another process starts.
    Start { kind: Kind },
}

impl Plan {
    /// A usual network with `clients` client agents, `agents` for each of `upstreams`, and `brokers`.
    pub fn draw(
        chance: &mut Chance,
        clients: usize,
        upstreams: usize,
        agents: usize,
        brokers: usize,
    ) -> Plan {
        let mut kinds = vec![Kind::Client; clients];
        kinds.extend((0..upstreams * agents).map(|n| Kind::Agent(n % upstreams)));
        kinds.extend(vec![Kind::Broker; brokers]);
        Plan {
            weather: Weather::fair(chance),
            settings: settings(chance),
            temper: Temper {
                refuses: 0,
                breaks: 0,
                hangs: 0,
                takes: vec![(0, 3 * MS), (0, 50 * MS), (0, 400 * MS)],
            },
            upstreams,
            processes: kinds.into_iter().map(|kind| (0, kind)).collect(),
            asks: Vec::new(),
            faults: Vec::new(),
        }
    }

    /// `count` callers between `from` and `to`, of any method, at any client agent.
    pub fn ask(&mut self, chance: &mut Chance, count: u64, from: Micros, to: Micros) {
        let clients: Vec<At> = self.places(|kind| kind == Kind::Client);
        let methods = [Method::GET, Method::POST, Method::PUT, Method::POST];
        let upstreams: Vec<usize> = (0..self.upstreams).collect();
        for _ in 0..count {
            self.asks.push(Ask {
                when: chance.between(from, to),
                client: chance.pick(&clients),
                upstream: chance.pick(&upstreams),
                method: chance.pick(&methods),
                patience: None,
            });
        }
    }

    /// The processes of some kinds.
    pub fn places(&self, is: impl Fn(Kind) -> bool) -> Vec<At> {
        (0..self.processes.len()).filter(|&at| is(self.processes[at].1)).collect()
    }

    /// All agents.
    pub fn agents(&self) -> Vec<At> {
        self.places(|kind| matches!(kind, Kind::Agent(_)))
    }

    /// All brokers.
    pub fn brokers(&self) -> Vec<At> {
        self.places(|kind| kind == Kind::Broker)
    }
}

impl Plan {
    /// Client agents and brokers are there; agents of one upstream come one to two and a half seconds after
    /// `from`.
    pub fn late_agents(chance: &mut Chance, least_brokers: u64, from: Micros) -> Plan {
        let [brokers, clients, agents] =
            [(least_brokers, 3), (1, 2), (1, 2)].map(|(low, high)| chance.count(low, high));
        let mut plan = Plan::draw(chance, clients, 1, agents, brokers);
        plan.weather.stalls = (0, 0);
        plan.settings.broker.wait = Duration::from_secs(5);
        plan.settings.client.ttl = Duration::from_secs(8);
        for at in plan.agents() {
            plan.processes[at].0 = from + chance.between(SECOND, 2500 * MS);
        }
        plan
    }

    /// Of a thousand callers, `often` leave within a second.
    pub fn some_leave(&mut self, chance: &mut Chance, often: u64) {
        for ask in &mut self.asks {
            if chance.per_mille(often) {
                ask.patience = Some(chance.between(0, SECOND));
            }
        }
    }

    /// Every connection is cut at once; processes come back one by one.
    pub fn nats_restarts(&mut self, chance: &mut Chance, when: Micros) {
        for process in 0..self.processes.len() {
            let noticed = chance.between(0, 10 * MS);
            let reconnects = noticed + chance.between(MS, 1500 * MS);
            self.faults.push((when, Fault::Cut { process, noticed, noticed_at_server: 0, reconnects }));
        }
    }

    /// Anything happens to anybody.
    pub fn any_fault(&mut self, chance: &mut Chance) {
        let process = chance.count(0, self.processes.len() as u64 - 1);
        let kind = self.processes[process].1;
        let fault = match (chance.between(0, 3), kind) {
            (0, _) => Fault::crash(chance, process),
            (1, _) => Fault::cut(chance, process),
            (2, _) => Fault::pause(chance, process),
            (_, Kind::Agent(_)) => Fault::Drain { process },
            (_, Kind::Client | Kind::Broker) => Fault::Start { kind },
        };
        self.faults.push((chance.between(0, 4 * SECOND), fault));
    }
}

impl Weather {
    /// No loss; one server or a cluster; usually quick, sometimes late.
    pub fn fair(chance: &mut Chance) -> Weather {
        Weather {
            delay: chance.pick(&[100, 500, 3 * MS]),
            stalls: (chance.pick(&[0, 20]), 100 * MS),
            loss: 0,
            tapped: false,
            cluster: chance.pick(&[None, Some(20 * MS)]),
        }
    }

    /// Messages are lost and stall.
    pub fn rough(chance: &mut Chance) -> Weather {
        let loss = chance.pick(&[0, 5, 30, 100]);
        let stalls = (chance.pick(&[10, 100]), chance.pick(&[50 * MS, SECOND, 3 * SECOND]));
        Weather { stalls, loss, tapped: chance.per_mille(250), ..Weather::fair(chance) }
    }
}

impl Fault {
    /// A crash.
    pub fn crash(chance: &mut Chance, process: At) -> Fault {
        let noticed = chance.pick(&[0, 2 * MS, SECOND]);
        let after = chance.between(0, SECOND);
        Fault::Crash { process, noticed, replaced: chance.per_mille(700).then_some(after) }
    }

    /// A cut connection.
    pub fn cut(chance: &mut Chance, process: At) -> Fault {
        let noticed = chance.pick(&[MS, 100 * MS, 2 * SECOND]);
        let reconnects = noticed + chance.pick(&[5 * MS, 300 * MS, 3 * SECOND]);
        Fault::Cut { process, noticed, noticed_at_server: chance.pick(&[MS, SECOND, 4 * SECOND]), reconnects }
    }

    /// A pause.
    pub fn pause(chance: &mut Chance, process: At) -> Fault {
        Fault::Pause { process, lasts: chance.pick(&[100 * MS, SECOND, 5 * SECOND]) }
    }

    /// When the last of it is over.
    pub fn lasts(&self) -> Micros {
        match self {
            Fault::Crash { noticed, replaced, .. } => (*noticed).max(replaced.unwrap_or(0)),
            Fault::Cut { noticed_at_server, reconnects, .. } => (*noticed_at_server).max(*reconnects),
            Fault::Pause { lasts, .. } => *lasts,
            Fault::Drain { .. } | Fault::Start { .. } => 0,
        }
    }
}

/// Waits of a few seconds, so that a run is short; limits that are not reached.
fn settings(chance: &mut Chance) -> Settings {
    let ms = Duration::from_millis;
    let pick = |chance: &mut Chance, choices: &[u64]| ms(chance.pick(choices));
    let client = exchange::Settings {
        ttl: pick(chance, &[3_000, 5_000, 8_000]),
        patience: pick(chance, &[20, 250]),
        max_in_flight: 1000,
        max_per_upstream: 1000,
    };
    let agent = serving::Settings {
        upstream: "unset".parse().expect("a name"),
        variant: None,
        ttl: pick(chance, &[2_000, 4_000]),
        ack_delay: pick(chance, &[0, 10, 10, 50]),
        max_in_flight: 1000,
        health: serving::Rules::default(),
        stand_by: false,
    };
    let broker = supervision::Settings {
        wait: pick(chance, &[1_000, 2_500]),
        ack_wait: pick(chance, &[300, 1_000]),
        response_wait: pick(chance, &[1_500, 4_000]),
        max_holds: 1000,
    };
    Settings { client, agent, broker }
}
