//! What came of a revision, stored in its place; and dead letters.
//!
//! What was done is done: it is stored however long JetStream is away. When JetStream has no room for it, the job ends
//! at once, with a record that says so. Should there be no room for that either, the job waits for some without its run
//! and without what it came to, and stays this broker's: another one would do again what was done.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use bytes::Bytes;

use super::{LARGEST, Run, Runner, STORE_AGAIN, age_of, parked, still_at_it};
use crate::{
    bus::store::{Trouble, Work},
    proto::jobs,
    role::broker::storing::announce_end,
    telemetry::Throttle,
    wire::{Job, JobState, codec, job::Content},
};

/// The next revision of a job, until it is stored.
struct Ending {
    /// The revision that it replaces.
    before: Job,
    next: Job,
    bytes: Bytes,
    takes: Takes,
    /// What the one named, and the other would.
    objects: Vec<String>,
}

/// How much room the next revision takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Takes {
    /// All that came of the one before.
    All,
    /// Only that there is no room for that.
    Less,
    /// As little as it can.
    Least,
}

impl Ending {
    fn new(before: Job, next: Job) -> Self {
        let objects = before.objects().chain(next.objects()).map(str::to_owned).collect();
        let bytes = codec::encode(&next);
        Ending { before, next, bytes, takes: Takes::All, objects }
    }

    /// Takes less room, as there is not enough; returns whether that can be.
    fn shrink(&mut self, work: &Work, why: &str) -> bool {
        let (before, age) = (&self.before, age_of(&self.before, work));
        let has_answer = self.next.outcome.is_some() || self.next.done > before.done;
        let (next, takes) = match self.takes {
            Takes::All if before.state == JobState::Running && has_answer => {
                (jobs::unanswered(before.clone(), age, why), Takes::Less)
            }
            Takes::All | Takes::Less => (jobs::least(before, &self.next, age, why), Takes::Least),
            Takes::Least => return false,
        };
        self.bytes = codec::encode(&next);
        (self.next, self.takes) = (next, takes);
        true
    }

    /// Lets go of what is not needed while it waits.
    fn forget_contents(&mut self) {
        self.before.input = Content::default();
        self.before.outcome = None;
    }
}

impl Runner {
    /// Stores the next revision and settles this one.
    pub(super) async fn finish(self: &Arc<Self>, run: Run, next: Job) {
        let Run { mut work, job, held } = run;
        let mut ending = Ending::new(job, next);
        if let Some(now) = still_at_it(&work, self.store_next(&work, &mut ending)).await {
            return self.ended(&work, &ending, &now).await;
        }
        // It is never closed.
        let waits = still_at_it(&work, Arc::clone(&self.unstored).acquire_owned()).await;
        work.record.bytes = Bytes::new();
        ending.forget_contents();
        let runner = Arc::clone(self);
        tokio::spawn(async move {
            runner.running.fetch_add(1, Ordering::Relaxed);
            runner.wait_for_room(&work, ending).await;
            runner.running.fetch_sub(1, Ordering::Relaxed);
            drop((waits, held));
        });
    }

    /// Stores the next revision, or a smaller one; returns what the record says then, or `None` when there is no room for
    /// the smallest.
    async fn store_next(&self, work: &Work, ending: &mut Ending) -> Option<Bytes> {
        let subject = self.core.subjects.job(&ending.next.job_id);
        let mut untaken = 0;
        loop {
            let trouble = match self.replace(&subject, work.record.revision, &ending.bytes).await {
                Ok(now) => return Some(now),
                Err(trouble) => trouble,
            };
            if let Some(held_back) = UNSTORED.pass(Instant::now()) {
                tracing::warn!(job = %ending.next.job_id, %trouble, held_back, "what became of a job can't be stored");
            }
            match trouble {
                Trouble::Full(why) if ending.shrink(work, &why) => {}
                Trouble::Full(_) => return None,
                // A nats-server whose disk is full answers everything else.
                Trouble::Late if untaken < UNTAKEN && self.jetstream_answers(&ending.next).await => {
                    untaken += 1
                }
                Trouble::Late if untaken == UNTAKEN => {
                    if !ending.shrink(work, "JetStream does not take it") {
                        return None;
                    }
                    untaken = 0;
                }
                _ => tokio::time::sleep(STORE_AGAIN).await,
            }
        }
    }

    /// Whether JetStream answers what is asked about `job`.
    pub(super) async fn jetstream_answers(&self, job: &Job) -> bool {
        let subjects = &self.core.subjects;
        self.store.last(&subjects.jobs_stream(), &subjects.job(&job.job_id)).await.is_ok()
    }

    async fn wait_for_room(&self, work: &Work, mut ending: Ending) {
        let waiting = async {
            loop {
                tokio::time::sleep(ROOM_AGAIN).await;
                if let Some(now) = self.store_next(work, &mut ending).await {
                    return now;
                }
            }
        };
        let now = still_at_it(work, waiting).await;
        self.ended(work, &ending, &now).await;
    }

    /// The next revision is stored, or another one: `now` is the record.
    async fn ended(&self, work: &Work, ending: &Ending, now: &Bytes) {
        work.settle().await;
        if *now == ending.bytes {
            self.note(&ending.before, &ending.next);
        }
        // What the record does not name by now, no later one does.
        let Ok(now) = codec::decode::<Job>(now) else { return };
        for object in &ending.objects {
            if !now.objects().any(|kept| kept == object) {
                self.store.remove_object(&self.core.subjects.bodies_bucket(), object).await;
            }
        }
    }

    /// Stores the revision after `revision`, unless somebody did, and returns what the record says then. It may have
    /// been stored by this very broker, which did not hear of it.
    async fn replace(&self, subject: &str, revision: u64, bytes: &Bytes) -> Result<Bytes, Trouble> {
        match self.store.replace(subject, revision, bytes.clone()).await {
            Ok(_) => Ok(bytes.clone()),
            Err(Trouble::Changed) => {
                match self.store.last(&self.core.subjects.jobs_stream(), subject).await? {
                    Some(record) if record.revision > revision => Ok(record.bytes),
                    // A replica that is behind.
                    Some(_) => Err(Trouble::Late),
                    None => Ok(Bytes::new()),
                }
            }
            Err(trouble) => Err(trouble),
        }
    }

    fn note(&self, before: &Job, next: &Job) {
        let metrics = &self.core.metrics;
        if next.done > before.done {
            metrics.job_hops.inc();
        }
        if next.state.is_over() {
            announce_end(&self.core, next);
            let why = next.error.as_ref().map_or("-", |error| error.message.as_str());
            tracing::info!(job = %next.job_id, state = next.state.as_str(), hops = next.done, why, "job");
        }
    }

    /// Keeps a job that failed among the dead letters. Where there is no room, its record alone says that it failed.
    pub(super) async fn bury(&self, run: Run) {
        let Run { work, job, held: _held } = run;
        match still_at_it(&work, self.keep_letter(&job, &work)).await {
            Ok(()) => {
                self.core.metrics.dead_letters.inc();
                work.settle().await;
            }
            Err(trouble) => {
                if let Some(held_back) = UNBURIED.pass(Instant::now()) {
                    tracing::warn!(job = %job.job_id, %trouble, held_back, "a dead letter can't be stored");
                }
                match trouble {
                    Trouble::Full(_) => work.settle().await,
                    _ => work.later(parked(work.delivered)).await,
                }
            }
        }
    }

    async fn keep_letter(&self, job: &Job, work: &Work) -> Result<(), Trouble> {
        for content in [Some(&job.input), job.outcome.as_ref().map(|outcome| &outcome.content)] {
            let Some(content) = content else { continue };
            match self.keep_body(content).await {
                // The letter is worth more than its bodies.
                Ok(()) | Err(Trouble::Full(_)) => {}
                Err(Trouble::Late | Trouble::Other(_)) if work.delivered > BODIES_TRIED => {}
                Err(trouble) => return Err(trouble),
            }
        }
        self.store.put(&self.core.subjects.dead(&job.job_id), work.record.bytes.clone()).await.map(drop)
    }

    async fn keep_body(&self, content: &Content) -> Result<(), Trouble> {
        let Some(name) = &content.object else { return Ok(()) };
        let subjects = &self.core.subjects;
        let size = usize::try_from(content.size).unwrap_or(usize::MAX).min(LARGEST);
        let _memory = self.inputs.take(size).await;
        // One that is not there any more is no reason to have no letter.
        match self.store.get_object(&subjects.bodies_bucket(), name, size).await? {
            Some(body) => self.store.put_object(&subjects.dead_bodies_bucket(), name, &body).await,
            None => Ok(()),
        }
    }
}

static UNSTORED: Throttle = Throttle::per_minute();
static UNBURIED: Throttle = Throttle::per_minute();
/// How often JetStream may not take a revision, though it answers, before that is made smaller.
const UNTAKEN: u32 = 3;
/// How often the bodies of a dead letter are tried to be stored with it.
const BODIES_TRIED: u64 = 2;
/// How long a job waits before there may be room for its end.
const ROOM_AGAIN: std::time::Duration = std::time::Duration::from_secs(10);
