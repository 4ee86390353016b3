//! A client agent's table of routes: which upstream a request is for, by its host and path.
//!
//! Agents claim routes; the table maps each to the upstream that claimed it first and tells the others so.
//! Who is *there* is not its business beyond what an announcement says: NATS's "no responders" is the exact
//! truth, and a route may lead to an upstream whose agents are all full.
//!
//! Here is what happens to the table as a whole; `index` finds a request's route, `claimed` orders the claims
//! on one.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::{
    proto::{Machine, roster::HEARTBEAT},
    wire::{Claim, Here, Name, ProcessId, Route},
};

mod claimed;
mod index;

pub use index::{Found, strip};

use claimed::{Claimed, Holder};
use index::Index;

/// Routes of one agent at most; claims beyond it are refused.
pub const MAX_ROUTES_OF_AGENT: usize = 10_000;
/// Routes in the table at most; claims beyond it are refused.
pub const MAX_ROUTES: usize = 250_000;
/// How long an agent is believed to be there without a word of it.
pub const CLAIMS_BELIEVED: Duration = Duration::from_secs(10);

/// What can happen.
#[derive(Debug, Clone)]
pub enum Input {
    /// An agent announces itself, or answers a probe.
    Here(Here),
    /// An agent claims a route, or gives it up.
    Claim(Claim),
    /// An agent left, or NATS says that it is gone.
    Gone {
        /// The upstream.
        upstream: Name,
        /// The agent.
        agent: ProcessId,
    },
    /// The connection to NATS came or went.
    Link {
        /// Whether it is there.
        up: bool,
    },
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Ask all agents to announce themselves and their routes.
    AskAll,
    /// Ask the agents of one upstream.
    Ask {
        /// The upstream.
        upstream: Name,
    },
    /// Ask an agent whether it is there: its heartbeat is late.
    Probe {
        /// The upstream.
        upstream: Name,
        /// The agent.
        agent: ProcessId,
    },
    /// Tell an agent that its claim is refused.
    Refuse {
        /// The upstream.
        upstream: Name,
        /// The agent.
        agent: ProcessId,
        /// The route it claimed.
        route: Route,
        /// Why.
        why: Why,
    },
}

/// Why a claim is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// Another upstream claimed the route earlier.
    Taken {
        /// That upstream.
        by: Name,
        /// By how much.
        earlier: Duration,
    },
    /// A limit was reached.
    Limit(&'static str),
}

/// One route as a person asks for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The route.
    pub route: Route,
    /// The upstream its requests go to.
    pub upstream: Name,
    /// How many agents of the upstream claim it.
    pub agents: usize,
    /// Whether its path is stripped from the requests.
    pub strip: bool,
    /// Upstreams that claimed it later, by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<Name>,
}

/// The table.
#[derive(Debug, Default)]
pub struct Routes {
    index: Index,
    agents: HashMap<(Name, ProcessId), Agent>,
    /// Routes that more than one upstream claims.
    contested: BTreeSet<Route>,
    /// When the later ones are told again.
    refuse_again: Option<Instant>,
    learning: Learning,
    sweep: Option<Instant>,
    commands: VecDeque<Command>,
}

/// What is known of an agent that has routes.
#[derive(Debug)]
struct Agent {
    heard: Instant,
    probed: bool,
    /// When it is asked for its claims, should they not add up until then.
    asking: Option<Instant>,
    /// What its claims add up to, as it says.
    announced: Option<u64>,
    /// What the claims that are known add up to.
    known: u64,
    /// Its routes, each with its part of that.
    routes: HashMap<Route, u64>,
}

/// Whether all routes are known.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Learning {
    #[default]
    NotYet,
    Since {
        asked: Instant,
        /// When the last thing came that was not known before, or was found to be missing.
        news: Instant,
    },
    Done,
}

impl Routes {
    /// Where a request for `host` and `path` goes.
    pub fn find(&self, host: &str, path: &str) -> Option<Found> {
        self.index.find(host, path)
    }

    /// Whether any route is for `host`, whatever its path.
    pub fn has_host(&self, host: &str) -> bool {
        self.index.has_host(host)
    }

    /// Whether the agents that are there have had the time to say what they serve.
    pub fn is_known(&self) -> bool {
        self.learning == Learning::Done
    }

    /// Every route, in the order of their texts.
    pub fn rows(&self) -> Vec<Row> {
        let mut rows: Vec<Row> = self.index.iter().filter_map(Claimed::row).collect();
        rows.sort_by(|a, b| a.route.cmp(&b.route));
        rows
    }

    /// How many routes there are.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn here(&mut self, here: Here, now: Instant) {
        let key = (here.upstream_target, here.upstream_id);
        let digest = here.routes;
        if digest == 0 && !self.agents.contains_key(&key) {
            return;
        }
        let agent = self.agents.entry(key.clone()).or_insert_with(|| Agent::new(now));
        agent.heard = now;
        agent.probed = false;
        agent.announced = Some(digest);
        if agent.is_complete() {
            agent.asking = None;
            if digest == 0 {
                self.agents.remove(&key);
            }
            return;
        }
        // The claims are on their way, or were lost.
        agent.asking.get_or_insert(now + FIRST_ASK);
        self.news(now);
    }

    fn claim(&mut self, claim: Claim, now: Instant) {
        let key = (claim.upstream_target.clone(), claim.upstream_id.clone());
        if claim.withdrawn {
            self.withdraw(&key, &claim.route);
            return;
        }
        let routes = self.index.len();
        let agent = self.agents.entry(key.clone()).or_insert_with(|| Agent::new(now));
        agent.heard = now;
        let known = agent.routes.contains_key(&claim.route);
        let refusal = match known {
            true => None,
            false if agent.routes.len() >= MAX_ROUTES_OF_AGENT => Some("an agent may have 10,000 routes"),
            false if routes >= MAX_ROUTES && !self.index.contains(&claim.route) => {
                Some("the table holds 250,000 routes and no more")
            }
            false => None,
        };
        if let Some(why) = refusal {
            if agent.routes.is_empty() {
                self.agents.remove(&key);
            }
            let (upstream, agent) = key;
            let why = Why::Limit(why);
            self.commands.push_back(Command::Refuse { upstream, agent, route: claim.route, why });
            return;
        }
        let hash = claim.hash();
        let before = agent.routes.insert(claim.route.clone(), hash);
        agent.known = agent.known.wrapping_sub(before.unwrap_or(0)).wrapping_add(hash);
        if agent.is_complete() {
            agent.asking = None;
        }
        if !known {
            self.news(now);
        }
        let holder = Holder {
            agent: claim.upstream_id,
            // A clock that began later than the claim is no reason to forget it.
            since: now.checked_sub(Duration::from_millis(claim.age)).unwrap_or(now),
            waiting: claim.waiting,
        };
        let told = self.index.claim(&claim.route, claim.upstream_target, claim.strip, holder);
        self.commands.extend(told);
        self.note_contested(claim.route);
    }

    fn withdraw(&mut self, key: &(Name, ProcessId), route: &Route) {
        let Some(agent) = self.agents.get_mut(key) else { return };
        if let Some(hash) = agent.routes.remove(route) {
            agent.known = agent.known.wrapping_sub(hash);
            let told = self.index.release(route, &key.0, &key.1);
            self.commands.extend(told);
            self.note_contested(route.clone());
        }
    }

    fn gone(&mut self, key: &(Name, ProcessId)) {
        let Some(agent) = self.agents.remove(key) else { return };
        for route in agent.routes.into_keys() {
            let told = self.index.release(&route, &key.0, &key.1);
            self.commands.extend(told);
            self.note_contested(route);
        }
    }

    fn note_contested(&mut self, route: Route) {
        if self.index.is_contested(&route) {
            self.contested.insert(route);
        } else {
            self.contested.remove(&route);
        }
    }

    fn link(&mut self, up: bool, now: Instant) {
        if !up {
            // Nothing is heard of anybody; nobody is gone for that.
            self.sweep = None;
            self.refuse_again = None;
            return;
        }
        for agent in self.agents.values_mut() {
            agent.heard = now;
            agent.probed = false;
        }
        if !self.is_known() {
            self.learning = Learning::Since { asked: now, news: now };
        }
        self.sweep = Some(now + SWEEP);
        self.refuse_again = Some(now + HEARTBEAT);
        self.commands.push_back(Command::AskAll);
    }

    fn news(&mut self, at: Instant) {
        if let Learning::Since { news, .. } = &mut self.learning {
            *news = at;
        }
    }

    /// Everybody has said everything when nothing new came for a while, and what agents announced is here.
    fn learn(&mut self, now: Instant) {
        let Learning::Since { asked, news } = self.learning else { return };
        let quiet = now >= news + QUIET;
        if now >= asked + LONGEST_LEARNING || quiet && self.agents.values().all(Agent::is_complete) {
            self.learning = Learning::Done;
        } else if quiet {
            self.news(now);
        }
    }

    fn look_after_agents(&mut self, now: Instant) {
        let mut gone = Vec::new();
        let mut asked = BTreeSet::new();
        for (key, agent) in &mut self.agents {
            let silent = now.duration_since(agent.heard);
            if silent >= CLAIMS_BELIEVED {
                gone.push(key.clone());
            } else if silent >= LATE && !agent.probed {
                agent.probed = true;
                let (upstream, agent) = key.clone();
                self.commands.push_back(Command::Probe { upstream, agent });
            } else if agent.asking.is_some_and(|at| at <= now) {
                agent.asking = Some(now + NEXT_ASK);
                asked.insert(key.0.clone());
            }
        }
        self.commands.extend(asked.into_iter().map(|upstream| Command::Ask { upstream }));
        // Agents that are gone together go in one order, whatever the map's is.
        gone.sort();
        for key in &gone {
            self.gone(key);
        }
    }
}

impl Agent {
    fn new(now: Instant) -> Self {
        Agent { heard: now, probed: false, asking: None, announced: None, known: 0, routes: HashMap::new() }
    }

    fn is_complete(&self) -> bool {
        self.announced == Some(self.known)
    }
}

impl Machine for Routes {
    type Input = Input;
    type Command = Command;

    fn handle(&mut self, input: Input, now: Instant) {
        match input {
            Input::Here(here) => self.here(here, now),
            Input::Claim(claim) => self.claim(claim, now),
            Input::Gone { upstream, agent } => self.gone(&(upstream, agent)),
            Input::Link { up } => self.link(up, now),
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.learn(now);
        if self.sweep.is_some_and(|at| at <= now) {
            self.look_after_agents(now);
            self.sweep = Some(now + SWEEP);
        }
        if self.refuse_again.is_some_and(|at| at <= now) {
            let told = self.contested.iter().flat_map(|route| self.index.refuse_later(route));
            self.commands.extend(told);
            self.refuse_again = Some(now + HEARTBEAT);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let learned = match self.learning {
            Learning::Since { asked, news } => Some((news + QUIET).min(asked + LONGEST_LEARNING)),
            Learning::NotYet | Learning::Done => None,
        };
        learned.into_iter().chain(self.sweep).chain(self.refuse_again).min()
    }

    fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }
}

/// How late a heartbeat is when its agent is asked whether it is there.
const LATE: Duration = Duration::from_millis(6_500);
const SWEEP: Duration = Duration::from_secs(1);
/// How long claims that were announced may be on their way until they are asked for, and asked for again.
const FIRST_ASK: Duration = Duration::from_millis(300);
const NEXT_ASK: Duration = HEARTBEAT;
/// For how long nothing new comes once everybody has said what he serves.
const QUIET: Duration = Duration::from_millis(300);
const LONGEST_LEARNING: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests;
