//! What an address may do so often in a minute, and gets back with time: be wrong, or make sessions.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    time::{Duration, Instant},
};

/// How often addresses did something lately.
#[derive(Debug)]
pub struct Rates {
    /// Times that an address may in [`SPAN`].
    limit: u32,
    counts: HashMap<Option<IpAddr>, Count>,
}

#[derive(Debug)]
struct Count {
    /// How many of the limit are used up, as of then.
    used: f64,
    at: Instant,
}

impl Rates {
    /// No address did anything yet.
    pub fn new(limit: u32) -> Self {
        Rates { limit, counts: HashMap::new() }
    }

    /// Whether this address may once more.
    pub fn is_within(&self, who: Option<IpAddr>, now: Instant) -> bool {
        let used = self.counts.get(&network(who)).map_or(0.0, |count| self.used(count, now));
        used + 1.0 <= f64::from(self.limit)
    }

    /// It did it. Beyond the limit that makes no difference: however often, it may again as soon.
    pub fn count(&mut self, who: Option<IpAddr>, now: Instant) {
        let who = network(who);
        let used = self.counts.get(&who).map_or(0.0, |count| self.used(count, now));
        if self.counts.len() >= MOST && !self.counts.contains_key(&who) {
            self.make_room(now);
        }
        let used = (used + 1.0).min(f64::from(self.limit));
        self.counts.insert(who, Count { used, at: now });
    }

    fn used(&self, count: &Count, now: Instant) -> f64 {
        let back = now.saturating_duration_since(count.at).as_secs_f64() / SPAN.as_secs_f64();
        (count.used - back * f64::from(self.limit)).max(0.0)
    }

    /// Forgets who has all back, or else half of all: whoever has that many addresses is not held up by this.
    fn make_room(&mut self, now: Instant) {
        let limit = self.limit;
        let mut counts = std::mem::take(&mut self.counts);
        counts.retain(|_, count| {
            let back = now.saturating_duration_since(count.at).as_secs_f64() / SPAN.as_secs_f64();
            count.used > back * f64::from(limit)
        });
        if counts.len() >= MOST {
            let mut keep = false;
            counts.retain(|_, _| {
                keep = !keep;
                keep
            });
        }
        self.counts = counts;
    }
}

/// The addresses that count as one: who has one address of IPv6 has the 2⁶⁴ around it.
pub fn network(who: Option<IpAddr>) -> Option<IpAddr> {
    Some(match who?.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        v4 => v4,
    })
}

const SPAN: Duration = Duration::from_secs(60);
/// Addresses that are kept.
const MOST: usize = 8192;
