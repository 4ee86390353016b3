//! A request that is answered later: taken with its body, stored, answered with 202.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderName, header};

use super::{Desk, PAGES, PREFERENCE_APPLIED, key};
use crate::{
    config::Switch,
    front::{
        body::{self, Limits},
        http::{Ask, Front},
        problem,
        relay::{Asked, Outcome},
        served::Told,
    },
    proto::{forward, routes},
    wire::{
        Code, Fault, Headers, Job, JobId, JobState, Side, StoreRequest, StoreScope, StoreVerb,
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
            url,
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
        match desk.accept(StoreVerb::Accept, job, apart, (key, address), 0).await {
            Ok(None) => self.ask.accepted("request"),
            // The same request came before, by its key.
            Ok(Some(known)) => {
                id = known;
                news = desk.news_of(&id, wait).await;
            }
            Err(fault) => return unconfirmed(&id, fault, self.settings.fault_details, told),
        }
        let mut response = self.accepted(desk, &id, news, &told.served.id).await?;
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
    ) -> Result<Option<JobId>, Fault> {
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

/// What the caller hears of a job that could not be stored. Where that is not known, it hears where to look: a second
/// request would be a second job.
fn unconfirmed<A: Ask>(
    id: &JobId,
    fault: Fault,
    details: Switch,
    told: &mut Told<A>,
) -> Result<Outcome, Fault> {
    if fault.code != Code::JobUnconfirmed {
        return Err(fault);
    }
    let page = format!("{PAGES}{id}");
    let detail = format!("it is not known whether the job was stored; {page} says so ({})", fault.detail);
    let fault = Fault { detail: detail.into(), ..fault };
    told.failed(&fault);
    let mut response = problem::response(&fault, Some(&told.served.id), &http::Method::GET, details);
    set(&mut response.headers, header::LOCATION, &page);
    Ok(Outcome::Job(response))
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
