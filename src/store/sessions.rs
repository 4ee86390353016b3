//! The records of sessions, read and written by brokers. A record is replaced only by who knows its revision.

use std::sync::Arc;

use super::{StoreClient, StoreError};
use crate::wire::{Session, SessionId, StoreReply, StoreRequest, StoreScope, StoreVerb};

/// The records of all sessions.
pub struct SessionRecords(Arc<StoreClient>);

/// Why a record could not be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Another process has written meanwhile.
    #[error("the record was changed meanwhile")]
    Conflict,
    /// Brokers can't be asked, or can't use JetStream.
    #[error("{0}")]
    Away(String),
    /// It is not known whether it was written.
    #[error("{0}")]
    Unknown(String),
}

impl SessionRecords {
    /// The records that `client` asks brokers for.
    pub fn new(client: Arc<StoreClient>) -> Self {
        SessionRecords(client)
    }

    /// The record of a session, and its revision; `None` when there is no such session.
    ///
    /// # Errors
    /// When brokers can't be asked.
    pub async fn get(&self, id: &SessionId) -> Result<Option<(u64, Session)>, RecordError> {
        let reply = self.ask(id, StoreVerb::Get, |_| {}).await?;
        Ok(reply.session.map(|session| (reply.revision, session)))
    }

    /// Writes `session` in place of revision `expected`, 0 for none; returns the new revision. NATS keeps it for as
    /// long as the session lasts.
    ///
    /// # Errors
    /// When another revision is there, or brokers can't be asked.
    pub async fn put(&self, id: &SessionId, session: Session, expected: u64) -> Result<u64, RecordError> {
        let reply = self.ask(id, StoreVerb::Put, |request| {
            request.session = Some(session);
            request.revision = expected;
        });
        Ok(reply.await?.revision)
    }

    /// Deletes revision `expected`; returns the revision of the deletion.
    ///
    /// # Errors
    /// As [`SessionRecords::put`].
    pub async fn delete(&self, id: &SessionId, expected: u64) -> Result<u64, RecordError> {
        let reply = self.ask(id, StoreVerb::Delete, |request| request.revision = expected);
        Ok(reply.await?.revision)
    }

    /// How many records there are; those that were deleted a moment ago are among them.
    ///
    /// # Errors
    /// When brokers can't be asked.
    pub async fn count(&self) -> Result<u64, RecordError> {
        let reply = self.0.ask(StoreScope::Sessions, StoreVerb::Count, |_| {}).await;
        checked(reply).map(|reply| reply.count)
    }

    async fn ask(
        &self,
        id: &SessionId,
        verb: StoreVerb,
        fill: impl FnOnce(&mut StoreRequest),
    ) -> Result<StoreReply, RecordError> {
        let reply = self.0.ask(StoreScope::Session(id.clone()), verb, fill).await;
        match reply {
            Err(error) if error.is_unknown() && verb != StoreVerb::Get => {
                Err(RecordError::Unknown(error.to_string()))
            }
            reply => checked(reply),
        }
    }
}

fn checked(reply: Result<StoreReply, StoreError>) -> Result<StoreReply, RecordError> {
    match reply {
        Ok(reply) if reply.conflict => Err(RecordError::Conflict),
        Ok(reply) => Ok(reply),
        Err(error) => Err(RecordError::Away(error.to_string())),
    }
}
