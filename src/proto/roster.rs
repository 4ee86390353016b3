//! Which agents there are, by what they announce. Advisory: the exact truth about who is there is
//! NATS's "no responders"; the roster says when it is worth trying and what to tell.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::{
    proto::deadlines::Deadlines,
    wire::{Here, Name, ProcessId, ids::ByName},
};

/// How often an agent announces itself.
pub const HEARTBEAT: Duration = Duration::from_secs(5);
/// How long an announcement is believed.
pub const BELIEVED: Duration = Duration::from_secs(15);
/// Agents in a roster at most; announcements beyond it are ignored.
pub const MAX_AGENTS: usize = 100_000;

/// The agents that announced themselves.
#[derive(Debug, Default)]
pub struct Roster {
    upstreams: ByName<Members>,
    agents: usize,
    /// When the next probes of an upstream's members count as unanswered.
    verdicts: Deadlines<Name>,
}

/// The agents of one upstream, never none.
#[derive(Debug, Default)]
struct Members {
    seen: BTreeMap<ProcessId, Seen>,
    /// How many of them accept requests: counted, so that asking costs the same however many there are.
    accepting: usize,
    /// How many of them are silent.
    silent: usize,
    /// How many of them are a variant of the upstream.
    variants: usize,
    /// Until when a member is believed to be silent that is not known: it never announced itself here.
    leaks: Option<Instant>,
    /// The entry in [`Roster::verdicts`].
    verdict: Option<Instant>,
    /// Whom requests are addressed to while a member is silent; made when it is needed.
    addressed: Option<Vec<ProcessId>>,
    /// The member that is addressed next.
    turn: usize,
}

/// An agent's last announcement.
#[derive(Debug, Clone)]
struct Seen {
    at: Instant,
    accepting: bool,
    /// Whether it takes requests that are addressed to it alone.
    direct: bool,
    /// It accepts requests although its origin does not.
    failing: bool,
    variant: Option<Name>,
    /// Since when a probe is unanswered.
    probed: Option<Instant>,
    /// It left a probe unanswered.
    silent: bool,
}

/// To whom a request is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recipient {
    /// No agent is known that is not silent.
    Absent,
    /// NATS picks a member of the queue group.
    Group,
    /// A member is silent, and NATS may pick it: this one is not.
    Member(ProcessId),
}

impl Roster {
    /// Takes an announcement; false when the roster is full and it was ignored.
    pub fn announce(&mut self, here: Here, now: Instant) -> bool {
        let known =
            self.upstreams.get(&here.upstream_target).is_some_and(|m| m.seen.contains_key(&here.upstream_id));
        if !known && self.agents >= MAX_AGENTS {
            return false;
        }
        self.agents += usize::from(!known);
        let members = self.upstreams.entry(here.upstream_target).or_default();
        let seen = Seen {
            at: now,
            accepting: here.accepting,
            direct: here.direct,
            failing: here.failing,
            variant: here.variant,
            probed: None,
            silent: false,
        };
        members.insert(here.upstream_id, seen);
        true
    }

    /// An agent left, or is known to be gone.
    pub fn remove(&mut self, upstream: &Name, agent: &ProcessId) {
        let Some(members) = self.upstreams.get_mut(upstream) else { return };
        self.agents -= usize::from(members.remove(agent));
        if members.seen.is_empty() {
            self.upstreams.remove(upstream);
        }
    }

    /// Forgets agents that have not announced themselves for [`BELIEVED`]. One that is silent is remembered for
    /// longer: until NATS ends its connection it gets its share of what goes to the queue group.
    pub fn expire(&mut self, now: Instant) {
        self.upstreams.retain(|_, members| {
            let kept = |seen: &Seen| if seen.silent { SILENT_KEPT } else { BELIEVED };
            members.seen.retain(|_, seen| now.duration_since(seen.at) < kept(seen));
            members.leaks = members.leaks.filter(|until| *until > now);
            members.count();
            !members.seen.is_empty()
        });
        self.agents = self.upstreams.values().map(|members| members.seen.len()).sum();
    }

    /// Whether any agent of `upstream` is there, and whether one of them accepts requests.
    pub fn presence(&self, upstream: &Name) -> Presence {
        match self.upstreams.get(upstream) {
            None => Presence::Absent,
            Some(members) if members.accepting > 0 => Presence::Accepting,
            Some(members) if members.silent == members.seen.len() => Presence::Absent,
            Some(_) => Presence::Full,
        }
    }

    /// To whom a request for `upstream` is published now.
    pub fn recipient(&mut self, upstream: &Name) -> Recipient {
        match self.upstreams.get_mut(upstream) {
            None => Recipient::Absent,
            Some(members) if members.silent == 0 && members.leaks.is_none() => Recipient::Group,
            Some(members) if members.silent == members.seen.len() => Recipient::Absent,
            Some(members) => members.next().map_or(Recipient::Group, Recipient::Member),
        }
    }

    /// A member other than `lost` that has been heard after `since` and takes requests that are addressed to it.
    pub fn heard_since(
        &self,
        upstream: &Name,
        since: Instant,
        lost: Option<&ProcessId>,
    ) -> Option<ProcessId> {
        let members = self.upstreams.get(upstream).filter(|members| members.variants == 0)?;
        let fits = |seen: &Seen| seen.direct && seen.accepting && !seen.silent && seen.at > since;
        let mut fit = members.seen.iter().filter(|(agent, seen)| Some(*agent) != lost && fits(seen));
        fit.next().map(|(agent, _)| agent.clone())
    }

    /// To whom a request goes on that `tried` members could not answer: to one that stands in for the last of them, if any
    /// accepts requests.
    pub fn beside(&self, upstream: &Name, tried: &[ProcessId]) -> Option<Recipient> {
        let members = self.upstreams.get(upstream)?;
        let variant = &members.seen.get(tried.last()?)?.variant;
        let others = members.seen.iter().filter(|(agent, seen)| {
            !tried.contains(agent) && seen.accepting && !seen.silent && seen.variant == *variant
        });
        let (agent, seen) = others.min_by_key(|(_, seen)| seen.failing)?;
        Some(if seen.direct { Recipient::Member(agent.clone()) } else { Recipient::Group })
    }

    /// How the members of `upstream` stand that left a probe unanswered.
    pub fn silence(&self, upstream: &Name) -> Silence {
        match self.upstreams.get(upstream) {
            None => Silence::None,
            Some(members) if members.silent == 0 => Silence::None,
            Some(members) if members.silent == members.seen.len() => Silence::All,
            Some(_) => Silence::Some,
        }
    }

    /// No agent of `upstream` acknowledged a request in time, and those that are known were heard meanwhile: there is
    /// another one.
    pub fn leaks(&mut self, upstream: &Name, now: Instant) {
        if let Some(members) = self.upstreams.get_mut(upstream).filter(|members| members.silent == 0) {
            members.leaks = Some(now + SILENT_KEPT);
        }
    }

    /// An agent of `upstream` did not acknowledge a request: the members that are to be probed to find out which.
    pub fn suspect(&mut self, upstream: &Name, now: Instant) -> Vec<ProcessId> {
        let Some(members) = self.upstreams.get_mut(upstream) else { return Vec::new() };
        members.probe(upstream, RECENT, now, &mut self.verdicts)
    }

    /// The agents that are to be probed because their heartbeat is late, or because they were silent before.
    pub fn overdue(&mut self, now: Instant) -> Vec<(Name, ProcessId)> {
        let mut overdue = Vec::new();
        for (upstream, members) in &mut self.upstreams {
            let late = members.probe(upstream, OVERDUE, now, &mut self.verdicts);
            let silent = members.seen.iter().filter(|(_, seen)| seen.silent).map(|(agent, _)| agent.clone());
            overdue.extend(late.into_iter().chain(silent).map(|agent| (upstream.clone(), agent)));
        }
        overdue.sort_unstable();
        overdue
    }

    /// Members that have left a probe unanswered for too long are silent: an upstream that has new ones.
    pub fn pop_silent(&mut self, now: Instant) -> Option<Name> {
        while let Some(upstream) = self.verdicts.pop_due(now) {
            let Some(members) = self.upstreams.get_mut(&upstream) else { continue };
            let before = members.silent;
            members.verdict = None;
            members.judge(now);
            members.expect_answers(&upstream, &mut self.verdicts);
            if members.silent > before {
                return Some(upstream);
            }
        }
        None
    }

    /// When [`Roster::pop_silent`] is to be asked.
    pub fn next_verdict(&self) -> Option<Instant> {
        self.verdicts.next()
    }

    /// There is a new connection: silence before it says nothing.
    pub fn trust(&mut self) {
        for members in self.upstreams.values_mut() {
            for seen in members.seen.values_mut() {
                (seen.silent, seen.probed) = (false, None);
            }
            members.leaks = None;
            members.count();
        }
    }

    /// Agents known.
    pub fn len(&self) -> usize {
        self.agents
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.agents == 0
    }
}

impl Members {
    fn insert(&mut self, agent: ProcessId, seen: Seen) {
        // A heartbeat that says what the one before said changes nothing.
        let same = self.seen.get(&agent).is_some_and(|before| {
            (before.accepting, before.direct, before.silent) == (seen.accepting, seen.direct, false)
                && before.variant == seen.variant
        });
        self.seen.insert(agent, seen);
        if !same {
            self.count();
        }
    }

    fn remove(&mut self, agent: &ProcessId) -> bool {
        let known = self.seen.remove(agent).is_some();
        self.count();
        known
    }

    fn count(&mut self) {
        let count = |is: fn(&Seen) -> bool| self.seen.values().filter(|seen| is(seen)).count();
        let counts = (
            count(|seen| seen.accepting && !seen.silent),
            count(|seen| seen.silent),
            count(|seen| seen.variant.is_some()),
        );
        (self.accepting, self.silent, self.variants) = counts;
        self.addressed = None;
    }

    /// Members that were last heard `since` ago or longer and wait for no answer, which are probed from now on.
    fn probe(
        &mut self,
        upstream: &Name,
        since: Duration,
        now: Instant,
        verdicts: &mut Deadlines<Name>,
    ) -> Vec<ProcessId> {
        let quiet = |seen: &Seen| {
            !seen.silent && seen.probed.is_none() && now.saturating_duration_since(seen.at) >= since
        };
        let mut probed = Vec::new();
        for (agent, seen) in self.seen.iter_mut().filter(|(_, seen)| quiet(seen)).take(MAX_PROBES) {
            seen.probed = Some(now);
            probed.push(agent.clone());
        }
        self.expect_answers(upstream, verdicts);
        probed
    }

    fn expect_answers(&mut self, upstream: &Name, verdicts: &mut Deadlines<Name>) {
        let next = self.seen.values().filter_map(|seen| seen.probed).min().map(|probed| probed + UNANSWERED);
        if let (None, Some(next)) = (self.verdict, next) {
            self.verdict = Some(next);
            verdicts.add(next, upstream.clone());
        }
    }

    fn judge(&mut self, now: Instant) {
        for seen in self.seen.values_mut() {
            if seen.probed.is_some_and(|probed| probed + UNANSWERED <= now) {
                (seen.silent, seen.probed) = (true, None);
            }
        }
        self.count();
    }

    /// The members take turns. Where there are variants only NATS knows which of them get requests.
    fn next(&mut self) -> Option<ProcessId> {
        if self.variants > 0 {
            return None;
        }
        let addressed = self.addressed.get_or_insert_with(|| {
            let live = || self.seen.iter().filter(|(_, seen)| !seen.silent && seen.direct);
            let accepting = live().filter(|(_, seen)| seen.accepting).map(|(agent, _)| agent.clone());
            let accepting: Vec<ProcessId> = accepting.collect();
            // One that does not accept requests says so, and they wait.
            if accepting.is_empty() { live().map(|(agent, _)| agent.clone()).collect() } else { accepting }
        });
        self.turn = (self.turn + 1) % addressed.len().max(1);
        addressed.get(self.turn).cloned()
    }
}

/// How many of an upstream's members left a probe unanswered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Silence {
    /// None.
    None,
    /// Some, and others did not.
    Some,
    /// All that are known.
    All,
}

/// How long a member may take to answer a probe.
const UNANSWERED: Duration = Duration::from_secs(1);
/// A member that was heard more recently is not probed because of one request.
const RECENT: Duration = Duration::from_millis(200);
/// A heartbeat that comes later than this is late.
const OVERDUE: Duration = Duration::from_millis(5_500);
/// How long a silent member is remembered: nats-server closes a silent connection after some four minutes, unless its
/// `ping_interval` and `ping_max` say otherwise.
const SILENT_KEPT: Duration = Duration::from_secs(300);
/// Members that are probed at once.
const MAX_PROBES: usize = 256;

/// What the roster says of an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// No agent is known.
    Absent,
    /// Agents are known, none accepts requests.
    Full,
    /// At least one accepts requests.
    Accepting,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_accepts_while_one_of_its_agents_does() {
        let (mut roster, now) = (Roster::default(), Instant::now());
        assert_eq!(roster.presence(&hello()), Presence::Absent);
        roster.announce(here("agent.a", true), now);
        roster.announce(here("agent.b", false), now);
        assert_eq!((roster.presence(&hello()), roster.len()), (Presence::Accepting, 2));
        roster.announce(here("agent.a", false), now);
        assert_eq!((roster.presence(&hello()), roster.len()), (Presence::Full, 2));
        roster.announce(here("agent.b", true), now);
        roster.remove(&hello(), &"agent.b".parse().unwrap());
        assert_eq!((roster.presence(&hello()), roster.len()), (Presence::Full, 1));
        roster.remove(&hello(), &"agent.a".parse().unwrap());
        assert_eq!(roster.presence(&hello()), Presence::Absent);
        assert!(roster.is_empty());
    }

    #[test]
    fn an_announcement_is_believed_for_three_heartbeats() {
        let (mut roster, now) = (Roster::default(), Instant::now());
        roster.announce(here("agent.a", true), now);
        roster.announce(here("agent.b", true), now + HEARTBEAT);
        roster.expire(now + BELIEVED);
        assert_eq!((roster.presence(&hello()), roster.len()), (Presence::Accepting, 1));
        roster.expire(now + BELIEVED + HEARTBEAT);
        assert_eq!((roster.presence(&hello()), roster.len()), (Presence::Absent, 0));
    }

    #[test]
    fn a_full_roster_keeps_nothing_of_a_stranger() {
        let (mut roster, now) = (Roster { agents: MAX_AGENTS, ..Roster::default() }, Instant::now());
        assert!(!roster.announce(here("agent.a", true), now));
        assert_eq!(roster.presence(&hello()), Presence::Absent);
    }

    fn here(agent: &str, accepting: bool) -> Here {
        Here { accepting, ..Here::of(agent.parse().unwrap(), hello()) }
    }

    fn hello() -> Name {
        "hello".parse().unwrap()
    }
}
