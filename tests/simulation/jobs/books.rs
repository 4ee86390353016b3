//! What was stored, asked, run and told, and the rules that it must keep.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use relay::{
    proto::jobs::{Came, Policy, is_dead},
    wire::{
        Job, JobState,
        job::{Content, Outcome},
    },
};

use super::{At, Ms, kept::Kept};

/// A request as a server gets it.
#[derive(Debug, Clone)]
pub struct Call {
    pub at: At,
    /// Which hop, or that it tells of the end.
    pub hop: Option<u32>,
    pub key: String,
    pub input: Content,
    /// What the server answers, when that arrives.
    pub answer: Option<Outcome>,
}

/// Who stores a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    Client,
    Broker,
    Canceller,
    Replayer,
}

#[derive(Debug, Default)]
pub struct Books {
    /// Whether nothing runs twice that may not.
    pub once: bool,
    /// Every revision of each job that was stored.
    pub history: BTreeMap<At, Vec<Job>>,
    /// What servers did.
    ran: Vec<Call>,
    /// Revisions that a broker had when it died or was stopped.
    pub disturbed: BTreeSet<(At, u64)>,
    /// Revisions whose request was sent.
    asked: BTreeSet<(At, u64)>,
    /// Letters that a broker wrote so late that the job had been replayed.
    pub late_letters: BTreeSet<At>,
    /// How jobs ended, and how much went wrong on the way.
    pub tally: BTreeMap<&'static str, u64>,
    pub broken: Option<String>,
}

impl Books {
    pub fn check(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds && self.broken.is_none() {
            self.broken = Some(what());
        }
    }

    pub fn count(&mut self, what: &'static str) {
        *self.tally.entry(what).or_insert(0) += 1;
    }

    /// A broker sends what a revision says.
    pub fn asks(&mut self, at: At, revision: u64, job: &Job, age: Duration, policy: &Policy) {
        let first = self.asked.insert((at, revision));
        if !first {
            self.count("asked again");
        }
        let disturbed = self.disturbed.contains(&(at, revision));
        self.check(first || disturbed, || {
            format!("revision {revision} of job {at} was done twice for nothing")
        });
        let late = job.state == JobState::Running && age >= policy.lifetime;
        self.check(!late, || format!("job {at} runs {age:?} after it was accepted"));
    }

    /// A server does it.
    pub fn runs(&mut self, call: Call) {
        let Call { at, hop, .. } = call;
        let history = self.history.get(&at).map(Vec::as_slice).unwrap_or_default();
        let twice = hop.is_some() && self.ran.iter().any(|other| (other.at, other.hop) == (at, hop));
        let of_hop = |hop: u32| history.last().and_then(|job| job.hops.get(hop as usize));
        let may_again = hop.and_then(of_hop).is_some_and(|hop| hop.repeatable);
        let is_wrong = self.once && twice && !may_again;
        if let Some(hop) = hop {
            let stored = history
                .iter()
                .any(|job| job.state == JobState::Running && job.done == hop && job.input == call.input);
            self.check(stored, || format!("hop {hop} of job {at} got what was never stored for it"));
        }
        self.check(!is_wrong, || format!("hop {hop:?} of job {at} has run twice"));
        let same_hop = |other: &&Call| other.at == at && other.hop == hop;
        let keys_agree = self.ran.iter().all(|other| same_hop(&other) == (other.key == call.key));
        self.check(keys_agree, || format!("hop {hop:?} of job {at} has the key {}", call.key));
        self.ran.push(call);
    }

    /// A broker made of `came`, after `call`, what is to be stored next.
    pub fn decides(&mut self, at: At, job: &Job, came: &Came, ran: bool, next: &Job, policy: &Policy) {
        let again = (next.state, next.done) == (JobState::Running, job.done);
        if job.state != JobState::Running || !again {
            return;
        }
        self.count("tried again");
        let maybe_ran = ran || !matches!(came, Came::Fault(fault) if !fault.maybe_seen);
        let may = policy.retry_unsafe || job.next_hop().is_some_and(|hop| hop.repeatable);
        self.check(!maybe_ran || may, || format!("job {at} sends again what may have run: {came:?}"));
        self.check(next.attempts < policy.attempts, || format!("job {at} has {} attempts", next.attempts));
    }

    /// A revision was stored.
    pub fn stored(&mut self, at: At, next: &Job, who: Who) {
        let history = self.history.entry(at).or_default();
        let last = history.last().cloned();
        history.push(next.clone());
        let Some(last) = last else { return };
        let may = !last.state.is_over() || (who == Who::Replayer && is_dead(&last));
        self.check(may, || format!("job {at} went from {:?} to {:?}", last.state, next.state));
        match next.done.checked_sub(last.done) {
            Some(0) => {
                let same = last.state == JobState::Begun || next.done as usize == next.hops.len();
                self.check(same || last.input == next.input, || {
                    format!("what hop {} of job {at} is sent changed", next.done)
                });
            }
            Some(1) => {
                let answer = if next.next_hop().is_some() {
                    Some(&next.input)
                } else {
                    next.outcome.as_ref().map(|outcome| &outcome.content)
                };
                let by = |call: &Call| {
                    (call.at, call.hop) == (at, Some(last.done))
                        && call.input == last.input
                        && call.answer.as_ref().is_some_and(|said| Some(&said.content) == answer)
                };
                let found = self.ran.iter().any(by);
                self.check(found, || format!("hop {} of job {at} is done and was not run", last.done));
            }
            _ => self.check(false, || format!("job {at} went from hop {} to {}", last.done, next.done)),
        }
    }

    /// All is over.
    pub fn settle_up(&mut self, kept: &Kept) {
        let last: Vec<(At, Job)> =
            self.history.iter().filter_map(|(at, all)| Some((*at, all.last()?.clone()))).collect();
        for (at, job) in last {
            self.check(job.state.is_over(), || format!("job {at} is {:?} for ever", job.state));
            self.count(if job.untold.is_some() { "untold" } else { job.state.as_str() });
            let takes = |said: &Outcome| (200..300).contains(&said.status);
            let is_word =
                |call: &Call| (call.at, call.hop) == (at, None) && call.answer.as_ref().is_some_and(takes);
            let told = self.ran.iter().any(is_word);
            // Whose first server never answered was never accepted.
            let begun = job.hops.is_empty();
            let wanted = (job.errors_to.is_some() && job.state == JobState::Failed && !begun)
                || (job.callback.is_some() && job.state != JobState::Cancelled);
            self.check(!wanted || told || job.untold.is_some(), || format!("nobody was told of job {at}"));
            let letter = kept.letters.get(&at);
            if is_dead(&job) {
                self.check(letter == Some(&job), || format!("job {at} is not among the dead letters"));
            } else {
                let late = self.late_letters.contains(&at);
                self.check(letter.is_none() || late, || {
                    format!("job {at} is {:?} and has a letter", job.state)
                });
            }
            if job.state != JobState::Cancelled {
                let lost = job.objects().find(|object| !kept.objects.contains(*object));
                self.check(lost.is_none(), || format!("the body {lost:?} of job {at} is lost"));
            }
        }
    }

    /// Nothing may be forgotten that is not over.
    pub fn expires(&mut self, at: At, job: &Job, now: Ms) {
        let over = job.state.is_over();
        self.check(over, || format!("job {at} was {:?} and is forgotten at {now} ms", job.state));
    }
}
