//! Who guesses ids and tokens: each address may be wrong so often, and gets that back with time.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    time::{Duration, Instant},
};

/// The addresses that were wrong lately.
#[derive(Debug)]
pub struct Guesses {
    /// Wrong ones that an address may make in [`SPAN`].
    limit: u32,
    wrong: HashMap<Option<IpAddr>, Wrong>,
}

#[derive(Debug)]
struct Wrong {
    /// How many of the limit are used up, as of then.
    used: f64,
    at: Instant,
}

impl Guesses {
    /// Nobody was wrong yet.
    pub fn new(limit: u32) -> Self {
        Guesses { limit, wrong: HashMap::new() }
    }

    /// Whether whoever has this address may try.
    pub fn may_try(&self, who: Option<IpAddr>, now: Instant) -> bool {
        let used = self.wrong.get(&network(who)).map_or(0.0, |wrong| self.used(wrong, now));
        used + 1.0 <= f64::from(self.limit)
    }

    /// It was wrong.
    pub fn was_wrong(&mut self, who: Option<IpAddr>, now: Instant) {
        let who = network(who);
        let used = self.wrong.get(&who).map_or(0.0, |wrong| self.used(wrong, now));
        if self.wrong.len() >= MOST && !self.wrong.contains_key(&who) {
            self.make_room(now);
        }
        self.wrong.insert(who, Wrong { used: used + 1.0, at: now });
    }

    fn used(&self, wrong: &Wrong, now: Instant) -> f64 {
        let back = now.saturating_duration_since(wrong.at).as_secs_f64() / SPAN.as_secs_f64();
        (wrong.used - back * f64::from(self.limit)).max(0.0)
    }

    /// Forgets who has all back, or else half of all: whoever has that many addresses is not held up by this.
    fn make_room(&mut self, now: Instant) {
        let limit = self.limit;
        let mut wrong = std::mem::take(&mut self.wrong);
        wrong.retain(|_, wrong| {
            let back = now.saturating_duration_since(wrong.at).as_secs_f64() / SPAN.as_secs_f64();
            wrong.used > back * f64::from(limit)
        });
        if wrong.len() >= MOST {
            let mut keep = false;
            wrong.retain(|_, _| {
                keep = !keep;
                keep
            });
        }
        self.wrong = wrong;
    }
}

/// Who has one address of IPv6 has the 2⁶⁴ around it.
fn network(who: Option<IpAddr>) -> Option<IpAddr> {
    Some(match who?.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        v4 => v4,
    })
}

const SPAN: Duration = Duration::from_secs(60);
/// Addresses that are kept.
const MOST: usize = 8192;
