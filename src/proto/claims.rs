//! An upstream agent's routes: what it claims, and what became of it.
//!
//! The first upstream to claim a route has it. Client agents tell from how long ago a claim was made, and tell
//! whoever comes second. Two client agents may know different things and see two claims in different order; so an
//! agent that is told it comes second says so from then on, and all tables put it second. Of two that are told so
//! at once, the one with the smaller name holds on, or comes first.

use std::time::{Duration, Instant};

use crate::wire::{
    Claim, Name, ProcessId, Refused, Route,
    message::{VERSION, millis},
};

/// The routes of one upstream at one agent.
#[derive(Debug)]
pub struct Claims {
    agent: ProcessId,
    upstream: Name,
    own: Vec<Own>,
}

#[derive(Debug)]
struct Own {
    route: Route,
    strip: bool,
    since: Instant,
    standing: Standing,
    waiting: bool,
    /// When it was last told that another upstream has it.
    taken: Option<Instant>,
}

/// What became of a claim, as far as this agent has been told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Nobody objected.
    Served,
    /// Another upstream claimed it earlier.
    Taken {
        /// That upstream.
        by: Name,
    },
    /// It is refused for good.
    Refused {
        /// Why.
        why: String,
    },
}

/// A claim as a person asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The route.
    pub route: Route,
    /// Whether its path is stripped from the requests.
    pub strip: bool,
    /// What became of it.
    pub standing: Standing,
}

impl Claims {
    /// No routes.
    pub fn new(agent: ProcessId, upstream: Name) -> Self {
        Claims { agent, upstream, own: Vec::new() }
    }

    /// Claims these routes and no others; returns what is to be said: those given up, and those that are new.
    pub fn set(&mut self, routes: &[Route], strip: bool, now: Instant) -> Vec<Claim> {
        let stays = |own: &Own| own.strip == strip && routes.contains(&own.route);
        let given_up = self.own.iter().filter(|own| !stays(own));
        let mut said: Vec<Claim> =
            given_up.map(|own| Claim { withdrawn: true, ..self.claim(own, now) }).collect();
        self.own.retain(stays);
        for route in routes {
            if !self.own.iter().any(|own| own.route == *route) {
                let own = Own {
                    route: route.clone(),
                    strip,
                    since: now,
                    standing: Standing::Served,
                    waiting: false,
                    taken: None,
                };
                said.push(self.claim(&own, now));
                self.own.push(own);
            }
        }
        said
    }

    /// All of them, for whoever asks.
    pub fn all(&self, now: Instant) -> Vec<Claim> {
        self.own.iter().map(|own| self.claim(own, now)).collect()
    }

    /// At a heartbeat: claims that nobody has refused for a while are served, which is news, and said where it
    /// changes them.
    pub fn beat(&mut self, now: Instant) -> (Vec<Claim>, Vec<Row>) {
        let (mut said, mut news) = (Vec::new(), Vec::new());
        for at in 0..self.own.len() {
            let own = &mut self.own[at];
            let is_taken = matches!(own.standing, Standing::Taken { .. });
            if !is_taken || own.taken.is_some_and(|taken| now < taken + REFUSED_AGAIN) {
                continue;
            }
            own.standing = Standing::Served;
            news.push(own.row());
            if std::mem::take(&mut own.waiting) {
                said.push(self.claim(&self.own[at], now));
            }
        }
        (said, news)
    }

    /// What the claims add up to, for the heartbeat. Those that were refused for good don't count.
    pub fn digest(&self, now: Instant) -> u64 {
        let counted = self.own.iter().filter(|own| !matches!(own.standing, Standing::Refused { .. }));
        counted.fold(0, |sum, own| sum.wrapping_add(self.claim(own, now).hash()))
    }

    /// A client agent refuses a claim. Returns what is news, and the claim when it changes by that.
    pub fn refused(&mut self, refused: &Refused, now: Instant) -> (Option<Row>, Option<Claim>) {
        let Some(at) = self.own.iter().position(|own| own.route.to_string() == refused.route) else {
            return (None, None);
        };
        let own = &mut self.own[at];
        let (standing, waiting) = match (&refused.why, &refused.by) {
            (Some(why), _) => (Standing::Refused { why: why.clone() }, false),
            (None, Some(by)) => {
                own.taken = Some(now);
                let unclear = Duration::from_millis(refused.earlier) < UNCLEAR;
                let holds_on = unclear && self.upstream < *by && !own.waiting;
                (Standing::Taken { by: by.clone() }, !holds_on)
            }
            (None, None) => return (None, None),
        };
        let changes = std::mem::replace(&mut own.waiting, waiting) != waiting;
        let is_news = std::mem::replace(&mut own.standing, standing.clone()) != standing;
        let own = &self.own[at];
        (is_news.then(|| own.row()), changes.then(|| self.claim(own, now)))
    }

    /// Every claim.
    pub fn rows(&self) -> Vec<Row> {
        let row =
            |own: &Own| Row { route: own.route.clone(), strip: own.strip, standing: own.standing.clone() };
        self.own.iter().map(row).collect()
    }

    fn claim(&self, own: &Own, now: Instant) -> Claim {
        Claim {
            v: VERSION,
            upstream_id: self.agent.clone(),
            upstream_target: self.upstream.clone(),
            route: own.route.clone(),
            age: millis(now.saturating_duration_since(own.since)),
            strip: own.strip,
            waiting: own.waiting,
            withdrawn: false,
        }
    }
}

impl Own {
    fn row(&self) -> Row {
        Row { route: self.route.clone(), strip: self.strip, standing: self.standing.clone() }
    }
}

/// A claim that is another's is refused with every heartbeat; one that is not for so long is served.
const REFUSED_AGAIN: Duration = Duration::from_secs(8);
/// Claims that are so little apart may reach two client agents in different order.
const UNCLEAR: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_routes_are_claimed_and_old_ones_given_up() {
        let (mut claims, now) = (claims("shop"), Instant::now());
        let said = claims.set(&routes(&["a.example", "b.example"]), false, now);
        assert_eq!(shown(&said), ["+a.example", "+b.example"]);
        let before = claims.digest(now);
        let later = now + Duration::from_secs(3);
        let said = claims.set(&routes(&["b.example", "c.example"]), false, later);
        assert_eq!(shown(&said), ["-a.example", "+c.example"]);
        assert_ne!(claims.digest(now), before);
        let ages: Vec<u64> = claims.all(later).iter().map(|claim| claim.age).collect();
        assert_eq!(ages, [3000, 0], "what stays keeps its age");
        let said = claims.set(&routes(&["b.example", "c.example"]), true, later);
        assert_eq!(shown(&said), ["-b.example", "-c.example", "+b.example", "+c.example"]);
        claims.set(&[], false, later);
        assert_eq!(claims.digest(now), 0);
    }

    #[test]
    fn an_agent_that_comes_second_says_so_until_it_is_served() {
        let (mut claims, now) = (claims("shop"), Instant::now());
        claims.set(&routes(&["a.example"]), false, now);
        assert!(claims.beat(now).0.is_empty());
        let (news, said) = claims.refused(&taken("a.example", "other", 60_000), now);
        assert_eq!(news.unwrap().standing, Standing::Taken { by: name("other") });
        assert!(said.unwrap().waiting, "it says so at once");
        assert_eq!(claims.refused(&taken("a.example", "other", 61_000), now), (None, None), "it is no news");
        assert_eq!(claims.beat(now + REFUSED_AGAIN / 2), (vec![], vec![]));
        let (said, news) = claims.beat(now + REFUSED_AGAIN);
        assert!(!said[0].waiting);
        assert_eq!(news[0].standing, Standing::Served);
        assert_eq!(claims.beat(now + REFUSED_AGAIN), (vec![], vec![]));
    }

    #[test]
    fn of_two_that_claim_at_once_the_smaller_name_holds_on() {
        let now = Instant::now();
        let (mut small, mut great) = (claims("a"), claims("b"));
        for claims in [&mut small, &mut great] {
            claims.set(&routes(&["x.example"]), false, now);
        }
        small.refused(&taken("x.example", "b", 100), now);
        great.refused(&taken("x.example", "a", 100), now);
        assert!(!small.all(now)[0].waiting && great.all(now)[0].waiting);
        small.refused(&taken("x.example", "b", 10_000), now);
        assert!(small.all(now)[0].waiting, "that is no moment any more");
    }

    #[test]
    fn a_route_that_is_refused_for_good_does_not_count() {
        let (mut claims, now) = (claims("shop"), Instant::now());
        claims.set(&routes(&["a.example"]), false, now);
        let mut refused = taken("a.example", "x", 0);
        refused.why = Some("the table is full".into());
        assert!(matches!(claims.refused(&refused, now).0.unwrap().standing, Standing::Refused { .. }));
        assert_eq!(claims.digest(now), 0);
        assert!(claims.beat(now).0.is_empty());
    }

    fn claims(upstream: &str) -> Claims {
        Claims::new("agent.a1".parse().unwrap(), name(upstream))
    }

    fn routes(texts: &[&str]) -> Vec<Route> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn taken(route: &str, by: &str, earlier: u64) -> Refused {
        Refused {
            v: VERSION,
            upstream_target: name("shop"),
            route: route.into(),
            by: Some(name(by)),
            earlier,
            why: None,
        }
    }

    fn shown(claims: &[Claim]) -> Vec<String> {
        let sign = |claim: &Claim| if claim.withdrawn { '-' } else { '+' };
        claims.iter().map(|claim| format!("{}{}", sign(claim), claim.route)).collect()
    }

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }
}
