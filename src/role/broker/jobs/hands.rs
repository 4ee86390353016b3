//! The jobs in this broker's hands, when JetStream forgets that they are.
//!
//! A nats-server that is killed may forget which revisions it handed out in the moment before, and takes those that it
//! remembers for abandoned if it was away for long: it hands them out once more. This broker knows what it works on. To
//! others it says so: when the way to JetStream is back, what may not run twice is stored once more as this broker's,
//! and no broker begins anything of the kind in the seconds after.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::{RETRY, Run, Runner, STILL_AT_IT, age_of};
use crate::{
    bus::store::Trouble,
    proto::jobs,
    sync::Mutex,
    wire::{Job, JobId, JobState, ProcessId, codec},
};

/// The revision of each job that this broker works on.
#[derive(Default)]
pub(super) struct Hands(Mutex<HashMap<JobId, u64>>);

/// A revision in this broker's hands. Dropping it lets go.
pub(super) struct Held {
    hands: Arc<Hands>,
    id: JobId,
    revision: u64,
}

impl Hands {
    /// Takes a revision of `job`. `None` when it is in these hands already, or is what `own` stored in its place.
    pub fn take(self: &Arc<Self>, job: &Job, revision: u64, own: &ProcessId) -> Option<Held> {
        let mut kept = self.0.lock();
        let is_own = job.held_by.as_ref() == Some(own);
        if kept.get(&job.job_id).is_some_and(|kept| *kept >= revision || is_own) {
            return None;
        }
        kept.insert(job.job_id.clone(), revision);
        Some(Held { hands: Arc::clone(self), id: job.job_id.clone(), revision })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut kept = self.hands.0.lock();
        if kept.get(&self.id) == Some(&self.revision) {
            kept.remove(&self.id);
        }
    }
}

/// How often the way to JetStream was there, and when it was there again.
#[derive(Default)]
pub(super) struct Returns {
    connects: AtomicU64,
    last: Mutex<Option<Instant>>,
}

impl Returns {
    /// The way was made `connects` times by now. Returns when it was made again, if it ever was.
    fn note(&self, connects: u64) -> Option<Instant> {
        let before = self.connects.swap(connects, Ordering::Relaxed);
        let mut last = self.last.lock();
        if before != connects && before > 0 {
            *last = Some(Instant::now());
        }
        *last
    }
}

impl Runner {
    /// How long to leave a request that may not run twice to a broker that may be working on it.
    pub(super) fn leaves(&self, job: &Job) -> Option<Duration> {
        let returned = self.returns.note(self.store.connects())?;
        let rest = AFTER_RETURN.checked_sub(returned.elapsed())?;
        self.runs_once(job).then_some(rest)
    }

    fn runs_once(&self, job: &Job) -> bool {
        let is_repeatable = job.next_hop().is_some_and(|hop| hop.repeatable) || self.policy.retry_unsafe;
        job.state == JobState::Running && !is_repeatable
    }

    /// Does what a revision says, and says meanwhile that it is at it: to JetStream, and when that was away to other
    /// brokers.
    pub(super) async fn at_work(self: &Arc<Self>, run: &mut Run) -> Option<Job> {
        let mut revision = run.work.record.revision;
        let (mut connects, mut told) = (self.store.connects(), None::<Instant>);
        let next = {
            let mut doing = std::pin::pin!(self.ask_or_tell(run));
            let mut heard = Instant::now();
            let mut looks = tokio::time::interval(LOOK);
            loop {
                tokio::select! {
                    biased;
                    next = &mut doing => break next,
                    _ = looks.tick() => {}
                }
                let now = self.store.connects();
                let is_old = told.is_some_and(|told| told.elapsed() >= self.settings.timeout);
                if (now != connects || is_old) && self.runs_once(&run.job) {
                    connects = now;
                    (revision, told) = (self.keep_others_away(run, revision).await, Some(Instant::now()));
                }
                if heard.elapsed() >= STILL_AT_IT {
                    heard = Instant::now();
                    run.work.progress().await;
                }
            }
        };
        run.work.record.revision = revision;
        next
    }

    /// Stores the revision once more, as this broker's; returns which one that is.
    async fn keep_others_away(&self, run: &Run, revision: u64) -> u64 {
        let subject = self.core.subjects.job(&run.job.job_id);
        let job = jobs::held(run.job.clone(), age_of(&run.job, &run.work), &self.core.id);
        let bytes = codec::encode(&job);
        for _ in 0..TRIES {
            match self.store.replace(&subject, revision, bytes.clone()).await {
                Ok(stored) => return stored,
                Err(Trouble::Changed) => {
                    match self.store.last(&self.core.subjects.jobs_stream(), &subject).await {
                        Ok(Some(record)) if record.bytes == bytes => return record.revision,
                        // The caller or an operator cancelled it.
                        Ok(Some(record)) if record.revision > revision => return revision,
                        Ok(_) | Err(_) => {}
                    }
                }
                Err(_) => {}
            }
            tokio::time::sleep(RETRY).await;
        }
        revision
    }
}

/// How long after JetStream was away nothing is begun that may not run twice: longer than brokers take to be back, and to
/// store what they have in hand.
pub(super) const AFTER_RETURN: Duration = Duration::from_secs(5);
/// How often is looked whether the way to JetStream is another.
const LOOK: Duration = Duration::from_millis(250);
const TRIES: usize = 5;
