//! The shared cache in front of the relay: what is answered from the store, and what is stored of what comes back.
//!
//! The decisions are in [`crate::cache`]. Here they meet requests: a question is looked up; its answer is there, or
//! somebody else's that is on its way is waited for, or the request is passed on and its response kept. `concern`
//! says what a request is to a cache, `filling` stores bodies that are streamed, `shared` is the cache behind its lock.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use http::{HeaderName, Method, StatusCode, header};

use super::{
    body::Stored as StoredBody,
    http::{Ask, Front},
    message::Response,
    relay::{Asked, Outcome},
    served::{Decision, Told},
};
use crate::{
    cache::{
        entry::{Head, Pieces, Question, SURROGATE_KEY, Stored, take_tags},
        fill::Fill,
        fresh::Times,
        select::{self, Body},
        status::{CacheStatus, Forward},
        store::{Found, Resolution, Ticket},
    },
    wire::{Code, Fault, Headers, Side},
};

mod concern;
mod filling;
mod shared;

pub use shared::{Counted, Shared};

use concern::Concern;
use shared::{Became, Right};

/// Tells the caller of the cache, and keeps to ourselves what is only for it.
pub(super) fn tell(status: CacheStatus, headers: &mut Headers) {
    headers.append(CACHE_STATUS, status.value());
    headers.remove(SURROGATE_KEY);
}

/// A question that is to be passed on.
struct Fetch {
    question: Question,
    right: Right,
    why: Forward,
    /// What is stored and not fresh.
    stored: Option<Stored>,
    /// Whether nobody waits for the answer.
    beside: bool,
}

impl<A: Ask> Front<A> {
    /// Answers from the cache, or passes on.
    pub(super) async fn through(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        mut asked: Box<Asked>,
        told: &mut Told<A>,
    ) -> Result<Outcome, Fault> {
        match Concern::of(&mut asked) {
            Concern::Bypass => {
                shared.count(Became::Bypassed);
                told.cache = Some(CacheStatus::forwarded(Forward::Bypass));
                self.pass(asked, told).await
            }
            Concern::Method { changes } => {
                shared.count(Became::Bypassed);
                told.cache = Some(CacheStatus::forwarded(Forward::Method));
                let outcome = self.pass(asked, told).await;
                if let Some(key) = changes {
                    match &outcome {
                        Ok(outcome) if outcome.status().is_success() || outcome.status().is_redirection() => {
                            shared.invalidate(&key, outcome.headers());
                        }
                        // Nobody knows what it did.
                        Err(fault) if fault.maybe_seen => shared.invalidate(&key, &Headers::new()),
                        Ok(_) | Err(_) => {}
                    }
                }
                outcome
            }
            Concern::Question(question) => self.answer_question(shared, question, asked, told).await,
        }
    }

    async fn answer_question(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        question: Question,
        asked: Box<Asked>,
        told: &mut Told<A>,
    ) -> Result<Outcome, Fault> {
        let mut waits = 0;
        let mut alone = false;
        loop {
            let (found, resolved) = shared.look(&question, alone);
            let why = match found {
                Found::Hit { stored, stale, refresh } => {
                    if let Some(ticket) = refresh {
                        self.refresh(shared, ticket, &question, &stored, &asked);
                    }
                    shared.count(if stale { Became::Stale } else { Became::Fresh });
                    told.cache = Some(CacheStatus::Hit { ttl: stored.head.fresh.ttl(Instant::now()) });
                    let decision = if stale { Decision::Stale } else { Decision::Hit };
                    // Its route may be gone by now.
                    told.served.upstream.clone_from(&stored.head.upstream);
                    return Ok(from_store(&question, &stored, decision));
                }
                Found::Follow(fill) => match follow(shared, &question, &fill, Forward::UriMiss, told) {
                    Some(outcome) => return Ok(outcome),
                    None => Forward::UriMiss,
                },
                Found::Nothing => {
                    told.cache = Some(CacheStatus::OnlyIfCached);
                    let detail = "the request says only-if-cached, and nothing is stored that answers it";
                    return Err(Fault::new(Code::NotCached, Side::Client, detail));
                }
                Found::Fetch { ticket, why, stored } => {
                    let right = Right::new(shared, ticket);
                    let fetch = Fetch { question, right, why, stored, beside: false };
                    return self.fetch(fetch, asked, told).await;
                }
                Found::Wait(why) => why,
            };
            if let Some(resolved) = resolved {
                // A sender that is dropped is one whose caller went away.
                let resolution = resolved.await.unwrap_or(Resolution::Again);
                if let Some(outcome) = resolve(shared, &question, resolution, why, told, &mut alone) {
                    return Ok(outcome);
                }
            }
            waits += 1;
            alone |= waits >= MOST_WAITS;
        }
    }

    /// Passes a question on and keeps its answer.
    async fn fetch(
        self: &Arc<Self>,
        fetch: Fetch,
        mut asked: Box<Asked>,
        told: &mut Told<A>,
    ) -> Result<Outcome, Fault> {
        let Fetch { question, right, why, stored, beside } = fetch;
        let shared = Arc::clone(&right.shared);
        told.cache = Some(CacheStatus::forwarded(why));
        asked.head.headers = question.headers.clone();
        let checked = stored.as_ref().filter(|stored| stored.head.has_validator() && !question.head);
        let again = checked.map(|_| asked.again());
        if let Some(stored) = checked {
            stored.head.ask_if_changed(&mut asked.head.headers);
        }
        let mut keep = Keep {
            question: &question,
            right,
            why,
            beside,
            checked: checked.is_some(),
            sent: Instant::now(),
        };
        let survives =
            stored.as_ref().is_some_and(|s| s.head.fresh.survives(&question.wants, Instant::now()));
        let mut outcome = match survives {
            true => Box::pin(self.pass_now(asked, told)).await,
            false => self.pass(asked, told).await,
        };
        let status = outcome.as_ref().map_or_else(Fault::status, |outcome| outcome.status().as_u16());
        let gone = matches!(&outcome, Err(fault) if fault.code == Code::NoRoute);
        if (is_error(status) || gone)
            && let Some(stored) =
                stored.as_ref().filter(|s| s.head.fresh.survives(&question.wants, Instant::now()))
        {
            keep.right.give_up(Resolution::Failed);
            return Ok(instead_of_error(&shared, &question, stored, why, status, told));
        }
        if let (304, Some(stored), Some(again)) = (status, checked, again) {
            let (headers, tags) = outcome.map(Outcome::into_headers)?;
            if let Some(head) = stored.head.freshened(&question, &headers, &tags, keep.times()) {
                let fresh = Stored { head: Arc::new(head), body: stored.body.clone() };
                shared.count(Became::Revalidated);
                let is_stored = keep.right.store(&question, &fresh);
                told.cache = Some(validated(why, &fresh, is_stored));
                return Ok(from_store(&question, &fresh, Decision::Revalidated));
            }
            // It is about another response than the one that was asked about.
            shared.cache().forget(&question);
            keep.checked = false;
            outcome = self.pass(again, told).await;
        }
        shared.count(Became::Missed);
        match outcome {
            Ok(outcome) if question.head => {
                if let Some(stored) = stored.filter(|stored| outcome.is_other_than(&stored.head)) {
                    drop(stored);
                    shared.cache().forget(&question);
                }
                Ok(outcome)
            }
            Ok(outcome) => Ok(self.keep(keep, outcome, told)),
            Err(fault) => {
                keep.right.give_up(Resolution::Failed);
                Err(fault)
            }
        }
    }

    /// Passes on what a stale response would answer too: nothing is gained by waiting for an agent to come.
    async fn pass_now(self: &Arc<Self>, asked: Box<Asked>, told: &mut Told<A>) -> Result<Outcome, Fault> {
        let (id, upstream) = (told.served.id.clone(), told.served.upstream.clone());
        let nobody = async {
            while !self.ask.waits(&id) {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::select! {
            biased;
            outcome = self.pass(asked, told) => outcome,
            () = nobody => {
                let detail = format!("no upstream agent is there for '{upstream}'");
                Err(Fault::new(Code::NoAgent, Side::Client, detail))
            }
        }
    }

    /// Stores what came, if it may be.
    fn keep(self: &Arc<Self>, keep: Keep<'_>, mut outcome: Outcome, told: &mut Told<A>) -> Outcome {
        let status = outcome.status();
        let times = keep.times();
        let Keep { question, right, why, beside, checked, .. } = keep;
        let tags = outcome.headers_mut().map(take_tags).unwrap_or_default();
        let headers = outcome.headers();
        let limit = right.shared.cache().object_limit();
        let length = length(headers);
        let head = Head::of(question, &told.served.upstream, status, headers, &tags, times);
        let head = head.filter(|_| length.is_none_or(|length| length <= limit)).map(Arc::new);
        let failed = is_error(status.as_u16());
        match (outcome, head) {
            (Outcome::Whole(response), Some(head)) if response.body.only_bytes().is_some() => {
                let bytes = response.body.only_bytes().unwrap_or_default();
                let stored = Stored { head, body: Pieces::copy(bytes) };
                let is_stored = right.store(question, &stored);
                let ttl = Some(stored.head.fresh.ttl(Instant::now()));
                told.cache = Some(CacheStatus::Forwarded {
                    why,
                    status: None,
                    ttl,
                    stored: is_stored,
                    collapsed: false,
                });
                match checked {
                    // What the caller asked for besides was not passed on.
                    true => from_store(question, &stored, Decision::Response),
                    false => Outcome::Whole(response),
                }
            }
            (Outcome::Streamed(response, first, reader), Some(head)) => {
                let filling =
                    filling::Filling { question: question.clone(), right, head, length, anyway: beside };
                filling.start(response, first, reader, checked, why, told)
            }
            (outcome, _) => {
                if supersedes(status) && !question.wants.no_store {
                    right.shared.cache().forget(question);
                }
                right.give_up(if failed { Resolution::Failed } else { Resolution::Alone });
                outcome
            }
        }
    }

    /// Fetches what is stored anew, while its caller is answered with it.
    fn refresh(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        ticket: Ticket,
        question: &Question,
        stored: &Stored,
        asked: &Asked,
    ) {
        let mut asked = asked.again();
        asked.head.method = Method::GET;
        let mut question = Question { head: false, ..question.clone() };
        for name in [header::RANGE, header::IF_RANGE, header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE] {
            question.headers.remove(name);
        }
        let right = Right::new(shared, ticket);
        let fetch =
            Fetch { question, right, why: Forward::Stale, stored: Some(stored.clone()), beside: true };
        let upstream = stored.head.upstream.clone();
        let id = self.ask.mint(&upstream);
        let told = Told::new(Arc::clone(&self.ask), id, upstream, Method::GET, asked.caller.peer);
        tokio::spawn(Arc::clone(self).fetch_beside(fetch, asked, told));
    }

    async fn fetch_beside(self: Arc<Self>, fetch: Fetch, asked: Box<Asked>, mut told: Told<A>) {
        let (status, decision) = match self.fetch(fetch, asked, &mut told).await {
            Ok(outcome) => (outcome.status(), outcome.decision()),
            Err(fault) => {
                let status = StatusCode::from_u16(fault.status()).unwrap_or(StatusCode::BAD_GATEWAY);
                (status, Decision::Fault(fault.code, fault.raised_by))
            }
        };
        told.answered(status);
        told.served.decision = decision;
    }
}

/// What is known of a question when its answer comes.
struct Keep<'q> {
    question: &'q Question,
    right: Right,
    why: Forward,
    beside: bool,
    /// Whether the origin was asked on our condition instead of the caller's.
    checked: bool,
    sent: Instant,
}

impl Keep<'_> {
    fn times(&self) -> Times {
        Times { asked: self.sent, now: Instant::now(), clock: SystemTime::now() }
    }
}

/// What somebody who waited does with what it is told; nothing when it must look again.
fn resolve<A: Ask>(
    shared: &Arc<Shared>,
    question: &Question,
    resolution: Resolution,
    why: Forward,
    told: &mut Told<A>,
    alone: &mut bool,
) -> Option<Outcome> {
    match resolution {
        Resolution::Stored(stored) if stored.matches(question) => {
            shared.count(Became::Collapsed);
            let ttl = Some(stored.head.fresh.ttl(Instant::now()));
            told.cache =
                Some(CacheStatus::Forwarded { why, status: None, ttl, stored: false, collapsed: true });
            Some(from_store(question, &stored, Decision::Hit))
        }
        Resolution::Follow(fill) if fill.head.vary.matches(&question.headers) => {
            follow(shared, question, &fill, why, told)
        }
        Resolution::Stored(_) | Resolution::Follow(_) | Resolution::Again => None,
        Resolution::Alone => {
            *alone = true;
            None
        }
        Resolution::Failed => {
            *alone = true;
            let stored = shared.cache().survivor(question, Instant::now())?;
            Some(instead_of_error(shared, question, &stored, why, 0, told))
        }
    }
}

/// Reads what somebody else is storing.
fn follow<A: Ask>(
    shared: &Arc<Shared>,
    question: &Question,
    fill: &Arc<Fill>,
    why: Forward,
    told: &mut Told<A>,
) -> Option<Outcome> {
    let follower = fill.follow()?;
    let now = Instant::now();
    shared.count(Became::Collapsed);
    let ttl = Some(fill.head.fresh.ttl(now));
    told.cache = Some(CacheStatus::Forwarded { why, status: None, ttl, stored: false, collapsed: true });
    let answer = select::answer(question, &fill.head, None, now);
    Some(match answer.body {
        Body::Nothing => {
            Outcome::Stored(respond(answer.status, answer.headers, StoredBody::new([].into())), Decision::Hit)
        }
        Body::Whole | Body::Part(_) => {
            Outcome::Followed(respond(answer.status, answer.headers, ()), follower, Decision::Hit)
        }
    })
}

/// The answer to `question` out of the store.
fn from_store(question: &Question, stored: &Stored, decision: Decision) -> Outcome {
    let length = stored.body.len();
    let answer = select::answer(question, &stored.head, Some(length), Instant::now());
    let pieces = match answer.body {
        Body::Nothing => [].into(),
        Body::Whole => stored.body.part(0, length),
        Body::Part(range) => stored.body.part(range.start, range.end),
    };
    Outcome::Stored(respond(answer.status, answer.headers, StoredBody::new(pieces)), decision)
}

/// A stale response in place of the error that came with `status`, or that came to another's request.
fn instead_of_error<A: Ask>(
    shared: &Arc<Shared>,
    question: &Question,
    stored: &Stored,
    why: Forward,
    status: u16,
    told: &mut Told<A>,
) -> Outcome {
    shared.count(Became::Stale);
    let ttl = Some(stored.head.fresh.ttl(Instant::now()));
    let (status, collapsed) = ((status > 0).then_some(status), status == 0);
    told.cache = Some(CacheStatus::Forwarded { why, status, ttl, stored: false, collapsed });
    told.served.upstream.clone_from(&stored.head.upstream);
    from_store(question, stored, Decision::Stale)
}

fn validated(why: Forward, fresh: &Stored, stored: bool) -> CacheStatus {
    let ttl = Some(fresh.head.fresh.ttl(Instant::now()));
    CacheStatus::Forwarded { why, status: Some(304), ttl, stored, collapsed: false }
}

fn respond<B>(status: StatusCode, headers: Headers, body: B) -> Response<B> {
    Response::with(status, headers, body)
}

/// What RFC 5861 takes for an error: of the relay's own faults, all that say that the backend can't be had.
fn is_error(status: u16) -> bool {
    matches!(status, 500 | 502 | 503 | 504)
}

/// Whether a response that is not stored says that what is stored is no longer so: it would come back in place of
/// an error.
fn supersedes(status: StatusCode) -> bool {
    !is_error(status.as_u16()) && !matches!(status.as_u16(), 206 | 304 | 416 | 429)
}

fn length(headers: &Headers) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// How often a request is looked at that a stale response would answer.
const LOOK: Duration = Duration::from_millis(20);
/// RFC 9211.
const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
/// How often one waits for somebody else before it fetches its own.
const MOST_WAITS: usize = 3;
