//! A job of which no broker said in time whether it is stored. A broker is asked again, about its id alone: either it is
//! stored, or it never will be. While neither is known the caller is told so, and it is asked again in the background.

use std::{sync::Arc, time::Duration};

use tokio::time::{sleep, timeout};

use super::Desk;
use crate::{
    store::{StoreClient, StoreError},
    wire::{Code, Fault, Job, JobId, Name, Side, StoreReply, StoreScope, StoreVerb, store::CallerKey},
};

/// A job that may be stored.
#[derive(Clone)]
pub(super) enum Doubtful {
    /// A single request, with the key of its caller, and its upstream where the id names none.
    Request { id: JobId, key: Option<CallerKey>, upstream: Option<Name> },
    /// A chain whose id was asked for: nothing of it has run.
    Beginning(Box<Job>),
    /// A chain whose first server has answered, in the place of this revision.
    Chain { id: JobId, revision: u64 },
}

/// What became of it.
enum Settled {
    /// It is stored; under this id, if that is another one.
    Stored(Option<JobId>),
    /// It is not, and never will be.
    Withdrawn,
    Unknown,
}

/// Why a job is not stored, and whether that is not even known.
pub(super) type Unstored = (Fault, bool);

impl Doubtful {
    /// The request `job`.
    pub fn request(job: &Job, key: Option<&CallerKey>) -> Self {
        let upstream = job.hops.first().and_then(|hop| hop.upstream.clone());
        let upstream = upstream.filter(|_| key.is_some() && job.job_id.upstream.is_none());
        Doubtful::Request { id: job.job_id.clone(), key: key.cloned(), upstream }
    }

    /// Finds out what became of it after `error`; returns the id under which it is stored, if that is another one.
    pub async fn settle(self, desk: &Desk, error: StoreError) -> Result<Option<JobId>, Unstored> {
        let settled = timeout(SETTLING, self.ask(&desk.store)).await.unwrap_or(Settled::Unknown);
        match settled {
            Settled::Stored(known) => Ok(known),
            Settled::Withdrawn => {
                let detail = format!("{error}; the job was withdrawn and will not run");
                Err((Fault::new(Code::JobsUnavailable, Side::Client, detail), false))
            }
            Settled::Unknown => {
                if let Ok(permit) = Arc::clone(&desk.unsettled).try_acquire_owned() {
                    let store = Arc::clone(&desk.store);
                    tokio::spawn(async move {
                        self.ask_again(&store).await;
                        drop(permit);
                    });
                }
                Err((error.into(), true))
            }
        }
    }

    /// Until it is known, or for as long as it can matter to a caller that looks for its job.
    async fn ask_again(&self, store: &Arc<StoreClient>) {
        for _ in 0..AGAIN {
            sleep(PAUSE).await;
            if !matches!(self.ask(store).await, Settled::Unknown) {
                return;
            }
        }
    }

    async fn ask(&self, store: &Arc<StoreClient>) -> Settled {
        match self {
            Doubtful::Request { id, key, upstream } => {
                let asked = store.ask(StoreScope::of(id), StoreVerb::Accept, |request| {
                    request.job_id = Some(id.clone());
                    request.key.clone_from(key);
                    request.upstream.clone_from(upstream);
                });
                match asked.await {
                    Ok(reply) => Settled::Stored(reply.job_id),
                    Err(StoreError::Refused(fault)) if fault.code == Code::JobCancelled => Settled::Withdrawn,
                    Err(_) => Settled::Unknown,
                }
            }
            Doubtful::Beginning(begun) => {
                let asked = store.ask(StoreScope::Chains, StoreVerb::Abandon, |request| {
                    request.job = Some(begun.clone());
                });
                asked.await.map_or(Settled::Unknown, |_| Settled::Withdrawn)
            }
            Doubtful::Chain { id, revision } => {
                let asked = store.ask(StoreScope::Chains, StoreVerb::Abandon, |request| {
                    request.job_id = Some(id.clone());
                    request.revision = *revision;
                });
                match asked.await {
                    Ok(_) => Settled::Withdrawn,
                    // Another revision is there.
                    Err(StoreError::Refused(fault)) if fault.code == Code::JobOver => {
                        read(store, id).await.map_or(Settled::Unknown, |reply| became(reply.job.as_deref()))
                    }
                    Err(_) => Settled::Unknown,
                }
            }
        }
    }
}

async fn read(store: &StoreClient, id: &JobId) -> Result<StoreReply, StoreError> {
    store.ask(StoreScope::of(id), StoreVerb::Read, |request| request.job_id = Some(id.clone())).await
}

/// What became of a chain, by its record.
fn became(record: Option<&Job>) -> Settled {
    match record {
        Some(job) if !job.hops.is_empty() => Settled::Stored(None),
        Some(job) if job.state.is_over() => Settled::Withdrawn,
        // A replica that is behind.
        Some(_) | None => Settled::Unknown,
    }
}

/// How long a caller waits for that.
const SETTLING: Duration = Duration::from_secs(5);
/// How often it is asked again when it is not known by then, and the pause before each.
const AGAIN: u32 = 12;
const PAUSE: Duration = Duration::from_secs(5);
