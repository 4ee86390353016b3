//! A request that is answered later: taken with its body, stored, answered with 202.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::HeaderName;

use super::{Desk, PREFERENCE_APPLIED, key, settling::Doubtful};
use crate::{
    front::{
        body::{self, Limits},
        http::{Ask, Front},
        relay::{Asked, Outcome},
        served::Told,
    },
    proto::{forward, routes},
    store::StoreError,
    wire::{
        Code, Fault, Headers, Job, JobId, JobState, RequestTarget, Side, StoreRequest, StoreScope, StoreVerb,
        headers::{self, Caller, set},
        job::{Hop, to_pairs},
        store::CallerKey,
    },
};

impl<A: Ask> Front<A> {
    /// Takes a request to be answered later.
    pub(super) async fn take(
        self: &Arc<Self>,
        desk: &Desk,
        wait: Option<Duration>,
        asked: Box<Asked>,
        told: &mut Told<A>,
    ) -> Result<Outcome, Fault> {
        let Asked { mut head, url, body, caller, to, .. } = *asked;
        let to = to?;
        check_target(&url)?;
        let callback = take_callback(&mut head.headers)?;
        if let Some(callback) = &callback {
            self.check_reach(desk, &CALLBACK, callback, None)?;
        }
        let has_body = body.is_some();
        let body = match body {
            None => Bytes::new(),
            Some(body) => {
                let limits = Limits { max: desk.settings.max_body, ..self.settings.body };
                let too_large = || too_large(limits.max);
                let body = body::whole(body, &head.headers, limits, &self.budget, too_large).await;
                body.map_err(|unread| told.unread(unread))?
            }
        };
        told.served.bytes_in = body.len() as u64;
        let key = key::read(&head, &desk.settings.credentials, &url, callback.as_deref(), &body)?;
        let is_repeatable = head.method.is_idempotent() || key.is_some();
        let (url, stripped) = routes::strip(url, to.strip);
        let caller = Caller { version: head.version, ..caller };
        let address = self.address_of(&caller, &head.headers);
        // The request's own headers introduce its caller to the upstream; the callback goes elsewhere.
        let introduction = match &callback {
            Some(_) => headers::introduction(head.headers.clone(), &caller),
            None => Headers::new(),
        };
        desk.check_room(callback.as_deref(), &introduction)?;
        let mut kept = headers::for_origin(head.headers, &caller);
        if has_body && body.is_empty() {
            headers::declare_empty(&mut kept);
        }
        stripped.into_iter().for_each(|prefix| headers::add_prefix(&mut kept, prefix));
        let hop = Hop {
            method: head.method.to_string(),
            url: url.to_string(),
            upstream: Some(to.upstream.clone()),
            repeatable: is_repeatable,
        };
        // One that tells somebody else of its end may go to several.
        let only = callback.is_none().then_some(to.upstream);
        let mut id = JobId::random(only);
        let mut news = desk.news_of(&id, wait).await;
        let (input, apart) = desk.content(&kept, &body)?;
        // What it took is free while the caller waits.
        drop(body);
        let mut job = Job::new(id.clone(), desk.process.clone(), JobState::Running, input);
        job.hops = vec![hop];
        job.callback = callback;
        if job.callback.is_some() {
            job.only = desk.settings.forward_to.clone();
            job.reach = Some(desk.settings.reach);
            job.introduction = to_pairs(&introduction);
        }
        let doubtful = Doubtful::request(&job, key.as_ref());
        let asked = desk.accept(StoreVerb::Accept, job, apart, (key, address), 0).await;
        let asked = match asked {
            Err(error) if error.is_unknown() => doubtful.settle(desk, error).await,
            asked => asked.map_err(|error| (error.into(), false)),
        };
        match asked {
            Ok(None) => self.ask.accepted("request"),
            // The same request came before, by its key.
            Ok(Some(known)) => {
                id = known;
                news = desk.news_of(&id, wait).await;
            }
            Err((fault, true)) => return Ok(Outcome::Job(self.unconfirmed(&id, fault, told))),
            Err((fault, false)) => return Err(fault),
        }
        let mut response = self.accepted(desk, &id, news, &told.served.id).await;
        set(&mut response.headers, PREFERENCE_APPLIED, "respond-async");
        Ok(Outcome::Job(response))
    }
}

impl Desk {
    /// Has a job stored, with the body that does not fit in its record; returns another job's id when that is the one
    /// that the caller's key stands for.
    pub(super) async fn accept(
        &self,
        verb: StoreVerb,
        job: Job,
        apart: Option<Bytes>,
        (key, address): (Option<CallerKey>, Option<String>),
        revision: u64,
    ) -> Result<Option<JobId>, StoreError> {
        let scope = StoreScope::of(&job.job_id);
        let fill = |request: &mut StoreRequest| {
            request.job = Some(Box::new(job));
            request.key = key;
            request.caller = address;
            request.revision = revision;
        };
        let reply = match apart {
            None => self.store.ask(scope, verb, fill).await?,
            Some(body) => self.store.ask_with_body(scope, verb, body, fill).await?,
        };
        Ok(reply.job_id)
    }
}

/// A record of a job is of texts: to write another target in them would be to ask for another resource.
pub(super) fn check_target(target: &RequestTarget) -> Result<(), Fault> {
    match target.as_text() {
        Some(_) => Ok(()),
        None => {
            let detail =
                "the request target has bytes that are not UTF-8, which a job can't have: write them as %XX";
            Err(Fault::new(Code::BadTarget, Side::Client, detail))
        }
    }
}

fn too_large(most: usize) -> Fault {
    let detail = format!("a job's body is over {most} bytes, the limit of --max-job-body");
    Fault::new(Code::BodyTooLarge, Side::Client, detail)
}

/// Where the response is to be posted.
fn take_callback(headers: &mut Headers) -> Result<Option<String>, Fault> {
    let Some(value) = headers.remove(&CALLBACK) else { return Ok(None) };
    let url = value.to_str().unwrap_or_default().to_owned();
    match forward::destination(&CALLBACK, &url) {
        Ok(_) => Ok(Some(url)),
        Err(fault) => Err(Fault::new(Code::BadJob, Side::Client, fault.detail)),
    }
}

const CALLBACK: HeaderName = HeaderName::from_static("x-relay-callback");
