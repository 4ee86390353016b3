//! The broker's work on jobs: takes revisions from JetStream, does what each says, stores the next in its place.
//!
//! What is decided is in [`crate::proto::jobs`]. Here is how a revision is had; `asking` does what it
//! says, `reaching` finds where a URL leads, `ending` stores its outcome, `hands` knows what is under way, `upkeep` looks after
//! the streams. A broker that ends in the middle leaves its revisions to the others:
//! they get them once nothing was heard of it for [`crate::bus::store::WORK_UNHEARD`].

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use tokio::sync::{Notify, Semaphore, watch};

use crate::{
    bus::store::{Keep, Store, Trouble, WORK_UNHEARD, Work, Worklist},
    config::{self, Jobs as Settings, Switch},
    proto::jobs::{self, Policy, Todo},
    role::{asker::Asker, core::Core},
    stream::memory::Reserve,
    telemetry::Throttle,
    wire::{
        Headers, Job, Kind, codec,
        job::{Content, Outcome, Room},
    },
};

mod asking;
mod ending;
mod hands;
mod reaching;
mod upkeep;

use hands::{Hands, Held, Returns};

/// What a broker needs to work on jobs.
pub struct Runner {
    core: Arc<Core>,
    asker: Arc<Asker>,
    store: Store,
    settings: Settings,
    policy: Policy,
    /// Jobs that it may take.
    runs: Arc<Semaphore>,
    /// Revisions that JetStream has no room for, beside the runs.
    unstored: Arc<Semaphore>,
    /// Memory for what jobs send, and for what they are answered.
    inputs: Reserve,
    answers: Reserve,
    /// Jobs that it works on.
    running: AtomicUsize,
    /// Whether it is known if jobs can be taken.
    tried: watch::Sender<bool>,
    /// Which they are.
    hands: Arc<Hands>,
    returns: Returns,
    /// Streams were deleted, and are there again.
    made_again: Notify,
    /// Whether what is not answered by now is given up.
    given_up: watch::Sender<bool>,
}

/// A job as it is worked on.
struct Run {
    work: Work,
    job: Job,
    held: Held,
}

/// How long ago a job was accepted.
fn age_of(job: &Job, work: &Work) -> Duration {
    let stored = SystemTime::now().duration_since(work.record.stored).unwrap_or_default();
    Duration::from_millis(job.age) + stored
}

impl Runner {
    /// Works by `settings` on what is in `store`, asking by `asker`.
    pub fn new(core: &Arc<Core>, asker: &Arc<Asker>, store: &Store, settings: &Settings) -> Arc<Self> {
        let memory = config::bytes(settings.max_memory) / 8 * 3;
        Arc::new(Runner {
            core: Arc::clone(core),
            asker: Arc::clone(asker),
            store: store.clone(),
            policy: Policy {
                attempts: settings.attempts,
                backoff: settings.backoff,
                backoff_max: settings.backoff_max,
                lifetime: settings.lifetime,
                retry_status: settings.retry_status.clone(),
                retry_unsafe: settings.retry_unsafe == Switch::On,
                unheard: settings.timeout + WORK_UNHEARD,
            },
            runs: Arc::new(Semaphore::new(settings.max_runs)),
            unstored: Arc::new(Semaphore::new(MAX_UNSTORED)),
            // Room for one of the largest at least: it would wait for ever otherwise.
            inputs: Reserve::new(memory.max(LARGEST)),
            answers: Reserve::new(memory.max(config::bytes(settings.max_body))),
            running: AtomicUsize::new(0),
            tried: watch::Sender::new(false),
            hands: Arc::default(),
            returns: Returns::default(),
            made_again: Notify::new(),
            given_up: watch::Sender::new(false),
            settings: settings.clone(),
        })
    }

    /// Whether it is known if jobs can be taken.
    pub fn tried(&self) -> watch::Receiver<bool> {
        self.tried.subscribe()
    }

    /// Jobs that it works on.
    pub fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }

    /// Waits for no more answers: what each job says then is stored, so that no other broker does again what may have run.
    pub fn give_up(&self) {
        self.given_up.send_replace(true);
    }

    /// What `work` comes to, unless it is given up first.
    async fn unless_given_up<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut given_up = self.given_up.subscribe();
        tokio::select! {
            biased;
            done = work => Some(done),
            // The sender lives as long as this.
            _ = given_up.wait_for(|given_up| *given_up) => None,
        }
    }

    /// Works until the process is told to stop. While JetStream is not there, tries again.
    pub async fn run(self: Arc<Self>) {
        tokio::spawn(Arc::clone(&self).look_after());
        let mut told = None;
        let mut stopping = std::pin::pin!(self.core.stopping());
        loop {
            let pause = tokio::select! {
                () = &mut stopping => return,
                trouble = self.take_jobs(&mut told) => trouble,
            };
            tokio::select! {
                () = &mut stopping => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Takes jobs until that fails; returns when to try again.
    async fn take_jobs(self: &Arc<Self>, told: &mut Option<Trouble>) -> Duration {
        if !self.core.is_ready() {
            return RETRY;
        }
        let list = self.set_up().await;
        self.tried.send_replace(true);
        let trouble = match list {
            Ok(list) => {
                if told.take().is_some() {
                    tracing::info!("jobs are taken again");
                }
                match self.take_from(&list).await {
                    Ok(()) => return RETRY,
                    Err(trouble) => trouble,
                }
            }
            Err(trouble) => trouble,
        };
        // Said once: it may stay so for good.
        if self.core.is_ready() && told.as_ref() != Some(&trouble) {
            tracing::warn!(%trouble, "no jobs are taken: forward chains and requests to be answered later wait");
            *told = Some(trouble);
        }
        RETRY_SET_UP
    }

    async fn set_up(&self) -> Result<Worklist, Trouble> {
        let subjects = &self.core.subjects;
        let total = i64::try_from(self.settings.max_bytes.as_u64()).unwrap_or(i64::MAX);
        // What NATS sets aside for each of them, in sixteenths.
        let share = |sixteenths| (total / 16).saturating_mul(sixteenths).max(1);
        let most = i64::try_from(self.settings.max_jobs).unwrap_or(i64::MAX);
        let jobs = Keep {
            name: subjects.jobs_stream(),
            subjects: subjects.every_job().to_vec(),
            age: self.settings.lifetime + self.settings.keep,
            records: most,
            bytes: share(4),
            replicas: self.settings.replicas,
        };
        // Apart from the jobs: a consumer of all there is finds the next job at once, however many wait.
        let keys = Keep {
            name: subjects.keys_stream(),
            subjects: vec![subjects.every_key()],
            bytes: share(1),
            ..jobs.clone()
        };
        let dead = Keep {
            name: subjects.dead_stream(),
            subjects: vec![subjects.every(Kind::Dead)],
            age: self.settings.dead_keep,
            bytes: share(2),
            ..jobs.clone()
        };
        let bodies = Keep { name: subjects.bodies_bucket(), bytes: share(6), ..jobs.clone() };
        let dead_bodies = Keep { name: subjects.dead_bodies_bucket(), bytes: share(3), ..dead.clone() };
        self.store.keep(&jobs).await?;
        self.store.keep(&keys).await?;
        self.store.keep(&dead).await?;
        self.store.keep_objects(&bodies).await?;
        self.store.keep_objects(&dead_bodies).await?;
        self.store.worklist(&jobs.name, WORKERS, most).await
    }

    async fn take_from(self: &Arc<Self>, list: &Worklist) -> Result<(), Trouble> {
        while self.core.is_ready() {
            // It is never closed.
            let Ok(first) = Arc::clone(&self.runs).acquire_owned().await else { return Ok(()) };
            if self.runs.available_permits() < FEW {
                // Others end in a moment: asking for one at a time costs JetStream as much as asking for many.
                tokio::time::sleep(MOMENT).await;
            }
            let more = self.runs.available_permits().min(AT_ONCE - 1);
            let mut permits = vec![first];
            permits.extend((0..more).map_while(|_| Arc::clone(&self.runs).try_acquire_owned().ok()));
            let room = permits.len();
            let taken = list.wait(room, |work| {
                let permit = permits.pop();
                let runner = Arc::clone(self);
                tokio::spawn(async move {
                    runner.running.fetch_add(1, Ordering::Relaxed);
                    runner.work_on(work).await;
                    runner.running.fetch_sub(1, Ordering::Relaxed);
                    drop(permit);
                });
            });
            tokio::select! {
                taken = taken => taken.map(drop)?,
                // What was waited for is no more.
                () = self.made_again.notified() => return Ok(()),
            }
        }
        Ok(())
    }

    /// Does what one revision says.
    async fn work_on(self: &Arc<Self>, work: Work) {
        let Some(job) = self.read(&work) else {
            work.settle().await;
            return;
        };
        // It is handed out again, or was stored from here.
        let Some(held) = self.hands.take(&job, work.record.revision, &self.core.id) else { return };
        let age = age_of(&job, &work);
        let mut run = Run { work, job, held };
        match jobs::todo(&run.job, age, run.work.delivered, &self.policy) {
            Todo::Nothing => run.work.settle().await,
            Todo::Wait(pause) => run.work.later(pause).await,
            Todo::Store(next) => self.finish(run, *next).await,
            Todo::Bury => self.bury(run).await,
            Todo::Ask | Todo::Tell => {
                if let Some(rest) = self.leaves(&run.job) {
                    return run.work.later(rest).await;
                }
                match self.at_work(&mut run).await {
                    Some(next) => self.finish(run, next).await,
                    None => run.work.later(parked(run.work.delivered)).await,
                }
            }
        }
    }

    /// A revision, when it is what its subject says it is.
    fn read(&self, work: &Work) -> Option<Job> {
        let named = self.core.subjects.job_of(&work.record.subject);
        match codec::decode::<Job>(&work.record.bytes) {
            Ok(job) if named.as_ref() == Some(&job.job_id) => Some(job),
            Ok(_) => {
                self.core.metrics.drop_message("misaddressed");
                None
            }
            Err(why) => {
                if let Some(held_back) = UNREADABLE.pass(Instant::now()) {
                    let subject = &work.record.subject;
                    tracing::warn!(%subject, %why, held_back, "a job that can't be read is left alone");
                }
                self.core.metrics.drop_message("malformed");
                None
            }
        }
    }

    /// A response to keep: in the record when it is small, otherwise as an object of its own.
    async fn keep_answer(
        &self,
        job: &Job,
        status: u16,
        headers: &Headers,
        body: &Bytes,
    ) -> Result<Outcome, Trouble> {
        let content = if body.len() <= Room::in_message(self.store.max_payload()).body {
            Content::whole(headers, body)
        } else {
            let name = format!("{}.{}.{}", job.job_id, job.done, uuid::Uuid::new_v4().simple());
            self.store.put_object(&self.core.subjects.bodies_bucket(), &name, body).await?;
            Content::apart(headers, Some(name), body.len() as u64)
        };
        Ok(Outcome { status, content })
    }

    /// The body of what is stored.
    async fn body_of(&self, content: &Content) -> Result<Bytes, Trouble> {
        let Some(name) = &content.object else { return Ok(Bytes::copy_from_slice(&content.body)) };
        // One that was a dead letter has its bodies there.
        let buckets = [self.core.subjects.bodies_bucket(), self.core.subjects.dead_bodies_bucket()];
        let body = self.store.find_object(&buckets, name, LARGEST).await?;
        body.ok_or_else(|| Trouble::Missing(format!("the body {name} is no longer there")))
    }
}

/// What `doing` comes to. Meanwhile says again and again that `work` is being worked on.
async fn still_at_it<T>(work: &Work, doing: impl Future<Output = T>) -> T {
    let mut doing = std::pin::pin!(doing);
    let mut heard = tokio::time::interval(STILL_AT_IT);
    heard.tick().await;
    loop {
        tokio::select! {
            done = &mut doing => return done,
            _ = heard.tick() => work.progress().await,
        }
    }
}

/// The pause of a job that nobody is there for, after it was handed out so often.
fn parked(delivered: u64) -> Duration {
    let doubled = FIRST_PARKED * 2_u32.saturating_pow(u32::try_from(delivered).unwrap_or(u32::MAX).min(10));
    doubled.min(LONGEST_PARKED)
}

/// What the brokers that share the work are called.
const WORKERS: &str = "brokers";
/// With room for fewer than these, a moment passes before jobs are asked for.
const FEW: usize = 16;
const MOMENT: Duration = Duration::from_millis(5);
/// Revisions that wait for room in JetStream at most; more keep their runs.
const MAX_UNSTORED: usize = 1024;
/// Jobs that are asked for at once, at most.
const AT_ONCE: usize = 64;
static UNREADABLE: Throttle = Throttle::per_minute();
/// How often is said that a job is being worked on.
const STILL_AT_IT: Duration = Duration::from_secs(3);
/// How long after what could not be stored it is tried again.
const STORE_AGAIN: Duration = Duration::from_secs(1);
const RETRY: Duration = Duration::from_millis(200);
const RETRY_SET_UP: Duration = Duration::from_secs(2);
const FIRST_PARKED: Duration = Duration::from_millis(250);
const LONGEST_PARKED: Duration = Duration::from_secs(5);
/// Bytes of a body that is stored at most, whatever client agents let in.
pub(super) const LARGEST: usize = 256 * 1024 * 1024;
