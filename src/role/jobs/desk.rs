//! Where the commands find jobs and dead letters: JetStream, and what they say when it does not let them.

use std::{
    future::Future,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use tokio::sync::watch;

use crate::{
    bus::{
        Event,
        store::{Record, Store, Trouble},
    },
    config::Nats,
    role::inquiry,
    wire::{
        Job, Kind, Subjects, codec,
        job::{Content, JobId},
    },
};

/// A connection to what keeps jobs and dead letters.
pub struct Desk {
    /// What keeps them.
    pub store: Store,
    /// What they are called there.
    pub subjects: Subjects,
    /// The subject that NATS permissions refused, once they did.
    denied: watch::Receiver<Option<String>>,
}

/// A job as it is kept.
#[derive(Debug, Clone)]
pub struct Kept {
    /// The job.
    pub job: Job,
    /// Which revision of its record this is.
    pub revision: u64,
    /// When that was stored.
    pub stored: SystemTime,
}

/// Why something was not done.
#[derive(Debug)]
pub enum Refusal {
    /// Because of the job: another one may fare better.
    Job(String),
    /// Because of what keeps jobs: another one would fare no better.
    Store(Trouble),
}

impl From<Trouble> for Refusal {
    fn from(trouble: Trouble) -> Self {
        Refusal::Store(trouble)
    }
}

impl Kept {
    /// How long ago the job was accepted.
    pub fn age(&self) -> Duration {
        Duration::from_millis(self.job.age) + self.stored.elapsed().unwrap_or_default()
    }
}

impl Desk {
    /// Connects as `name`.
    ///
    /// # Errors
    /// When NATS can't be reached.
    pub async fn open(nats: &Nats, name: &str) -> anyhow::Result<Desk> {
        let (bus, mut events) = inquiry::reach(nats, name).await?;
        let store = bus.store();
        let (tell, denied) = watch::channel(None);
        let told = store.clone();
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                if let Event::PublishDenied(subject) | Event::SubscribeDenied(subject) = event {
                    told.deny(&subject);
                    tell.send_replace(Some(subject));
                }
            }
        });
        Ok(Desk { store, subjects: Subjects::new(nats.prefix.clone()), denied })
    }

    /// What `work` comes to. What NATS permissions refuse is never answered: it is not waited for.
    ///
    /// # Errors
    /// What is in the way.
    pub async fn ask<T>(&self, work: impl Future<Output = Result<T, Trouble>>) -> Result<T, Trouble> {
        let mut denied = self.denied.clone();
        tokio::select! {
            biased;
            done = work => done,
            Ok(subject) = denied.wait_for(Option::is_some) => {
                Err(Trouble::Denied(subject.clone().unwrap_or_default()))
            }
        }
    }

    /// The record of a job.
    ///
    /// # Errors
    /// What is in the way.
    pub async fn job(&self, id: &JobId) -> Result<Option<Kept>, Trouble> {
        self.last(self.subjects.jobs_stream(), self.subjects.job(id)).await
    }

    /// The dead letter of a job.
    ///
    /// # Errors
    /// What is in the way.
    pub async fn letter(&self, id: &JobId) -> Result<Option<Kept>, Trouble> {
        self.last(self.subjects.dead_stream(), self.subjects.dead(id)).await
    }

    async fn last(&self, stream: String, subject: String) -> Result<Option<Kept>, Trouble> {
        let Some(record) = self.ask(self.store.last(&stream, &subject)).await? else { return Ok(None) };
        self.read(&record).map(Some)
    }

    /// All jobs, oldest first.
    ///
    /// # Errors
    /// What is in the way.
    pub async fn jobs(&self) -> Result<Vec<Kept>, Trouble> {
        self.all(self.subjects.jobs_stream(), self.subjects.every_job().to_vec()).await
    }

    /// All dead letters, oldest first.
    ///
    /// # Errors
    /// What is in the way.
    pub async fn letters(&self) -> Result<Vec<Kept>, Trouble> {
        self.all(self.subjects.dead_stream(), vec![self.subjects.every(Kind::Dead)]).await
    }

    async fn all(&self, stream: String, subjects: Vec<String>) -> Result<Vec<Kept>, Trouble> {
        let records = self.ask(self.store.all(&stream, subjects, MOST)).await?;
        if records.len() == MOST {
            eprintln!("relay: these are the oldest {MOST}, there may be more");
        }
        let (read, unread): (Vec<_>, Vec<_>) =
            records.iter().map(|record| self.read(record)).partition(Result::is_ok);
        if !unread.is_empty() {
            eprintln!(
                "relay: {} more can't be read: a newer relay stored them, or another program",
                unread.len()
            );
        }
        Ok(read.into_iter().flatten().collect())
    }

    /// A record, when it is what its subject says it is.
    fn read(&self, record: &Record) -> Result<Kept, Trouble> {
        let unread = |why: String| Trouble::Other(format!("{} can't be read: {why}", record.subject));
        let job = codec::decode::<Job>(&record.bytes).map_err(|why| unread(why.to_string()))?;
        if self.subjects.job_of(&record.subject).as_ref() != Some(&job.job_id) {
            return Err(unread("it is the record of another job".into()));
        }
        Ok(Kept { job, revision: record.revision, stored: record.stored })
    }

    /// Forgets bodies. What can't be forgotten now goes when it is old.
    pub async fn forget<'a>(&self, objects: impl IntoIterator<Item = &'a str>) {
        for object in objects {
            for bucket in self.buckets() {
                let removed = async {
                    self.store.remove_object(&bucket, object).await;
                    Ok(())
                };
                self.ask(removed).await.ok();
            }
        }
    }

    /// The body of what is kept; `None` when it is no longer there.
    ///
    /// # Errors
    /// What is in the way.
    pub async fn body(&self, content: &Content) -> Result<Option<Bytes>, Trouble> {
        let Some(name) = &content.object else { return Ok(Some(Bytes::copy_from_slice(&content.body))) };
        self.ask(self.store.find_object(&self.buckets(), name, LARGEST)).await
    }

    /// Where bodies are: those of jobs, and those of dead letters.
    fn buckets(&self) -> [String; 2] {
        [self.subjects.bodies_bucket(), self.subjects.dead_bodies_bucket()]
    }
}

/// Does `work` with each of `ids` and prints what it says; goes on when one is refused.
///
/// # Errors
/// What was refused, and why.
pub async fn each(
    ids: &[JobId],
    work: impl AsyncFn(&JobId) -> Result<&'static str, Refusal>,
) -> anyhow::Result<()> {
    let mut refused = Vec::new();
    for id in ids {
        match work(id).await {
            Ok(done) => println!("{id} {done}"),
            Err(Refusal::Job(why)) => refused.push(why),
            Err(Refusal::Store(trouble)) => {
                refused.push(advice(&trouble));
                break;
            }
        }
    }
    anyhow::ensure!(refused.is_empty(), "{}", refused.join("\nrelay: "));
    Ok(())
}

/// What is in the way, and what to do about it.
pub fn in_the_way(trouble: Trouble) -> anyhow::Error {
    anyhow::anyhow!(advice(&trouble))
}

fn advice(trouble: &Trouble) -> String {
    let what_to_do = match trouble {
        Trouble::Changed | Trouble::Late => "try again",
        Trouble::Missing(what) if what.contains("without JetStream") => {
            "jobs are kept there, so start it with -js, or with `jetstream {}` in its configuration"
        }
        Trouble::Missing(_) => "start `relay broker`, which sets it up, and see what it says",
        Trouble::Denied(_) => "allow it to this user, or be another one",
        Trouble::Full(_) => "give it more, or purge dead letters",
        Trouble::Other(_) => return trouble.to_string(),
    };
    format!("{trouble}: {what_to_do}")
}

/// Records that are looked at, at most.
const MOST: usize = 1_000_000;
/// Bytes of a body that is shown, at most.
const LARGEST: usize = 256 * 1024 * 1024;
