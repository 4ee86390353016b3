//! Jobs at the listener: requests that are to be answered later, forward chains, and where their progress is read.
//!
//! A job is accepted when a broker has stored it; brokers do the rest. `later` takes requests, `chain` starts chains, `page`
//! shows what became of either, `settling` finds out of a job whether it is stored when no broker said so.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde_json::json;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};

use super::{
    body::Held,
    http::{Ask, Front},
    message::Response,
    problem,
    relay::{Asked, Outcome},
    served::Told,
};
use crate::{
    bus::Subscription,
    proto::forward::{self, Forward},
    store::{StoreClient, StoreError},
    stream::memory::{Budget, owned},
    wire::{
        Code, Ended, Fault, Headers, Job, JobId, Name, ProcessId, RequestId, Side, StoreScope, StoreVerb,
        codec,
        headers::{self, Caller, Credentials, set},
        job::{Content, Outcome as Came, Reach, Room},
        store::Part,
    },
};

mod chain;
mod key;
mod later;
pub(super) mod off;
mod page;
mod reach;
mod settling;

/// Where jobs are taken.
pub struct Desk {
    /// The way to the brokers, which store them.
    pub store: Arc<StoreClient>,
    /// The client agent.
    pub process: ProcessId,
    /// What jobs are held to.
    pub settings: Settings,
    /// For so many jobs it is found out in the background whether they are stored.
    pub unsettled: Arc<Semaphore>,
}

/// What jobs are held to when they are taken.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Bytes of a body at most.
    pub max_body: usize,
    /// Hops of a chain at most.
    pub max_hops: usize,
    /// The upstreams that chains and callbacks may go to; none stands for all.
    pub forward_to: Vec<Name>,
    /// How the URLs of chains and callbacks lead to upstreams.
    pub reach: Reach,
    /// The headers that tell callers apart.
    pub credentials: Credentials,
}

/// What a request wants to be.
enum Wanted {
    /// An ordinary one.
    Ordinary,
    /// The first of a chain.
    Chain(Forward, Option<Duration>),
    /// One that is answered later, but waited for so long.
    Later(Option<Duration>),
}

/// Whether a request could be a job's: all others are spared the rest.
pub(super) fn may_concern(asked: &Asked) -> bool {
    let is_ours = |name: &HeaderName| name.as_str().starts_with("x-forward-") || *name == PREFER;
    asked.head.headers.keys().any(is_ours) || asked.url.starts_with(PAGES)
}

impl<A: Ask> Front<A> {
    /// Answers what could be a job's.
    pub(super) async fn at_desk(
        self: &Arc<Self>,
        desk: &Arc<Desk>,
        mut asked: Box<Asked>,
        told: &mut Told<A>,
    ) -> Result<Outcome, Fault> {
        if let Some(id) = asked.url.as_text().and_then(|url| url.strip_prefix(PAGES)) {
            return self.page(desk, id, &asked.head, &told.served.id).await;
        }
        match desk.wanted(&mut asked)? {
            Wanted::Ordinary => self.answer_now(asked, told).await,
            Wanted::Chain(forward, wait) => self.start_chain(desk, forward, wait, asked, told).await,
            Wanted::Later(wait) => self.take(desk, wait, asked, told).await,
        }
    }

    /// The address of a caller, by which its jobs are counted.
    fn address_of(&self, caller: &Caller, headers: &Headers) -> Option<String> {
        let address = headers::address_of(caller, headers, |peer| self.opening.trusts(peer));
        address.map(|address| address.to_string())
    }

    /// The 202 of a job that was accepted, or what it came to when it is over in time.
    async fn accepted(
        &self,
        desk: &Desk,
        id: &JobId,
        news: Option<(Subscription, Instant)>,
        request: &RequestId,
    ) -> Response<Held> {
        if let Some((news, until)) = news
            && ended_by(news, until, id).await
            && let Ok((job, _)) = desk.read(id).await
            && let Ok(response) = self.answer_of(desk, &job, request).await
        {
            return response;
        }
        // It is accepted, whatever can't be read now.
        let page = format!("{PAGES}{id}");
        let text = json!({ "id": id.to_string(), "state": "running", "location": page }).to_string() + "\n";
        let mut response = Response::new(Held::new(text.into(), HeaderMap::new(), None));
        response.status = StatusCode::ACCEPTED;
        let headers = &mut response.headers;
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        set(headers, header::LOCATION, &page);
        response
    }

    /// The answer to a request of whose job it is not known whether it is stored: where to look. A second request
    /// would be a second job.
    fn unconfirmed(&self, id: &JobId, fault: Fault, told: &mut Told<A>) -> Response<Held> {
        let page = format!("{PAGES}{id}");
        let detail = format!("it is not known whether the job was stored; {page} says so ({})", fault.detail);
        let fault = Fault { detail: detail.into(), ..fault }.after_seen();
        told.failed(&fault);
        let (id, details) = (Some(&told.served.id), self.settings.fault_details);
        let mut response = problem::response(&fault, id, &http::Method::GET, details);
        set(&mut response.headers, header::LOCATION, &page);
        response
    }

    /// What a job that is over came to.
    async fn answer_of(&self, desk: &Desk, job: &Job, request: &RequestId) -> Result<Response<Held>, Fault> {
        let mut response = match (&job.outcome, job.fault()) {
            (Some(came), _) => self.stored_answer(desk, &job.job_id, came).await?,
            (None, Some(fault)) => {
                problem::response(&fault, Some(request), &http::Method::GET, self.settings.fault_details)
            }
            (None, None) => Response::new(Held::empty()),
        };
        set(&mut response.headers, JOB, job.state.as_str());
        Ok(response)
    }

    async fn stored_answer(&self, desk: &Desk, id: &JobId, came: &Came) -> Result<Response<Held>, Fault> {
        let body = desk.body_of(id, &came.content, &self.budget).await?;
        let headers = headers::for_caller(came.content.headers(), http::Version::HTTP_11, |_| false);
        let mut response = Response::new(Held::new(body, HeaderMap::new(), None));
        response.status = came.status();
        response.headers = headers;
        response.headers.remove(header::CONTENT_LENGTH);
        Ok(response)
    }
}

impl Desk {
    /// What a request wants to be. What says so is taken out of its headers.
    fn wanted(&self, asked: &mut Asked) -> Result<Wanted, Fault> {
        let chain = forward::read(&mut asked.head.headers, self.settings.max_hops)?;
        // A connection that changes its protocol is nothing that could be answered later.
        let prefers = if asked.upgrade.is_none() { Preferences::of(&asked.head.headers) } else { None };
        let wait = prefers.as_ref().and_then(|prefers| prefers.wait);
        match (chain, prefers) {
            (forward::Asked::Forward(forward), prefers) => {
                prefers.into_iter().for_each(|prefers| prefers.leave_rest(&mut asked.head.headers));
                Ok(Wanted::Chain(forward, wait))
            }
            (forward::Asked::Nothing | forward::Asked::Last, Some(prefers)) if prefers.respond_async => {
                prefers.leave_rest(&mut asked.head.headers);
                Ok(Wanted::Later(wait))
            }
            (forward::Asked::Nothing | forward::Asked::Last, _) => Ok(Wanted::Ordinary),
        }
    }

    /// Checks that there is room in a record for the URLs of a job, and for what introduces its caller.
    fn check_room<'a>(
        &self,
        urls: impl IntoIterator<Item = &'a str>,
        introduction: &Headers,
    ) -> Result<(), Fault> {
        let most = Room::in_message(self.store.max_payload()).rest;
        let urls: usize = urls.into_iter().map(|url| url.len() + PER_URL).sum();
        if urls + Content::size_of(introduction) <= most {
            return Ok(());
        }
        let detail = format!(
            "a job's URLs and Forwarded headers are over {most} bytes, an eighth of NATS's max_payload"
        );
        Err(Fault::new(Code::HeadersTooLarge, Side::Client, detail))
    }

    /// News of the end of a job until `wait` is over, when the caller waits.
    async fn news_of(&self, id: &JobId, wait: Option<Duration>) -> Option<(Subscription, Instant)> {
        let until = Instant::now() + wait?.min(LONGEST_WAIT);
        // Without them the answer is a 202, which it may be anyway.
        let news = self.store.ends_of(id).await.ok()?;
        Some((news, until))
    }

    /// Headers and a body as a job has them. A body that does not fit in a record is left out, and returned: it goes to
    /// the broker apart.
    fn content(&self, headers: &Headers, body: &Bytes) -> Result<(Content, Option<Bytes>), Fault> {
        let room = Room::in_message(self.store.max_payload());
        if Content::size_of(headers) > room.headers {
            let most = room.headers;
            let detail = format!("a job's headers are over {most} bytes, an eighth of NATS's max_payload");
            return Err(Fault::new(Code::HeadersTooLarge, Side::Client, detail));
        }
        if body.len() <= room.body {
            return Ok((Content::whole(headers, body), None));
        }
        Ok((Content::apart(headers, None, body.len() as u64), Some(body.clone())))
    }

    /// What is known of a job, and how long ago that was stored.
    async fn read(&self, id: &JobId) -> Result<(Job, Duration), Fault> {
        let reply = self.store.ask(StoreScope::of(id), StoreVerb::Read, |request| {
            request.job_id = Some(id.clone());
        });
        let reply = reply.await.map_err(unread)?;
        let job = reply.job.filter(|job| job.job_id == *id).ok_or_else(|| no_job(&id.to_string()))?;
        Ok((*job, Duration::from_millis(reply.stored)))
    }

    /// The body of what a job was answered, in memory of `budget`.
    async fn body_of(&self, id: &JobId, content: &Content, budget: &Budget) -> Result<Bytes, Fault> {
        if content.object.is_none() {
            let share = budget.take(content.body.len())?;
            return Ok(owned(Bytes::copy_from_slice(&content.body), share));
        }
        let asked = self.store.ask_for_body(StoreScope::of(id), |request| {
            request.job_id = Some(id.clone());
            request.part = Some(Part::Outcome);
        });
        let gone = || Fault::new(Code::NoJob, Side::Client, "the job's response is no longer kept");
        let reader = asked.await.map_err(unread)?.ok_or_else(gone)?;
        let longer =
            || Fault::new(Code::StreamCut, Side::Client, "the job's response is longer than its record says");
        let most = usize::try_from(content.size).unwrap_or(usize::MAX);
        reader.whole(Bytes::new(), (most, Some(content.size)), budget.share(), longer).await
    }
}

/// Whether a job is over by `until`, as its brokers tell.
async fn ended_by(mut news: Subscription, until: Instant, id: &JobId) -> bool {
    while let Ok(Some(message)) = timeout_at(until, news.next()).await {
        if codec::decode::<Ended>(&message.payload).is_ok_and(|ended| ended.job_id == *id) {
            return true;
        }
    }
    false
}

/// What a caller prefers (RFC 7240).
struct Preferences {
    respond_async: bool,
    wait: Option<Duration>,
    /// What is none of ours.
    rest: Vec<String>,
}

impl Preferences {
    fn of(headers: &Headers) -> Option<Self> {
        let mut prefers = Preferences { respond_async: false, wait: None, rest: Vec::new() };
        let mut any = false;
        for value in headers.get_all(PREFER) {
            for word in value.to_str().unwrap_or_default().split(',').map(str::trim) {
                let (name, setting) =
                    word.split_once('=').map_or((word, ""), |(name, value)| (name.trim(), value));
                let seconds = setting.trim().trim_matches('"').parse().ok().map(Duration::from_secs);
                match (name.to_ascii_lowercase().as_str(), seconds) {
                    ("respond-async", _) => prefers.respond_async = true,
                    ("wait", Some(wait)) => prefers.wait = Some(wait),
                    _ => prefers.rest.push(word.to_owned()),
                }
                any = true;
            }
        }
        any.then_some(prefers)
    }

    /// Leaves what the origin may still have a use for.
    fn leave_rest(&self, headers: &mut Headers) {
        headers.remove(PREFER);
        if !self.rest.is_empty() {
            set(headers, PREFER, &self.rest.join(", "));
        }
    }
}

/// The fault of a job that can't be read now: a question that is not answered has changed nothing.
fn unread(error: StoreError) -> Fault {
    match error {
        StoreError::Late => Fault::new(Code::JobsUnavailable, Side::Client, error.to_string()),
        error => error.into(),
    }
}

fn no_job(id: &str) -> Fault {
    let id = crate::wire::show::beginning(id, SHOWN);
    Fault::new(Code::NoJob, Side::Client, format!("there is no job '{id}', or no longer"))
}

/// Jobs of which it is found out in the background whether they are stored, at most.
pub const MAX_UNSETTLED: usize = 1024;
/// Bytes of an id that a message repeats.
const SHOWN: usize = 100;

/// Where jobs are shown: this and the job's id.
const PAGES: &str = "/.relay/jobs/";
const PREFER: HeaderName = HeaderName::from_static("prefer");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
/// A job's state, beside what it came to.
const JOB: HeaderName = HeaderName::from_static("x-relay-job");
/// Bytes that a URL of a job takes beside its own, about.
const PER_URL: usize = 16;
/// How long a caller may wait for a job at most.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_caller_prefers_is_read_and_the_rest_is_left() {
        let prefers = |values: &[&str]| {
            let mut headers = Headers::new();
            for value in values {
                headers.append(PREFER, HeaderValue::from_str(value).unwrap());
            }
            let prefers = Preferences::of(&headers).unwrap();
            prefers.leave_rest(&mut headers);
            let rest = headers.get(PREFER).map(|rest| rest.to_str().unwrap().to_owned());
            (prefers.respond_async, prefers.wait.map(|wait| wait.as_secs()), rest)
        };
        assert_eq!(prefers(&["respond-async"]), (true, None, None));
        assert_eq!(prefers(&["Respond-Async, wait=10"]), (true, Some(10), None));
        assert_eq!(
            prefers(&["wait=\"5\"", "return=minimal"]),
            (false, Some(5), Some("return=minimal".into()))
        );
        assert_eq!(prefers(&["wait=soon"]), (false, None, Some("wait=soon".into())));
    }
}
