//! Jobs that client agents have stored, read and cancelled.

use bytes::Bytes;

use super::{
    Kept, Storing, announce_end, bad, named, no_job, not_stored,
    quotas::Place,
    settling::{Stored, is_later, is_withdrawn},
    unavailable,
};
use crate::{
    bus::store::Trouble,
    proto::jobs,
    wire::{
        Code, Fault, Job, JobId, JobState, Side, StoreReply, StoreRequest, StoreScope, codec,
        job::{Content, JobKey, Room},
        message::VERSION,
        store::CallerKey,
    },
};

/// The job that a caller's key stands for.
enum Keyed {
    /// This request is the first with it.
    New(JobId),
    /// An earlier one had it.
    Known(JobId),
}

impl Storing {
    /// Stores a single request.
    pub(super) async fn take(
        &self,
        scope: &StoreScope,
        mut request: StoreRequest,
    ) -> Result<StoreReply, Fault> {
        if request.job.is_none() {
            return self.settle(&request).await;
        }
        let mut job = self.new_job(&mut request, JobState::Running)?;
        let [hop] = job.hops.as_slice() else {
            return Err(bad("a job that is answered later has one request"));
        };
        let fits = match scope {
            StoreScope::Jobs(upstream) => hop.upstream.as_ref() == Some(upstream) && job.callback.is_none(),
            _ => hop.upstream.is_some() && job.errors_to.is_none(),
        };
        if !fits {
            return Err(bad("the job's request is not for the upstream that the question names"));
        }
        let asked = job.job_id.clone();
        let mut before = 0;
        let mut reply = StoreReply::done(request.request_id.clone());
        let place = self.place(&asked, &request).await;
        if let Some(key) = &request.key {
            let upstream = hop.upstream.clone().ok_or_else(|| bad("the job's request names no upstream"))?;
            let subject = self.key_subject(&upstream, key)?;
            let keyed = match &place {
                Ok(_) => self.keyed(&subject, key, &asked).await?,
                // A job that is there is no new one.
                Err(full) => {
                    let known = self.known(&subject, key, &asked).await?;
                    Keyed::Known(known.ok_or_else(|| full.clone())?)
                }
            };
            match keyed {
                Keyed::New(id) => job.job_id = id,
                Keyed::Known(id) => {
                    reply.job_id = (id != asked).then(|| id.clone());
                    before = match self.find(&id, false).await {
                        Ok(Some(kept)) if !is_withdrawn(&kept.job) => return Ok(reply),
                        Ok(Some(kept)) => kept.record.revision,
                        // The broker that took the key has not stored the job.
                        Ok(None) => 0,
                        // An earlier request may have had it stored.
                        Err(_) => return Err(not_stored(&Trouble::Late)),
                    };
                    job.job_id = id;
                }
            }
        }
        let place = place?;
        if request.stream {
            self.take_body(scope, &request, &mut job).await?;
        }
        let created = self.create(&job, before).await;
        // One that may be stored counts.
        if created.as_ref().map_or_else(|fault| fault.code == Code::JobUnconfirmed, |is_new| *is_new) {
            place.keep();
        }
        created.map(|_| reply)
    }

    /// A place for a new job.
    async fn place(&self, id: &JobId, request: &StoreRequest) -> Result<Place<'_>, Fault> {
        let subjects = &self.core.subjects;
        let subject = subjects.every_job_of(id.upstream.as_ref());
        self.quotas.place(&self.store, &subjects.jobs_stream(), subject, request.caller.as_deref()).await
    }

    /// Takes the id of a chain.
    pub(super) async fn begin(&self, mut request: StoreRequest) -> Result<StoreReply, Fault> {
        let begun = self.new_job(&mut request, JobState::Begun)?;
        let place = self.place(&begun.job_id, &request).await?;
        let bytes = codec::encode(&begun);
        let mut reply = StoreReply::done(request.request_id);
        let taken = match self.store_job(&begun, 0, &bytes).await {
            Ok(Stored::Here(revision)) => Ok(revision),
            Ok(Stored::Other(kept)) => self.begin_again(&begun, &kept, &bytes).await,
            Err(trouble) => Err(not_stored(&trouble)),
        };
        // One that may be taken counts.
        if taken.as_ref().map_or_else(|fault| fault.code == Code::JobUnconfirmed, |_| true) {
            place.keep();
        }
        reply.revision = taken?;
        Ok(reply)
    }

    /// Takes an id that a chain had which never started: it does not count.
    async fn begin_again(&self, begun: &Job, kept: &Kept, bytes: &Bytes) -> Result<u64, Fault> {
        let taken = || {
            let detail = format!("there is a chain {} already: each has an id of its own", begun.job_id);
            Fault::new(Code::ChainLoop, Side::Broker, detail)
        };
        // A question that comes late, after its asker has given it up.
        let is_given_up = kept.job.input == begun.input && begun.input != Content::default();
        if !is_withdrawn(&kept.job) || is_given_up {
            return Err(taken());
        }
        match self.store_job(begun, kept.record.revision, bytes).await {
            Ok(Stored::Here(revision)) => Ok(revision),
            Ok(Stored::Other(_)) => Err(taken()),
            Err(trouble) => Err(not_stored(&trouble)),
        }
    }

    /// Stores a chain whose first server has answered.
    pub(super) async fn start_chain(
        &self,
        scope: &StoreScope,
        mut request: StoreRequest,
    ) -> Result<StoreReply, Fault> {
        let mut job = self.new_job(&mut request, JobState::Running)?;
        if job.hops.is_empty() || job.errors_to.is_none() {
            return Err(bad("a chain has hops, and names who is told of its failure"));
        }
        self.begun(&job.job_id, request.revision).await?;
        if request.stream {
            self.take_body(scope, &request, &mut job).await?;
        }
        let mut reply = StoreReply::done(request.request_id);
        reply.revision = match self.store_job(&job, request.revision, &codec::encode(&job)).await {
            Ok(Stored::Here(revision)) => revision,
            // It goes on already.
            Ok(Stored::Other(kept)) if is_later(&kept.job, &job) => kept.record.revision,
            Ok(Stored::Other(_)) => {
                self.forget(job.objects()).await;
                return Err(no_longer_begun(&job.job_id));
            }
            Err(trouble) => return Err(self.unless_stored(&job, &trouble).await),
        };
        Ok(reply)
    }

    /// Gives back the id of a chain that does not start.
    pub(super) async fn abandon(&self, mut request: StoreRequest) -> Result<StoreReply, Fault> {
        if request.job.is_some() {
            let begun = self.new_job(&mut request, JobState::Begun)?;
            return self.give_up(&begun, request).await;
        }
        let begun = self.begun(named(&request)?, request.revision).await?;
        let abandoned = Job { state: JobState::Cancelled, ..begun.job };
        match self.store_job(&abandoned, request.revision, &codec::encode(&abandoned)).await {
            Ok(Stored::Here(_)) => Ok(StoreReply::done(request.request_id)),
            Ok(Stored::Other(kept)) => Err(no_longer_begun(&kept.job.job_id)),
            Err(trouble) => Err(not_stored(&trouble)),
        }
    }

    /// The record of a chain that has begun, and is still at `revision`.
    async fn begun(&self, id: &JobId, revision: u64) -> Result<Kept, Fault> {
        let kept = self.find(id, false).await.map_err(|trouble| unavailable(&trouble))?;
        let begun = kept.filter(|kept| kept.record.revision == revision && kept.job.state == JobState::Begun);
        begun.ok_or_else(|| no_longer_begun(id))
    }

    /// What is known of a job, or of its dead letter.
    pub(super) async fn tell(&self, request: StoreRequest, dead: bool) -> Result<StoreReply, Fault> {
        let id = named(&request)?;
        let kept = self.find(id, dead).await.map_err(|trouble| unavailable(&trouble))?;
        let kept = kept.ok_or_else(|| no_job(id))?;
        let mut reply = StoreReply::done(request.request_id.clone());
        (reply.stored, reply.revision) = (kept.stored(), kept.record.revision);
        reply.job = Some(Box::new(kept.job));
        Ok(reply)
    }

    /// Cancels a job.
    pub(super) async fn cancel(&self, request: StoreRequest) -> Result<StoreReply, Fault> {
        let id = named(&request)?;
        for _ in 0..TRIES {
            let kept = self.find(id, false).await.map_err(|trouble| unavailable(&trouble))?;
            let kept = kept.ok_or_else(|| no_job(id))?;
            let age = kept.age();
            let state = kept.job.state.as_str();
            let Some(cancelled) = jobs::cancelled(kept.job, age) else {
                let detail = format!("the job {id} is over: it is {state}");
                return Err(Fault::new(Code::JobOver, Side::Broker, detail));
            };
            let subject = self.core.subjects.job(id);
            match self.store.replace(&subject, kept.record.revision, codec::encode(&cancelled)).await {
                Ok(_) => {
                    announce_end(&self.core, &cancelled);
                    self.forget(cancelled.objects()).await;
                    return Ok(StoreReply::done(request.request_id.clone()));
                }
                // Its next step was stored meanwhile: that one is cancelled then.
                Err(Trouble::Changed) => {}
                Err(trouble) => return Err(not_stored(&trouble)),
            }
        }
        let detail = format!("the job {id} goes on too quickly to be cancelled: try again");
        Err(Fault::new(Code::JobOver, Side::Broker, detail))
    }

    /// The job that a question asks to store, as one that is new: what only brokers write is not taken from it.
    fn new_job(&self, request: &mut StoreRequest, state: JobState) -> Result<Job, Fault> {
        let job = request.job.take().ok_or_else(|| bad("the question has no job"))?;
        if job.client_id.as_str() != request.request_id.process() {
            return Err(bad("the job is another process's"));
        }
        let room = Room::in_message(self.core.bus.max_payload().min(self.store.max_payload()));
        let urls: usize = job.hops.iter().map(|hop| hop.url.len() + hop.method.len()).sum();
        if Content::size_of(&job.input.headers()) > room.headers || urls > room.rest {
            let detail = "the job's headers or URLs are over an eighth of NATS's max_payload";
            return Err(Fault::new(Code::HeadersTooLarge, Side::Broker, detail));
        }
        let body = job.input.body.len();
        if body > room.body || (!request.stream && job.input.size != body as u64) {
            return Err(bad("the job's body does not fit in its record"));
        }
        let input = Content { object: None, ..job.input };
        let pause = if state == JobState::Begun { job.pause } else { 0 };
        Ok(Job {
            state,
            input,
            pause,
            age: 0,
            done: 0,
            attempts: 0,
            log: Vec::new(),
            outcome: None,
            error: None,
            untold: None,
            held_by: None,
            ..*job
        })
    }

    /// Stores a job that is new, whose large body is stored already, in the place of revision `before`. Returns whether
    /// it was not there.
    async fn create(&self, job: &Job, before: u64) -> Result<bool, Fault> {
        match self.store_job(job, before, &codec::encode(job)).await {
            Ok(Stored::Here(_)) => Ok(true),
            Ok(Stored::Other(kept)) => {
                let needed: Vec<_> = kept.job.objects().collect();
                let unused: Vec<_> = job.objects().filter(|object| !needed.contains(object)).collect();
                self.forget(unused).await;
                if is_withdrawn(&kept.job) {
                    let detail = format!("the job {} was withdrawn before it was stored", job.job_id);
                    return Err(Fault::new(Code::JobsUnavailable, Side::Broker, detail));
                }
                // The same request came before, by its key.
                Ok(false)
            }
            Err(trouble) => Err(self.unless_stored(job, &trouble).await),
        }
    }

    /// What is said of a job that was not stored: the body of one that certainly is not is forgotten.
    async fn unless_stored(&self, job: &Job, trouble: &Trouble) -> Fault {
        if *trouble != Trouble::Late {
            self.forget(job.objects()).await;
        }
        not_stored(trouble)
    }

    pub(super) fn key_subject(&self, upstream: &crate::wire::Name, key: &CallerKey) -> Result<String, Fault> {
        let is_hash = key.hash.len() == HASH && key.hash.bytes().all(|b| b.is_ascii_hexdigit());
        if !is_hash || key.asked.len() > HASH {
            return Err(bad("the caller's key is no hash"));
        }
        Ok(self.core.subjects.key(upstream, &key.hash))
    }

    /// The job that a key stands for, from the first request with it on.
    async fn keyed(&self, subject: &str, key: &CallerKey, asked: &JobId) -> Result<Keyed, Fault> {
        let fresh = JobKey { v: VERSION, job_id: asked.clone(), asked: key.asked.clone() };
        match self.store.create(subject, codec::encode(&fresh)).await {
            Ok(_) => return Ok(Keyed::New(fresh.job_id)),
            Err(Trouble::Changed) => {}
            // The job is stored after its key: it certainly is not.
            Err(trouble) => return Err(unavailable(&trouble)),
        }
        let known = self.known(subject, key, asked).await?;
        known.map(Keyed::Known).ok_or_else(|| unavailable(&Trouble::Changed))
    }

    /// The job that a key stands for, when an earlier request had it.
    pub(super) async fn known(
        &self,
        subject: &str,
        key: &CallerKey,
        asked: &JobId,
    ) -> Result<Option<JobId>, Fault> {
        let record = self.store.last(&self.core.subjects.keys_stream(), subject).await;
        let record = record.map_err(|trouble| unavailable(&trouble))?;
        let known = record.and_then(|record| codec::decode::<JobKey>(&record.bytes).ok());
        match known {
            Some(known) if known.asked != key.asked => {
                let detail = "this Idempotency-Key came with another request before: use a new one for each";
                Err(Fault::new(Code::KeyReused, Side::Broker, detail))
            }
            Some(known) if known.job_id.upstream == asked.upstream => Ok(Some(known.job_id)),
            Some(_) => {
                let detail =
                    "this Idempotency-Key came with a callback before, or without: use a new one for each";
                Err(Fault::new(Code::KeyReused, Side::Broker, detail))
            }
            None => Ok(None),
        }
    }
}

fn no_longer_begun(id: &JobId) -> Fault {
    Fault::new(Code::JobOver, Side::Broker, format!("the chain {id} is no longer to be started"))
}

/// How often a job that goes on meanwhile is tried to be cancelled or replayed.
pub(super) const TRIES: usize = 5;
/// Letters of a hash in hexadecimal.
const HASH: usize = 64;
