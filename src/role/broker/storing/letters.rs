//! What operators do with jobs and dead letters: list them, let what failed go on, forget it.

use std::collections::BTreeSet;

use super::{Storing, jobs::TRIES, named, not_stored, unavailable};
use crate::{
    bus::store::Trouble,
    proto::jobs,
    wire::{Code, Fault, Job, JobId, JobSummary, Side, StoreReply, StoreRequest, StoreScope, codec},
};

impl Storing {
    /// A page of the jobs, or of the dead letters.
    pub(super) async fn list(
        &self,
        scope: &StoreScope,
        request: StoreRequest,
        dead: bool,
    ) -> Result<StoreReply, Fault> {
        // It is never closed.
        let _permit = self.lists.acquire().await;
        let subjects = &self.core.subjects;
        let stream = if dead { subjects.dead_stream() } else { subjects.jobs_stream() };
        let page =
            self.store.page(&stream, subjects.jobs_of(scope, dead), request.revision, PAGE, PAGE_BYTES).await;
        let (records, next) = page.map_err(|trouble| unavailable(&trouble))?;
        let mut reply = StoreReply::done(request.request_id);
        reply.revision = next;
        for record in records {
            match self.kept(record) {
                Ok(kept) => reply.jobs.push(JobSummary::of(&kept.job, kept.stored())),
                // A newer relay stored it, or another program.
                Err(_) => reply.count += 1,
            }
        }
        Ok(reply)
    }

    /// Lets a job that failed go on from where it failed.
    pub(super) async fn replay(&self, request: StoreRequest) -> Result<StoreReply, Fault> {
        let id = named(&request)?;
        let letter = self.letter(id).await?;
        for _ in 0..TRIES {
            let kept = self.find(id, false).await.map_err(|trouble| unavailable(&trouble))?;
            let revision = kept.as_ref().map_or(0, |kept| kept.record.revision);
            let failed = what_failed(&letter, kept.map(|kept| kept.job))?;
            let next = jobs::replayed(failed.clone());
            match self.store.replace(&self.core.subjects.job(id), revision, codec::encode(&next)).await {
                Ok(_) => {
                    // It runs again, whether its letter can be removed or not.
                    if let Err(why) = self.remove_letter(id).await {
                        let why = why.detail;
                        tracing::warn!(job = %id, %why, "the dead letter of a job that runs again can't be removed");
                    }
                    self.forget(no_longer_needed(&failed, Some(&next))).await;
                    return Ok(StoreReply::done(request.request_id.clone()));
                }
                Err(Trouble::Changed) => {}
                Err(trouble) => return Err(not_stored(&trouble)),
            }
        }
        Err(over(format!("the job {id} changes too quickly to be replayed: try again")))
    }

    /// Forgets a dead letter.
    pub(super) async fn purge(&self, request: StoreRequest) -> Result<StoreReply, Fault> {
        let id = named(&request)?;
        let letter = self.letter(id).await?;
        let kept = self.find(id, false).await.map_err(|trouble| unavailable(&trouble))?;
        self.remove_letter(id).await?;
        // A job that runs again, or did, needs its bodies; the record of one that failed only says what became of it.
        let needed = kept.map(|kept| kept.job).filter(|job| !jobs::is_dead(job));
        self.forget(no_longer_needed(&letter, needed.as_ref())).await;
        Ok(StoreReply::done(request.request_id.clone()))
    }

    async fn letter(&self, id: &JobId) -> Result<Job, Fault> {
        let kept = self.find(id, true).await.map_err(|trouble| unavailable(&trouble))?;
        let none =
            || Fault::new(Code::NoJob, Side::Broker, format!("there is no dead letter of the job {id}"));
        kept.map(|kept| kept.job).ok_or_else(none)
    }

    async fn remove_letter(&self, id: &JobId) -> Result<(), Fault> {
        let subjects = &self.core.subjects;
        let removed = self.store.remove(&subjects.dead_stream(), &subjects.dead(id)).await;
        removed.map_err(|trouble| not_stored(&trouble))
    }
}

/// What is to be replayed: the record where it is still kept, for it is the younger one.
///
/// # Errors
/// Why it is not to be replayed.
fn what_failed(letter: &Job, record: Option<Job>) -> Result<Job, Fault> {
    match record {
        None => Ok(letter.clone()),
        Some(record) if jobs::is_dead(&record) => Ok(record),
        Some(Job { job_id: id, state, .. }) if state.is_over() => Err(over(format!(
            "the job {id} is {} meanwhile: there is nothing to replay, `relay dlq purge {id}` forgets the letter",
            state.as_str()
        ))),
        Some(Job { job_id: id, state, .. }) => {
            Err(over(format!("the job {id} runs again already: it is {}", state.as_str())))
        }
    }
}

/// The objects of `before` that `now` has no use for.
fn no_longer_needed<'a>(before: &'a Job, now: Option<&'a Job>) -> impl Iterator<Item = &'a str> {
    let kept: BTreeSet<&str> = now.iter().flat_map(|now| now.objects()).collect();
    before.objects().filter(move |object| !kept.contains(object))
}

fn over(detail: String) -> Fault {
    Fault::new(Code::JobOver, Side::Broker, detail)
}

/// Jobs in a page of a list at most, and bytes of their records that are read for it.
const PAGE: usize = 500;
const PAGE_BYTES: usize = 8 * 1024 * 1024;
