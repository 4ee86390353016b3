//! The claims on one route, the first one first.

use std::time::Instant;

use super::{Command, Row, Standing};
use crate::wire::{Name, ProcessId, Route};

/// One route and who claims it.
#[derive(Debug)]
pub struct Claimed {
    route: Route,
    /// The first has it. Never none.
    claims: Vec<ByUpstream>,
}

/// An upstream's claim: its agents share it.
#[derive(Debug)]
struct ByUpstream {
    upstream: Name,
    strip: bool,
    /// The earliest of its holders, also of those that left: the claim is the upstream's.
    since: Instant,
    holders: Vec<Holder>,
}

/// An agent's part in a claim.
#[derive(Debug, Clone)]
pub struct Holder {
    /// The agent.
    pub agent: ProcessId,
    /// When it claimed the route first.
    pub since: Instant,
    /// It knows that another upstream has the route.
    pub waiting: bool,
}

/// What comes first: whoever need not wait, then whoever claimed earlier. Names decide where nothing else
/// does, so that every table decides alike.
type Rank<'a> = (bool, Instant, &'a Name, bool);

impl ByUpstream {
    fn rank(&self) -> Rank<'_> {
        let waiting = self.holders.iter().all(|holder| holder.waiting);
        (waiting, self.since, &self.upstream, self.strip)
    }
}

impl Claimed {
    /// A route that nobody claims yet.
    pub fn new(route: Route) -> Self {
        Claimed { route, claims: Vec::new() }
    }

    /// The upstream that has it, and whether its path is stripped.
    pub fn holder(&self) -> Option<(&Name, bool)> {
        self.claims.first().map(|claim| (&claim.upstream, claim.strip))
    }

    /// Whether nobody claims it any more.
    pub fn is_empty(&self) -> bool {
        self.claims.is_empty()
    }

    /// The route.
    pub fn route(&self) -> &Route {
        &self.route
    }

    /// The route as a person asks for it.
    pub fn row(&self) -> Option<Row> {
        let (first, others) = self.claims.split_first()?;
        Some(Row {
            route: self.route.clone(),
            upstream: first.upstream.clone(),
            agents: first.holders.len(),
            strip: first.strip,
            refused: others.iter().map(|claim| claim.upstream.clone()).collect(),
        })
    }

    /// An agent claims it; returns what is to be told.
    pub fn claim(&mut self, upstream: Name, strip: bool, holder: Holder) -> Vec<Command> {
        let before = self.first();
        let (agent, waits) = (holder.agent.clone(), holder.waiting);
        self.replace_holder(&upstream, strip, &agent);
        let same = |claim: &&mut ByUpstream| claim.upstream == upstream && claim.strip == strip;
        match self.claims.iter_mut().find(same) {
            Some(claim) => {
                claim.since = claim.since.min(holder.since);
                claim.holders.push(holder);
            }
            None => {
                let (upstream, since) = (upstream.clone(), holder.since);
                self.claims.push(ByUpstream { upstream, strip, since, holders: vec![holder] });
            }
        }
        let mut told = self.settle(before);
        let has_it = self.holder() == Some((&upstream, strip));
        if told.is_empty() && (!has_it || waits) {
            told.extend(self.tell(&upstream, strip, Some(&agent)));
        }
        told
    }

    /// An agent gives it up; returns what is to be told.
    pub fn release(&mut self, upstream: &Name, agent: &ProcessId) -> Vec<Command> {
        let before = self.first();
        self.drop_holder(upstream, agent);
        self.settle(before)
    }

    /// The agent says it anew, perhaps with another word about stripping.
    fn replace_holder(&mut self, upstream: &Name, strip: bool, agent: &ProcessId) {
        for claim in self.claims.iter_mut().filter(|claim| claim.upstream == *upstream) {
            claim.holders.retain(|holder| holder.agent != *agent);
        }
        self.claims.retain(|claim| {
            !claim.holders.is_empty() || (claim.upstream == *upstream && claim.strip == strip)
        });
    }

    fn drop_holder(&mut self, upstream: &Name, agent: &ProcessId) {
        for claim in self.claims.iter_mut().filter(|claim| claim.upstream == *upstream) {
            claim.holders.retain(|holder| holder.agent != *agent);
        }
        self.claims.retain(|claim| !claim.holders.is_empty());
    }

    fn first(&self) -> Option<(Name, bool)> {
        self.holder().map(|(upstream, strip)| (upstream.clone(), strip))
    }

    /// Puts the first claim first. When that is another one than `before`, everybody is told.
    fn settle(&mut self, before: Option<(Name, bool)>) -> Vec<Command> {
        self.claims.sort_by(|a, b| a.rank().cmp(&b.rank()));
        let contested = before.is_some() && self.first() != before;
        if !contested {
            return Vec::new();
        }
        self.claims.iter().flat_map(|claim| self.tell(&claim.upstream, claim.strip, None)).collect()
    }

    /// What an upstream's agents, or one of them, are to be told.
    fn tell(&self, upstream: &Name, strip: bool, only: Option<&ProcessId>) -> Vec<Command> {
        let Some(first) = self.claims.first() else { return Vec::new() };
        let Some(claim) =
            self.claims.iter().find(|claim| claim.upstream == *upstream && claim.strip == strip)
        else {
            return Vec::new();
        };
        let standing = if std::ptr::eq(first, claim) {
            Standing::Served
        } else {
            let earlier = claim.since.saturating_duration_since(first.since);
            Standing::Taken { by: first.upstream.clone(), earlier }
        };
        let agents = claim.holders.iter().map(|holder| &holder.agent);
        let told = agents.filter(|agent| only.is_none_or(|only| only == *agent)).map(|agent| Command::Tell {
            upstream: upstream.clone(),
            agent: agent.clone(),
            route: self.route.clone(),
            standing: standing.clone(),
        });
        told.collect()
    }
}
