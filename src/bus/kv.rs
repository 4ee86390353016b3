//! Records in NATS that outlive a process: a key-value bucket of JetStream. Every call ends within a bound, and
//! what is wrong with JetStream is told in a sentence.

use std::time::Duration;

use async_nats::jetstream::{
    self, Context, ErrorCode,
    context::{CreateStreamErrorKind, GetStreamErrorKind, PublishErrorKind},
    message::PublishMessage,
    stream::{Config, DiscardPolicy, LastRawMessageErrorKind, StorageType, Stream as AnyStream},
};
use bytes::Bytes;
use tokio::sync::Mutex;

use super::{
    Bus,
    refusals::{Refusals, Unanswered, is_conflict},
};
use crate::wire::subjects;

type Stream = AnyStream<()>;

/// A bucket. Whoever needs it first makes it.
pub struct Kv {
    context: Context,
    bucket: String,
    /// There, as far as is known.
    stream: Mutex<Option<Stream>>,
    /// What NATS permissions refused of it.
    refused: Refusals,
}

/// The newest record of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its revision; a deletion has one too.
    pub revision: u64,
    /// The value, unless it was deleted.
    pub value: Option<Bytes>,
}

/// Why a record could not be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KvError {
    /// Somebody else has written meanwhile.
    #[error("the record was changed meanwhile")]
    Conflict,
    /// JetStream is not there, or not for us.
    #[error("{0}")]
    Away(String),
    /// It is not known whether it was written.
    #[error("{0}")]
    Unknown(String),
}

impl Bus {
    /// The bucket of that name.
    pub fn kv(&self, bucket: String) -> Kv {
        let context = jetstream::ContextBuilder::new().timeout(CALL).build(self.client.clone());
        Kv { context, bucket, stream: Mutex::default(), refused: Refusals::none() }
    }
}

impl Kv {
    /// The newest record of `key`.
    ///
    /// # Errors
    /// When JetStream can't be asked.
    pub async fn get(&self, key: &str) -> Result<Option<Entry>, KvError> {
        let subject = subjects::record(&self.bucket, key);
        self.bounded(KvError::Away, async {
            let stream = self.stream().await?;
            let mut found = stream.get_last_raw_message_by_subject(&subject).await;
            if found.as_ref().is_err_and(|error| is_no_stream(&error.kind())) {
                found = self.made_again().await?.get_last_raw_message_by_subject(&subject).await;
            }
            match found {
                Ok(message) => {
                    let deleted = message.headers.get(OPERATION).is_some()
                        || message.headers.get(async_nats::header::NATS_MARKER_REASON).is_some();
                    let value = (!deleted).then_some(message.payload);
                    Ok(Some(Entry { revision: message.sequence, value }))
                }
                Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
                Err(error) => Err(self.lost(error).await),
            }
        })
        .await
    }

    /// Writes `value`, which NATS keeps for `lasting`, in place of revision `expected`; 0 stands for none.
    ///
    /// # Errors
    /// When another revision is there, or JetStream can't be asked.
    pub async fn put(
        &self,
        key: &str,
        value: Bytes,
        expected: u64,
        lasting: Duration,
    ) -> Result<u64, KvError> {
        // NATS counts in seconds.
        let seconds = Duration::from_secs(lasting.as_secs().saturating_add(1));
        let message = PublishMessage::build().payload(value).ttl(seconds);
        self.write(key, message.expected_last_subject_sequence(expected)).await
    }

    /// Deletes revision `expected`.
    ///
    /// # Errors
    /// As [`Kv::put`].
    pub async fn delete(&self, key: &str, expected: u64) -> Result<u64, KvError> {
        // What is left says for a while that there was one, for whoever writes over it.
        let message = PublishMessage::build().header(OPERATION, "DEL").ttl(DELETED);
        self.write(key, message.expected_last_subject_sequence(expected)).await
    }

    /// How many records there are; those that were deleted a moment ago are among them.
    ///
    /// # Errors
    /// When JetStream can't be asked.
    pub async fn count(&self) -> Result<u64, KvError> {
        self.bounded(KvError::Away, async {
            let stream = self.stream().await?;
            let info = match stream.get_info().await {
                Ok(info) => Ok(info),
                Err(_) => self.made_again().await?.get_info().await,
            };
            match info {
                Ok(info) => Ok(info.state.messages),
                Err(error) => Err(self.lost(error).await),
            }
        })
        .await
    }

    /// NATS permissions refused a publication, or to read its answer: whoever waits for that waits in vain.
    pub fn on_publish_denied(&self, subject: &str) {
        let parts = subject.split('.');
        let stream = format!("KV_{}", self.bucket);
        let ours = parts.into_iter().any(|part| part == stream || part == self.bucket);
        if ours || subjects::is_inbox(subject) {
            self.refused.note(subject);
        }
    }

    async fn write(&self, key: &str, message: PublishMessage) -> Result<u64, KvError> {
        let subject = subjects::record(&self.bucket, key);
        // What is not there takes nothing.
        self.bounded(KvError::Away, self.stream()).await?;
        self.bounded(KvError::Unknown, async {
            let write = async |message| self.context.send_publish(subject.clone(), message).await?.await;
            let mut written = write(message.clone()).await;
            if written.as_ref().is_err_and(|error| error.kind() == PublishErrorKind::StreamNotFound) {
                self.made_again().await?;
                written = write(message).await;
            }
            match written {
                Ok(ack) => Ok(ack.sequence),
                Err(error) if is_conflict(&error) => Err(KvError::Conflict),
                Err(error) => {
                    let is_late =
                        matches!(error.kind(), PublishErrorKind::TimedOut | PublishErrorKind::BrokenPipe);
                    match self.lost(error).await {
                        KvError::Away(why) if is_late => Err(KvError::Unknown(why)),
                        away => Err(away),
                    }
                }
            }
        })
        .await
    }

    /// What `call` comes to in time; if it does not, that is what `late` says.
    async fn bounded<T>(
        &self,
        late: fn(String) -> KvError,
        call: impl Future<Output = Result<T, KvError>>,
    ) -> Result<T, KvError> {
        // What is none of the bucket's is not noted.
        match self.refused.unless(CALLS, |_| true, call).await {
            Ok(done) => done,
            Err(Unanswered::Late) => {
                Err(late(format!("JetStream did not answer within {} s", CALLS.as_secs())))
            }
            Err(Unanswered::Refused(subject)) => {
                let why =
                    format!("the bucket {} can't be used: NATS permissions refuse {subject}", self.bucket);
                Err(KvError::Away(why))
            }
        }
    }

    /// The stream behind the bucket, after an operator deleted it.
    async fn made_again(&self) -> Result<Stream, KvError> {
        *self.stream.lock().await = None;
        self.stream().await
    }

    /// The stream behind the bucket, made when it is not there.
    async fn stream(&self) -> Result<Stream, KvError> {
        let mut known = self.stream.lock().await;
        if let Some(stream) = &*known {
            return Ok(stream.clone());
        }
        let version = self.context.client().server_info().version;
        if is_before(&version, OLDEST_SERVER) {
            return Err(KvError::Away(format!(
                "sessions need NATS 2.11 or later, and this server is {version}: they would never expire"
            )));
        }
        let name = format!("KV_{}", self.bucket);
        let found = match self.context.get_stream(&name).await {
            Ok(found) => Ok(found.cached_info().config.clone()),
            Err(error) if is_missing(&error.kind()) => {
                self.create(name.clone()).await?;
                self.context.get_stream(&name).await.map(|found| found.cached_info().config.clone())
            }
            Err(error) => Err(error),
        };
        self.let_records_expire(found.map_err(|error| self.away(&error))?).await?;
        let stream = self.context.get_stream_no_info(&name).await.map_err(|error| self.away(&error))?;
        Ok(known.insert(stream).clone())
    }

    /// A bucket that an older server made, or another program, may keep records for ever.
    async fn let_records_expire(&self, config: Config) -> Result<(), KvError> {
        if config.allow_message_ttl {
            return Ok(());
        }
        let wanted = Config { allow_message_ttl: true, ..config };
        let updated = self.context.update_stream(wanted).await.map_err(|error| self.away(&error))?;
        if updated.config.allow_message_ttl {
            return Ok(());
        }
        Err(KvError::Away(format!(
            "the server that keeps the bucket {} lets no record expire: sessions need NATS 2.11 or later",
            self.bucket
        )))
    }

    /// Makes the bucket on three servers, or on one where there are no three.
    async fn create(&self, name: String) -> Result<(), KvError> {
        let config = |num_replicas| Config {
            name: name.clone(),
            description: Some("records of relay".into()),
            subjects: vec![subjects::record(&self.bucket, ">")],
            max_messages_per_subject: 1,
            max_age: OLDEST,
            max_message_size: LARGEST,
            storage: StorageType::File,
            discard: DiscardPolicy::New,
            num_replicas,
            allow_rollup: true,
            deny_delete: true,
            allow_message_ttl: true,
            // Only the leader is asked: another may not have yet what was written a moment ago.
            allow_direct: false,
            ..Config::default()
        };
        let mut made = self.context.create_stream(config(3)).await.map(drop);
        if let Err(error) = &made
            && matches!(error.kind(), CreateStreamErrorKind::JetStream(_))
        {
            made = self.context.create_stream(config(1)).await.map(drop);
        }
        match made {
            Ok(()) => Ok(()),
            // Somebody else was quicker, on more servers or fewer.
            Err(error) if is_taken(&error.kind()) => Ok(()),
            Err(error) => Err(self.away(&error)),
        }
    }

    /// The bucket may have gone: it is looked for again.
    async fn lost(&self, error: impl std::error::Error) -> KvError {
        *self.stream.lock().await = None;
        self.away(&error)
    }

    fn away(&self, error: &dyn std::error::Error) -> KvError {
        KvError::Away(format!("the bucket {} can't be used: {error}", self.bucket))
    }
}

fn is_missing(kind: &GetStreamErrorKind) -> bool {
    matches!(kind, GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

fn is_taken(kind: &CreateStreamErrorKind) -> bool {
    matches!(kind, CreateStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NAME_EXIST)
}

/// Whether a server's version is below `oldest`. One that is none that we know is not.
fn is_before(version: &str, oldest: (u64, u64)) -> bool {
    let mut parts = version.split(['.', '-']).map(str::parse);
    let (Some(Ok(major)), Some(Ok(minor))) = (parts.next(), parts.next()) else { return false };
    (major, minor) < oldest
}

fn is_no_stream(kind: &LastRawMessageErrorKind) -> bool {
    matches!(kind, LastRawMessageErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

/// Records expire by themselves from this version on.
const OLDEST_SERVER: (u64, u64) = (2, 11);
const OPERATION: &str = "KV-Operation";
/// How long one question to JetStream may take, and all that one use of a record needs.
const CALL: Duration = Duration::from_secs(2);
const CALLS: Duration = Duration::from_secs(4);
/// How long what is left of a deleted record is kept.
const DELETED: Duration = Duration::from_secs(2);
/// What a record lasts at most, when it does not say itself.
const OLDEST: Duration = Duration::from_secs(30 * 24 * 3600);
const LARGEST: i32 = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_before_2_11_is_known_by_its_version() {
        for old in ["2.10.29", "2.9.0-beta.1", "1.4.1", "2.10"] {
            assert!(is_before(old, OLDEST_SERVER), "{old}");
        }
        for new in ["2.11.0", "2.11.0-RC.1", "2.15.2", "3.0.0", "", "dev"] {
            assert!(!is_before(new, OLDEST_SERVER), "{new}");
        }
    }
}
