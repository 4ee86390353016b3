//! The claims on one route, the first one first.

use std::time::Instant;

use super::{Command, Row, Why};
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

/// What comes first: whoever need not wait, then whoever claimed earlier. Between those that wait names decide:
/// each was told by somebody that it comes second, so tables differ in what they know of the times.
type Rank<'a> = (bool, Option<Instant>, &'a Name, bool);

impl ByUpstream {
    fn rank(&self) -> Rank<'_> {
        let waiting = self.holders.iter().all(|holder| holder.waiting);
        (waiting, (!waiting).then_some(self.since), &self.upstream, self.strip)
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
        let mut refused: Vec<Name> = others.iter().map(|claim| claim.upstream.clone()).collect();
        refused.sort();
        Some(Row {
            route: self.route.clone(),
            upstream: first.upstream.clone(),
            agents: first.holders.len(),
            strip: first.strip,
            refused,
        })
    }

    /// An agent claims it; returns who is to be told that he is refused.
    pub fn claim(&mut self, upstream: Name, strip: bool, holder: Holder) -> Vec<Command> {
        let before = self.first();
        let agent = holder.agent.clone();
        // It may have claimed it with another word about stripping.
        self.drop_holder(&upstream, &agent);
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
        match self.settle(before) {
            true => self.refuse_later(),
            // The others have been told.
            false => self.refuse(|claim, holder| claim.upstream == upstream && holder.agent == agent),
        }
    }

    /// An agent gives it up; returns who is to be told that he is refused.
    pub fn release(&mut self, upstream: &Name, agent: &ProcessId) -> Vec<Command> {
        let before = self.first();
        self.drop_holder(upstream, agent);
        if self.settle(before) { self.refuse_later() } else { Vec::new() }
    }

    /// What all are to be told that do not have it.
    pub fn refuse_later(&self) -> Vec<Command> {
        self.refuse(|_, _| true)
    }

    /// Whether more than one upstream claims it.
    pub fn is_contested(&self) -> bool {
        self.claims.len() > 1
    }

    fn drop_holder(&mut self, upstream: &Name, agent: &ProcessId) {
        for claim in self.claims.iter_mut().filter(|claim| claim.upstream == *upstream) {
            claim.holders.retain(|holder| holder.agent != *agent);
        }
    }

    fn first(&self) -> Option<(Name, bool)> {
        self.holder().map(|(upstream, strip)| (upstream.clone(), strip))
    }

    /// Drops claims that nobody holds, and puts the first one first; whether that is now another one than
    /// `before`.
    fn settle(&mut self, before: Option<(Name, bool)>) -> bool {
        self.claims.retain(|claim| !claim.holders.is_empty());
        self.claims.sort_by(|a, b| a.rank().cmp(&b.rank()));
        before.is_some() && self.first() != before
    }

    /// What those of `whom` are to be told that do not have it.
    fn refuse(&self, whom: impl Fn(&ByUpstream, &Holder) -> bool) -> Vec<Command> {
        let Some((first, later)) = self.claims.split_first() else { return Vec::new() };
        let held = later.iter().flat_map(|claim| claim.holders.iter().map(move |holder| (claim, holder)));
        let refused =
            held.filter(|(claim, holder)| whom(claim, holder)).map(|(claim, holder)| Command::Refuse {
                upstream: claim.upstream.clone(),
                agent: holder.agent.clone(),
                route: self.route.clone(),
                why: Why::Taken {
                    by: first.upstream.clone(),
                    earlier: claim.since.saturating_duration_since(first.since),
                },
            });
        refused.collect()
    }
}
