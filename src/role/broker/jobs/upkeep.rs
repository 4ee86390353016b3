//! What keeps the streams of jobs as they are to be: streams that an operator deleted are made again, and jobs that have
//! been over for as long as they are kept are forgotten with their bodies.
//!
//! JetStream forgets by itself what is older than a job may ever be, running or over; how long ago one ended it does not know.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Runner, WORKERS};
use crate::{
    bus::store::{Record, Trouble},
    wire::{Job, codec},
};

impl Runner {
    /// Looks after the streams for as long as the process lives.
    pub(super) async fn look_after(self: Arc<Self>) {
        let mut seen = 0;
        // So that a job stays little longer than it is to be kept, and few records are read.
        let pause = (self.settings.keep / 8).clamp(LOOK, SWEEP);
        let mut swept = Instant::now();
        loop {
            tokio::time::sleep(LOOK).await;
            if !self.core.is_ready() || !*self.tried.borrow() {
                continue;
            }
            if self.make_again().await {
                // Its revisions begin anew.
                seen = 0;
            }
            // What is in the way is logged where jobs are taken.
            if swept.elapsed() >= pause {
                swept = Instant::now();
                self.sweep(&mut seen).await.ok();
            }
        }
    }

    /// Makes what is not there; returns whether something was not.
    async fn make_again(&self) -> bool {
        let subjects = &self.core.subjects;
        let streams = [
            subjects.jobs_stream(),
            subjects.keys_stream(),
            subjects.dead_stream(),
            format!("OBJ_{}", subjects.bodies_bucket()),
            format!("OBJ_{}", subjects.dead_bodies_bucket()),
        ];
        if !matches!(self.store.is_missing(&streams, WORKERS).await, Ok(true)) {
            return false;
        }
        match self.set_up().await {
            Ok(_) => {
                tracing::warn!("what keeps jobs was deleted, and is there again");
                self.made_again.notify_one();
            }
            Err(trouble) => tracing::warn!(%trouble, "what keeps jobs was deleted, and can't be made again"),
        }
        true
    }

    /// Forgets jobs that have been over for as long as they are kept, of the records after revision `seen`. All that are
    /// older than that have been looked at then: one that is not over gets a later revision before it is.
    async fn sweep(&self, seen: &mut u64) -> Result<(), Trouble> {
        let subjects = &self.core.subjects;
        let stream = subjects.jobs_stream();
        loop {
            let all = subjects.every_job().to_vec();
            let (records, next) = self.store.page(&stream, all, *seen, PAGE, PAGE_BYTES).await?;
            for record in records {
                if record.stored.elapsed().unwrap_or_default() < self.settings.keep {
                    return Ok(());
                }
                self.forget_if_over(&stream, &record).await?;
                *seen = record.revision;
            }
            if next == 0 {
                return Ok(());
            }
        }
    }

    async fn forget_if_over(&self, stream: &str, record: &Record) -> Result<(), Trouble> {
        let Ok(job) = codec::decode::<Job>(&record.bytes) else { return Ok(()) };
        if !job.state.is_over() {
            return Ok(());
        }
        self.store.remove_revision(stream, &record.subject, record.revision).await?;
        for object in job.objects() {
            self.store.remove_object(&self.core.subjects.bodies_bucket(), object).await;
        }
        Ok(())
    }
}

/// How often is looked whether the streams are there.
const LOOK: Duration = Duration::from_secs(2);
/// How often jobs are forgotten at least.
const SWEEP: Duration = Duration::from_secs(60);
/// Records that are read at once at most, and bytes of them.
const PAGE: usize = 64;
const PAGE_BYTES: usize = 4 * 1024 * 1024;
