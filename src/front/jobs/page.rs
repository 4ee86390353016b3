//! What became of a job: its progress, then what it came to. Whoever knows its id may see it and cancel it.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::{Value, json};

use super::{Desk, JOB, Preferences, ended_by, no_job};
use crate::{
    config::Switch,
    front::{
        body::Held,
        http::{Ask, Front},
        message::{Head, Response},
        relay::Outcome,
    },
    proto::forward,
    wire::{Fault, Job, JobId, RequestId, StoreScope, StoreVerb, headers::set},
};

impl<A: Ask> Front<A> {
    /// Answers a request for the page of the job `id`, or of its progress.
    pub(super) async fn page(
        &self,
        desk: &Desk,
        id: &str,
        head: &Head,
        request: &RequestId,
    ) -> Result<Outcome, Fault> {
        let id = id.split('?').next().unwrap_or_default();
        let (id, progress) = id.strip_suffix("/progress").map_or((id, false), |id| (id, true));
        let id: JobId = id.parse().map_err(|_| no_job(id))?;
        let response = match head.method {
            Method::GET | Method::HEAD => {
                let wait = Preferences::of(&head.headers).and_then(|prefers| prefers.wait);
                self.show(desk, &id, progress, wait, request).await?
            }
            Method::DELETE => desk.cancel(&id).await?,
            _ => {
                let mut response = Response::new(Held::empty());
                response.status = StatusCode::METHOD_NOT_ALLOWED;
                response.headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, DELETE"));
                response
            }
        };
        Ok(Outcome::Job(response))
    }

    async fn show(
        &self,
        desk: &Desk,
        id: &JobId,
        progress: bool,
        wait: Option<Duration>,
        request: &RequestId,
    ) -> Result<Response<Held>, Fault> {
        let news = desk.news_of(id, wait).await;
        let (mut job, mut stored) = desk.read(id).await?;
        if !job.state.is_over()
            && let Some((news, until)) = news
            && ended_by(news, until, id).await
        {
            (job, stored) = desk.read(id).await?;
        }
        if job.state.is_over() && !progress {
            return self.answer_of(desk, &job, request).await;
        }
        let text = serde_json::to_string_pretty(&describe(&job, stored, self.settings.fault_details))
            .unwrap_or_default()
            + "\n";
        let mut response = Response::new(Held::new(text.into(), HeaderMap::new(), None));
        let headers = &mut response.headers;
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        set(headers, JOB, job.state.as_str());
        if !job.state.is_over() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            response.status = if progress { StatusCode::OK } else { StatusCode::ACCEPTED };
        }
        Ok(response)
    }
}

impl Desk {
    async fn cancel(&self, id: &JobId) -> Result<Response<Held>, Fault> {
        let asked = self.store.ask(StoreScope::of(id), StoreVerb::Cancel, |request| {
            request.job_id = Some(id.clone());
        });
        asked.await?;
        let mut response = Response::new(Held::empty());
        response.status = StatusCode::NO_CONTENT;
        Ok(response)
    }
}

/// A job as programs read it. Queries are left out: they may be secret.
fn describe(job: &Job, stored: Duration, details: Switch) -> Value {
    let hops: Vec<Value> = job
        .hops
        .iter()
        .enumerate()
        .map(|(at, hop)| {
            let state = match (at as u32).cmp(&job.done) {
                std::cmp::Ordering::Less => "done",
                std::cmp::Ordering::Equal => job.state.as_str(),
                std::cmp::Ordering::Greater => "waiting",
            };
            let url = forward::on_path(&hop.url, &job.path);
            let url = url.split('?').next();
            json!({ "method": hop.method, "url": url, "state": state })
        })
        .collect();
    let age = Duration::from_millis(job.age) + stored;
    json!({
        "id": job.job_id.to_string(),
        "kind": if job.is_chain() { "chain" } else { "request" },
        "state": job.state.as_str(),
        "age_seconds": age.as_secs(),
        "done": job.done,
        "attempts": job.attempts_in_all(),
        "hops": hops,
        "log": job.log.iter().map(|hop| json!({ "status": hop.status, "attempts": hop.attempts })).collect::<Vec<_>>(),
        "error": job.error.clone().map(|error| {
            let (code, fault) = (error.code.clone(), Fault::from(error));
            let detail = if details == Switch::On { &*fault.detail } else { fault.public_detail() };
            json!({ "code": code, "detail": detail })
        }),
    })
}
