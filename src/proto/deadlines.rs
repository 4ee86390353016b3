//! The timers of one machine: each key has at most one deadline.

use std::{collections::BTreeSet, time::Instant};

/// Deadlines by time. The owner of a key keeps its deadline and gives it back to move or drop it, so
/// that there is no second map and nothing is left behind by a request that has ended.
#[derive(Debug)]
pub struct Deadlines<K = u64> {
    by_time: BTreeSet<(Instant, K)>,
}

impl<K> Default for Deadlines<K> {
    fn default() -> Self {
        Deadlines { by_time: BTreeSet::new() }
    }
}

impl<K: Ord + Clone> Deadlines<K> {
    /// Adds `key` at `at`.
    pub fn add(&mut self, at: Instant, key: K) {
        self.by_time.insert((at, key));
    }

    /// Drops `key`, which was added at `at`.
    pub fn drop(&mut self, at: Instant, key: K) {
        self.by_time.remove(&(at, key));
    }

    /// Moves `key` from its `deadline` to `at`.
    pub fn change(&mut self, deadline: &mut Instant, at: Instant, key: K) {
        self.drop(*deadline, key.clone());
        *deadline = at;
        self.add(at, key);
    }

    /// The earliest deadline.
    pub fn next(&self) -> Option<Instant> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes out one key that is due.
    pub fn pop_due(&mut self, now: Instant) -> Option<K> {
        if self.next()? > now {
            return None;
        }
        self.by_time.pop_first().map(|(_, key)| key)
    }
}
