//! What NATS permissions refuse: the server tells it apart from any request, and what is refused is never answered.

use std::{sync::Arc, time::Duration};

use async_nats::jetstream::{
    self, ErrorCode,
    context::{PublishError, PublishErrorKind},
};
use tokio::{sync::watch, time::timeout};

/// The subject that was refused last, for all who wait for an answer.
#[derive(Clone)]
pub(super) struct Refusals(Arc<watch::Sender<String>>);

/// NATS permissions refuse this subject.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("NATS permissions refuse {0}")]
pub struct Denied(pub String);

/// Why there is no answer.
pub(super) enum Unanswered {
    /// NATS permissions refuse this subject.
    Refused(String),
    /// It did not come in time.
    Late,
}

impl Refusals {
    /// Nothing is refused.
    pub fn none() -> Self {
        Refusals(Arc::new(watch::Sender::new(String::new())))
    }

    /// `subject` was refused.
    pub fn note(&self, subject: &str) {
        self.0.send_replace(subject.to_owned());
    }

    /// What `work` comes to within `patience`, unless a subject is refused meanwhile that it needs.
    pub async fn unless<T>(
        &self,
        patience: Duration,
        needs: impl Fn(&str) -> bool,
        work: impl Future<Output = T>,
    ) -> Result<T, Unanswered> {
        let mut refused = self.0.subscribe();
        let denied = async {
            // The sender lives as long as this.
            while refused.changed().await.is_ok() {
                let subject = refused.borrow_and_update().clone();
                if needs(&subject) {
                    return subject;
                }
            }
            std::future::pending().await
        };
        tokio::select! {
            biased;
            done = timeout(patience, work) => done.map_err(|_| Unanswered::Late),
            subject = denied => Err(Unanswered::Refused(subject)),
        }
    }
}

/// Whether a record was not stored as somebody else stored another revision. In a cluster NATS has another code for it
/// while that is being written, which async-nats 0.51 takes for any error.
pub(super) fn is_conflict(error: &PublishError) -> bool {
    let code = std::error::Error::source(error).and_then(|source| source.downcast_ref::<jetstream::Error>());
    error.kind() == PublishErrorKind::WrongLastSequence
        || code.is_some_and(|error| error.error_code() == ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT)
}
