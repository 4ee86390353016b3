//! The agents that work on held requests, and whether they are still there: each is probed while it works
//! on something. It is gone when NATS says twice in a row that nobody hears the probe, or when it has not
//! answered for several: somebody who watches `relay.>` hears every probe, and then NATS never says so.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use crate::{
    proto::deadlines::Deadlines,
    wire::{Name, ProcessId},
};

/// Agents by upstream and process, with the holds they work on.
#[derive(Default)]
pub(super) struct Watched {
    agents: BTreeMap<(Name, ProcessId), Agent>,
    probes: Deadlines<(Name, ProcessId)>,
}

struct Agent {
    holds: BTreeSet<u64>,
    probe: Instant,
    /// Nobody heard the last probe.
    missed: bool,
    /// Probes since it was last heard.
    unanswered: u32,
}

/// An agent that is due.
pub(super) enum Due {
    /// It is to be probed.
    Probe { upstream: Name, agent: ProcessId },
    /// It has been silent for too long; these are the holds it worked on.
    Silent { upstream: Name, agent: ProcessId, holds: BTreeSet<u64> },
}

impl Watched {
    /// An agent works on a hold. It is probed at once: it may have died before the broker was asked.
    pub fn add(&mut self, upstream: &Name, agent: &ProcessId, hold: u64, now: Instant) {
        let key = (upstream.clone(), agent.clone());
        let probes = &mut self.probes;
        let agent = self.agents.entry(key.clone()).or_insert_with(|| {
            probes.add(now, key);
            Agent { holds: BTreeSet::new(), probe: now, missed: false, unanswered: 0 }
        });
        agent.holds.insert(hold);
    }

    /// An agent does not work on a hold any more; its last probe is dropped when it comes due.
    pub fn remove(&mut self, upstream: &Name, agent: &ProcessId, hold: u64) {
        if let Some(agent) = self.agents.get_mut(&(upstream.clone(), agent.clone())) {
            agent.holds.remove(&hold);
        }
    }

    /// One agent that is due. Silence counts only while our own connection is beyond doubt.
    pub fn pop_due(&mut self, counts: bool, now: Instant) -> Option<Due> {
        while let Some(key) = self.probes.pop_due(now) {
            let Some(agent) = self.agents.get_mut(&key) else { continue };
            if agent.holds.is_empty() {
                self.agents.remove(&key);
                continue;
            }
            if counts && agent.unanswered >= SILENT_PROBES {
                let holds = std::mem::take(&mut agent.holds);
                self.agents.remove(&key);
                return Some(Due::Silent { upstream: key.0, agent: key.1, holds });
            }
            agent.unanswered = if counts { agent.unanswered + 1 } else { 0 };
            agent.probe = now + PROBE;
            self.probes.add(agent.probe, key.clone());
            return Some(Due::Probe { upstream: key.0, agent: key.1 });
        }
        None
    }

    /// An agent was heard.
    pub fn heard(&mut self, upstream: &Name, agent: &ProcessId) {
        if let Some(agent) = self.agents.get_mut(&(upstream.clone(), agent.clone())) {
            agent.missed = false;
            agent.unanswered = 0;
        }
    }

    /// Nobody heard a probe. When that is the second in a row the agent is gone, and the holds it worked on
    /// are returned; until then it is probed again soon. Once proves little: in a cluster, an agent that has
    /// just started or reconnected can take a request before the broker's server knows of its subscription.
    pub fn unheard(
        &mut self,
        upstream: &Name,
        agent: &ProcessId,
        counts: bool,
        now: Instant,
    ) -> Option<BTreeSet<u64>> {
        let key = (upstream.clone(), agent.clone());
        let agent = self.agents.get_mut(&key)?;
        self.probes.drop(agent.probe, key.clone());
        if agent.missed && counts {
            return self.agents.remove(&key).map(|agent| agent.holds);
        }
        agent.missed = counts;
        agent.probe = now + PROBE_AGAIN;
        self.probes.add(agent.probe, key);
        None
    }

    /// When the next probe is due.
    pub fn next(&self) -> Option<Instant> {
        self.probes.next()
    }

    /// Whether no agent is watched.
    pub fn is_idle(&self) -> bool {
        self.agents.is_empty() && self.probes.next().is_none()
    }
}

/// How often an agent that works on held requests is asked whether it is there.
const PROBE: Duration = Duration::from_secs(1);
/// Probes that an agent may leave unanswered.
const SILENT_PROBES: u32 = 5;
/// How soon after a probe that nobody heard: longer than news of a subscription takes to cross a cluster.
const PROBE_AGAIN: Duration = Duration::from_millis(250);
