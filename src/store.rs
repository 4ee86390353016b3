//! What brokers store, for those who may not use JetStream themselves: client agents and the commands of operators ask
//! a broker, and hear what came of it.
//!
//! [`StoreClient`] sends a question and waits for its answer; [`sessions`] reads and writes the records of sessions
//! by it. What the questions mean is in [`crate::wire::store`].

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::HeaderMap;
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};

use crate::{
    bus::{Bus, Message, Subscription},
    proto::flow::FIRST_WINDOW,
    stream::{self, Over, Reader, Streams},
    sync::{Mutex, MutexGuard},
    wire::{
        Code, Fault, JobId, Kind, Name, ProcessId, RequestId, Side, StoreReply, StoreRequest, StoreScope,
        StoreVerb, Subjects, codec,
        ids::{ByNumber, Numbers},
    },
};

pub mod sessions;

/// The way of one process to what brokers store.
pub struct StoreClient {
    bus: Bus,
    subjects: Subjects,
    own: ProcessId,
    numbers: Mutex<Numbers>,
    /// Questions without an answer.
    open: Mutex<ByNumber<Open>>,
    /// The bodies that are sent to brokers, or received from them.
    streams: Arc<Streams>,
}

struct Open {
    subject: String,
    heard: mpsc::Sender<Heard>,
}

/// What is heard of a question.
enum Heard {
    Reply(Box<StoreReply>),
    /// NATS has no broker that takes it.
    NoBroker,
    /// NATS permissions refuse this subject.
    Denied(String),
}

/// Why there is no answer to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreError {
    /// No broker is there.
    NoBroker,
    /// NATS permissions refuse this subject.
    Denied(String),
    /// No answer came in time: what was asked for may have been done.
    Late,
    /// It could not be sent: nothing was done.
    NotSent(String),
    /// The broker says why it has not done it.
    Refused(Fault),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::NoBroker => {
                f.write_str("no broker is there to ask: jobs and sessions are stored by `relay broker`")
            }
            StoreError::Denied(subject) => write!(f, "NATS permissions refuse {subject}"),
            StoreError::Late => f.write_str("no broker answered in time"),
            StoreError::NotSent(why) => f.write_str(why),
            StoreError::Refused(fault) => f.write_str(&fault.detail),
        }
    }
}

impl std::error::Error for StoreError {}

impl StoreError {
    /// Whether what was asked for may have been done.
    pub fn is_unknown(&self) -> bool {
        match self {
            StoreError::Late => true,
            StoreError::Refused(fault) => {
                matches!(fault.code, Code::JobUnconfirmed | Code::SessionUnconfirmed)
            }
            StoreError::NoBroker | StoreError::Denied(_) | StoreError::NotSent(_) => false,
        }
    }
}

impl From<StoreError> for Fault {
    /// The fault of what concerns a job. Where storing it is not known to have failed, the fault says so.
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Refused(fault) => fault,
            StoreError::Late => Fault::new(Code::JobUnconfirmed, Side::Client, error.to_string()),
            StoreError::NoBroker | StoreError::Denied(_) | StoreError::NotSent(_) => {
                Fault::new(Code::JobsUnavailable, Side::Client, error.to_string())
            }
        }
    }
}

/// A question that waits for its answers. It is forgotten when this is dropped.
struct Waiting<'a> {
    client: &'a StoreClient,
    id: RequestId,
    heard: mpsc::Receiver<Heard>,
}

impl StoreClient {
    /// The way of the process `own`, over `bus`.
    pub fn new(bus: Bus, subjects: Subjects, own: ProcessId) -> Arc<Self> {
        let streams = Streams::new(bus.clone(), subjects.clone(), Side::Client, STREAMS);
        tokio::spawn(Arc::clone(&streams).run());
        Arc::new(StoreClient {
            bus,
            subjects,
            own,
            numbers: Mutex::new(Numbers::new(std::hash::RandomState::new())),
            open: Mutex::default(),
            streams,
        })
    }

    /// The largest message that NATS takes, in bytes.
    pub fn max_payload(&self) -> usize {
        self.bus.max_payload()
    }

    /// Asks a broker, which answers at once.
    ///
    /// # Errors
    /// Why nothing was done, or that it is not known whether it was.
    pub async fn ask(
        &self,
        scope: StoreScope,
        verb: StoreVerb,
        fill: impl FnOnce(&mut StoreRequest),
    ) -> Result<StoreReply, StoreError> {
        let mut waiting = self.send(scope, verb, fill)?;
        waiting.reply().await
    }

    /// Asks a broker to store what has `body`, which does not fit in a message.
    ///
    /// # Errors
    /// As [`StoreClient::ask`].
    pub async fn ask_with_body(
        &self,
        scope: StoreScope,
        verb: StoreVerb,
        body: Bytes,
        fill: impl FnOnce(&mut StoreRequest),
    ) -> Result<StoreReply, StoreError> {
        let mut waiting = self.send(scope, verb, |request| {
            fill(request);
            request.stream = true;
        })?;
        let stream = self.streams.open(&waiting.id).map_err(StoreError::Refused)?;
        let mut writer = stream.writer(FIRST_WINDOW);
        stream.settle();
        let first = match waiting.reply().await {
            // Without its body nothing is stored.
            Err(StoreError::Late) => Err(StoreError::NotSent(StoreError::Late.to_string())),
            first => first,
        };
        let Some(peer) = first.as_ref().ok().and_then(|reply| reply.stream.clone()) else {
            return first;
        };
        stream.connect(&peer);
        let patience = PATIENCE + Duration::from_secs(body.len() as u64 / STORED_A_SECOND);
        match writer.send(body).await {
            // Whether the broker has its end or not, it tells the outcome. A broker that wants no more of the body says why.
            Ok(()) => {
                writer.finish(HeaderMap::new()).await.ok();
            }
            Err(Over::Stopped) => {}
            // Without its end nothing is stored.
            Err(Over::Cut(fault)) => return Err(StoreError::NotSent(fault.detail.into_owned())),
        }
        waiting.reply_within(patience).await
    }

    /// Asks a broker for a body; `None` when it is no longer there.
    ///
    /// # Errors
    /// As [`StoreClient::ask`].
    pub async fn ask_for_body(
        &self,
        scope: StoreScope,
        fill: impl FnOnce(&mut StoreRequest),
    ) -> Result<Option<Reader>, StoreError> {
        let mut waiting = self.send(scope, StoreVerb::Body, fill)?;
        // Before the answer is read: frames may follow at once.
        let stream = self.streams.open(&waiting.id).map_err(StoreError::Refused)?;
        let reader = stream.reader(FIRST_WINDOW);
        stream.settle();
        let reply = waiting.reply().await?;
        Ok(reply.stream.map(|peer| {
            stream.connect(&peer);
            reader
        }))
    }

    /// News of the end of a job.
    ///
    /// # Errors
    /// When the connection is closed for good.
    pub async fn ends_of(&self, job: &JobId) -> anyhow::Result<Subscription> {
        self.bus.subscribe(self.subjects.ended(job)).await
    }

    /// A message to question `number`, or to the stream that belongs to it. Returns whether it was for one of them.
    pub fn on_message(&self, kind: Kind, number: u64, message: &Message) -> bool {
        match kind {
            Kind::Stored => self.on_reply(number, message),
            Kind::Body => self.on_frame(number, message),
            _ => false,
        }
    }

    /// NATS refused a publication: who waits for its answer need not.
    pub fn on_publish_denied(&self, subject: &str) {
        for open in self.open().values().filter(|open| open.subject == subject) {
            open.heard.try_send(Heard::Denied(subject.to_owned())).ok();
        }
    }

    /// NATS refused the subscription on which answers come: who waits for one need not.
    pub fn on_subscribe_denied(&self, subject: &str) {
        for open in self.open().values() {
            open.heard.try_send(Heard::Denied(subject.to_owned())).ok();
        }
    }

    fn send(
        &self,
        scope: StoreScope,
        verb: StoreVerb,
        fill: impl FnOnce(&mut StoreRequest),
    ) -> Result<Waiting<'_>, StoreError> {
        let subject = self.subjects.store(&scope, verb);
        let id = self.next_id(&scope.token());
        let mut request = StoreRequest::new(id.clone());
        fill(&mut request);
        let payload = codec::encode(&request);
        let max = self.bus.max_payload();
        if payload.len() > max {
            let why = format!("it has {} bytes, NATS takes messages of {max} (max_payload)", payload.len());
            return Err(StoreError::NotSent(why));
        }
        if !self.bus.is_connected() {
            return Err(StoreError::NotSent("there is no connection to NATS".into()));
        }
        let (heard, waiting) = mpsc::channel(UNHEARD);
        {
            let mut open = self.open();
            if open.len() >= MAX_OPEN {
                let why = format!("{MAX_OPEN} questions to brokers wait for their answers");
                return Err(StoreError::NotSent(why));
            }
            open.insert(id.number(), Open { subject: subject.clone(), heard });
        }
        let waiting = Waiting { client: self, id: id.clone(), heard: waiting };
        let reply = self.subjects.of_request(Kind::Stored, &id);
        self.bus.ask(subject, reply, payload).map_err(|full| StoreError::NotSent(full.to_string()))?;
        Ok(waiting)
    }

    fn on_reply(&self, number: u64, message: &Message) -> bool {
        let open = self.open();
        let Some(open) = open.get(&number) else { return false };
        let heard = if message.nobody {
            Heard::NoBroker
        } else {
            match codec::decode::<StoreReply>(&message.payload) {
                Ok(reply) if self.subjects.is_about(&message.subject, &reply.request_id) => {
                    Heard::Reply(Box::new(reply))
                }
                Ok(_) | Err(_) => return false,
            }
        };
        // A question has two answers at most.
        open.heard.try_send(heard).ok();
        true
    }

    fn on_frame(&self, number: u64, message: &Message) -> bool {
        if self.streams.get(number).is_none() {
            return false;
        }
        if message.nobody {
            self.streams.unheard(number);
            return true;
        }
        match stream::read(message) {
            Ok(frame) if self.subjects.is_about(&message.subject, &frame.to) => {
                self.streams.hear(number, frame, message.reply.as_deref());
                true
            }
            Ok(_) | Err(_) => false,
        }
    }

    fn next_id(&self, token: &Name) -> RequestId {
        let number = self.numbers.lock().fresh();
        RequestId::new(&self.own, token, number)
    }

    fn open(&self) -> MutexGuard<'_, ByNumber<Open>> {
        self.open.lock()
    }
}

impl Waiting<'_> {
    async fn reply(&mut self) -> Result<StoreReply, StoreError> {
        self.reply_within(PATIENCE).await
    }

    async fn reply_within(&mut self, patience: Duration) -> Result<StoreReply, StoreError> {
        match timeout_at(Instant::now() + patience, self.heard.recv()).await {
            Ok(Some(Heard::Reply(reply))) => match reply.error {
                Some(error) => Err(StoreError::Refused(error.into())),
                None => Ok(*reply),
            },
            Ok(Some(Heard::NoBroker)) => Err(StoreError::NoBroker),
            Ok(Some(Heard::Denied(subject))) => Err(StoreError::Denied(subject)),
            // The other end is in the table for as long as this lives.
            Ok(None) | Err(_) => Err(StoreError::Late),
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.client.open().remove(&self.id.number());
    }
}

/// How long a broker may take to answer: longer than JetStream may take to answer a broker that asks it again.
const PATIENCE: Duration = Duration::from_secs(12);
/// Bytes of a body that a broker stores in a second at least.
const STORED_A_SECOND: u64 = 4 * 1024 * 1024;
/// Questions without an answer at most.
const MAX_OPEN: usize = 16 * 1024;
/// What the bodies that are sent and received are held to.
pub const STREAMS: stream::Limits =
    stream::Limits { streams: 4096, stall: Duration::from_secs(60), idle: Duration::from_secs(60) };
/// Answers to one question that wait to be read.
const UNHEARD: usize = 4;
