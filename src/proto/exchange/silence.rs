//! Agents that do not answer: a frozen process, or one whose network is cut, stays a member of its queue group until NATS
//! ends its connection, and gets its share of the requests.
//!
//! A request that is not acknowledged within the patience casts suspicion on every member: they are probed, and one that
//! does not answer is silent. From then on requests are addressed to the others one by one, and those requests that may
//! run twice and that no agent has acknowledged are published once more.

use std::{
    hash::BuildHasher,
    time::{Duration, Instant},
};

use super::{Answer, Command, Exchange, Exchanges, leases::sorted, one::Phase};
use crate::{
    proto::{
        retry::{self, Verdict},
        roster::{Recipient, Roster, Silence},
    },
    wire::{Code, Fault, Name, ProcessId, Side},
};

/// Whether requests may be addressed to one member.
#[derive(Debug, Default)]
pub(super) struct Addressing {
    /// NATS refuses it.
    forbidden: bool,
    /// Whether a member has answered one.
    pub heard: bool,
}

impl Addressing {
    /// To whom a request for `upstream` goes.
    pub fn recipient(&self, roster: &mut Roster, upstream: &Name) -> Recipient {
        match roster.recipient(upstream) {
            Recipient::Member(_) if self.forbidden => Recipient::Group,
            recipient => recipient,
        }
    }
}

impl<C, H: BuildHasher> Exchanges<C, H> {
    pub(super) fn recipient(&mut self, upstream: &Name) -> Recipient {
        self.members.recipient(&mut self.roster, upstream)
    }

    /// Publishes a request again that an agent has lost, or not acknowledged: to one that has been heard since, as NATS may
    /// pick the same agent once more.
    pub(super) fn publish_elsewhere(&mut self, number: u64, now: Instant) {
        let Some(exchange) = self.open.get(&number) else { return };
        let upstream = &exchange.request.upstream_target;
        let lost = match &exchange.phase {
            Phase::Taken { agent, .. } => Some(agent),
            Phase::Sent | Phase::Refused { .. } | Phase::Waiting { .. } => exchange.to.as_ref(),
        };
        match self.roster.heard_since(upstream, exchange.since, lost) {
            Some(agent) if !self.members.forbidden => self.publish_to(number, Recipient::Member(agent), now),
            Some(_) | None => self.publish_again(number, now),
        }
    }

    /// An agent could not reach its origin: another one of the same variant gets the request.
    pub(super) fn ask_another(
        &mut self,
        number: u64,
        unreached: Option<ProcessId>,
        fault: Fault,
        now: Instant,
    ) {
        let Some(exchange) = self.open.get_mut(&number) else { return };
        exchange.unreached.extend(unreached);
        match self.roster.beside(&exchange.request.upstream_target, &exchange.unreached) {
            None => self.answer(number, Answer::Fault(fault)),
            Some(another) => {
                // That an earlier agent may have run it counts for more.
                exchange.before.get_or_insert(fault);
                let forbidden = self.members.forbidden;
                self.publish_to(number, if forbidden { Recipient::Group } else { another }, now);
                self.tell_broker(number, now);
            }
        }
    }

    /// The patience with a request is over. When no agent has acknowledged it, the members are probed.
    pub(super) fn suspect(&mut self, number: u64, now: Instant) {
        let up = self.up();
        let Some(exchange) = self.open.get(&number) else { return };
        if !matches!(exchange.phase, Phase::Sent) || !up {
            return;
        }
        let upstream = exchange.request.upstream_target.clone();
        for agent in self.roster.suspect(&upstream, now) {
            self.commands.push_back(Command::Probe { upstream: upstream.clone(), agent });
        }
        if self.roster.silence(&upstream) == Silence::Some {
            self.rescue(number, now);
        }
    }

    /// Without a broker this side counts the time that agents have for an acknowledgement.
    pub(super) fn unacknowledged(&mut self, number: u64, now: Instant) {
        let late = self.settings.patience + NO_ACK;
        let Some(exchange) = self.open.get(&number) else { return };
        if !matches!(exchange.phase, Phase::Sent) || now < exchange.since + late || !self.up() {
            return;
        }
        if exchange.to.is_none() {
            self.roster.leaks(&exchange.request.upstream_target, now);
        }
        self.rescue(number, now);
    }

    /// Finds the members that have left a probe unanswered, and probes those whose heartbeat is late.
    pub(super) fn find_silent(&mut self, now: Instant) {
        while let Some(upstream) = self.roster.pop_silent(now) {
            self.rescue_all(&upstream, now);
            if self.roster.silence(&upstream) == Silence::All && self.up() {
                // There may be others whose announcements were lost.
                self.commands.push_back(Command::Who { upstream });
            }
        }
        if self.sweep.is_some_and(|at| at <= now) {
            self.roster.expire(now);
            self.sweep = (!self.roster.is_empty()).then(|| now + SWEEP);
            if self.up() {
                for (upstream, agent) in self.roster.overdue(now) {
                    self.commands.push_back(Command::Probe { upstream, agent });
                }
            }
        }
    }

    /// An agent left, or is gone without a word, perhaps with requests that it had not acknowledged.
    pub(super) fn agent_gone(&mut self, upstream: &Name, agent: &ProcessId, now: Instant) {
        self.roster.remove(upstream, agent);
        self.rescue_all(upstream, now);
    }

    /// NATS says that the member is gone to which a request was addressed: it reached no agent.
    pub(super) fn member_gone(&mut self, number: u64, agent: &ProcessId, now: Instant) {
        let Some(exchange) = self.open.get(&number) else { return };
        let upstream = exchange.request.upstream_target.clone();
        self.roster.remove(&upstream, agent);
        self.publish_again(number, now);
        self.tell_broker(number, now);
    }

    /// NATS permissions refuse to address one member: from now on NATS picks.
    pub(super) fn member_forbidden(&mut self, now: Instant) {
        self.members.forbidden = true;
        if self.members.heard {
            return; // The permission was withdrawn: which requests were refused is not known.
        }
        let recent = |e: &Exchange<C>| {
            e.to.is_some() && matches!(e.phase, Phase::Sent) && now < e.since + self.settings.patience
        };
        for number in sorted(self.open.iter().filter(|(_, e)| recent(e)).map(|(number, _)| *number)) {
            self.publish_again(number, now);
        }
    }

    /// There is a new connection: silence and permissions are found out anew.
    pub(super) fn trust_members(&mut self) {
        self.roster.trust();
        self.members = Addressing::default();
    }

    /// Publishes again what no agent of `upstream` has acknowledged within the patience.
    pub(super) fn rescue_all(&mut self, upstream: &Name, now: Instant) {
        if self.roster.silence(upstream) == Silence::All || !self.up() {
            return;
        }
        let patience = self.settings.patience;
        let late = |e: &Exchange<C>| {
            matches!(e.phase, Phase::Sent)
                && e.request.upstream_target == *upstream
                && now >= e.since + patience
        };
        for number in sorted(self.open.iter().filter(|(_, e)| late(e)).map(|(number, _)| *number)) {
            self.rescue(number, now);
        }
    }

    fn rescue(&mut self, number: u64, now: Instant) {
        let Some(exchange) = self.open.get_mut(&number) else { return };
        match retry::after_silence(&exchange.request.method, exchange.attempt) {
            Verdict::Answer | Verdict::Elsewhere => {}
            Verdict::Again => {
                exchange.attempt += 1;
                let detail = "the agent that may have the request does not answer";
                exchange.before = Some(Fault::new(Code::AckTimeout, Side::Client, detail));
                self.publish_elsewhere(number, now);
                self.tell_broker(number, now);
            }
        }
    }
}

/// How long an agent may take to acknowledge a request that no broker watches: those that are silent are found before.
const NO_ACK: Duration = Duration::from_millis(1_500);
/// How often agents are looked at: what happened to one is known before its next heartbeat but one.
pub(super) const SWEEP: Duration = Duration::from_millis(2_500);

#[cfg(test)]
mod tests;
