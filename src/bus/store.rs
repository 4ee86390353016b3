//! What outlives a process: streams of JetStream that keep one record for each subject, and an object store for
//! what does not fit in a record.
//!
//! A record is replaced only by whoever knows its revision, so two processes never both have the last word on it.
//! Nothing here waits longer than [`PATIENCE`], and a refusal by NATS permissions is known at once.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use async_nats::jetstream::{
    self, AckKind, ErrorCode,
    consumer::{AckPolicy, DeliverPolicy, PullConsumer, pull},
    context::{
        ConsumerInfoErrorKind, CreateStreamErrorKind, GetStreamErrorKind, PublishError, PublishErrorKind,
    },
    message::PublishMessage,
    stream::{Config, DirectGetErrorKind, DiscardPolicy, PurgeErrorKind, StorageType},
};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::time::timeout;

use super::{
    Bus,
    refusals::{Refusals, Unanswered, is_conflict},
};

mod objects;

/// The way to JetStream.
#[derive(Clone)]
pub struct Store {
    context: jetstream::Context,
    bus: Bus,
    /// What NATS permissions refused.
    refused: Refusals,
}

/// A stream that is to be there.
#[derive(Debug, Clone)]
pub struct Keep {
    /// Its name.
    pub name: String,
    /// What it keeps: the last message of each.
    pub subjects: Vec<String>,
    /// How long a record is kept.
    pub age: Duration,
    /// Records at most; more are refused.
    pub records: i64,
    /// Bytes at most; more are refused.
    pub bytes: i64,
    /// Copies in a cluster.
    pub replicas: Option<usize>,
}

/// A record.
#[derive(Debug, Clone)]
pub struct Record {
    /// Its subject.
    pub subject: String,
    /// Which revision of it this is.
    pub revision: u64,
    /// When NATS stored it, by NATS's clock.
    pub stored: SystemTime,
    /// Its bytes.
    pub bytes: Bytes,
}

/// A record that is handed to this process alone until it is settled or too long is heard nothing of it.
pub struct Work {
    /// The record.
    pub record: Record,
    /// How often it was handed out, this time included.
    pub delivered: u64,
    acker: jetstream::message::Acker,
}

/// Records that are handed to whoever has room for one.
pub struct Worklist(PullConsumer);

/// Why something could not be stored or read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// Somebody else stored another revision, or a record is there already.
    Changed,
    /// JetStream, or what keeps these records, is not there.
    Missing(String),
    /// NATS permissions refuse it.
    Denied(String),
    /// There is no room.
    Full(String),
    /// No answer in time.
    Late,
    /// Anything else.
    Other(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Changed => f.write_str("it was changed meanwhile"),
            Trouble::Missing(what) => f.write_str(what),
            Trouble::Denied(subject) => write!(f, "NATS permissions refuse {subject}"),
            Trouble::Full(why) => write!(f, "JetStream has no room: {why}"),
            Trouble::Late => write!(f, "JetStream did not answer within {} s", PATIENCE.as_secs()),
            Trouble::Other(why) => write!(f, "JetStream: {why}"),
        }
    }
}

impl std::error::Error for Trouble {}

impl Bus {
    /// The way to JetStream over this connection.
    pub fn store(&self) -> Store {
        let context = jetstream::context::ContextBuilder::new().timeout(PATIENCE).build(self.client.clone());
        Store { context, bus: self.clone(), refused: Refusals::none() }
    }
}

impl Store {
    /// NATS permissions refused a publication on `subject`: whoever waits for it need not.
    pub fn deny(&self, subject: &str) {
        self.refused.note(subject);
    }

    /// The largest record that NATS takes, in bytes.
    pub fn max_payload(&self) -> usize {
        self.bus.max_payload()
    }

    /// How often the connection was made so far.
    pub fn connects(&self) -> u64 {
        self.bus.connects()
    }

    /// Whether one of these streams is not there, or the list called `list` of the first of them.
    ///
    /// # Errors
    /// What is in the way.
    pub async fn is_missing(&self, streams: &[String], list: &str) -> Result<bool, Trouble> {
        for (at, name) in streams.iter().enumerate() {
            let asked = format!("$JS.API.STREAM.INFO.{name}");
            match self.unless_denied(&asked, self.context.get_stream(name)).await? {
                Ok(stream) if at == 0 => {
                    let asked = format!("$JS.API.CONSUMER.INFO.{name}");
                    match self.unless_denied(&asked, stream.consumer_info(list)).await? {
                        Ok(_) => {}
                        Err(error) if error.kind() == ConsumerInfoErrorKind::NotFound => return Ok(true),
                        Err(error) => return Err(other(error)),
                    }
                }
                Ok(_) => {}
                Err(error) if is_no_stream(&error.kind()) => return Ok(true),
                Err(error) => return Err(other(error)),
            }
        }
        Ok(false)
    }

    /// Creates what is to be there, or changes what is there to be so.
    ///
    /// # Errors
    /// What is in the way.
    pub async fn keep(&self, keep: &Keep) -> Result<(), Trouble> {
        let wanted = |replicas: usize| Config {
            name: keep.name.clone(),
            subjects: keep.subjects.clone(),
            max_messages_per_subject: 1,
            max_age: keep.age,
            max_messages: keep.records,
            max_bytes: keep.bytes,
            discard: DiscardPolicy::New,
            storage: StorageType::File,
            num_replicas: replicas,
            allow_direct: true,
            ..Config::default()
        };
        let replicas = keep.replicas.unwrap_or_else(|| self.replicas());
        let subject = format!("$JS.API.STREAM.UPDATE.{}", keep.name);
        let kept = self.context.create_or_update_stream(wanted(replicas));
        self.unless_denied(&subject, kept).await?.map(drop).map_err(|error| not_created(error.kind()))
    }

    /// Stores the first revision of a record.
    ///
    /// # Errors
    /// [`Trouble::Changed`] when there is one already.
    pub async fn create(&self, subject: &str, bytes: Bytes) -> Result<u64, Trouble> {
        self.replace(subject, 0, bytes).await
    }

    /// Stores the revision after `revision`.
    ///
    /// # Errors
    /// [`Trouble::Changed`] when the last revision is another one.
    pub async fn replace(&self, subject: &str, revision: u64, bytes: Bytes) -> Result<u64, Trouble> {
        self.store(subject, PublishMessage::build().payload(bytes).expected_last_subject_sequence(revision))
            .await
    }

    /// Stores a record, whatever was there.
    ///
    /// # Errors
    /// What is in the way.
    pub async fn put(&self, subject: &str, bytes: Bytes) -> Result<u64, Trouble> {
        self.store(subject, PublishMessage::build().payload(bytes)).await
    }

    async fn store(&self, subject: &str, message: PublishMessage) -> Result<u64, Trouble> {
        if !self.bus.is_connected() {
            return Err(Trouble::Missing("there is no connection to NATS".into()));
        }
        let stored = async { self.context.send_publish(subject.to_owned(), message).await?.await };
        match self.unless_denied(subject, stored).await? {
            Ok(ack) => Ok(ack.sequence),
            Err(error) => Err(self.not_stored(subject, &error)),
        }
    }

    /// The last revision of a record.
    ///
    /// # Errors
    /// What is in the way.
    pub async fn last(&self, stream: &str, subject: &str) -> Result<Option<Record>, Trouble> {
        let handle = self.context.get_stream_no_info(stream).await;
        let handle = handle.map_err(other)?;
        let asked = format!("$JS.API.DIRECT.GET.{stream}.{subject}");
        match self.unless_denied(&asked, handle.direct_get_last_for_subject(subject)).await? {
            Ok(message) => Ok(Some(Record {
                subject: message.subject.to_string(),
                revision: message.sequence,
                stored: system_time(message.time.unix_timestamp_nanos()),
                bytes: message.payload,
            })),
            Err(error) => match error.kind() {
                DirectGetErrorKind::NotFound => Ok(None),
                DirectGetErrorKind::TimedOut => Err(Trouble::Late),
                DirectGetErrorKind::Request
                | DirectGetErrorKind::ErrorResponse(async_nats::StatusCode::NO_RESPONDERS, _) => {
                    Err(self.absent())
                }
                _ => Err(other(error)),
            },
        }
    }

    /// Removes a record and its subject.
    ///
    /// # Errors
    /// What is in the way.
    pub async fn remove(&self, stream: &str, subject: &str) -> Result<(), Trouble> {
        let handle = self.context.get_stream_no_info(stream).await.map_err(other)?;
        let asked = format!("$JS.API.STREAM.PURGE.{stream}");
        let removed = async { handle.purge().filter(subject).await };
        self.unless_denied(&asked, removed).await?.map(drop).map_err(|error| match error.kind() {
            PurgeErrorKind::TimedOut => Trouble::Late,
            PurgeErrorKind::Request => self.absent(),
            PurgeErrorKind::JetStream(_) => other(error),
        })
    }

    /// Removes a record, unless it is a later revision than `revision` by then.
    ///
    /// # Errors
    /// What is in the way.
    pub async fn remove_revision(&self, stream: &str, subject: &str, revision: u64) -> Result<(), Trouble> {
        let handle = self.context.get_stream_no_info(stream).await.map_err(other)?;
        let asked = format!("$JS.API.STREAM.PURGE.{stream}");
        let removed = async { handle.purge().filter(subject).sequence(revision + 1).await };
        self.unless_denied(&asked, removed).await?.map(drop).map_err(other)
    }

    /// Records of a stream on these subjects, oldest first, from after revision `after` on: no more than `limit`, and
    /// no more once they have `bytes` bytes together. With them the revision to go on after, or 0 when there are no more.
    ///
    /// # Errors
    /// What is in the way.
    pub async fn page(
        &self,
        stream: &str,
        subjects: Vec<String>,
        after: u64,
        limit: usize,
        bytes: usize,
    ) -> Result<(Vec<Record>, u64), Trouble> {
        let handle = self.context.get_stream(stream).await.map_err(|_| self.absent())?;
        let start_sequence = after.saturating_add(1);
        let config = pull::OrderedConfig {
            filter_subjects: subjects,
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence },
            ..pull::OrderedConfig::default()
        };
        let asked = format!("$JS.API.CONSUMER.CREATE.{stream}");
        let consumer = self.unless_denied(&asked, handle.create_consumer(config)).await?;
        let mut consumer = consumer.map_err(other)?;
        let pending = consumer.info().await.map_err(other)?.num_pending;
        let mut messages = consumer.messages().await.map_err(other)?;
        let (mut records, mut size, mut last) = (Vec::new(), 0, after);
        for _ in 0..pending {
            if records.len() >= limit || size >= bytes {
                return Ok((records, last));
            }
            match timeout(PATIENCE, messages.next()).await {
                Ok(Some(Ok(message))) => {
                    let Some(record) = record_of(&message) else { continue };
                    size += record.bytes.len();
                    last = record.revision;
                    records.push(record);
                }
                Ok(Some(Err(error))) => return Err(other(error)),
                Ok(None) => break,
                Err(_) => return Err(Trouble::Late),
            }
        }
        Ok((records, 0))
    }

    /// The list of a stream's records that processes called `name` share.
    ///
    /// # Errors
    /// What is in the way.
    pub async fn worklist(&self, stream: &str, name: &str, most: i64) -> Result<Worklist, Trouble> {
        let handle = self.context.get_stream(stream).await.map_err(|_| self.absent())?;
        let config = pull::Config {
            durable_name: Some(name.to_owned()),
            ack_policy: AckPolicy::Explicit,
            ack_wait: WORK_UNHEARD,
            deliver_policy: DeliverPolicy::All,
            max_ack_pending: most,
            max_waiting: MAX_BROKERS,
            ..pull::Config::default()
        };
        let consumer = handle.create_consumer(config).await;
        consumer.map(Worklist).map_err(other)
    }

    /// How many records of a stream are on subjects that `filter` fits.
    ///
    /// # Errors
    /// What is in the way.
    pub async fn count(&self, stream: &str, filter: &str) -> Result<u64, Trouble> {
        let handle = self.context.get_stream_no_info(stream).await.map_err(other)?;
        // A consumer that nobody asks for anything knows how much there is for it.
        let config = pull::Config {
            filter_subject: filter.to_owned(),
            ack_policy: AckPolicy::None,
            deliver_policy: DeliverPolicy::All,
            inactive_threshold: PATIENCE,
            headers_only: true,
            memory_storage: true,
            num_replicas: 1,
            ..pull::Config::default()
        };
        let asked = format!("$JS.API.CONSUMER.CREATE.{stream}");
        let consumer = self.unless_denied(&asked, handle.create_consumer(config)).await?.map_err(other)?;
        let info = consumer.cached_info();
        // One that stays goes by itself.
        handle.delete_consumer(&info.name).await.ok();
        Ok(info.num_pending)
    }

    /// What `work` comes to, unless NATS permissions refuse what it needs: the server tells that apart from any
    /// request, and what is refused is never answered.
    async fn unless_denied<T>(&self, subject: &str, work: impl Future<Output = T>) -> Result<T, Trouble> {
        self.unless_denied_for(2 * PATIENCE, subject, work).await
    }

    async fn unless_denied_for<T>(
        &self,
        patience: Duration,
        subject: &str,
        work: impl Future<Output = T>,
    ) -> Result<T, Trouble> {
        let needs = |refused: &str| refused.starts_with(subject);
        self.refused.unless(patience, needs, work).await.map_err(|unanswered| match unanswered {
            Unanswered::Refused(_) => Trouble::Denied(subject.to_owned()),
            Unanswered::Late => Trouble::Late,
        })
    }

    /// Why nothing is there that would answer.
    fn absent(&self) -> Trouble {
        let info = self.bus.client.server_info();
        Trouble::Missing(if info.jetstream {
            "no broker has set up JetStream for jobs yet, or this account has no JetStream".into()
        } else {
            "the NATS server runs without JetStream".into()
        })
    }

    fn not_stored(&self, subject: &str, error: &PublishError) -> Trouble {
        if is_conflict(error) {
            return Trouble::Changed;
        }
        match error.kind() {
            PublishErrorKind::StreamNotFound => self.absent(),
            PublishErrorKind::TimedOut | PublishErrorKind::BrokenPipe => Trouble::Late,
            PublishErrorKind::MaxPayloadExceeded => {
                Trouble::Full(format!("a record of {subject} is over the server's max_payload"))
            }
            PublishErrorKind::MaxAckPending => Trouble::Full("too many records are being stored".into()),
            PublishErrorKind::WrongLastSequence
            | PublishErrorKind::WrongLastMessageId
            | PublishErrorKind::Other => refused_by_server(error),
        }
    }

    fn replicas(&self) -> usize {
        if self.bus.client.server_info().cluster.is_some() { REPLICAS } else { 1 }
    }
}

impl Worklist {
    /// Waits for records, no more than `room` of them and not for ever; hands each to `take`. Returns how many there
    /// were.
    ///
    /// # Errors
    /// What is in the way.
    pub async fn wait(&self, room: usize, mut take: impl FnMut(Work)) -> Result<usize, Trouble> {
        let batch = self.0.batch().max_messages(room).expires(PULL).messages().await;
        let mut batch = batch.map_err(other)?;
        let mut taken = 0;
        while let Some(message) = batch.next().await {
            let message = message.map_err(|error| Trouble::Other(error.to_string()))?;
            let (Some(record), Ok(info)) = (record_of(&message), message.info()) else { continue };
            let delivered = u64::try_from(info.delivered).unwrap_or(1);
            let (_, acker) = message.split();
            taken += 1;
            take(Work { record, delivered, acker });
        }
        Ok(taken)
    }
}

impl Work {
    /// This revision needs nothing more.
    pub async fn settle(&self) {
        // Should it not arrive, the revision is handed out again and found to be old.
        self.acker.ack().await.ok();
    }

    /// This revision is to be handed out again after `pause`.
    pub async fn later(&self, pause: Duration) {
        self.acker.ack_with(AckKind::Nak(Some(pause))).await.ok();
    }

    /// It is being worked on: it is nobody else's for another [`WORK_UNHEARD`].
    pub async fn progress(&self) {
        self.acker.ack_with(AckKind::Progress).await.ok();
    }
}

fn record_of(message: &jetstream::Message) -> Option<Record> {
    let info = message.info().ok()?;
    Some(Record {
        subject: message.subject.to_string(),
        revision: info.stream_sequence,
        stored: system_time(info.published.unix_timestamp_nanos()),
        bytes: message.payload.clone(),
    })
}

fn system_time(nanos: i128) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
}

fn is_no_stream(kind: &GetStreamErrorKind) -> bool {
    matches!(kind, GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

fn not_created(kind: CreateStreamErrorKind) -> Trouble {
    match kind {
        CreateStreamErrorKind::JetStreamUnavailable => {
            Trouble::Missing("the NATS server runs without JetStream".into())
        }
        CreateStreamErrorKind::TimedOut => Trouble::Late,
        CreateStreamErrorKind::JetStream(error) => match error.error_code() {
            ErrorCode::JETSTREAM_NOT_ENABLED | ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT => {
                Trouble::Missing("this NATS account has no JetStream".into())
            }
            code if is_full(code) => Trouble::Full(error.to_string()),
            _ => Trouble::Other(error.to_string()),
        },
        other => Trouble::Other(other.to_string()),
    }
}

fn refused_by_server(error: &PublishError) -> Trouble {
    let server =
        std::error::Error::source(error).and_then(|source| source.downcast_ref::<jetstream::Error>());
    match server {
        Some(server) if is_full(server.error_code()) => Trouble::Full(server.to_string()),
        Some(_) => other(error),
        // An answer that can't be read says nothing of what was done.
        None => Trouble::Late,
    }
}

fn is_full(code: ErrorCode) -> bool {
    [
        ErrorCode::STREAM_STORE_FAILED,
        ErrorCode::INSUFFICIENT_RESOURCES,
        ErrorCode::STORAGE_RESOURCES_EXCEEDED,
        ErrorCode::MEMORY_RESOURCES_EXCEEDED,
        ErrorCode::ACCOUNT_RESOURCES_EXCEEDED,
        ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM,
    ]
    .contains(&code)
}

fn other(error: impl std::error::Error) -> Trouble {
    Trouble::Other(chain(&error))
}

/// An error and what caused it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let said = next.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = next.source();
    }
    text
}

/// How long JetStream may take to answer.
pub const PATIENCE: Duration = Duration::from_secs(3);
/// How long nothing need be heard of a record that is worked on before somebody else gets it.
pub const WORK_UNHEARD: Duration = Duration::from_secs(10);
/// How long one question for work waits for it.
const PULL: Duration = Duration::from_secs(5);
/// Processes that wait for work at once, at most.
const MAX_BROKERS: i64 = 1024;
/// Copies in a cluster, unless it is said otherwise.
const REPLICAS: usize = 3;
