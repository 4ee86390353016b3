//! Where the commands of operators look at jobs and dead letters: they ask brokers, which store them, and say what to do
//! when no broker answers.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;

use crate::{
    bus::{Bus, Event, Subscription},
    config::Operator,
    role::inquiry,
    store::{StoreClient, StoreError},
    stream::memory::Budget,
    wire::{
        Code, Fault, Job, JobSummary, Kind, ProcessId, StoreReply, StoreRequest, StoreScope, StoreVerb,
        Subjects,
        job::{Content, JobId},
        store::Part,
        subjects::Address,
    },
};

/// The way to the brokers.
pub struct Desk {
    store: Arc<StoreClient>,
}

/// A job as it is kept.
#[derive(Debug, Clone)]
pub struct Kept {
    /// The job.
    pub job: Job,
    /// When its record was stored, by the clock here.
    pub stored: SystemTime,
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
    pub async fn open(operator: &Operator, name: &str) -> anyhow::Result<Desk> {
        let (bus, mut events) = inquiry::reach(operator, name).await?;
        let subjects = Subjects::new(operator.nats.prefix.clone());
        let own = ProcessId::random(&operator.realm);
        let inbox = bus.subscribe(subjects.inbox(&own)).await?;
        let store = StoreClient::new(bus.clone(), subjects.clone(), own.clone());
        tokio::spawn(read(Arc::clone(&store), subjects, own, inbox, bus));
        let told = Arc::clone(&store);
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                match event {
                    Event::PublishDenied(subject) => told.on_publish_denied(&subject),
                    // The answers come there: whatever is asked, none is heard.
                    Event::SubscribeDenied(subject) => told.on_subscribe_denied(&subject),
                    _ => {}
                }
            }
        });
        Ok(Desk { store })
    }

    /// What is known of a job; `None` when there is none.
    ///
    /// # Errors
    /// What is in the way.
    pub async fn job(&self, id: &JobId) -> Result<Option<Kept>, StoreError> {
        self.kept(id, StoreVerb::Read).await
    }

    /// What is known of the dead letter of a job; `None` when there is none.
    ///
    /// # Errors
    /// What is in the way.
    pub async fn letter(&self, id: &JobId) -> Result<Option<Kept>, StoreError> {
        self.kept(id, StoreVerb::Letter).await
    }

    async fn kept(&self, id: &JobId, verb: StoreVerb) -> Result<Option<Kept>, StoreError> {
        match self.change(id, verb).await {
            Ok(reply) => {
                let stored = SystemTime::now().checked_sub(Duration::from_millis(reply.stored));
                let stored = stored.unwrap_or(SystemTime::UNIX_EPOCH);
                Ok(reply.job.map(|job| Kept { job: *job, stored }))
            }
            Err(StoreError::Refused(Fault { code: Code::NoJob, .. })) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Has `verb` done with a job.
    ///
    /// # Errors
    /// What is in the way.
    pub async fn change(&self, id: &JobId, verb: StoreVerb) -> Result<StoreReply, StoreError> {
        self.store.ask(StoreScope::of(id), verb, |request| request.job_id = Some(id.clone())).await
    }

    /// All jobs, oldest first.
    ///
    /// # Errors
    /// What is in the way.
    pub async fn jobs(&self) -> Result<Vec<JobSummary>, StoreError> {
        self.all(StoreVerb::List).await
    }

    /// All dead letters, oldest first.
    ///
    /// # Errors
    /// What is in the way.
    pub async fn letters(&self) -> Result<Vec<JobSummary>, StoreError> {
        self.all(StoreVerb::Letters).await
    }

    async fn all(&self, verb: StoreVerb) -> Result<Vec<JobSummary>, StoreError> {
        let (mut all, mut unread, mut after) = (Vec::new(), 0, 0);
        let started = Instant::now();
        loop {
            let page = |request: &mut StoreRequest| request.revision = after;
            let reply = self.store.ask(StoreScope::All, verb, page).await?;
            all.extend(reply.jobs);
            unread = u64::saturating_add(unread, reply.count);
            if started.elapsed() > LONGEST {
                eprintln!("relay: these are the oldest {}: there are more, and it takes too long", all.len());
                break;
            }
            if all.len() >= MOST {
                eprintln!("relay: these are the oldest {MOST}, there may be more");
                break;
            }
            // Revisions grow; a broker that says otherwise would keep this going for ever.
            if reply.revision <= after {
                break;
            }
            after = reply.revision;
        }
        if unread > 0 {
            eprintln!("relay: {unread} more can't be read: a newer relay stored them, or another program");
        }
        Ok(all)
    }

    /// The body of a job or a dead letter; `None` when it is no longer there.
    ///
    /// # Errors
    /// What is in the way.
    pub async fn body(&self, id: &JobId, part: Part, content: &Content) -> Result<Option<Bytes>, StoreError> {
        if content.object.is_none() {
            return Ok(Some(Bytes::copy_from_slice(&content.body)));
        }
        let asked = self.store.ask_for_body(StoreScope::of(id), |request| {
            request.job_id = Some(id.clone());
            request.part = Some(part);
        });
        let Some(reader) = asked.await? else { return Ok(None) };
        let longer = || {
            Fault::new(Code::StreamCut, crate::wire::Side::Client, "the body is longer than its record says")
        };
        let size = usize::try_from(content.size).unwrap_or(usize::MAX).min(LARGEST);
        let whole =
            reader.whole(Bytes::new(), (size, Some(content.size)), Budget::new(usize::MAX).share(), longer);
        whole.await.map(Some).map_err(StoreError::Refused)
    }
}

/// Reads what brokers answer. The connection lives for as long as this does.
async fn read(
    store: Arc<StoreClient>,
    subjects: Subjects,
    own: ProcessId,
    mut inbox: Subscription,
    _bus: Bus,
) {
    while let Some(message) = inbox.next().await {
        if let Some(Address::Request { kind: kind @ (Kind::Stored | Kind::Body), number, .. }) =
            subjects.address(&own, &message.subject)
        {
            store.on_message(kind, number, &message);
        }
    }
}

/// Has `verb` done with each of `ids` and prints that it is `done`; goes on when a job is not one to do it with.
///
/// # Errors
/// What was refused, and why.
pub async fn each(desk: &Desk, ids: &[JobId], verb: StoreVerb, done: &str) -> anyhow::Result<()> {
    let mut refused = Vec::new();
    for id in ids {
        match desk.change(id, verb).await {
            Ok(_) => println!("{id} {done}"),
            Err(StoreError::Refused(fault)) if matches!(fault.code, Code::NoJob | Code::JobOver) => {
                refused.push(fault.detail.into_owned());
            }
            Err(error) => {
                refused.push(advice(&error));
                break;
            }
        }
    }
    anyhow::ensure!(refused.is_empty(), "{}", refused.join("\nrelay: "));
    Ok(())
}

/// What is in the way, and what to do about it.
pub fn in_the_way(error: StoreError) -> anyhow::Error {
    anyhow::anyhow!(advice(&error))
}

fn advice(error: &StoreError) -> String {
    let what_to_do = match error {
        error if error.is_unknown() => {
            "what was asked for may have been done: look with `relay jobs show` or `relay dlq ls` before you try again"
        }
        StoreError::Late | StoreError::NotSent(_) => "try again",
        StoreError::NoBroker => "start one",
        StoreError::Denied(_) => "allow it to this user, or be another one",
        StoreError::Refused(fault) if fault.detail.contains("without JetStream") => {
            "jobs are stored there, so start it with -js, or with `jetstream {}` in its configuration"
        }
        StoreError::Refused(fault) if fault.code == Code::JobsUnavailable => "see what `relay broker` says",
        StoreError::Refused(_) => return error.to_string(),
    };
    format!("{error}: {what_to_do}")
}

/// Jobs that are listed at most.
const MOST: usize = 1_000_000;
/// How long a list may take.
const LONGEST: Duration = Duration::from_secs(120);
/// Bytes of a body that is shown at most.
const LARGEST: usize = 256 * 1024 * 1024;
