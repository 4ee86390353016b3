//! Which agents there are, by what they announce. Advisory: the exact truth about who is there is
//! NATS's "no responders"; the roster says when it is worth trying and what to tell.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::wire::{Here, Name, ProcessId};

/// How often an agent announces itself.
pub const HEARTBEAT: Duration = Duration::from_secs(5);
/// How long an announcement is believed.
pub const BELIEVED: Duration = Duration::from_secs(15);
/// Agents in a roster at most; announcements beyond it are ignored.
pub const MAX_AGENTS: usize = 100_000;

/// The agents that announced themselves.
#[derive(Debug, Default)]
pub struct Roster {
    upstreams: HashMap<Name, Members>,
    agents: usize,
}

/// The agents of one upstream, never none.
#[derive(Debug, Default)]
struct Members {
    seen: HashMap<ProcessId, Seen>,
    /// How many of them accept requests: counted, so that asking costs the same however many there are.
    accepting: usize,
}

/// An agent's last announcement.
#[derive(Debug, Clone, Copy)]
struct Seen {
    at: Instant,
    accepting: bool,
}

impl Roster {
    /// Takes an announcement; false when the roster is full and it was ignored.
    pub fn announce(&mut self, here: Here, now: Instant) -> bool {
        let known =
            self.upstreams.get(&here.upstream_target).is_some_and(|m| m.seen.contains_key(&here.upstream_id));
        if !known && self.agents >= MAX_AGENTS {
            return false;
        }
        let members = self.upstreams.entry(here.upstream_target).or_default();
        let seen = Seen { at: now, accepting: here.accepting };
        match members.seen.insert(here.upstream_id, seen) {
            Some(before) => members.accepting -= usize::from(before.accepting),
            None => self.agents += 1,
        }
        members.accepting += usize::from(here.accepting);
        true
    }

    /// An agent left, or is known to be gone.
    pub fn remove(&mut self, upstream: &Name, agent: &ProcessId) {
        let Some(members) = self.upstreams.get_mut(upstream) else { return };
        if let Some(gone) = members.seen.remove(agent) {
            members.accepting -= usize::from(gone.accepting);
            self.agents -= 1;
        }
        if members.seen.is_empty() {
            self.upstreams.remove(upstream);
        }
    }

    /// Forgets agents that have not announced themselves for [`BELIEVED`].
    pub fn expire(&mut self, now: Instant) {
        self.upstreams.retain(|_, members| {
            members.seen.retain(|_, seen| now.duration_since(seen.at) < BELIEVED);
            members.accepting = members.seen.values().filter(|seen| seen.accepting).count();
            !members.seen.is_empty()
        });
        self.agents = self.upstreams.values().map(|members| members.seen.len()).sum();
    }

    /// Whether any agent of `upstream` is there, and whether one of them accepts requests.
    pub fn presence(&self, upstream: &Name) -> Presence {
        match self.upstreams.get(upstream) {
            None => Presence::Absent,
            Some(members) if members.accepting > 0 => Presence::Accepting,
            Some(_) => Presence::Full,
        }
    }

    /// Agents known.
    pub fn len(&self) -> usize {
        self.agents
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.agents == 0
    }
}

/// What the roster says of an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// No agent is known.
    Absent,
    /// Agents are known, none accepts requests.
    Full,
    /// At least one accepts requests.
    Accepting,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_accepts_while_one_of_its_agents_does() {
        let (mut roster, now) = (Roster::default(), Instant::now());
        assert_eq!(roster.presence(&hello()), Presence::Absent);
        roster.announce(here("agent.a", true), now);
        roster.announce(here("agent.b", false), now);
        assert_eq!((roster.presence(&hello()), roster.len()), (Presence::Accepting, 2));
        roster.announce(here("agent.a", false), now);
        assert_eq!((roster.presence(&hello()), roster.len()), (Presence::Full, 2));
        roster.announce(here("agent.b", true), now);
        roster.remove(&hello(), &"agent.b".parse().unwrap());
        assert_eq!((roster.presence(&hello()), roster.len()), (Presence::Full, 1));
        roster.remove(&hello(), &"agent.a".parse().unwrap());
        assert_eq!(roster.presence(&hello()), Presence::Absent);
        assert!(roster.is_empty());
    }

    #[test]
    fn an_announcement_is_believed_for_three_heartbeats() {
        let (mut roster, now) = (Roster::default(), Instant::now());
        roster.announce(here("agent.a", true), now);
        roster.announce(here("agent.b", true), now + HEARTBEAT);
        roster.expire(now + BELIEVED);
        assert_eq!((roster.presence(&hello()), roster.len()), (Presence::Accepting, 1));
        roster.expire(now + BELIEVED + HEARTBEAT);
        assert_eq!((roster.presence(&hello()), roster.len()), (Presence::Absent, 0));
    }

    #[test]
    fn a_full_roster_keeps_nothing_of_a_stranger() {
        let (mut roster, now) = (Roster { agents: MAX_AGENTS, ..Roster::default() }, Instant::now());
        assert!(!roster.announce(here("agent.a", true), now));
        assert_eq!(roster.presence(&hello()), Presence::Absent);
    }

    fn here(agent: &str, accepting: bool) -> Here {
        Here { accepting, ..Here::of(agent.parse().unwrap(), hello()) }
    }

    fn hello() -> Name {
        "hello".parse().unwrap()
    }
}
