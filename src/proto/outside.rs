//! Which outside hosts somebody may call: what egress agents announce. Advisory: an agent checks each request itself.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use super::roster::BELIEVED;
use crate::wire::{Allow, Here, Name, ProcessId, Target};

/// The egress agents that announced themselves.
#[derive(Debug)]
pub struct Outside {
    /// The upstreams that are believed to be for outside hosts. Others may say what they like.
    believed: Vec<Name>,
    agents: HashMap<(Name, ProcessId), (Vec<Allow>, Instant)>,
}

impl Outside {
    /// Believes the agents of these upstreams.
    pub fn new(believed: Vec<Name>) -> Self {
        Outside { believed, agents: HashMap::new() }
    }

    /// Takes an announcement.
    pub fn here(&mut self, here: &Here, now: Instant) {
        if !self.believed.contains(&here.upstream_target) {
            return;
        }
        let key = (here.upstream_target.clone(), here.upstream_id.clone());
        if here.allow.is_empty() {
            self.agents.remove(&key);
        } else if self.agents.len() < MAX_EGRESS_AGENTS || self.agents.contains_key(&key) {
            self.agents.insert(key, (here.allow.clone(), now));
        }
    }

    /// An agent left, or is known to be gone.
    pub fn gone(&mut self, upstream: &Name, agent: &ProcessId) {
        if self.believed.contains(upstream) {
            self.agents.remove(&(upstream.clone(), agent.clone()));
        }
    }

    /// The upstream whose agents may call this.
    pub fn find(&mut self, target: &Target, now: Instant) -> Option<Name> {
        self.agents.retain(|_, (_, at)| now.duration_since(*at) < FORGOTTEN);
        let allows = |allow: &[Allow]| allow.iter().any(|allow| allow.allows(target));
        let may = self.agents.iter().filter(|(_, (allow, _))| allows(allow));
        // The one that is there; failing that the one that was, and may come back.
        may.max_by_key(|((upstream, _), (_, at))| {
            (now.duration_since(*at) < BELIEVED, std::cmp::Reverse(upstream.as_str()))
        })
        .map(|((upstream, _), _)| upstream.clone())
    }
}

/// Egress agents that are known at most.
const MAX_EGRESS_AGENTS: usize = 1024;
/// How long is remembered what an agent might call that is not there any more: requests wait for it then.
const FORGOTTEN: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outside_host_is_found_by_who_says_that_it_calls_it_and_is_believed() {
        let now = Instant::now();
        let mut outside = Outside::new(vec!["egress".parse().unwrap()]);
        let here = |upstream: &str, agent: &str, allow: &str| {
            let mut here = Here::of(agent.parse().unwrap(), upstream.parse().unwrap());
            here.allow =
                allow.split(',').filter(|one| !one.is_empty()).map(|one| one.parse().unwrap()).collect();
            here
        };
        let target = |url: &str| Target::parse(url).unwrap();
        outside.here(&here("egress", "egress.a", "https://*.partner.com"), now);
        outside.here(&here("rogue", "rogue.a", "https://bank.com"), now);
        let found = outside.find(&target("https://api.partner.com/x"), now);
        assert_eq!(found.as_ref().map(Name::as_str), Some("egress"));
        for unknown in ["http://api.partner.com/", "https://partner.com/", "https://bank.com/"] {
            assert_eq!(outside.find(&target(unknown), now), None, "{unknown}");
        }
        outside.here(&here("egress", "egress.a", ""), now);
        assert_eq!(outside.find(&target("https://api.partner.com/x"), now), None);
    }
}
