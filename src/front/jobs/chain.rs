//! The start of a forward chain: its id is taken, the first server asked as by any request, and with its success
//! what it answered stored as what the first hop is sent.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::header;

use super::{
    Desk,
    later::check_target,
    settling::{Doubtful, Unstored},
};
use crate::{
    front::{
        http::{Ask, Front},
        relay::{Asked, Outcome},
        served::Told,
    },
    proto::{
        forward::{self, Forward},
        jobs,
    },
    store::StoreError,
    stream::memory::Budget,
    wire::{
        Code, Fault, Headers, Job, JobId, JobState, Side, StoreScope, StoreVerb,
        headers::{self, Caller, set},
        job::{Content, to_pairs},
        message::millis,
    },
};

impl<A: Ask> Front<A> {
    /// Starts a chain: answers with 202, with what its last server answers if that is in time, or as the first
    /// server did if that was no success.
    pub(super) async fn start_chain(
        self: &Arc<Self>,
        desk: &Arc<Desk>,
        forward: Forward,
        wait: Option<Duration>,
        asked: Box<Asked>,
        told: &mut Told<A>,
    ) -> Result<Outcome, Fault> {
        let id = JobId { upstream: None, uuid: forward.id };
        check_target(&asked.url)?;
        let (path, first) = first_url(&asked);
        let introduction = introduction(&asked);
        let urls = forward.hops.iter().map(|hop| hop.url.as_str()).chain([forward.errors_to.as_str()]);
        desk.check_room(urls, &introduction)?;
        for hop in &forward.hops {
            self.check_reach(desk, &forward::TO, &hop.url, Some(&path))?;
        }
        self.check_reach(desk, &forward::ERRORS_TO, &forward.errors_to, None)?;
        let mut begun = Job::new(id.clone(), desk.process.clone(), JobState::Begun, Content::default());
        begun.pause = millis(self.settings.ttl);
        // It tells this request from another one with the same id.
        begun.input.headers.push((REQUEST.into(), told.served.id.as_str().as_bytes().to_vec().into()));
        // Before anything is sent: if nothing can be stored, nothing has happened.
        let address = self.address_of(&asked.caller, &asked.head.headers);
        let revision = match desk.begin(&begun, address).await {
            Ok(revision) => revision,
            Err((fault, true)) => return Ok(self.unconfirmed_chain(&id, fault, told)),
            Err((fault, false)) => return Err(fault),
        };
        let mut taken = Taken { desk: Arc::clone(desk), begun: Some(begun), revision };
        let outcome = self.pass(asked, told).await?;
        if !outcome.status().is_success() {
            // Before the caller hears of it: it may try again at once.
            taken.give_up().await;
            return Ok(outcome);
        }
        let (headers, body) = whole(outcome, desk.settings.max_body, &self.budget).await?;
        let (answer, apart) = desk.content(&headers, &body).map_err(after_the_first)?;
        drop(body);
        let mut job = taken.job();
        (job.state, job.pause) = (JobState::Running, 0);
        job.only = desk.settings.forward_to.clone();
        job.reach = Some(desk.settings.reach);
        job.introduction = to_pairs(&introduction);
        job.hops = forward.hops;
        job.errors_to = Some(forward.errors_to);
        job.path = path;
        job.referer = first;
        jobs::follow(&mut job, &answer);
        let news = desk.news_of(&id, wait).await;
        let stored = desk.accept(StoreVerb::Start, job, apart, (None, None), revision).await;
        let stored = match stored {
            Err(error) if error.is_unknown() => {
                // Whether it starts is settled here.
                taken.keep();
                Doubtful::Chain { id: id.clone(), revision }.settle(desk, error).await
            }
            stored => stored.map_err(|error| (error.into(), false)),
        };
        match stored {
            Ok(_) => taken.keep(),
            Err((fault, true)) => return Ok(self.unconfirmed_chain(&id, fault, told)),
            Err((fault, false)) => return Err(after_the_first(fault)),
        }
        self.ask.accepted("chain");
        let mut response = self.accepted(desk, &id, news, &told.served.id).await;
        set(&mut response.headers, forward::ID, &forward.id.to_string());
        Ok(Outcome::Job(response))
    }

    fn unconfirmed_chain(&self, id: &JobId, fault: Fault, told: &mut Told<A>) -> Outcome {
        let mut response = self.unconfirmed(id, fault, told);
        set(&mut response.headers, forward::ID, &id.uuid.to_string());
        Outcome::Job(response)
    }
}

impl Desk {
    /// Takes the chain's id; returns the record's revision.
    async fn begin(&self, begun: &Job, address: Option<String>) -> Result<u64, Unstored> {
        let asked = self.store.ask(StoreScope::Chains, StoreVerb::Begin, |request| {
            request.job = Some(Box::new(begun.clone()));
            request.caller = address;
        });
        match asked.await {
            Ok(reply) => Ok(reply.revision),
            Err(error) if error.is_unknown() => {
                let settled = Doubtful::Beginning(Box::new(begun.clone())).settle(self, error).await;
                // It never says that a chain has begun whose revision it does not know.
                Err(settled.err().unwrap_or_else(|| (StoreError::Late.into(), true)))
            }
            Err(error) => Err((error.into(), false)),
        }
    }
}

/// An id that was taken for a chain. When this is dropped the chain does not start, whatever the reason: its first
/// server did not succeed, or the caller went away; then its id may be used again.
struct Taken {
    desk: Arc<Desk>,
    begun: Option<Job>,
    revision: u64,
}

impl Taken {
    /// The chain does not start.
    fn give_up(&mut self) -> impl Future<Output = ()> + Send + use<> {
        let (desk, begun, revision) = (Arc::clone(&self.desk), self.begun.take(), self.revision);
        async move {
            let Some(begun) = begun else { return };
            let asked = desk.store.ask(StoreScope::Chains, StoreVerb::Abandon, |request| {
                request.job_id = Some(begun.job_id);
                request.revision = revision;
            });
            // Should it fail, a broker notices in a while.
            asked.await.ok();
        }
    }

    /// What it was taken with.
    fn job(&self) -> Job {
        self.begun.clone().expect("it is there until the chain starts")
    }

    /// The chain starts, or may.
    fn keep(&mut self) {
        self.begun = None;
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if self.begun.is_some() {
            tokio::spawn(self.give_up());
        }
    }
}

/// What tells the servers of the chain whose it is.
fn introduction(asked: &Asked) -> Headers {
    let caller = Caller { version: asked.head.version, ..asked.caller.clone() };
    headers::introduction(asked.head.headers.clone(), &caller)
}

/// The path that hops have which name none, and the URL that the first hop hears it comes from.
fn first_url(asked: &Asked) -> (String, String) {
    let host = asked.head.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("relay");
    let scheme = if asked.caller.tls { "https" } else { "http" };
    let path = asked.url.path_text().into_owned();
    (path, format!("{scheme}://{host}{}", asked.url))
}

/// A response with all of its body.
async fn whole(outcome: Outcome, most: usize, budget: &Budget) -> Result<(Headers, Bytes), Fault> {
    match outcome {
        Outcome::Whole(response) => {
            let body = response.body.into_bytes();
            if body.len() > most { Err(too_large(most)) } else { Ok((response.headers, body)) }
        }
        Outcome::Streamed(response, first, reader) => {
            let body = reader.whole(first, (most, None), budget.share(), || too_large(most)).await;
            let body = body.map_err(Fault::after_seen)?;
            Ok((response.headers, body))
        }
        Outcome::Upgraded(..) | Outcome::Stored(..) | Outcome::Followed(..) | Outcome::Job(_) => {
            Err(Fault::new(Code::Internal, Side::Client, "a chain's first response is none that goes on"))
        }
    }
}

fn too_large(most: usize) -> Fault {
    let detail = format!("the first server's response is over {most} bytes, the limit of --max-job-body");
    Fault::new(Code::ResponseTooLarge, Side::Client, detail)
}

/// What could not be stored after the first server had run.
fn after_the_first(fault: Fault) -> Fault {
    let detail =
        format!("the first server has answered, but the chain could not be stored: {}", fault.detail);
    Fault { detail: detail.into(), ..fault }.after_seen()
}

/// The header of a chain that has begun which has the id of its request.
const REQUEST: &str = "x-relay-id";
