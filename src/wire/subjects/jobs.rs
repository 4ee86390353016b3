//! The subjects of jobs, which JetStream keeps, and the names of what keeps them.

use super::{Kind, StoreScope, Subjects};
use crate::wire::{Name, job::JobId};

impl Subjects {
    /// `relay.job.<upstream>.<uuid>`, or `relay.chain.<uuid>` of a job that may go to several upstreams
    pub fn job(&self, id: &JobId) -> String {
        match &id.upstream {
            Some(upstream) => self.join(Kind::Job, &format!("{upstream}.{}", id.uuid)),
            None => self.join(Kind::Chain, &id.uuid.to_string()),
        }
    }

    /// `relay.dead.job.<upstream>.<uuid>` or `relay.dead.chain.<uuid>`
    pub fn dead(&self, id: &JobId) -> String {
        match &id.upstream {
            Some(upstream) => self.join(Kind::Dead, &format!("job.{upstream}.{}", id.uuid)),
            None => self.join(Kind::Dead, &format!("chain.{}", id.uuid)),
        }
    }

    /// `relay.key.<upstream>.<hash>`
    pub fn key(&self, upstream: &Name, hash: &str) -> String {
        self.join(Kind::Key, &format!("{upstream}.{hash}"))
    }

    /// `relay.job.*.*` and `relay.chain.*`: the records of all jobs.
    pub fn every_job(&self) -> [String; 2] {
        [self.join(Kind::Job, "*.*"), self.join(Kind::Chain, "*")]
    }

    /// The records of the jobs that a question is about; of their dead letters with `dead`.
    pub fn jobs_of(&self, scope: &StoreScope, dead: bool) -> Vec<String> {
        let (of_one, of_several) = match scope {
            StoreScope::Jobs(upstream) => (Some(format!("{upstream}.*")), None),
            StoreScope::Chains => (None, Some("*")),
            StoreScope::All => (Some("*.*".to_owned()), Some("*")),
            StoreScope::Session(_) | StoreScope::Sessions => (None, None),
        };
        let of_one = of_one.map(|rest| match dead {
            false => self.join(Kind::Job, &rest),
            true => self.join(Kind::Dead, &format!("job.{rest}")),
        });
        let of_several = of_several.map(|rest| match dead {
            false => self.join(Kind::Chain, rest),
            true => self.join(Kind::Dead, &format!("chain.{rest}")),
        });
        of_one.into_iter().chain(of_several).collect()
    }

    /// `relay.job.<upstream>.*`, or `relay.chain.*` for those that may go to several upstreams
    pub fn every_job_of(&self, upstream: Option<&Name>) -> String {
        match upstream {
            Some(upstream) => self.join(Kind::Job, &format!("{upstream}.*")),
            None => self.join(Kind::Chain, "*"),
        }
    }

    /// `relay.key.*.*`
    pub fn every_key(&self) -> String {
        self.join(Kind::Key, "*.*")
    }

    /// The job of a `job`, `chain` or `dead` subject.
    pub fn job_of(&self, subject: &str) -> Option<JobId> {
        let rest = subject.strip_prefix(self.prefix.as_str())?.strip_prefix('.')?;
        let rest = rest.strip_prefix("dead.").unwrap_or(rest);
        let rest = rest.strip_prefix("job.").or_else(|| rest.strip_prefix("chain."))?;
        rest.parse().ok()
    }

    /// The stream of the jobs' records: `relay-jobs`.
    pub fn jobs_stream(&self) -> String {
        format!("{}-jobs", self.prefix)
    }

    /// The stream of what callers' `Idempotency-Key`s stand for: `relay-keys`.
    pub fn keys_stream(&self) -> String {
        format!("{}-keys", self.prefix)
    }

    /// The stream of those that finally failed: `relay-dead`.
    pub fn dead_stream(&self) -> String {
        format!("{}-dead", self.prefix)
    }

    /// The object store of a dead letter's bodies, which are kept for longer: `relay-dead-bodies`.
    pub fn dead_bodies_bucket(&self) -> String {
        format!("{}-dead-bodies", self.prefix)
    }

    /// The object store of bodies that do not fit in a record: `relay-bodies`.
    pub fn bodies_bucket(&self) -> String {
        format!("{}-bodies", self.prefix)
    }
}
