//! What became of every caller's request, and the rules that no run may break.

use std::collections::BTreeMap;

use http::Method;
use relay::{
    proto::exchange::Answer,
    wire::{Code, Fault},
};

use crate::bus::{At, Micros};

/// Every caller's request of one run.
#[derive(Default)]
pub struct Ledger {
    pub asked: Vec<Asked>,
    keys: BTreeMap<(At, u64), u32>,
    broken: Option<String>,
}

/// One caller's request.
pub struct Asked {
    pub client: At,
    pub upstream: usize,
    pub method: Method,
    pub opened: Option<Micros>,
    pub abandoned: Option<Micros>,
    /// Its client agent died.
    pub orphaned: bool,
    pub answer: Option<(Micros, Outcome)>,
    /// When which agent's origin began to work on it.
    pub starts: Vec<(Micros, At)>,
    /// When which agent was sent it by NATS.
    pub routed: Vec<(Micros, At)>,
    /// When its last call ended or was aborted.
    pub call_ended: Option<Micros>,
    /// How often it was published.
    pub sent: u32,
}

/// What a caller was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Response,
    Fault(Fault),
}

impl Ledger {
    /// A caller is going to ask `client`.
    pub fn expect(&mut self, client: At, upstream: usize, method: Method) -> u32 {
        self.asked.push(Asked {
            client,
            upstream,
            method,
            opened: None,
            abandoned: None,
            orphaned: false,
            answer: None,
            starts: Vec::new(),
            routed: Vec::new(),
            call_ended: None,
            sent: 0,
        });
        u32::try_from(self.asked.len() - 1).expect("few callers")
    }

    /// The first rule that was broken.
    pub fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    /// A rule was broken.
    pub fn break_rule(&mut self, what: String) {
        self.broken.get_or_insert(what);
    }

    /// The request that `client` knows as `number`.
    pub fn key_of(&self, client: At, number: u64) -> Option<u32> {
        self.keys.get(&(client, number)).copied()
    }

    /// The client agent took it.
    pub fn opened(&mut self, key: u32, number: u64, now: Micros) {
        let asked = &mut self.asked[key as usize];
        asked.opened = Some(now);
        self.keys.insert((asked.client, number), key);
    }

    /// The client agent published it.
    pub fn sent(&mut self, client: At, number: u64) {
        let Some(key) = self.key_of(client, number) else { return };
        let asked = &mut self.asked[key as usize];
        asked.sent += 1;
        let sent = asked.sent;
        if asked.answer.is_some() {
            self.break_rule(format!("request {key} was published after its answer"));
        } else if sent > MAX_SENT {
            self.break_rule(format!("request {key} was published {sent} times"));
        }
    }

    /// NATS sends it to an agent.
    pub fn routed(&mut self, key: u32, agent: At, now: Micros) {
        self.asked[key as usize].routed.push((now, agent));
    }

    /// An origin begins to work on it.
    pub fn started(&mut self, key: u32, agent: At, now: Micros) {
        let asked = &mut self.asked[key as usize];
        asked.starts.push((now, agent));
        let wrong = match &asked.answer {
            _ if asked.starts.len() > MAX_STARTS => "yet another time".to_owned(),
            _ if !asked.method.is_idempotent() && asked.starts.len() > 1 => "twice".to_owned(),
            Some((_, Outcome::Fault(fault))) if !fault.maybe_seen => {
                format!("after its caller was told that it was not: {fault}")
            }
            _ => return,
        };
        let method = asked.method.clone();
        self.break_rule(format!("request {key}, a {method}, was started {wrong}"));
    }

    /// Its caller is answered.
    pub fn answered(&mut self, key: u32, answer: &Answer, now: Micros) {
        let asked = &mut self.asked[key as usize];
        if asked.answer.is_some() || asked.abandoned.is_some() {
            return self
                .break_rule(format!("request {key} was answered twice, or after its caller had left"));
        }
        let (outcome, wrong) = match answer {
            Answer::Response(reply) => {
                let body = reply.body.as_deref().unwrap_or_default();
                let wrong = asked.starts.is_empty() || body != key.to_string().as_bytes();
                (Outcome::Response, wrong.then(|| "a response that no origin gave to it".to_owned()))
            }
            Answer::Fault(fault) => {
                let wrong = !fault.maybe_seen && !asked.starts.is_empty();
                (
                    Outcome::Fault(fault.clone()),
                    wrong.then(|| format!("that no origin saw it, but one did: {fault}")),
                )
            }
        };
        asked.answer = Some((now, outcome));
        if let Some(wrong) = wrong {
            self.break_rule(format!("the caller of request {key} was told {wrong}"));
        }
    }

    /// A client agent has died with its callers.
    pub fn orphan(&mut self, client: At) {
        for asked in self.asked.iter_mut().filter(|asked| asked.client == client && asked.answer.is_none()) {
            asked.orphaned = true;
        }
    }

    /// Whether nobody waits for an answer.
    pub fn is_settled(&self) -> bool {
        self.asked.iter().all(|asked| asked.answer.is_some() || asked.abandoned.is_some() || asked.orphaned)
    }
}

impl Asked {
    /// The code of the fault it was answered with.
    pub fn code(&self) -> Option<Code> {
        match &self.answer {
            Some((_, Outcome::Fault(fault))) => Some(fault.code),
            Some((_, Outcome::Response)) | None => None,
        }
    }

    /// Whether the origin's response was the answer.
    pub fn has_response(&self) -> bool {
        matches!(self.answer, Some((_, Outcome::Response)))
    }

    /// When its caller was answered.
    pub fn answered(&self) -> Option<Micros> {
        self.answer.as_ref().map(|(when, _)| *when)
    }

    /// How long its caller waited.
    pub fn waited(&self) -> Option<Micros> {
        Some(self.answered()? - self.opened?)
    }

    /// How it ended, in a word.
    pub fn ended(&self) -> &'static str {
        match (&self.answer, self.starts.len()) {
            (Some((_, Outcome::Response)), 0 | 1) => "response",
            (Some((_, Outcome::Response)), _) => "response of a second try",
            (Some((_, Outcome::Fault(fault))), _) => fault.code.row().text,
            (None, _) if self.orphaned => "orphaned",
            (None, _) => "abandoned",
        }
    }

    /// How it ended, for people.
    pub fn told(&self) -> String {
        match &self.answer {
            Some((_, Outcome::Response)) => "the origin's response".to_owned(),
            Some((_, Outcome::Fault(fault))) => fault.to_string(),
            None => "nothing".to_owned(),
        }
    }
}

/// Tries of one idempotent request at most.
const MAX_STARTS: usize = 2;
/// Publications of one request at most: waking backs off.
const MAX_SENT: u32 = 60;
