//! What JetStream did not confirm: whether a revision is stored, and that one that is not never will be.
//!
//! A publication that JetStream was slow to confirm may be stored later, however long after: it waits in a connection, or
//! at a broker that is frozen. So silence is never taken for a refusal. A record in the place of the one in doubt ends
//! the doubt: JetStream stores the first revision of a subject once.

use bytes::Bytes;

use super::{Kept, Storing, bad, jobs::TRIES, named, not_stored};
use crate::{
    bus::store::Trouble,
    wire::{
        Code, Fault, Job, JobId, JobState, Side, StoreReply, StoreRequest, codec, job::Content,
        message::Error,
    },
};

/// The record of a job that was to be stored.
pub(super) enum Stored {
    /// It is stored, as this revision.
    Here(u64),
    /// Another one is there.
    Other(Box<Kept>),
}

impl Storing {
    /// Stores a revision of `job` after `revision`. When JetStream does not confirm that in time, it is asked again.
    ///
    /// # Errors
    /// [`Trouble::Late`] when it is not known whether it is stored; with any other it is not.
    pub(super) async fn store_job(&self, job: &Job, revision: u64, bytes: &Bytes) -> Result<Stored, Trouble> {
        let subject = self.core.subjects.job(&job.job_id);
        let first = self.store.replace(&subject, revision, bytes.clone()).await;
        let again = match first {
            Err(Trouble::Late) => self.store.replace(&subject, revision, bytes.clone()).await,
            first => return self.what_is_there(job, revision, bytes, first).await,
        };
        match self.what_is_there(job, revision, bytes, again).await {
            // That it is refused now says nothing of the first time.
            Err(_) => Err(Trouble::Late),
            stored => stored,
        }
    }

    async fn what_is_there(
        &self,
        job: &Job,
        revision: u64,
        bytes: &Bytes,
        stored: Result<u64, Trouble>,
    ) -> Result<Stored, Trouble> {
        match stored {
            Ok(revision) => Ok(Stored::Here(revision)),
            Err(Trouble::Changed) => match self.find(&job.job_id, false).await {
                Ok(Some(kept)) if kept.record.bytes == *bytes => Ok(Stored::Here(kept.record.revision)),
                Ok(Some(kept)) if kept.record.revision > revision => Ok(Stored::Other(Box::new(kept))),
                // A replica that is behind, or none that answers.
                Ok(_) | Err(_) => Err(Trouble::Late),
            },
            Err(trouble) => Err(trouble),
        }
    }

    /// Says of a job whose asker was not told whether it is stored that it is there; otherwise sees to it that it
    /// never will be.
    pub(super) async fn settle(&self, request: &StoreRequest) -> Result<StoreReply, Fault> {
        let asked = named(request)?;
        let mut reply = StoreReply::done(request.request_id.clone());
        let id = self.settled_id(asked, request).await?;
        let found = match self.find(&id, false).await.map_err(|_| unknown())? {
            Some(kept) => Stored::Other(Box::new(kept)),
            None => {
                let withdrawn = withdrawn(&id, request, Content::default())?;
                let stored = self.store_job(&withdrawn, 0, &codec::encode(&withdrawn)).await;
                stored.map_err(|_| unknown())?
            }
        };
        match found {
            Stored::Other(kept) if !is_withdrawn(&kept.job) => {
                reply.job_id = (id != *asked).then_some(id);
                Ok(reply)
            }
            Stored::Here(_) | Stored::Other(_) => {
                let detail = format!("the job {id} was not stored in time, and never will be");
                Err(Fault::new(Code::JobCancelled, Side::Broker, detail))
            }
        }
    }

    /// The job that is in doubt: the one that the caller's key stands for, when there is one.
    async fn settled_id(&self, asked: &JobId, request: &StoreRequest) -> Result<JobId, Fault> {
        let Some(key) = &request.key else { return Ok(asked.clone()) };
        let upstream = asked.upstream.as_ref().or(request.upstream.as_ref());
        let upstream = upstream.ok_or_else(|| bad("the question names no upstream"))?;
        let subject = self.key_subject(upstream, key)?;
        let known = self.known(&subject, key, asked).await.map_err(|fault| match fault.code {
            Code::JobsUnavailable => unknown(),
            _ => fault,
        })?;
        Ok(known.unwrap_or_else(|| asked.clone()))
    }

    /// Gives back the id of a chain whose asker was not told whether it has it.
    pub(super) async fn give_up(&self, begun: &Job, request: StoreRequest) -> Result<StoreReply, Fault> {
        let abandoned = withdrawn(&begun.job_id, &request, begun.input.clone())?;
        let bytes = codec::encode(&abandoned);
        for _ in 0..TRIES {
            let kept = self.find(&begun.job_id, false).await.map_err(|_| unknown())?;
            let revision = match kept {
                None => 0,
                Some(kept) if kept.job.state == JobState::Begun && kept.job.input == begun.input => {
                    kept.record.revision
                }
                // Another chain has the id, or none any more: this one does not get it.
                Some(_) => return Ok(StoreReply::done(request.request_id)),
            };
            match self.store_job(&abandoned, revision, &bytes).await {
                Ok(Stored::Here(_)) => return Ok(StoreReply::done(request.request_id)),
                Ok(Stored::Other(_)) => {}
                Err(_) => return Err(unknown()),
            }
        }
        Err(unknown())
    }
}

/// Whether the record says that a job never was one: a chain that never started, or a request that was not stored in time.
pub(super) fn is_withdrawn(job: &Job) -> bool {
    job.state.is_over() && job.hops.is_empty()
}

/// Whether `kept` is a later revision of `job`.
pub(super) fn is_later(kept: &Job, job: &Job) -> bool {
    kept.client_id == job.client_id && !job.hops.is_empty() && kept.hops == job.hops
}

/// The record of a job that never was one.
fn withdrawn(id: &JobId, request: &StoreRequest, input: Content) -> Result<Job, Fault> {
    let asker = request.request_id.process().parse().map_err(|_| bad("the question is no process's"))?;
    let why = Fault::new(Code::JobCancelled, Side::Broker, "it was not stored in time, and has not run");
    let error = Some(Error::from(&why));
    Ok(Job { error, ..Job::new(id.clone(), asker, JobState::Cancelled, input) })
}

fn unknown() -> Fault {
    not_stored(&Trouble::Late)
}
