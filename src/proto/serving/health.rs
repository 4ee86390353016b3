//! Whether the origin can be worked with: told by checks, and by connections that cannot be made.

use std::time::{Duration, Instant};

use crate::wire::Code;

/// What is believed of an origin, and when.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rules {
    /// Whether there is a check. Without one, the origin is tried only when it was given up.
    pub checked: bool,
    /// The pause between two checks or tries.
    pub interval: Duration,
    /// Checks in a row that fail until it is unhealthy.
    pub fall: u32,
    /// Checks in a row that succeed until it is healthy.
    pub rise: u32,
    /// Connections in a row that cannot be made until it is given up; never with 0.
    pub eject_after: u32,
}

/// What became of the origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// It can be worked with (again).
    Healthy,
    /// Its checks fail.
    Unhealthy {
        /// What the last one said.
        why: String,
    },
    /// It cannot be connected to.
    Ejected {
        /// What the last attempt said.
        why: String,
    },
}

/// What a request to the origin says about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    Reached,
    Unreached,
    /// It never got as far as that, or it is not known how far.
    None,
}

impl Sign {
    /// What an error says; without one there is a response.
    pub fn of(error: Option<Code>) -> Sign {
        match error {
            None | Some(Code::OriginBroken | Code::OriginSilent | Code::ResponseTooLarge) => Sign::Reached,
            Some(code) if code.is_unreached() => Sign::Unreached,
            Some(_) => Sign::None,
        }
    }
}

/// The health of one origin.
#[derive(Debug)]
pub(super) struct Health {
    rules: Rules,
    state: State,
    /// Connections in a row that could not be made.
    unreached: u32,
    /// When the next check is due; none while one runs.
    next: Option<Instant>,
    running: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No check has ended yet.
    Unknown,
    Well {
        /// Checks in a row that failed.
        failed: u32,
    },
    Unwell {
        /// Checks in a row that succeeded.
        passed: u32,
    },
}

impl Health {
    pub fn new(rules: Rules) -> Self {
        let state = if rules.checked { State::Unknown } else { State::Well { failed: 0 } };
        Health { rules, state, unreached: 0, next: None, running: false }
    }

    /// Other rules. What is known stays, unless nobody would look again.
    pub fn configure(&mut self, rules: Rules, now: Instant) {
        self.rules = rules;
        match (rules.checked, self.state) {
            (false, State::Unknown) => self.state = State::Well { failed: 0 },
            (true, State::Well { .. } | State::Unwell { .. } | State::Unknown) => self.look(now),
            (false, State::Well { .. }) => self.next = None,
            (false, State::Unwell { .. }) => self.look(now),
        }
    }

    pub fn is_well(&self) -> bool {
        matches!(self.state, State::Well { .. })
    }

    /// Whether it is to take no requests: its checks say so, or others can do better. Without checks an agent
    /// that is alone goes on: its callers are told at once what is wrong.
    pub fn keeps_away(&self, alone: bool) -> bool {
        !self.is_well() && (self.rules.checked || !alone)
    }

    /// Begins to check.
    pub fn begin(&mut self, now: Instant) {
        if self.rules.checked && !self.running && self.next.is_none() {
            self.next = Some(now);
        }
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        self.next
    }

    /// Whether the origin is to be tried now.
    pub fn is_due(&mut self, now: Instant) -> bool {
        let due = self.next.is_some_and(|at| at <= now);
        if due {
            self.next = None;
            self.running = true;
        }
        due
    }

    /// A check or a try has ended.
    pub fn checked(&mut self, failure: Option<String>, now: Instant) -> Option<News> {
        self.running = false;
        let news = match (failure, self.state) {
            (None, State::Unknown) => self.recovers(),
            (None, State::Unwell { passed }) if !self.rules.checked || passed + 1 >= self.rules.rise => {
                self.recovers()
            }
            (None, State::Unwell { passed }) => {
                self.state = State::Unwell { passed: passed + 1 };
                None
            }
            (None, State::Well { .. }) => {
                self.state = State::Well { failed: 0 };
                None
            }
            (Some(why), State::Unknown) => self.falls(News::Unhealthy { why }),
            (Some(why), State::Well { failed }) if failed + 1 >= self.rules.fall => {
                self.falls(News::Unhealthy { why })
            }
            (Some(_), State::Well { failed }) => {
                self.state = State::Well { failed: failed + 1 };
                None
            }
            (Some(_), State::Unwell { .. }) => {
                self.state = State::Unwell { passed: 0 };
                None
            }
        };
        if self.rules.checked || !self.is_well() {
            self.look(now);
        }
        news
    }

    /// A check or a try could not be made, which says nothing of the origin.
    pub fn not_checked(&mut self, now: Instant) {
        self.running = false;
        if self.rules.checked || !self.is_well() {
            self.look(now);
        }
    }

    /// A request has ended.
    pub fn saw(&mut self, sign: Sign, why: &str, now: Instant) -> Option<News> {
        match sign {
            Sign::None => None,
            Sign::Reached => {
                self.unreached = 0;
                let recovered = !self.rules.checked && !self.is_well();
                recovered.then(|| self.recovers()).flatten()
            }
            Sign::Unreached => {
                self.unreached = self.unreached.saturating_add(1);
                let enough = self.rules.eject_after > 0 && self.unreached >= self.rules.eject_after;
                if !enough || !self.is_well() {
                    return None;
                }
                self.look(now);
                self.falls(News::Ejected { why: why.to_owned() })
            }
        }
    }

    fn look(&mut self, now: Instant) {
        if !self.running {
            self.next = Some(now + self.rules.interval);
        }
    }

    fn recovers(&mut self) -> Option<News> {
        self.state = State::Well { failed: 0 };
        self.unreached = 0;
        if !self.rules.checked {
            self.next = None;
        }
        Some(News::Healthy)
    }

    fn falls(&mut self, news: News) -> Option<News> {
        self.state = State::Unwell { passed: 0 };
        Some(news)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn checks_in_a_row_decide_and_the_first_one_decides_alone() {
        let (mut health, now) = (Health::new(checked()), Instant::now());
        assert!(!health.is_well() && health.keeps_away(true), "nothing is known yet");
        health.begin(now);
        assert!(health.is_due(now) && !health.is_due(now));
        assert_eq!(health.checked(None, now), Some(News::Healthy));
        for round in 1..=3 {
            let news = health.checked(Some("503".into()), now);
            assert_eq!(news, (round == 3).then(|| News::Unhealthy { why: "503".into() }));
        }
        assert_eq!(health.checked(None, now), None);
        assert_eq!(health.checked(Some("503".into()), now), None, "it begins anew");
        assert_eq!(health.checked(None, now), None);
        assert_eq!(health.checked(None, now), Some(News::Healthy));
    }

    #[test]
    fn a_check_that_could_not_be_made_says_nothing_and_is_made_again() {
        let (mut health, now) = (Health::new(Rules { fall: 1, ..checked() }), Instant::now());
        health.begin(now);
        for _ in 0..3 {
            assert!(health.is_due(now + SECOND * 60));
            health.not_checked(now);
            assert!(!health.is_well(), "nothing is known yet");
        }
        assert!(health.is_due(now + SECOND * 60));
        assert_eq!(health.checked(None, now), Some(News::Healthy));
        assert!(health.is_due(now + SECOND * 60));
        health.not_checked(now);
        assert!(health.is_well());
    }

    #[test]
    fn one_check_that_succeeds_between_two_that_fail_is_enough() {
        let (mut health, now) = (Health::new(checked()), Instant::now());
        health.checked(None, now);
        for _ in 0..10 {
            for failure in [Some("x".into()), Some("x".into()), None] {
                assert_eq!(health.checked(failure, now), None);
            }
        }
    }

    #[test]
    fn a_check_is_due_an_interval_after_the_last_one_ended() {
        let (mut health, now) = (Health::new(checked()), Instant::now());
        health.begin(now);
        health.is_due(now);
        assert_eq!(health.poll_timeout(), None, "while one runs there is no other");
        health.checked(None, now + SECOND);
        assert_eq!(health.poll_timeout(), Some(now + SECOND * 6));
    }

    #[test]
    fn connections_in_a_row_that_fail_eject_it_and_a_try_brings_it_back() {
        let (mut health, now) = (Health::new(Rules { checked: false, ..checked() }), Instant::now());
        assert!(health.is_well() && health.poll_timeout().is_none());
        for sign in [Sign::Unreached, Sign::Reached, Sign::Unreached, Sign::None] {
            assert_eq!(health.saw(sign, "refused", now), None);
        }
        assert_eq!(
            health.saw(Sign::Unreached, "refused", now),
            Some(News::Ejected { why: "refused".into() })
        );
        assert!(health.keeps_away(false) && !health.keeps_away(true), "alone, it goes on");
        assert!(health.is_due(now + SECOND * 5));
        assert_eq!(health.checked(Some("refused".into()), now + SECOND * 5), None);
        assert!(health.is_due(now + SECOND * 10));
        assert_eq!(health.checked(None, now + SECOND * 10), Some(News::Healthy));
        assert_eq!(health.poll_timeout(), None, "nothing is tried while all is well");
    }

    #[test]
    fn a_response_brings_it_back_where_there_is_no_check() {
        let now = Instant::now();
        for (checked, back) in [(false, Some(News::Healthy)), (true, None)] {
            let mut health = Health::new(Rules { checked, ..self::checked() });
            health.checked(None, now);
            for _ in 0..2 {
                health.saw(Sign::Unreached, "refused", now);
            }
            assert!(!health.is_well());
            assert_eq!(health.saw(Sign::Reached, "", now), back);
        }
    }

    #[test]
    fn never_is_never() {
        let (mut health, now) =
            (Health::new(Rules { checked: false, eject_after: 0, ..checked() }), Instant::now());
        for _ in 0..100 {
            assert_eq!(health.saw(Sign::Unreached, "refused", now), None);
        }
    }

    fn checked() -> Rules {
        Rules { checked: true, interval: SECOND * 5, fall: 3, rise: 2, eject_after: 2 }
    }
}
