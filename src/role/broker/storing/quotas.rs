//! How many jobs may be kept of one upstream, and of one caller.
//!
//! JetStream counts those of an upstream, for all brokers; what it said is believed for a second, with what was taken
//! since. Those of a caller each broker counts itself, for as long as jobs are kept, by the address that the client agent
//! names.

use std::{
    collections::{HashMap, VecDeque},
    net::{IpAddr, Ipv6Addr},
    time::{Duration, Instant},
};

use crate::{
    bus::store::Store,
    config::Jobs as Settings,
    sync::Mutex,
    wire::{Code, Fault, Side},
};

/// What is kept, and how much of it there may be.
pub struct Quotas {
    per_upstream: u64,
    per_caller: u32,
    counted: Mutex<HashMap<String, Counted>>,
    callers: Mutex<Callers>,
}

/// The jobs of an upstream.
#[derive(Debug, Clone, Copy)]
struct Counted {
    /// As JetStream said.
    kept: u64,
    /// Taken since.
    since: u64,
    at: Instant,
}

/// The jobs of every caller.
struct Callers {
    kept: HashMap<Address, Kept>,
    /// How long one part of the time lasts in which jobs are kept.
    part: Duration,
    start: Instant,
}

/// Whose jobs are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Address {
    /// A caller's; of IPv6 the first 64 bits, which are one site's.
    Of(IpAddr),
    /// Those of whom no address is known, or that came when too many others were known.
    Rest,
}

/// The jobs of one caller: in which part of the time they were taken, and how many.
#[derive(Debug, Default)]
struct Kept(VecDeque<(u64, u32)>);

/// The right to have one more job stored. It is given back unless the job is.
pub struct Place<'a> {
    quotas: &'a Quotas,
    address: Option<Address>,
    subject: String,
    is_taken: bool,
}

impl Quotas {
    /// Those of `settings`.
    pub fn new(settings: &Settings) -> Self {
        let default = |part: usize| (settings.max_jobs / part).max(1);
        let per_upstream = settings.max_jobs_per_upstream.unwrap_or_else(|| default(2));
        let per_caller = settings.max_jobs_per_caller.unwrap_or_else(|| default(4));
        Quotas {
            per_upstream: per_upstream as u64,
            per_caller: u32::try_from(per_caller).unwrap_or(u32::MAX),
            counted: Mutex::new(HashMap::new()),
            callers: Mutex::new(Callers::new(settings.lifetime + settings.keep, Instant::now())),
        }
    }

    /// A place for one more job of `caller` on `subject`, which is that of all jobs of one upstream in `stream`.
    ///
    /// # Errors
    /// When there are as many as there may be.
    pub async fn place(
        &self,
        store: &Store,
        stream: &str,
        subject: String,
        caller: Option<&str>,
    ) -> Result<Place<'_>, Fault> {
        if self.is_old(&subject) {
            // What can't be counted now can't be stored either, or is counted the next time.
            if let Ok(kept) = store.count(stream, &subject).await {
                self.recount(&subject, kept);
            }
        }
        if let Some(of) = self.counted.lock().get_mut(&subject) {
            if of.kept + of.since >= self.per_upstream {
                let most = self.per_upstream;
                let detail =
                    format!("{most} jobs of this upstream are kept, the limit of --max-jobs-per-upstream");
                return Err(Fault::new(Code::JobsFull, Side::Broker, detail));
            }
            of.since += 1;
        }
        let mut place = Place { quotas: self, address: None, subject, is_taken: false };
        place.address = Some(self.callers.lock().take(caller, self.per_caller, Instant::now())?);
        Ok(place)
    }

    /// Whether the jobs on `subject` are to be counted, by whoever asks first.
    fn is_old(&self, subject: &str) -> bool {
        let now = Instant::now();
        let mut counted = self.counted.lock();
        if let Some(of) = counted.get_mut(subject) {
            let is_old = now.duration_since(of.at) >= RECOUNT;
            of.at = if is_old { now } else { of.at };
            return is_old;
        }
        if counted.len() >= MAX_UPSTREAMS {
            counted.retain(|_, of| now.duration_since(of.at) < RECOUNT);
        }
        if counted.len() < MAX_UPSTREAMS {
            counted.insert(subject.to_owned(), Counted { kept: 0, since: 0, at: now });
        }
        true
    }

    fn recount(&self, subject: &str, kept: u64) {
        if let Some(of) = self.counted.lock().get_mut(subject) {
            (of.kept, of.since) = (kept, 0);
        }
    }
}

impl Place<'_> {
    /// The job is stored.
    pub fn keep(mut self) {
        self.is_taken = true;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.is_taken {
            return;
        }
        if let Some(address) = self.address {
            self.quotas.callers.lock().give_back(address);
        }
        if let Some(of) = self.quotas.counted.lock().get_mut(&self.subject) {
            of.since = of.since.saturating_sub(1);
        }
    }
}

impl Callers {
    fn new(age: Duration, start: Instant) -> Self {
        Callers { kept: HashMap::new(), part: (age / PARTS).max(Duration::from_millis(1)), start }
    }

    fn take(&mut self, caller: Option<&str>, most: u32, now: Instant) -> Result<Address, Fault> {
        let part = self.part_of(now);
        let named = caller.and_then(|caller| caller.parse().ok()).map_or(Address::Rest, Address::of);
        if self.kept.len() >= MAX_CALLERS && !self.kept.contains_key(&named) {
            self.kept.retain(|_, kept| kept.count(part) > 0);
        }
        let is_known = self.kept.contains_key(&named) || self.kept.len() < MAX_CALLERS;
        let address = if is_known { named } else { Address::Rest };
        let kept = self.kept.entry(address).or_default();
        if kept.count(part) >= most {
            let detail = format!("{most} jobs of this caller are kept, the limit of --max-jobs-per-caller");
            return Err(Fault::new(Code::TooManyJobs, Side::Broker, detail));
        }
        kept.add(part);
        Ok(address)
    }

    fn give_back(&mut self, address: Address) {
        if let Some((_, last)) = self.kept.get_mut(&address).and_then(|kept| kept.0.back_mut()) {
            *last = last.saturating_sub(1);
        }
    }

    fn part_of(&self, now: Instant) -> u64 {
        let parts = now.saturating_duration_since(self.start).as_millis() / self.part.as_millis();
        u64::try_from(parts).unwrap_or(u64::MAX)
    }
}

impl Address {
    fn of(address: IpAddr) -> Self {
        Address::Of(match address.to_canonical() {
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
            address @ IpAddr::V4(_) => address,
        })
    }
}

impl Kept {
    /// How many there are in `part`, after those that are kept no longer are forgotten.
    fn count(&mut self, part: u64) -> u32 {
        while self.0.front().is_some_and(|(taken, _)| taken + u64::from(PARTS) < part) {
            self.0.pop_front();
        }
        self.0.iter().map(|(_, jobs)| jobs).fold(0, |sum, jobs| sum.saturating_add(*jobs))
    }

    fn add(&mut self, part: u64) {
        match self.0.back_mut() {
            Some((taken, jobs)) if *taken == part => *jobs += 1,
            _ => self.0.push_back((part, 1)),
        }
    }
}

/// How long is believed what JetStream counted.
const RECOUNT: Duration = Duration::from_secs(1);
/// Parts of the time in which jobs are kept.
const PARTS: u32 = 32;
/// Upstreams that are counted at most; of more, each job is counted.
const MAX_UPSTREAMS: usize = 10_000;
/// Callers that are told apart at most.
const MAX_CALLERS: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    const AGE: Duration = Duration::from_secs(3_200);

    #[test]
    fn a_caller_has_so_many_jobs_and_more_when_the_first_are_kept_no_longer() {
        let start = Instant::now();
        let mut callers = Callers::new(AGE, start);
        let mut take = |caller: &str, seconds: u64| {
            callers.take(Some(caller), 2, start + Duration::from_secs(seconds)).is_ok()
        };
        assert_eq!(
            [take("192.0.2.1", 0), take("192.0.2.1", 1_000), take("192.0.2.1", 1_001)],
            [true, true, false]
        );
        assert!(take("192.0.2.2", 1_001), "another caller");
        assert!(
            take("2001:db8::1", 1_001) && take("2001:db8::2", 1_001) && !take("2001:db8::3", 1_001),
            "one site"
        );
        assert!(take("2001:db8:0:1::1", 1_001), "another one");
        assert!(
            take("unix", 1_001) && take("nonsense", 1_001) && !take("", 1_001),
            "of whom nothing is known"
        );
        assert!(!take("192.0.2.1", 3_200), "it may still be kept");
        assert!(take("192.0.2.1", 3_400) && !take("192.0.2.1", 3_400), "the first is forgotten");
    }

    #[test]
    fn what_was_not_stored_does_not_count() {
        let start = Instant::now();
        let mut callers = Callers::new(AGE, start);
        for _ in 0..3 {
            let address = callers.take(Some("192.0.2.1"), 1, start).unwrap();
            assert_eq!(callers.take(Some("192.0.2.1"), 1, start).unwrap_err().code, Code::TooManyJobs);
            callers.give_back(address);
        }
    }

    #[test]
    fn callers_beyond_those_that_can_be_told_apart_are_counted_together() {
        let start = Instant::now();
        let mut callers = Callers::new(AGE, start);
        for n in 0..MAX_CALLERS {
            let address = std::net::Ipv4Addr::from_bits(u32::try_from(n).unwrap()).to_string();
            assert!(callers.take(Some(&address), 1, start).is_ok());
        }
        assert!(callers.take(Some("192.0.2.1"), 1, start).is_ok());
        assert!(callers.take(Some("192.0.2.2"), 1, start).is_err());
        assert!(
            callers.take(Some("192.0.2.2"), 1, start + 2 * AGE).is_ok(),
            "all others are forgotten by then"
        );
    }
}
