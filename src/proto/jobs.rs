//! A job's next step: what is to be done with a record, and what the record says once it is done.
//!
//! The record is all there is: whoever holds a revision does what it says and stores the next one in its place,
//! or finds that somebody else did. So a broker may die between any two steps: another gets the same revision,
//! and what was under way is done again, with the same `Idempotency-Key`. Nothing is decided from what only one
//! broker knows.

use std::time::Duration;

use http::{HeaderName, StatusCode, header};

use super::forward;
use crate::wire::{
    Code, Error, Fault, ProcessId, Side,
    job::{Content, Job, JobState, Logged, Outcome},
    message::millis,
};

#[cfg(test)]
mod tests;

/// What jobs are held to.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Attempts at one request at most, where it may be tried again at all.
    pub attempts: u32,
    /// The pause after the first attempt; it doubles.
    pub backoff: Duration,
    /// The longest pause.
    pub backoff_max: Duration,
    /// How long a job may take in all.
    pub lifetime: Duration,
    /// Statuses that are worth another attempt.
    pub retry_status: Vec<u16>,
    /// Whether a request that may have run, and is not known to be harmless twice, is sent again.
    pub retry_unsafe: bool,
    /// How long a broker that says that it works on a job may take to say so again.
    pub unheard: Duration,
}

/// What is to be done with a revision.
#[derive(Debug, PartialEq)]
pub enum Todo {
    /// Nothing yet.
    Wait(Duration),
    /// Ask the next hop; what it comes to goes to [`asked`].
    Ask,
    /// Tell whoever wanted to hear of the end; what it comes to goes to [`told`].
    Tell,
    /// Store this instead.
    Store(Box<Job>),
    /// Store it with the dead letters; then nothing is left to do.
    Bury,
    /// Nothing any more.
    Nothing,
}

/// What a request came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Came {
    /// A response.
    Answer {
        /// The response, its body stored.
        outcome: Outcome,
        /// How long it asks to wait.
        retry_after: Option<Duration>,
    },
    /// None.
    Fault(Fault),
}

/// What to do with `job`, a revision of it that was handed out `delivered` times. `age` is how long ago the job was
/// accepted.
pub fn todo(job: &Job, age: Duration, delivered: u64, policy: &Policy) -> Todo {
    let pause = Duration::from_millis(job.pause);
    let since = age.saturating_sub(Duration::from_millis(job.age));
    match job.state {
        // The record says first that it failed: a letter of what another broker brought to a good end would be wrong.
        JobState::Done | JobState::Failed | JobState::Cancelled if is_dead(job) => Todo::Bury,
        JobState::Done | JobState::Failed | JobState::Cancelled => Todo::Nothing,
        JobState::Begun if age < ACCEPTING + pause => Todo::Wait(ACCEPTING + pause - age),
        JobState::Begun => Todo::Store(Box::new(abandoned(job.clone(), age))),
        _ if job.held_by.is_some() && since < policy.unheard => Todo::Wait(policy.unheard - since),
        JobState::Running | JobState::Telling | JobState::Failing if delivered <= 1 && !pause.is_zero() => {
            Todo::Wait(pause)
        }
        JobState::Running if age >= policy.lifetime => {
            let lifetime = policy.lifetime.as_secs();
            let detail = format!("the job was not done within {lifetime} s, the lifetime of jobs");
            let fault = Fault::new(Code::JobExpired, Side::Broker, detail);
            Todo::Store(Box::new(failed(job.clone(), age, None, &fault)))
        }
        JobState::Running => Todo::Ask,
        JobState::Telling | JobState::Failing => Todo::Tell,
    }
}

/// Whether a request that nobody is there for just waits: nobody hears of it before it is done, and its
/// lifetime ends it. The next server of a chain is waited for as long as attempts last.
pub fn waits_for_agents(job: &Job) -> bool {
    !job.is_chain() && job.state == JobState::Running
}

/// The next revision of a job whose next hop was asked. `random` spreads the attempts of many jobs.
pub fn asked(mut job: Job, age: Duration, came: Came, policy: &Policy, random: u64) -> Job {
    if let Came::Fault(fault) = &came
        && waits_for_agents(&job)
        && is_nobody(fault.code)
        && !fault.maybe_seen
    {
        return waiting(job, age, fault, policy, random);
    }
    job.attempts += 1;
    let is_repeatable = job.next_hop().is_some_and(|hop| hop.repeatable) || policy.retry_unsafe;
    match came {
        Came::Fault(fault) => {
            if job.attempts < policy.attempts && may_again(&fault, is_repeatable) {
                job.error = Some(Error::from(&fault));
                again(job, age, fault.retry_after, policy, random)
            } else {
                failed(job, age, None, &fault)
            }
        }
        Came::Answer { outcome, retry_after } => {
            if is_success(&job, &outcome, policy) {
                return advanced(job, age, outcome);
            }
            let fault = refused(&job, &outcome);
            let worth = policy.retry_status.contains(&outcome.status);
            if worth && is_repeatable && job.attempts < policy.attempts {
                job.error = Some(Error::from(&fault));
                again(job, age, retry_after, policy, random)
            } else {
                failed(job, age, Some(outcome), &fault)
            }
        }
    }
}

/// The next revision of a job whose end was told to whoever wanted to hear of it.
pub fn told(mut job: Job, age: Duration, came: Came, policy: &Policy, random: u64) -> Job {
    job.attempts += 1;
    let (fault, retry_after) = match came {
        Came::Fault(fault) => {
            let after = fault.retry_after;
            (fault, after)
        }
        Came::Answer { outcome, .. } if (200..300).contains(&outcome.status) => {
            return over(job, age);
        }
        Came::Answer { outcome, retry_after } => {
            let detail = format!("it was answered with {}", outcome.status);
            (Fault::new(Code::OriginBroken, Side::Broker, detail), retry_after)
        }
    };
    // Telling twice harms nobody: it has an Idempotency-Key, and says that something is over.
    if job.attempts < policy.attempts && may_again(&fault, true) {
        return again(job, age, retry_after, policy, random);
    }
    job.untold = Some(Error::from(&fault));
    over(job, age)
}

/// The last revision of a job that somebody cancels; `None` when it is over.
pub fn cancelled(mut job: Job, age: Duration) -> Option<Job> {
    if job.state.is_over() {
        return None;
    }
    job.state = JobState::Cancelled;
    let fault = Fault::new(Code::JobCancelled, Side::Broker, "the job was cancelled");
    job.error = Some(Error::from(&fault));
    Some(at(job, age))
}

/// The next revision of a job whose hop was answered, when that answer can't be stored: it fails, and can go on from
/// this hop.
pub fn unanswered(job: Job, age: Duration, why: &str) -> Job {
    failed(job, age, None, &no_room(why))
}

/// The next revision of a job when there is no room for `next`, which came of it: as little as it can be. A job whose
/// hops are done keeps what it came to, and nothing more is done for it.
pub fn least(job: &Job, next: &Job, age: Duration, why: &str) -> Job {
    if job.state != JobState::Running {
        let untold = || Job { untold: Some(Error::from(&no_room(why))), ..job.clone() };
        let told = if next.state.is_over() { next.clone() } else { over(untold(), age) };
        return Job { input: Content::default(), introduction: Vec::new(), log: Vec::new(), ..told };
    }
    let has_failed = next.done == job.done && next.state != JobState::Running;
    let failed = if has_failed { next.clone() } else { unanswered(job.clone(), age, why) };
    Job { input: Content::gone(), outcome: None, ..failed }
}

fn no_room(why: &str) -> Fault {
    let detail = format!("what the job came to can't be stored: {why}");
    Fault { maybe_seen: true, ..Fault::new(Code::JobsUnavailable, Side::Broker, detail) }
}

/// A job that failed, to be tried again from where it failed, with a new lifetime.
pub fn replayed(mut job: Job) -> Job {
    let hops_left = job.next_hop().is_some();
    job.state = match (hops_left, job.error.is_some()) {
        (true, _) => JobState::Running,
        (false, true) => JobState::Failing,
        (false, false) => JobState::Telling,
    };
    if hops_left {
        job.outcome = None;
        job.error = None;
    }
    job.untold = None;
    job.attempts = 0;
    job.pause = 0;
    at(job, Duration::ZERO)
}

/// Whether a job belongs to the dead letters: it failed, or its end could not be told.
pub fn is_dead(job: &Job) -> bool {
    match job.state {
        JobState::Failed => job.done < job.hops.len() as u32 && !job.hops.is_empty(),
        JobState::Done => job.untold.is_some(),
        JobState::Begun | JobState::Running | JobState::Telling | JobState::Failing | JobState::Cancelled => {
            false
        }
    }
}

/// The same revision of a job, as that of the broker `own`, which works on it.
pub fn held(job: Job, age: Duration, own: &ProcessId) -> Job {
    Job { held_by: Some(own.clone()), ..at(job, age) }
}

/// The `Idempotency-Key` of what comes next: the same for every attempt and every broker.
pub fn key(job: &Job) -> String {
    match job.state {
        JobState::Telling | JobState::Failing => format!("\"{}.end\"", job.job_id),
        _ => format!("\"{}.{}\"", job.job_id, job.done),
    }
}

/// A hop of a chain succeeds with 2xx. Any response is an answer to a request, unless it is one that asks to come
/// again.
fn is_success(job: &Job, outcome: &Outcome, policy: &Policy) -> bool {
    if job.is_chain() {
        (200..300).contains(&outcome.status)
    } else {
        !policy.retry_status.contains(&outcome.status)
    }
}

fn refused(job: &Job, outcome: &Outcome) -> Fault {
    let reason = StatusCode::from_u16(outcome.status).ok().and_then(|status| status.canonical_reason());
    let what = if job.is_chain() { format!("hop {}", job.done + 1) } else { "the request".to_owned() };
    let detail = format!("{what} was answered with {} {}", outcome.status, reason.unwrap_or_default());
    Fault::new(Code::HopFailed, Side::Upstream, detail.trim_end().to_owned())
}

/// Whether nobody was there to take it.
fn is_nobody(code: Code) -> bool {
    matches!(
        code,
        Code::NoAgent
            | Code::AgentsFull
            | Code::NoRoute
            | Code::NotReady
            | Code::NatsUnreachable
            | Code::ClientFull
            | Code::BrokerFull
    )
}

/// Whether a request that failed so may be sent again. One that may have run only if it may run twice; one that
/// is refused for what it is would be refused again.
fn may_again(fault: &Fault, is_repeatable: bool) -> bool {
    let is_final = fault.status() < 500 && fault.code != Code::NoRoute;
    !is_final && (!fault.maybe_seen || is_repeatable)
}

/// Nobody took it: that was no attempt, and it comes again more and more seldom.
fn waiting(mut job: Job, age: Duration, fault: &Fault, policy: &Policy, random: u64) -> Job {
    job.error = Some(Error::from(fault));
    let doubled = Duration::from_millis(job.pause).saturating_mul(2).max(policy.backoff);
    paused(job, age, doubled, fault.retry_after, policy, random)
}

fn again(job: Job, age: Duration, asked: Option<Duration>, policy: &Policy, random: u64) -> Job {
    let doubled = policy.backoff.saturating_mul(2_u32.saturating_pow(job.attempts.saturating_sub(1).min(30)));
    paused(job, age, doubled, asked, policy, random)
}

fn paused(
    mut job: Job,
    age: Duration,
    doubled: Duration,
    asked: Option<Duration>,
    policy: &Policy,
    random: u64,
) -> Job {
    let longest = millis(doubled.min(policy.backoff_max));
    // Between half and all of it, so that what failed together does not come again together.
    let spread = longest / 2 + random % (longest / 2 + 1);
    // Who asks for more than the lifetime asks for none: JetStream keeps no record much longer than that.
    let asked = asked.map_or(0, |asked| millis(asked.min(policy.lifetime.saturating_sub(age))));
    job.pause = spread.max(asked).max(1);
    at(job, age)
}

/// A hop is done: what it was answered with is the next one's.
fn advanced(mut job: Job, age: Duration, outcome: Outcome) -> Job {
    let hop = job.hops[job.done as usize].clone();
    job.log.push(Logged { status: outcome.status, attempts: job.attempts });
    job.done += 1;
    (job.attempts, job.pause, job.error) = (0, 0, None);
    if job.is_chain() {
        job.referer = forward::on_path(&hop.url, &job.path);
    }
    if job.next_hop().is_some() {
        follow(&mut job, &outcome.content);
        return at(job, age);
    }
    job.input = Content::default();
    job.outcome = Some(outcome);
    if job.callback.is_some() {
        job.state = JobState::Telling;
        at(job, age)
    } else {
        over(job, age)
    }
}

/// Makes what a server answered what the next hop of a chain is sent: its body, with what says how to read it, on
/// the path by which it knows it.
pub fn follow(job: &mut Job, answer: &Content) {
    let canonical = answer.headers.iter().find(|(name, _)| name == forward::CANONICAL_IRI.as_str());
    let path = canonical.and_then(|(_, value)| forward::canonical_path(std::str::from_utf8(value).ok()?));
    if let Some(path) = path {
        job.path = path;
    }
    job.input = answer.clone();
    job.input.headers.retain(|(name, _)| OF_CONTENT.iter().any(|kept| kept.as_str() == name));
}

/// Whether a header says how to read the body, and goes where it goes.
pub fn is_of_content(name: &HeaderName) -> bool {
    OF_CONTENT.contains(name)
}

fn failed(mut job: Job, age: Duration, outcome: Option<Outcome>, fault: &Fault) -> Job {
    job.outcome = outcome;
    job.error = Some(Error::from(fault));
    if job.errors_to.is_some() || job.callback.is_some() {
        job.state = JobState::Failing;
        (job.attempts, job.pause) = (0, 0);
        at(job, age)
    } else {
        job.state = JobState::Failed;
        at(job, age)
    }
}

fn over(mut job: Job, age: Duration) -> Job {
    job.state = if job.error.is_some() { JobState::Failed } else { JobState::Done };
    job.pause = 0;
    at(job, age)
}

fn abandoned(mut job: Job, age: Duration) -> Job {
    let detail = "the client agent went away before the first server had answered";
    job.error = Some(Error::from(&Fault::new(Code::AgentGone, Side::Broker, detail)));
    job.state = JobState::Failed;
    at(job, age)
}

fn at(mut job: Job, age: Duration) -> Job {
    job.age = millis(age);
    job.held_by = None;
    job
}

/// What says how to read a body.
const OF_CONTENT: [HeaderName; 3] =
    [header::CONTENT_TYPE, header::CONTENT_ENCODING, header::CONTENT_LANGUAGE];
/// How long the first server of a chain may take, above the `pause` that its record says, before its client agent is
/// taken for gone.
pub const ACCEPTING: Duration = Duration::from_secs(180);
