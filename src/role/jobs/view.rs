//! What the commands show of a job: a line of a list, and one job whole. A list shows no queries and no texts of
//! errors, which may have secrets in them.

use std::{
    fmt::Write as _,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use serde::Serialize;

use super::desk::Kept;
use crate::{
    role::inquiry,
    wire::{
        Error, JobSummary, Name,
        job::{Content, Hop, Job, JobState, Outcome},
    },
};

/// One job in a list, as `--json` prints it.
#[derive(Debug, Serialize)]
pub struct Row {
    job: String,
    state: &'static str,
    hops: u32,
    done: u32,
    /// The request that is next, or that failed; the last one when all are done.
    method: Option<String>,
    upstream: Option<Name>,
    /// Without its query.
    url: Option<String>,
    attempts: u32,
    accepted: String,
    stored: String,
    #[serde(skip)]
    age: Duration,
    /// Codes of faults.
    error: Option<String>,
    untold: Option<String>,
}

/// One job, as `--json` prints it.
#[derive(Debug, Serialize)]
pub struct Whole {
    job: String,
    state: &'static str,
    chain: bool,
    client: String,
    accepted: String,
    stored: String,
    #[serde(skip)]
    age: Duration,
    hops: Vec<Step>,
    done: u32,
    /// Attempts so far, at all hops.
    attempts: u32,
    /// Those at what comes next.
    #[serde(skip)]
    at_next: u32,
    /// Milliseconds before what comes next.
    pause: u64,
    input: Part,
    response: Option<Response>,
    errors_to: Option<String>,
    callback: Option<String>,
    error: Option<Error>,
    untold: Option<Error>,
}

#[derive(Debug, Serialize)]
struct Step {
    method: String,
    upstream: Option<Name>,
    url: String,
    repeatable: bool,
    /// What it was answered with, once it is done, and after how many attempts.
    status: Option<u16>,
    attempts: Option<u32>,
}

#[derive(Debug, Serialize)]
struct Response {
    status: u16,
    #[serde(flatten)]
    content: Part,
}

/// A body.
#[derive(Debug, Serialize)]
struct Part {
    content_type: Option<String>,
    size: u64,
    /// The object that has it.
    object: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
}

/// The bodies of a job; `None` where one is not there, or no longer.
#[derive(Debug, Default)]
pub struct Bodies {
    /// What the next hop is sent.
    pub input: Option<Bytes>,
    /// What the last one answered.
    pub response: Option<Bytes>,
}

impl Row {
    /// What a list says of it.
    pub fn of(job: &JobSummary) -> Row {
        let before = |ago: u64| time(SystemTime::now().checked_sub(Duration::from_millis(ago)));
        let text = Option::clone;
        Row {
            job: job.job_id.to_string(),
            state: job.state.as_str(),
            hops: job.hops,
            done: job.done,
            method: text(&job.method),
            upstream: job.upstream.clone(),
            url: text(&job.url),
            attempts: job.attempts,
            accepted: before(job.age),
            stored: before(job.stored),
            age: Duration::from_millis(job.age),
            error: text(&job.error),
            untold: text(&job.untold),
        }
    }

    fn line(&self) -> [String; 7] {
        let shown = |text: &Option<String>| text.clone().unwrap_or_else(nothing);
        let error = match (&self.error, &self.untold) {
            (Some(error), None) => error.clone(),
            (Some(error), Some(untold)) => format!("{error}, untold: {untold}"),
            (None, Some(untold)) => format!("untold: {untold}"),
            (None, None) => nothing(),
        };
        [
            self.job.clone(),
            self.state.to_owned(),
            format!("{}/{}", self.done, self.hops),
            self.upstream.as_ref().map_or_else(nothing, ToString::to_string),
            format!("{} {}", shown(&self.method), shown(&self.url)),
            ago(self.age),
            error,
        ]
    }
}

/// A list as text; `empty` when there is nothing.
pub fn table(rows: &[Row], empty: &str) -> String {
    if rows.is_empty() {
        return format!("{empty}\n");
    }
    let mut lines = vec![["JOB", "STATE", "DONE", "UPSTREAM", "REQUEST", "AGE", "ERROR"].map(String::from)];
    lines.extend(rows.iter().map(Row::line));
    inquiry::table(&lines)
}

impl Whole {
    /// All of it but its bodies.
    pub fn of(kept: &Kept) -> Whole {
        let Kept { job, stored, .. } = kept;
        Whole {
            job: job.job_id.to_string(),
            state: job.state.as_str(),
            chain: job.is_chain(),
            client: job.client_id.to_string(),
            accepted: time(stored.checked_sub(Duration::from_millis(job.age))),
            stored: time(Some(*stored)),
            age: kept.age(),
            hops: job.hops.iter().enumerate().map(|(at, hop)| Step::of(job, at, hop)).collect(),
            done: job.done,
            attempts: job.attempts_in_all(),
            at_next: job.attempts,
            pause: job.pause,
            input: Part::of(&job.input),
            response: job
                .outcome
                .as_ref()
                .map(|outcome| Response { status: outcome.status, content: Part::of(&outcome.content) }),
            errors_to: job.errors_to.clone(),
            callback: job.callback.clone(),
            error: job.error.clone(),
            untold: job.untold.clone(),
        }
    }

    /// With its bodies.
    pub fn with(mut self, bodies: &Bodies) -> Whole {
        self.input.body = Some(text(bodies.input.as_ref()));
        if let Some(response) = &mut self.response {
            response.content.body = Some(text(bodies.response.as_ref()));
        }
        self
    }

    /// As text.
    pub fn text(&self) -> String {
        let mut lines = vec![
            ["job".to_owned(), self.job.clone()],
            ["state".to_owned(), self.state.to_owned()],
            ["accepted".to_owned(), format!("{}, {} ago, by {}", self.accepted, ago(self.age), self.client)],
            ["stored".to_owned(), self.stored.clone()],
        ];
        let mut line = |name: &str, value: String| lines.push([name.to_owned(), value]);
        for (at, step) in self.hops.iter().enumerate() {
            line(&format!("hop {}", at + 1), step.text(at == self.done as usize, self));
        }
        if self.done < self.hops.len() as u32 || self.input.size > 0 {
            line("input", self.input.text());
        }
        if let Some(response) = &self.response {
            line("response", format!("{}, {}", response.status, response.content.text()));
        }
        for (name, url) in [("errors to", &self.errors_to), ("callback", &self.callback)] {
            url.iter().for_each(|url| line(name, url.clone()));
        }
        for (name, error) in [("error", &self.error), ("untold", &self.untold)] {
            error.iter().for_each(|error| line(name, format!("{}: {}", error.code, error.message)));
        }
        inquiry::table(&lines)
    }
}

impl Step {
    fn of(job: &Job, at: usize, hop: &Hop) -> Step {
        let logged = job.log.get(at);
        Step {
            method: hop.method.clone(),
            upstream: hop.upstream.clone(),
            url: hop.url.clone(),
            repeatable: hop.repeatable,
            status: logged.map(|logged| logged.status),
            attempts: logged.map(|logged| logged.attempts),
        }
    }

    fn text(&self, is_next: bool, whole: &Whole) -> String {
        let at = self.upstream.as_ref().map(|upstream| format!(" at {upstream}")).unwrap_or_default();
        let mut text = format!("{} {}{at}: ", self.method, self.url);
        // Writing to a String can't fail.
        let _ = match (self.status, self.attempts, is_next) {
            (Some(status), Some(attempts), _) => write!(text, "{status}, {}", times(attempts)),
            (_, _, true) if whole.state == JobState::Running.as_str() => {
                let pause = humantime::format_duration(Duration::from_millis(whole.pause));
                match whole.at_next {
                    0 => write!(text, "next"),
                    some => {
                        write!(text, "next, {} so far, {pause} between the last and this one", times(some))
                    }
                }
            }
            (_, _, true) => write!(text, "not done"),
            _ => write!(text, "not begun"),
        };
        text
    }
}

impl Part {
    fn of(content: &Content) -> Part {
        let headers = content.headers();
        let kind = headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        Part {
            content_type: kind.map(str::to_owned),
            size: content.size,
            object: content.object.clone(),
            body: None,
        }
    }

    fn text(&self) -> String {
        let kind = self.content_type.as_ref().map(|kind| format!(" of {kind}")).unwrap_or_default();
        let object = self.object.as_ref().map(|object| format!(", the object {object}")).unwrap_or_default();
        format!("{} bytes{kind}{object}", self.size)
    }
}

/// The response of a job, when it has one.
pub fn response(job: &Job) -> Option<&Content> {
    job.outcome.as_ref().map(|Outcome { content, .. }| content)
}

/// A body as a text.
fn text(body: Option<&Bytes>) -> String {
    match body.map(|body| std::str::from_utf8(body)) {
        Some(Ok(text)) => text.to_owned(),
        Some(Err(_)) => "(not text)".to_owned(),
        None => "(no longer there)".to_owned(),
    }
}

fn times(attempts: u32) -> String {
    if attempts == 1 { "1 attempt".to_owned() } else { format!("{attempts} attempts") }
}

fn time(time: Option<SystemTime>) -> String {
    // What a peer says may be from before any date that can be written.
    let time = time.filter(|time| *time >= SystemTime::UNIX_EPOCH);
    time.map_or_else(nothing, |time| humantime::format_rfc3339_seconds(time).to_string())
}

fn ago(age: Duration) -> String {
    humantime::format_duration(Duration::from_secs(age.as_secs())).to_string()
}

fn nothing() -> String {
    "-".into()
}
