//! Whether an agent is so much slower than its siblings that requests are better off without it.
//!
//! NATS hands requests to the members of a queue group at random, however quick they are. So an agent that is
//! much slower than the others stands by: it leaves the group, and comes back when they are gone, short of room or slow
//! themselves, when somebody looks for it, and now and then to see how it is now.
//!
//! What is compared is the geometric mean of what responses take, which a few very slow requests hardly move; and
//! only a difference that chance does not explain counts, so that requests of different kinds do no harm.

use std::time::{Duration, Instant};

use super::siblings::Able;

/// What responses take an agent.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pace {
    /// The mean of the logarithm of microseconds, the newest responses counting most.
    mean: f64,
    variance: f64,
    samples: u32,
}

impl Pace {
    pub fn add(&mut self, took: Duration) {
        let sample = (took.as_secs_f64() * 1e6).max(1.0).ln();
        self.samples = (self.samples + 1).min(MEMORY);
        let share = 1.0 / f64::from(self.samples);
        let off = sample - self.mean;
        self.mean += share * off;
        self.variance = (1.0 - share) * (self.variance + share * off * off);
    }

    /// What a response takes; nothing before the first.
    pub fn typical(&self) -> Option<Duration> {
        (self.samples > 0).then(|| Duration::from_secs_f64(self.mean.exp() / 1e6))
    }

    /// By how much the logarithm of what a response takes may be off.
    fn doubt(&self) -> f64 {
        // As many more count as have been forgotten in part, and the sibling's is as doubtful.
        (2.0 * self.variance / f64::from(self.samples.max(1))).sqrt()
    }

    /// Knows nothing certain any more, and learns quickly.
    fn forget(&mut self) {
        self.samples = 0;
        self.variance = 0.0;
    }
}

/// Whether it works or stands by.
#[derive(Debug)]
pub(super) struct Load {
    on: bool,
    pace: Pace,
    state: State,
    /// How long it rests the next time.
    rest: Duration,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Working {
        /// Nothing before it begins.
        since: Option<Instant>,
    },
    StandingBy {
        /// What a response took.
        own: Duration,
        until: Instant,
    },
}

/// It stands by, or works again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    /// It stands by.
    StandsBy {
        /// What a response takes here.
        own: Duration,
        /// What it takes the others.
        others: Duration,
    },
    /// It works again.
    Works,
}

impl Load {
    pub fn new(on: bool) -> Self {
        Load { on, pace: Pace::default(), state: State::Working { since: None }, rest: FIRST_REST }
    }

    /// It works from now on.
    pub fn begin(&mut self, now: Instant) {
        if let State::Working { since } = &mut self.state {
            since.get_or_insert(now);
        }
    }

    pub fn is_standing_by(&self) -> bool {
        matches!(self.state, State::StandingBy { .. })
    }

    /// What a response takes here, once it is known.
    pub fn typical(&self) -> Option<Duration> {
        match self.state {
            State::StandingBy { own, .. } => Some(own),
            State::Working { .. } => self.pace.typical().filter(|_| self.pace.samples >= ENOUGH),
        }
    }

    pub fn add(&mut self, took: Duration) {
        // What comes in late is of another time.
        if !self.is_standing_by() {
            self.pace.add(took);
        }
    }

    pub fn configure(&mut self, on: bool, now: Instant) -> Option<Turn> {
        self.on = on;
        if on { None } else { self.works(now) }
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::StandingBy { until, .. } => Some(until),
            State::Working { .. } => None,
        }
    }

    /// Somebody looks for an agent.
    pub fn sought(&mut self, now: Instant) -> Option<Turn> {
        self.works(now)
    }

    /// Compares itself with the siblings that are able.
    pub fn consider(&mut self, able: Able, in_flight: u64, now: Instant) -> Option<Turn> {
        match self.state {
            State::StandingBy { own, until } => {
                let short =
                    able.count == 0 || able.in_flight.saturating_mul(4) >= able.limit.saturating_mul(3);
                let alike = able.response.is_some_and(|others| own < others * BACK);
                (short || alike || until <= now).then(|| self.works(now)).flatten()
            }
            State::Working { since } => {
                let since = since.filter(|since| self.on && now >= *since + SETTLED)?;
                if self.pace.samples < ENOUGH {
                    return None;
                }
                let (own, others) = (self.pace.typical()?, able.response?);
                let room = able.in_flight.saturating_add(in_flight).saturating_mul(2) <= able.limit;
                let slower = own >= others * SLOWER && own - others >= WORTH_IT;
                let certain = (own.as_secs_f64() / others.as_secs_f64()).ln() > CERTAIN * self.pace.doubt();
                if able.count == 0 || !room || !slower || !certain {
                    // It is as good as the others for a while: a later rest begins short again.
                    if !slower && now >= since + LAST_REST {
                        self.rest = FIRST_REST;
                    }
                    return None;
                }
                self.state = State::StandingBy { own, until: now + self.rest };
                self.rest = (self.rest * 2).min(LAST_REST);
                Some(Turn::StandsBy { own, others })
            }
        }
    }

    fn works(&mut self, now: Instant) -> Option<Turn> {
        if !self.is_standing_by() {
            return None;
        }
        self.pace.forget();
        self.state = State::Working { since: Some(now) };
        Some(Turn::Works)
    }
}

/// How many times slower than the others it is when it stands by.
const SLOWER: u32 = 3;
/// And at most, when it works again.
const BACK: u32 = 2;
/// A smaller difference is not worth the capacity.
const WORTH_IT: Duration = Duration::from_millis(5);
/// How many times its doubt a difference must be.
const CERTAIN: f64 = 4.0;
/// Responses that are enough to compare.
const ENOUGH: u32 = 16;
/// Responses that count as much as older ones together.
const MEMORY: u32 = 128;
/// How long it works at least.
const SETTLED: Duration = Duration::from_secs(1);
/// How long it stands by before it tries itself again: longer each time.
const FIRST_REST: Duration = Duration::from_secs(30);
const LAST_REST: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_is_much_slower_stands_by_and_tries_itself_again() {
        let mut agent = Agent::new();
        agent.responses(50, |_| 100.0);
        assert_eq!(
            agent.hears(able(10)),
            Some(Turn::StandsBy { own: agent.own(), others: Duration::from_millis(10) })
        );
        assert_eq!(agent.hears(able(10)), None);
        agent.now += FIRST_REST;
        assert_eq!(agent.hears(able(10)), Some(Turn::Works));
        agent.now += SETTLED;
        assert_eq!(agent.hears(able(10)), None, "it knows nothing yet");
        agent.responses(16, |_| 100.0);
        assert!(matches!(agent.hears(able(10)), Some(Turn::StandsBy { .. })));
        agent.now += FIRST_REST;
        assert_eq!(agent.hears(able(10)), None, "it rests longer");
    }

    #[test]
    fn it_comes_back_when_the_others_are_gone_full_or_slow_or_it_is_sought() {
        let full = Able { in_flight: 75, ..able(10) };
        for back in [Able::default(), full, able(60)] {
            let mut agent = Agent::new();
            agent.stands_by();
            assert_eq!(agent.hears(back), Some(Turn::Works), "{back:?}");
        }
        let mut agent = Agent::new();
        agent.stands_by();
        assert_eq!(agent.load.sought(agent.now), Some(Turn::Works));
        assert_eq!(agent.load.sought(agent.now), None);
    }

    #[test]
    fn alone_without_room_or_little_slower_it_goes_on() {
        let no_room = Able { in_flight: 51, ..able(10) };
        let unknown = Able { response: None, ..able(10) };
        for others in [Able::default(), no_room, unknown, able(40)] {
            let mut agent = Agent::new();
            agent.responses(200, |_| 100.0);
            assert_eq!(agent.hears(others), None, "{others:?}");
        }
        let mut agent = Agent::new();
        agent.responses(200, |_| 4.0);
        assert_eq!(agent.hears(able(1)), None, "that little is not worth it");
    }

    #[test]
    fn requests_of_different_kinds_do_not_look_like_a_slow_agent() {
        // Half of them take 1 ms, half of them 1 s; the others have seen their share of the same.
        for seed in 0..200_u32 {
            let mut agent = Agent::new();
            let mut dice = seed.wrapping_mul(2_654_435_761) | 1;
            for _ in 0..50 {
                agent.responses(40, |_| {
                    dice ^= dice << 13;
                    dice ^= dice >> 17;
                    dice ^= dice << 5;
                    if dice & 0x100 == 0 { 1.0 } else { 1000.0 }
                });
                assert_eq!(agent.hears(able(32)), None, "seed {seed}");
            }
        }
    }

    #[test]
    fn one_very_slow_response_is_not_a_slow_agent() {
        let mut agent = Agent::new();
        agent.responses(100, |n| if n == 99 { 60_000.0 } else { 10.0 });
        assert_eq!(agent.hears(able(10)), None);
        assert!(agent.own() < Duration::from_millis(12), "{:?}", agent.own());
    }

    #[test]
    fn turned_off_it_works() {
        let mut agent = Agent::new();
        agent.stands_by();
        assert_eq!(agent.load.configure(false, agent.now), Some(Turn::Works));
        agent.now += SETTLED;
        agent.responses(100, |_| 100.0);
        assert_eq!(agent.hears(able(10)), None);
    }

    struct Agent {
        load: Load,
        now: Instant,
    }

    impl Agent {
        fn new() -> Agent {
            let start = Instant::now();
            let mut load = Load::new(true);
            load.begin(start);
            Agent { load, now: start + SETTLED }
        }

        fn responses(&mut self, count: u32, mut millis: impl FnMut(u32) -> f64) {
            for n in 0..count {
                self.load.add(Duration::from_secs_f64(millis(n) / 1e3));
            }
        }

        fn hears(&mut self, able: Able) -> Option<Turn> {
            self.load.consider(able, 1, self.now)
        }

        fn stands_by(&mut self) {
            self.responses(50, |_| 100.0);
            assert!(matches!(self.hears(able(10)), Some(Turn::StandsBy { .. })));
        }

        fn own(&self) -> Duration {
            self.load.typical().unwrap()
        }
    }

    fn able(millis: u64) -> Able {
        Able { count: 1, in_flight: 1, limit: 100, response: Some(Duration::from_millis(millis)) }
    }
}
