//! A request that is answered later: taken with its body, stored, answered with 202.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::HeaderName;
use http_body_util::{BodyExt, Limited};

use super::{
    Desk, PREFERENCE_APPLIED,
    key::{self, Key},
    unavailable,
};
use crate::{
    bus::store::Trouble,
    front::{
        body,
        http::{Ask, Front},
        incoming::Incoming,
        relay::{Asked, Outcome},
        served::Told,
    },
    proto::{forward, routes},
    wire::{
        Code, Fault, Headers, Job, JobId, JobState, Name, Side, codec,
        headers::{self, Caller, set},
        job::{Hop, JobKey, to_pairs},
        message::VERSION,
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
        let body = match body {
            None => Bytes::new(),
            Some(body) => self.whole_body(desk, body).await?,
        };
        told.served.bytes_in = body.len() as u64;
        let _share = self.budget.take(body.len())?;
        let key = key::read(&head, &desk.settings.credentials, &url, callback.as_deref(), &body)?;
        let is_repeatable = head.method.is_idempotent() || key.is_some();
        let (url, stripped) = routes::strip(url, to.strip);
        let caller = Caller { version: head.version, ..caller };
        // The request's own headers introduce its caller to the upstream; the callback goes elsewhere.
        let introduction = match &callback {
            Some(_) => headers::introduction(head.headers.clone(), &caller),
            None => Headers::new(),
        };
        desk.check_room(callback.as_deref(), &introduction)?;
        let mut kept = headers::for_origin(head.headers, &caller);
        stripped.into_iter().for_each(|prefix| headers::add_prefix(&mut kept, prefix));
        let hop = Hop {
            method: head.method.to_string(),
            url,
            upstream: Some(to.upstream.clone()),
            repeatable: is_repeatable,
        };
        // One that tells somebody else of its end may go to several.
        let upstream = to.upstream;
        let only = callback.is_none().then(|| upstream.clone());
        let id = match &key {
            Some(key) => desk.id_for(&upstream, key, only).await?,
            None => JobId::random(only),
        };
        let news = desk.news_of(&id, wait).await;
        let input = desk.content(&id, &kept, &body).await?;
        let mut job = Job::new(id.clone(), desk.process.clone(), JobState::Running, input);
        job.hops = vec![hop];
        job.callback = callback;
        if job.callback.is_some() {
            job.only = desk.settings.forward_to.clone();
            job.reach = Some(desk.settings.reach);
            job.introduction = to_pairs(&introduction);
        }
        match desk.store.create(&desk.subjects.job(&id), codec::encode(&job)).await {
            Ok(_) => self.ask.accepted("request"),
            // The same request came before, by its key.
            Err(Trouble::Changed) => {}
            Err(trouble) => return Err(unavailable(trouble)),
        }
        let mut response = self.accepted(desk, &id, news, &told.served.id).await?;
        set(&mut response.headers, PREFERENCE_APPLIED, "respond-async");
        Ok(Outcome::Job(response))
    }

    async fn whole_body(&self, desk: &Desk, body: Incoming) -> Result<Bytes, Fault> {
        let most = desk.settings.max_body;
        let pause = self.settings.body.pause;
        let mut body = Limited::new(body, most);
        let mut parts = crate::stream::Gathered::default();
        loop {
            let Ok(frame) = tokio::time::timeout(pause, body.frame()).await else {
                return Err(body::paused(pause));
            };
            match frame {
                None => return Ok(parts.freeze()),
                Some(Ok(frame)) => frame.into_data().into_iter().for_each(|data| parts.push(data)),
                Some(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
                    let detail = format!("a job's body is over {most} bytes, the limit of --max-job-body");
                    return Err(Fault::new(Code::BodyTooLarge, Side::Client, detail));
                }
                Some(Err(error)) => {
                    let detail = format!("the request's body could not be read: {error}");
                    return Err(Fault::new(Code::BadRequest, Side::Client, detail));
                }
            }
        }
    }
}

impl Desk {
    /// The id of the job that a key stands for, from the first request with it on.
    async fn id_for(&self, upstream: &Name, key: &Key, only: Option<Name>) -> Result<JobId, Fault> {
        let subject = self.subjects.key(upstream, &key.hash);
        let fresh = JobKey { v: VERSION, job_id: JobId::random(only), asked: key.asked.clone() };
        match self.store.create(&subject, codec::encode(&fresh)).await {
            Ok(_) => return Ok(fresh.job_id),
            Err(Trouble::Changed) => {}
            Err(trouble) => return Err(unavailable(trouble)),
        }
        let record = self.store.last(&self.subjects.keys_stream(), &subject).await.map_err(unavailable)?;
        let known = record.and_then(|record| codec::decode::<JobKey>(&record.bytes).ok());
        match known {
            Some(known) if known.asked == key.asked => Ok(known.job_id),
            Some(_) => {
                let detail = "this Idempotency-Key came with another request before: use a new one for each";
                Err(Fault::new(Code::KeyReused, Side::Client, detail))
            }
            None => Err(unavailable(Trouble::Changed)),
        }
    }
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
