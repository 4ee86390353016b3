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
    upstreams: HashMap<Name, HashMap<ProcessId, Seen>>,
    agents: usize,
}

/// One agent's last announcement.
#[derive(Debug, Clone)]
pub struct Seen {
    /// When it came.
    pub at: Instant,
    /// What it said.
    pub here: Here,
}

impl Roster {
    /// Takes an announcement; false when the roster is full and it was ignored.
    pub fn announce(&mut self, here: Here, now: Instant) -> bool {
        let agents = self.upstreams.entry(here.upstream_target.clone()).or_default();
        let id = here.upstream_id.clone();
        if !agents.contains_key(&id) {
            if self.agents >= MAX_AGENTS {
                return false;
            }
            self.agents += 1;
        }
        agents.insert(id, Seen { at: now, here });
        true
    }

    /// An agent left, or is known to be gone.
    pub fn remove(&mut self, upstream: &Name, agent: &ProcessId) {
        if let Some(agents) = self.upstreams.get_mut(upstream) {
            if agents.remove(agent).is_some() {
                self.agents -= 1;
            }
            if agents.is_empty() {
                self.upstreams.remove(upstream);
            }
        }
    }

    /// Forgets agents that have not announced themselves for [`BELIEVED`].
    pub fn expire(&mut self, now: Instant) {
        self.upstreams.retain(|_, agents| {
            agents.retain(|_, seen| now.duration_since(seen.at) < BELIEVED);
            !agents.is_empty()
        });
        self.agents = self.upstreams.values().map(HashMap::len).sum();
    }

    /// Whether any agent of `upstream` is there, and whether one of them accepts requests.
    pub fn presence(&self, upstream: &Name) -> Presence {
        match self.upstreams.get(upstream) {
            None => Presence::Absent,
            Some(agents) if agents.values().any(|seen| seen.here.accepting) => Presence::Accepting,
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
