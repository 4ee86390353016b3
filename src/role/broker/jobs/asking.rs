//! What a revision of a job says, done: the next hop's request, or word of its end.

use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, header};
use uuid::Uuid;

use super::{LARGEST, Run, Runner, STORE_AGAIN, age_of, reaching::Way};
use crate::{
    bus::store::Trouble,
    config,
    proto::{
        forward,
        jobs::{self, Came},
    },
    stream::memory::owned,
    telemetry::Throttle,
    wire::{
        Code, Fault, Headers, Job, JobState, Request, Side,
        headers::{self, IDEMPOTENCY_KEY, set},
        job::{Content, Hop, Outcome, Room},
    },
};

/// A response, whole.
struct Answer {
    status: u16,
    headers: Headers,
    body: Bytes,
    /// How long it asks to wait.
    retry_after: Option<Duration>,
}

impl Runner {
    /// Asks the next hop, or tells of the end; returns the next revision, or `None` when nobody is there yet.
    pub(super) async fn ask_or_tell(&self, run: &Run) -> Option<Job> {
        let (job, age) = (&run.job, || age_of(&run.job, &run.work));
        let random = Uuid::new_v4().as_u64_pair().0;
        if job.state != JobState::Running {
            let came = self.tell(job).await.unwrap_or_else(Came::Fault);
            return Some(jobs::told(job.clone(), age(), came, &self.policy, random));
        }
        let answered = match self.next_of(job) {
            Ok((_, way)) if jobs::waits_for_agents(job) && !self.asker.knows(&way.upstream) => return None,
            Ok((hop, way)) => self.ask(job, hop, way).await,
            Err(fault) => Err(fault),
        };
        let came = match answered {
            Ok(answer) => match self.keep(job, answer).await {
                Ok(came) => came,
                Err(why) => return Some(jobs::unanswered(job.clone(), age(), &why)),
            },
            Err(fault) => Came::Fault(fault),
        };
        Some(jobs::asked(job.clone(), age(), came, &self.policy, random))
    }

    fn next_of<'a>(&self, job: &'a Job) -> Result<(&'a Hop, Way), Fault> {
        let hop = job.next_hop().ok_or_else(|| internal("a job is running and has no next hop"))?;
        let way = match &hop.upstream {
            Some(upstream) if job.job_id.upstream.as_ref().is_none_or(|only| only == upstream) => {
                let host = host_of(&job.input);
                Way { upstream: upstream.clone(), url: hop.url.as_str().into(), stripped: None, host }
            }
            Some(upstream) => {
                let detail = format!(
                    "the broker refuses it: the job is of one upstream and may not go to another, '{upstream}'"
                );
                return Err(Fault::new(Code::NotAllowed, Side::Broker, detail));
            }
            None => self.way_to(job, &forward::on_path(&hop.url, &job.path))?,
        };
        Ok((hop, way))
    }

    async fn ask(&self, job: &Job, hop: &Hop, way: Way) -> Result<Answer, Fault> {
        let mut headers = job.input.headers();
        // The headers of a single request say already who its caller is.
        if hop.upstream.is_none() {
            introduce(job, &way, &mut headers);
        }
        if job.is_chain() {
            if job.input.size == 0 && headers::is_with_content(&hop.method()) {
                headers::declare_empty(&mut headers);
            }
            set(&mut headers, forward::ID, &job.job_id.uuid.to_string());
            set(&mut headers, forward::ERRORS_TO, job.errors_to.as_deref().unwrap_or_default());
            set(&mut headers, forward::REFERER, &job.referer);
        }
        // A caller's own key is the better one: it is the same when the caller asks again.
        if !headers.contains_key(IDEMPOTENCY_KEY) {
            set(&mut headers, IDEMPOTENCY_KEY, &jobs::key(job));
        }
        self.send(job, way, hop.method(), headers, &job.input).await
    }

    /// Tells whoever wanted to hear of it what became of a job.
    async fn tell(&self, job: &Job) -> Result<Came, Fault> {
        let failed = job.errors_to.as_ref().filter(|_| job.state == JobState::Failing);
        let to = failed.or(job.callback.as_ref());
        let to = to.ok_or_else(|| internal("nobody wanted to hear of the end of a job"))?;
        let way = self.way_to(job, to)?;
        let content = job.outcome.as_ref().map(|outcome| outcome.content.clone()).unwrap_or_default();
        let mut headers = content.headers();
        headers.retain(|name, _| jobs::is_of_content(name));
        if failed.is_some() {
            describe_failure(job, &mut headers);
        } else {
            set(&mut headers, JOB, &job.job_id.to_string());
            if let Some(outcome) = &job.outcome {
                set(&mut headers, JOB_STATUS, &outcome.status.to_string());
            }
            if let Some(fault) = job.fault() {
                // Operators read all of it in the dead letter.
                set(&mut headers, JOB_ERROR, &one_line(fault.public_detail()));
            }
        }
        if content.size == 0 {
            headers::declare_empty(&mut headers);
        }
        introduce(job, &way, &mut headers);
        set(&mut headers, IDEMPOTENCY_KEY, &jobs::key(job));
        let Answer { status, retry_after, .. } = self.send(job, way, Method::POST, headers, &content).await?;
        Ok(Came::Answer { outcome: Outcome { status, content: Content::default() }, retry_after })
    }

    async fn send(
        &self,
        job: &Job,
        way: Way,
        method: Method,
        mut headers: Headers,
        content: &Content,
    ) -> Result<Answer, Fault> {
        let body = self.unless_given_up(self.body_to_send(content)).await.ok_or_else(stopped_before)??;
        // A caller of HTTP/1.0 may have sent none.
        if !way.host.is_empty() {
            set(&mut headers, header::HOST, &way.host);
        }
        let id = self.asker.mint(&way.upstream);
        tracing::debug!(job = %job.job_id, request = %id, %method, "a request of a job");
        let request = Request::new(self.core.id.clone(), id, way.upstream, self.settings.timeout);
        let request = Request { method, url: way.url, headers, body, ..request };
        let answer = self.asker.ask_whole(request, config::bytes(self.settings.max_body), &self.answers);
        let (reply, body) = self.unless_given_up(answer).await.ok_or_else(stopped_meanwhile)??;
        let status = reply.status_code.ok_or_else(|| internal("a response without a status"))?.as_u16();
        let headers = headers::end_to_end(reply.headers);
        let retry_after = headers.get(header::RETRY_AFTER).and_then(retry_after);
        Ok(Answer { status, headers, body, retry_after })
    }

    /// The body of a request, when there is memory for it.
    async fn body_to_send(&self, content: &Content) -> Result<Bytes, Fault> {
        let size = usize::try_from(content.size).unwrap_or(usize::MAX);
        // What waits here is heard of meanwhile.
        let room = self.inputs.take(size.min(LARGEST)).await;
        let body = self.body_of(content).await.map_err(|trouble| {
            let fault = Fault::new(Code::JobsUnavailable, Side::Broker, trouble.to_string());
            Fault { maybe_seen: false, ..fault }
        })?;
        Ok(owned(body, room))
    }

    /// Stores what a hop was answered, however long JetStream is away: the request has run.
    ///
    /// # Errors
    /// Why it can't be stored at all.
    async fn keep(&self, job: &Job, answer: Answer) -> Result<Came, String> {
        let Answer { status, headers, body, retry_after } = answer;
        let room = Room::in_message(self.store.max_payload()).headers;
        if Content::size_of(&headers) > room {
            let detail = format!("the response's headers are over {room} bytes, the most that is kept");
            return Ok(Came::Fault(Fault::new(Code::ResponseTooLarge, Side::Broker, detail)));
        }
        let mut refusals = 0;
        loop {
            let trouble = match self.keep_answer(job, status, &headers, &body).await {
                Ok(outcome) => return Ok(Came::Answer { outcome, retry_after }),
                Err(trouble) => trouble,
            };
            if let Some(held_back) = UNSTORED.pass(Instant::now()) {
                tracing::warn!(job = %job.job_id, %trouble, held_back, "a response to a job can't be stored");
            }
            match trouble {
                Trouble::Full(why) => return Err(why),
                Trouble::Missing(_) => {}
                // A nats-server whose disk is full answers everything else.
                Trouble::Late if !self.jetstream_answers(job).await => {}
                Trouble::Late | Trouble::Changed | Trouble::Denied(_) | Trouble::Other(_) => refusals += 1,
            }
            if refusals == STORE_REFUSALS {
                return Err("JetStream refuses it, as the broker's log says".to_owned());
            }
            tokio::time::sleep(STORE_AGAIN).await;
        }
    }
}

/// Says whose request it is, as to any origin: without that, an origin would take it for one of its own network.
fn introduce(job: &Job, way: &Way, headers: &mut Headers) {
    headers.extend(job.introduction());
    if let Some(stripped) = &way.stripped {
        headers::add_prefix(headers, stripped.clone());
    }
}

/// What `X-Forward-Errors-To` is told of a hop that failed.
fn describe_failure(job: &Job, headers: &mut Headers) {
    set(headers, forward::ID, &job.job_id.uuid.to_string());
    set(headers, forward::REFERER, &job.referer);
    set(headers, ERROR_CONDITION, if job.outcome.is_some() { "External" } else { "Internal" });
    if let Some(outcome) = &job.outcome {
        set(headers, ERROR_CODE, &outcome.status.to_string());
    }
    let fault = job.fault();
    set(headers, ERROR_MESSAGE, &one_line(fault.as_ref().map_or("", Fault::public_detail)));
    for (name, list) in forward::lists(job.hops.get(job.done as usize..).unwrap_or_default()) {
        set(headers, name, &list);
    }
}

fn host_of(content: &Content) -> String {
    let host = content.headers.iter().find(|(name, _)| name == "host");
    host.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).unwrap_or_default()
}

/// How long `Retry-After` asks to wait: seconds, or a date (RFC 9110 §10.2.3).
fn retry_after(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = httpdate::parse_http_date(text).ok()?;
    Some(at.duration_since(SystemTime::now()).unwrap_or_default())
}

fn one_line(text: &str) -> String {
    let printable = |c: char| if c == ' ' || c.is_ascii_graphic() { c } else { '?' };
    text.chars().map(printable).take(LONGEST_MESSAGE).collect()
}

fn stopped_before() -> Fault {
    let detail = "the broker was stopped before it sent the request";
    Fault::new(Code::BrokerFull, Side::Broker, detail)
}

fn stopped_meanwhile() -> Fault {
    let detail = "the broker was stopped before the request was answered: it is not known what came of it";
    Fault::new(Code::ResponseTimeout, Side::Broker, detail)
}

fn internal(what: &'static str) -> Fault {
    Fault::new(Code::Internal, Side::Broker, what)
}

const ERROR_CONDITION: HeaderName = HeaderName::from_static("x-forward-error-condition");
const ERROR_CODE: HeaderName = HeaderName::from_static("x-forward-error-code");
const ERROR_MESSAGE: HeaderName = HeaderName::from_static("x-forward-error-message");
const JOB: HeaderName = HeaderName::from_static("x-relay-job");
const JOB_STATUS: HeaderName = HeaderName::from_static("x-relay-job-status");
const JOB_ERROR: HeaderName = HeaderName::from_static("x-relay-job-error");
const LONGEST_MESSAGE: usize = 1000;
/// How often JetStream may refuse a response for another reason than room, or not take it.
const STORE_REFUSALS: u32 = 3;
static UNSTORED: Throttle = Throttle::per_minute();
