//! The other agents of the same upstream, by what they announce. It is advice only: an agent that may not hear
//! them is, as far as it knows, alone.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::{
    proto::roster::BELIEVED,
    wire::{Here, ProcessId},
};

/// Siblings at most; announcements beyond it are ignored.
pub const MAX_SIBLINGS: usize = 1_000;

/// The others.
#[derive(Debug, Default)]
pub(super) struct Siblings {
    seen: HashMap<ProcessId, Sibling>,
}

/// What one of them said last.
#[derive(Debug, Clone, Copy)]
struct Sibling {
    at: Instant,
    /// Whether requests are well off with it.
    able: bool,
    in_flight: u64,
    limit: u64,
    response: Option<Duration>,
}

/// Those that are able, together.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Able {
    pub count: usize,
    pub in_flight: u64,
    pub limit: u64,
    /// The median of what a response takes them, as far as they know.
    pub response: Option<Duration>,
}

impl Siblings {
    /// Takes an announcement; whether it is that of a newcomer.
    pub fn announce(&mut self, here: &Here, now: Instant) -> bool {
        let known = self.seen.contains_key(&here.upstream_id);
        if self.seen.len() >= MAX_SIBLINGS && !known {
            return false;
        }
        let sibling = Sibling {
            at: now,
            able: here.accepting && !here.failing,
            in_flight: here.in_flight,
            limit: here.limit,
            response: (here.response > 0).then(|| Duration::from_micros(here.response)),
        };
        self.seen.insert(here.upstream_id.clone(), sibling);
        !known
    }

    pub fn remove(&mut self, agent: &ProcessId) {
        self.seen.remove(agent);
    }

    /// Forgets those that have not been heard for a while.
    pub fn expire(&mut self, now: Instant) {
        self.seen.retain(|_, sibling| now.saturating_duration_since(sibling.at) < BELIEVED);
    }

    /// When the next one is to be forgotten.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.seen.values().map(|sibling| sibling.at + BELIEVED).min()
    }

    pub fn able(&self) -> Able {
        let mut able = Able::default();
        let mut responses = Vec::new();
        for sibling in self.seen.values().filter(|sibling| sibling.able) {
            able.count += 1;
            able.in_flight = able.in_flight.saturating_add(sibling.in_flight);
            able.limit = able.limit.saturating_add(sibling.limit);
            responses.extend(sibling.response);
        }
        responses.sort_unstable();
        // The lower one of two: half of the siblings are at least as quick.
        able.response = responses.get(responses.len().saturating_sub(1) / 2).copied();
        able
    }
}
