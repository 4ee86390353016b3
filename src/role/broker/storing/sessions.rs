//! The records of sessions. Client agents decide what is in them; a broker stores what is a session's record, and
//! for no longer than sessions may last.

use std::time::Duration;

use super::{Storing, no_question};
use crate::{
    bus::{Entry, KvError},
    wire::{Code, Fault, Session, Side, StoreReply, StoreRequest, StoreScope, StoreVerb, codec},
};

impl Storing {
    /// Answers a question about one session, or all.
    pub(super) async fn session(
        &self,
        scope: &StoreScope,
        verb: StoreVerb,
        request: StoreRequest,
    ) -> Result<StoreReply, Fault> {
        let mut reply = StoreReply::done(request.request_id);
        let done = match (scope, verb) {
            (StoreScope::Sessions, StoreVerb::Count) => {
                self.sessions.count().await.map(|count| reply.count = count)
            }
            (StoreScope::Session(id), StoreVerb::Get) => {
                let entry = self.sessions.get(id.as_str()).await;
                entry.and_then(read).map(|found| (reply.session, reply.revision) = found)
            }
            (StoreScope::Session(id), StoreVerb::Put) => {
                let Some(session) = request.session else { return Err(no_question()) };
                let lasting = Duration::from_millis(session.ttl);
                let written =
                    self.sessions.put(id.as_str(), codec::encode(&session), request.revision, lasting).await;
                written.map(|revision| reply.revision = revision)
            }
            (StoreScope::Session(id), StoreVerb::Delete) => {
                let deleted = self.sessions.delete(id.as_str(), request.revision).await;
                deleted.map(|revision| reply.revision = revision)
            }
            _ => return Err(no_question()),
        };
        match done {
            Ok(()) => Ok(reply),
            Err(KvError::Conflict) => Ok(StoreReply { conflict: true, ..reply }),
            Err(KvError::Unknown(why)) => Err(Fault::new(Code::SessionUnconfirmed, Side::Broker, why)),
            Err(KvError::Away(why)) => Err(Fault::new(Code::SessionsAway, Side::Broker, why)),
        }
    }
}

/// A record as the answer has it; a deletion is none.
fn read(entry: Option<Entry>) -> Result<(Option<Session>, u64), KvError> {
    let Some(Entry { revision, value: Some(value) }) = entry else { return Ok((None, 0)) };
    let session = codec::decode(&value).map_err(|why| KvError::Away(why.to_string()))?;
    Ok((Some(session), revision))
}
