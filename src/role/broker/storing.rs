//! What the broker stores for others: answers the questions of client agents and operators, who may not use JetStream
//! themselves.
//!
//! A question's subject says which upstream or session it is about, and NATS permissions who may ask it. What it says
//! must fit that, and the answer goes where its id says and nowhere else: a reply subject that the asker chose would
//! have the broker publish, by its own permissions, wherever the asker may not. `jobs` has the jobs, `letters` what
//! operators do with jobs and dead letters, `sessions` the records of sessions, `bodies` what does not fit in a message, `settling` what
//! JetStream did not confirm.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Semaphore, watch};

use quotas::Quotas;

use super::{StoreLink, jobs::LARGEST};
use crate::{
    bus::{
        Message, Subscription,
        store::{Record, Store, Trouble},
    },
    config::{self, Jobs as Settings},
    role::core::Core,
    store::STREAMS,
    stream::{Streams, memory::Reserve},
    sync::Mutex,
    telemetry::JobEnded,
    wire::{
        Code, Ended, Fault, Job, JobId, Kind, Side, StoreReply, StoreRequest, StoreScope, StoreVerb, codec,
        ids::Numbers,
        message::{VERSION, millis},
    },
};

mod bodies;
mod jobs;
mod letters;
mod quotas;
mod sessions;
mod settling;

/// What a broker needs to store what others ask it to.
pub struct Storing {
    core: Arc<Core>,
    store: Store,
    sessions: crate::bus::Kv,
    /// Bodies on their way here and from here.
    streams: Arc<Streams>,
    numbers: Mutex<Numbers>,
    /// Subscriptions to questions that are read.
    reading: AtomicUsize,
    /// KiB of questions that may be answered at once.
    questions: Arc<Semaphore>,
    /// Pages of lists that may be read at once.
    lists: Semaphore,
    /// Memory for bodies that are to be stored.
    memory: Reserve,
    /// Bytes of one of them at most.
    largest: usize,
    /// How many jobs may be kept.
    quotas: Quotas,
    /// Whether it is known if JetStream can be used.
    tried: watch::Receiver<bool>,
}

/// A job's record.
struct Kept {
    job: Job,
    record: Record,
}

impl Kept {
    /// Milliseconds since it was stored, by this broker's clock.
    fn stored(&self) -> u64 {
        millis(self.record.stored.elapsed().unwrap_or_default())
    }

    /// How long ago the job was accepted.
    fn age(&self) -> Duration {
        Duration::from_millis(self.job.age.saturating_add(self.stored()))
    }
}

impl Storing {
    /// Stores over `link`, by `settings`. `tried` says when it is known whether JetStream can be used.
    pub fn new(
        core: &Arc<Core>,
        link: &StoreLink,
        settings: &Settings,
        tried: watch::Receiver<bool>,
    ) -> Arc<Self> {
        let memory = config::bytes(settings.max_memory) / 4;
        let streams = Streams::new(core.bus.clone(), core.subjects.clone(), Side::Broker, STREAMS);
        Arc::new(Storing {
            core: Arc::clone(core),
            store: link.store.clone(),
            sessions: link.bus.kv(core.subjects.sessions_bucket()),
            streams,
            numbers: Mutex::new(Numbers::new(std::hash::RandomState::new())),
            reading: AtomicUsize::new(0),
            questions: Arc::new(Semaphore::new(QUESTIONS as usize)),
            lists: Semaphore::new(LISTS),
            memory: Reserve::new(memory),
            largest: memory.min(LARGEST),
            quotas: Quotas::new(settings),
            tried,
        })
    }

    /// Takes questions from now on.
    ///
    /// # Errors
    /// When the connection to NATS is closed for good.
    pub async fn start(self: &Arc<Self>) -> anyhow::Result<()> {
        for subject in self.core.subjects.every_store() {
            let questions = self.core.bus.join(subject).await?;
            self.reading.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(Arc::clone(self).read(questions));
        }
        tokio::spawn(Arc::clone(&self.streams).run());
        Ok(())
    }

    /// NATS refused a publication to JetStream.
    pub fn on_publish_denied(&self, subject: &str) {
        self.sessions.on_publish_denied(subject);
    }

    /// A frame of a body. Returns whether it was for a stream of what is stored.
    pub fn on_frame(&self, number: u64, message: &Message) -> bool {
        if self.streams.get(number).is_none() {
            return false;
        }
        if message.nobody {
            self.streams.unheard(number);
            return true;
        }
        let frame = crate::stream::read(message);
        let own =
            frame.map(|frame| self.core.subjects.is_about(&message.subject, &frame.to).then_some(frame));
        if let Some(frame) = self.core.accept(message, own) {
            self.streams.hear(number, frame, message.reply.as_deref());
        }
        true
    }

    /// Whether it has left to other brokers what is asked from now on, and has answered what it was asked.
    pub fn is_done(&self) -> bool {
        self.reading.load(Ordering::Relaxed) == 0 && self.questions.available_permits() == QUESTIONS as usize
    }

    /// Takes questions until the process is told to stop: then NATS sends the next ones to other brokers, and what
    /// it has sent before that comes within a round trip.
    async fn read(self: Arc<Self>, mut questions: Subscription) {
        let mut stopping = std::pin::pin!(self.core.stopping());
        loop {
            tokio::select! {
                message = questions.next() => match message {
                    Some(message) => self.take_question(&message),
                    None => break,
                },
                () = &mut stopping => break,
            }
        }
        questions.stop().await;
        let mut round_trip = std::pin::pin!(tokio::time::timeout(LEAVING, self.core.round_trip()));
        loop {
            tokio::select! {
                biased;
                _ = &mut round_trip => break,
                Some(message) = questions.next() => self.take_question(&message),
            }
        }
        while let Some(Some(message)) = futures_util::FutureExt::now_or_never(questions.next()) {
            self.take_question(&message);
        }
        questions.end().await;
        self.reading.fetch_sub(1, Ordering::Relaxed);
    }

    fn take_question(self: &Arc<Self>, message: &Message) {
        let scope = self.core.subjects.store_scope(&message.subject);
        let read = codec::decode::<StoreRequest>(&message.payload).map(|request| {
            scope.and_then(|(scope, verb)| scope.covers(&request).then_some((scope, verb, request)))
        });
        let Some((scope, verb, request)) = self.core.accept(message, read) else { return };
        let size = u32::try_from(message.payload.len() / 1024).unwrap_or(u32::MAX).max(SMALLEST);
        let Ok(permit) = Arc::clone(&self.questions).try_acquire_many_owned(size) else {
            let detail = "the broker has as many questions about jobs and sessions as it answers at once";
            let full = Fault::new(Code::BrokerFull, Side::Broker, detail);
            return self.reply(&StoreReply::refused(request.request_id, &full));
        };
        let storing = Arc::clone(self);
        tokio::spawn(async move {
            let id = request.request_id.clone();
            match storing.answer(&scope, verb, request).await {
                Ok(reply) => reply.iter().for_each(|reply| storing.reply(reply)),
                Err(fault) => storing.reply(&StoreReply::refused(id, &fault)),
            }
            drop(permit);
        });
    }

    /// The answer to a question, unless it was given already.
    async fn answer(
        &self,
        scope: &StoreScope,
        verb: StoreVerb,
        request: StoreRequest,
    ) -> Result<Option<StoreReply>, Fault> {
        if let StoreScope::Session(_) | StoreScope::Sessions = scope {
            return self.session(scope, verb, request).await.map(Some);
        }
        // A broker that has just started may be setting up what keeps jobs.
        self.tried.clone().wait_for(|tried| *tried).await.ok();
        let reply = match (scope, verb) {
            (_, StoreVerb::List) => self.list(scope, request, false).await,
            (_, StoreVerb::Letters) => self.list(scope, request, true).await,
            (StoreScope::Chains, StoreVerb::Begin) => self.begin(request).await,
            (StoreScope::Chains, StoreVerb::Start) => self.start_chain(scope, request).await,
            (StoreScope::Chains, StoreVerb::Abandon) => self.abandon(request).await,
            (StoreScope::Jobs(_) | StoreScope::Chains, verb) => match verb {
                StoreVerb::Body => return self.send_body(scope, request).await.map(|()| None),
                StoreVerb::Accept => self.take(scope, request).await,
                StoreVerb::Read => self.tell(request, false).await,
                StoreVerb::Letter => self.tell(request, true).await,
                StoreVerb::Cancel => self.cancel(request).await,
                StoreVerb::Replay => self.replay(request).await,
                StoreVerb::Purge => self.purge(request).await,
                _ => Err(no_question()),
            },
            _ => Err(no_question()),
        };
        reply.map(Some)
    }

    fn reply(&self, reply: &StoreReply) {
        let payload = codec::encode(reply);
        let max = self.core.bus.max_payload();
        if payload.len() > max {
            let detail =
                format!("the answer has {} bytes, NATS takes messages of {max} (max_payload)", payload.len());
            let fault = Fault::new(Code::JobsUnavailable, Side::Broker, detail);
            return self.reply(&StoreReply::refused(reply.request_id.clone(), &fault));
        }
        self.core.publish(self.core.subjects.of_request(Kind::Stored, &reply.request_id), payload);
    }

    /// The record of a job; of its dead letter with `dead`.
    async fn find(&self, id: &JobId, dead: bool) -> Result<Option<Kept>, Trouble> {
        let subjects = &self.core.subjects;
        let (stream, subject) = match dead {
            false => (subjects.jobs_stream(), subjects.job(id)),
            true => (subjects.dead_stream(), subjects.dead(id)),
        };
        let Some(record) = self.store.last(&stream, &subject).await? else { return Ok(None) };
        self.kept(record).map(Some)
    }

    /// A record, when it is what its subject says it is.
    fn kept(&self, record: Record) -> Result<Kept, Trouble> {
        let unreadable = |why: String| Trouble::Other(format!("{} can't be read: {why}", record.subject));
        let job = codec::decode::<Job>(&record.bytes).map_err(|why| unreadable(why.to_string()))?;
        if self.core.subjects.job_of(&record.subject).as_ref() != Some(&job.job_id) {
            return Err(unreadable("it is the record of another job".into()));
        }
        Ok(Kept { job, record })
    }

    /// Forgets bodies. What can't be forgotten now goes when it is old.
    async fn forget<'a>(&self, objects: impl IntoIterator<Item = &'a str>) {
        let subjects = &self.core.subjects;
        for object in objects {
            for bucket in [subjects.bodies_bucket(), subjects.dead_bodies_bucket()] {
                self.store.remove_object(&bucket, object).await;
            }
        }
    }
}

/// Counts the end of a job, and tells those who wait for it.
pub(super) fn announce_end(core: &Core, job: &Job) {
    let labels = JobEnded { state: job.state.as_str() };
    core.metrics.jobs_ended.get_or_create(&labels).inc();
    let ended = Ended { v: VERSION, job_id: job.job_id.clone(), state: job.state };
    core.publish(core.subjects.ended(&job.job_id), codec::encode(&ended));
}

/// The job that a question names.
fn named(request: &StoreRequest) -> Result<&JobId, Fault> {
    request.job_id.as_ref().ok_or_else(|| bad("the question names no job"))
}

fn no_job(id: &JobId) -> Fault {
    Fault::new(Code::NoJob, Side::Broker, format!("there is no job {id}, or no longer"))
}

fn no_question() -> Fault {
    bad("brokers of this version are not asked that")
}

fn bad(detail: impl Into<std::borrow::Cow<'static, str>>) -> Fault {
    Fault::new(Code::BadJob, Side::Broker, detail)
}

/// What JetStream says of a question that changes nothing.
fn unavailable(trouble: &Trouble) -> Fault {
    Fault::new(Code::JobsUnavailable, Side::Broker, trouble.to_string())
}

/// What JetStream says of a record that was to be stored: what it does not answer in time it may yet do.
fn not_stored(trouble: &Trouble) -> Fault {
    match trouble {
        Trouble::Late => Fault::new(Code::JobUnconfirmed, Side::Broker, trouble.to_string()),
        Trouble::Changed
        | Trouble::Missing(_)
        | Trouble::Denied(_)
        | Trouble::Full(_)
        | Trouble::Other(_) => unavailable(trouble),
    }
}

/// KiB of questions that are answered at once at most, and what the smallest counts as.
const QUESTIONS: u32 = 64 * 1024;
const SMALLEST: u32 = 16;
/// Pages of lists that are read at once at most.
const LISTS: usize = 4;
/// How long NATS may take to say that it sends no more questions.
const LEAVING: Duration = Duration::from_secs(4);
