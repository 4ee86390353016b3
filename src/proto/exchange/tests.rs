use std::{collections::HashMap, hash::RandomState, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};

use super::*;
use crate::wire::{Headers, Hold, Known, message::VERSION};

#[test]
fn a_response_is_the_answer_and_ends_everything() {
    let mut client = Client::new();
    let request = client.open(Method::POST);
    assert_eq!(client.does(), ["publish"]);
    client.respond(&request);
    assert_eq!(client.does(), ["answer: response"]);
    assert!(client.machine.is_idle());
    client.respond(&request);
    assert_eq!(client.does(), [""; 0], "a second response answers nobody");
}

#[test]
fn an_answer_to_another_request_is_ignored() {
    let mut client = Client::new();
    let request = client.open(Method::GET);
    client.does();
    let other = RequestId::new(&"client.other".parse().unwrap(), &upstream(), request.number());
    let reply = Reply::response(other, StatusCode::OK, Headers::new(), Bytes::new());
    client.feed(Input::Reply { number: request.number(), reply: Box::new(reply) });
    assert_eq!(client.does(), [""; 0]);
}

#[test]
fn without_agent_and_broker_the_answer_comes_at_once() {
    let mut client = Client::new();
    let request = client.open(Method::POST);
    client.nobody_got(&request);
    assert_eq!(client.does(), ["publish", "hold nobody"]);
    client.feed(Input::NoBroker { number: request.number() });
    assert_eq!(client.does(), ["answer: no_agent, unseen"]);
}

#[test]
fn without_a_broker_what_somebody_has_is_waited_for() {
    let mut client = Client::new();
    let request = client.open(Method::POST);
    client.pass(250);
    client.feed(Input::NoBroker { number: request.number() });
    client.does();
    client.pass(1000);
    assert_eq!(client.does(), ["hold sent"], "a broker may have come");
    client.respond(&request);
    assert_eq!(client.does(), ["answer: response"]);
}

#[test]
fn only_a_request_that_nobody_has_is_published_when_it_is_woken() {
    let mut client = Client::new();
    let request = client.open(Method::POST);
    client.nobody_got(&request);
    let hold = client.held(&request, "broker.a", 1);
    client.does();
    client.ack(&request, State::Wake);
    assert_eq!(client.does(), ["publish", "update sent"]);
    client.ack(&request, State::Wake);
    assert_eq!(client.does(), [""; 0], "it is on its way");
    client.taken(&request, "agent.a", 1);
    client.ack(&request, State::Wake);
    assert_eq!(client.does(), ["update taken"]);
    client.fault(&request, Code::NoAgent, Some(&hold), None);
    assert_eq!(client.does(), [""; 0], "an agent has it");
}

#[test]
fn a_refused_request_goes_to_others_and_then_waits_at_a_broker() {
    let mut client = Client::new();
    client.full("agent.a");
    let request = client.open(Method::POST);
    for state in [State::Full, State::Draining, State::Full] {
        client.ack(&request, state);
    }
    assert_eq!(client.does(), ["publish", "publish alone", "publish alone", "publish alone"]);
    client.ack(&request, State::Full);
    assert_eq!(client.does(), ["hold refused"]);
    client.feed(Input::NoBroker { number: request.number() });
    assert_eq!(client.does(), ["answer: agents_full, unseen"]);
}

#[test]
fn a_full_agent_is_passed_by_while_another_says_it_has_room() {
    let mut client = Client::new();
    client.here("agent.b");
    client.full("agent.a");
    let request = client.open(Method::POST);
    let refuse = |client: &mut Client, times: u32| {
        for _ in 0..times {
            client.ack(&request, State::Full);
            client.ack(&request, State::Full);
            client.pass(50);
        }
    };
    refuse(&mut client, 4);
    let does = client.does();
    assert_eq!(does[0], "publish");
    assert_eq!(does[1..], ["publish alone"; 6], "a refusal in a pause is of a publication before");
    client.pass(50);
    client.held(&request, "broker.a", 1);
    assert_eq!(client.does(), ["hold sent"]);
    client.ack(&request, State::Full);
    client.pass(15);
    assert_eq!(client.does(), ["update refused"]);
    client.pass(1);
    assert_eq!(client.does(), ["publish alone", "update sent"]);
    client.full("agent.b");
    client.ack(&request, State::Full);
    client.pass(100);
    assert_eq!(client.does(), ["update refused"], "nobody has room: from now on the broker says when");
}

#[test]
fn a_pause_is_not_the_end_where_there_is_no_broker() {
    let mut client = Client::new();
    let request = client.open(Method::POST);
    for _ in 0..19 {
        client.ack(&request, State::Full);
        client.feed(Input::NoBroker { number: request.number() });
        client.pass(50);
    }
    let does = client.does();
    assert_eq!(does.iter().filter(|what| what.starts_with("publish")).count(), 20);
    assert!(
        does.iter()
            .all(|what| ["publish", "publish alone", "hold refused", "hold sent"].contains(&what.as_str())),
        "{does:?}"
    );
    client.respond(&request);
    assert_eq!(client.does(), ["answer: response"]);
    assert!(client.machine.is_idle());
}

#[test]
fn a_refusal_counts_only_while_nobody_is_known_to_have_the_request() {
    let mut client = Client::new();
    let request = client.open(Method::POST);
    client.taken(&request, "agent.a", 1);
    client.does();
    client.ack(&request, State::Full);
    assert_eq!(client.does(), [""; 0], "it would be called twice");
}

#[test]
fn an_idempotent_request_follows_a_dead_agent_once() {
    let mut client = Client::new();
    let request = client.open(Method::PUT);
    client.gone(&request, 1);
    assert_eq!(client.does(), ["publish", "hold taken", "publish"]);
    client.gone(&request, 2);
    assert_eq!(client.does(), ["hold taken", "update taken", "cancel 2", "answer: agent_gone, seen"]);
}

#[test]
fn any_other_request_does_not_follow_a_dead_agent() {
    let mut client = Client::new();
    let request = client.open(Method::POST);
    client.gone(&request, 1);
    assert_eq!(client.does(), ["publish", "hold taken", "cancel 1", "answer: agent_gone, seen"]);
}

/// Found by the simulation: the second agent's origin refused the connection, and the caller was told that
/// no origin had seen the request, which the first agent's had.
#[test]
fn the_fault_of_a_second_try_does_not_hide_that_the_first_was_seen() {
    let mut client = Client::new();
    let request = client.open(Method::GET);
    client.gone(&request, 1);
    client.does();
    client.fault(&request, Code::OriginRefused, None, None);
    assert_eq!(client.does(), ["answer: origin_refused, seen"]);
}

#[test]
fn a_second_try_that_reaches_nobody_is_answered_with_why_there_was_one() {
    let mut client = Client::new();
    let request = client.open(Method::GET);
    client.gone(&request, 1);
    client.does();
    client.nobody_got(&request);
    assert_eq!(client.does(), ["answer: agent_gone, seen"]);
}

#[test]
fn whoever_takes_a_request_that_has_its_answer_is_told_to_stop() {
    let mut client = Client::new();
    let request = client.open(Method::POST);
    client.pass(5000);
    client.does();
    client.taken(&request, "agent.a", 7);
    assert_eq!(client.does(), ["cancel 7"]);
}

#[test]
fn a_caller_that_leaves_stops_the_work_and_gets_nothing() {
    let mut client = Client::new();
    let request = client.open(Method::POST);
    client.taken(&request, "agent.a", 7);
    client.does();
    client.feed(Input::Abandon { number: request.number() });
    assert_eq!(client.does(), ["cancel 7"]);
    assert!(client.machine.is_idle());
}

#[test]
fn the_ttl_ends_a_request_whatever_is_known_of_it() {
    let mut client = Client::new();
    let sent = client.open(Method::POST);
    let taken = client.open(Method::POST);
    client.taken(&taken, "agent.a", 1);
    let waiting = client.open(Method::POST);
    client.nobody_got(&waiting);
    client.held(&waiting, "broker.a", 1);
    client.pass(4999);
    client.does();
    client.pass(1);
    let mut did = client.does();
    did.sort();
    let expected =
        ["answer: no_agent, unseen", "answer: ttl_expired, seen", "answer: ttl_expired, seen", "cancel 1"];
    assert_eq!(did, expected);
    client.pass(1000);
    assert!(client.machine.is_idle(), "{} is not the last", sent);
}

#[test]
fn without_a_connection_the_answer_comes_at_once() {
    let mut client = Client::new();
    client.feed(Input::Link { up: false });
    client.pass(500);
    client.open(Method::GET);
    assert_eq!(client.does(), ["answer: nats_unreachable, unseen"]);
}

#[test]
fn a_request_waits_half_a_second_for_a_connection_that_has_just_gone() {
    let mut client = Client::new();
    client.feed(Input::Link { up: false });
    client.pass(100);
    let first = client.open(Method::POST);
    client.pass(300);
    assert_eq!(client.does(), [""; 0]);
    client.feed(Input::Link { up: true });
    assert_eq!(client.does(), ["publish"]);
    client.respond(&first);
    assert_eq!(client.does(), ["answer: response"]);
    client.feed(Input::Link { up: false });
    client.open(Method::POST);
    client.pass(499);
    assert_eq!(client.does(), [""; 0]);
    client.pass(1);
    assert_eq!(client.does(), ["answer: nats_unreachable, unseen"]);
    assert!(client.machine.is_idle());
}

#[test]
fn limits_are_told_before_anything_is_published() {
    let mut client = Client::new();
    let requests: Vec<RequestId> = (0..3).map(|_| client.open(Method::GET)).collect();
    client.does();
    client.open(Method::GET);
    assert_eq!(client.does(), ["answer: client_full, unseen"]);
    client.respond(&requests[0]);
    client.does();
    client.open(Method::GET);
    assert_eq!(client.does(), ["publish"]);
}

#[test]
fn where_no_agent_is_known_nothing_is_published_before_one_appears() {
    let mut client = Client::lonely();
    let request = client.open(Method::POST);
    client.held(&request, "broker.a", 1);
    assert_eq!(client.does(), ["hold nobody"]);
    client.here("agent.b");
    assert_eq!(client.does(), ["publish", "update sent"]);
    client.here("agent.c");
    assert_eq!(client.does(), [""; 0], "somebody may have it");
}

/// Found by the simulation: a broker in another part of a cluster woke the request before this side's server
/// knew of the agent's subscription, and a watcher swallowed it.
#[test]
fn the_first_waking_waits_for_the_announcement_of_an_agent_that_is_not_known() {
    let mut client = Client::lonely();
    let request = client.open(Method::POST);
    client.held(&request, "broker.a", 1);
    client.does();
    client.ack(&request, State::Wake);
    assert_eq!(client.does(), [""; 0]);
    client.ack(&request, State::Wake);
    assert_eq!(client.does(), ["publish", "update sent"], "the announcement may be lost");
}

#[test]
fn where_neither_agent_nor_broker_is_known_nats_is_asked() {
    let mut client = Client::lonely();
    let request = client.open(Method::POST);
    client.feed(Input::NoBroker { number: request.number() });
    assert_eq!(client.does(), ["hold nobody", "publish"]);
    client.nobody_got(&request);
    client.feed(Input::NoBroker { number: request.number() });
    assert_eq!(client.does(), ["hold nobody", "answer: no_agent, unseen"]);
}

#[test]
fn an_upstream_that_nats_forbids_is_told_to_be_so() {
    let mut client = Client::new();
    client.open(Method::GET);
    client.does();
    client.feed(Input::Forbidden { upstream: "another".parse().unwrap() });
    assert_eq!(client.does(), [""; 0]);
    client.feed(Input::Forbidden { upstream: upstream() });
    assert_eq!(client.does(), ["answer: not_allowed, unseen"]);
}

#[test]
fn a_request_that_may_have_got_through_before_nats_refused_another_may_have_been_seen() {
    let mut client = Client::new();
    let forbid = |client: &mut Client| client.feed(Input::Forbidden { upstream: upstream() });
    // Longer ago than a refusal takes: it was not refused itself.
    client.open(Method::POST);
    client.pass(249);
    client.open(Method::POST);
    client.pass(1);
    client.does();
    forbid(&mut client);
    let mut answers = client.does();
    answers.sort();
    assert_eq!(answers, ["answer: not_allowed, seen", "answer: not_allowed, unseen"]);
    // Others have got through.
    let answered = client.open(Method::POST);
    client.respond(&answered);
    client.open(Method::POST);
    client.does();
    forbid(&mut client);
    assert_eq!(client.does(), ["answer: not_allowed, seen"]);
    client.open(Method::POST);
    client.does();
    forbid(&mut client);
    assert_eq!(client.does(), ["answer: not_allowed, unseen"], "none since the last refusal");
}

/// A client agent with a patience of 250 ms and a TTL of 5 s, at a time of its own.
pub(super) struct Client {
    pub(super) machine: Exchanges<()>,
    now: Instant,
    /// What it has done, and not been asked for.
    did: Vec<String>,
    /// Agents that answer no probe.
    pub(super) frozen: Vec<String>,
    /// What agents said of themselves last.
    accepting: HashMap<String, bool>,
}

impl Client {
    pub(super) fn new() -> Client {
        let settings = Settings {
            ttl: Duration::from_secs(5),
            patience: Duration::from_millis(250),
            max_in_flight: 100,
            max_per_upstream: 3,
        };
        let numbers = Numbers::new(RandomState::new());
        let machine = Exchanges::new(settings, "client.c".parse().unwrap(), numbers);
        let (did, frozen, accepting) = (Vec::new(), Vec::new(), HashMap::new());
        let mut client = Client { machine, now: Instant::now(), did, frozen, accepting };
        client.feed(Input::Link { up: true });
        client.here("agent.a");
        client
    }

    /// A client agent that knows of no agent.
    pub(super) fn lonely() -> Client {
        let mut client = Client::new();
        client.feed(Input::Gone { upstream: upstream(), agent: "agent.a".parse().unwrap() });
        client
    }

    pub(super) fn here(&mut self, agent: &str) {
        self.announce(agent, true);
    }

    pub(super) fn full(&mut self, agent: &str) {
        self.announce(agent, false);
    }

    pub(super) fn announce(&mut self, agent: &str, accepting: bool) {
        self.accepting.insert(agent.to_owned(), accepting);
        self.feed(Input::Here(Here { accepting, ..Here::of(agent.parse().unwrap(), upstream()) }));
    }

    pub(super) fn feed(&mut self, input: Input<()>) {
        self.machine.handle(input, self.now);
    }

    /// Time passes, timer by timer.
    pub(super) fn pass(&mut self, millis: u64) {
        let until = self.now + Duration::from_millis(millis);
        while let Some(at) = self.machine.poll_timeout().filter(|at| *at <= until) {
            self.now = at;
            self.machine.handle_timeout(at);
            self.act();
        }
        self.now = until;
    }

    pub(super) fn open(&mut self, method: Method) -> RequestId {
        self.open_with(method, false)
    }

    /// Opens a request whose body follows in frames.
    pub(super) fn open_streamed(&mut self, method: Method) -> RequestId {
        self.open_with(method, true)
    }

    fn open_with(&mut self, method: Method, stream: bool) -> RequestId {
        let id = self.machine.mint(&upstream());
        let request = Request {
            v: VERSION,
            client_id: "client.c".parse().unwrap(),
            client_req_id: id.clone(),
            client_req_ttl: 5000,
            upstream_target: upstream(),
            method,
            url: "/".into(),
            headers: Headers::new(),
            body: Bytes::new(),
            stream,
            trailers: HeaderMap::new(),
            upgrade: None,
            interim: false,
            window: None,
            broker_id: None,
            broker_req_id: None,
            broker_req_ttl: None,
        };
        self.feed(Input::Open { request: Box::new(request), caller: () });
        id
    }

    pub(super) fn nobody_got(&mut self, request: &RequestId) {
        self.feed(Input::NobodyGotIt { number: request.number() });
    }

    pub(super) fn ack(&mut self, request: &RequestId, state: State) {
        self.feed(Input::Ack { number: request.number(), ack: Ack::new(request.clone(), state) });
    }

    /// This agent could not connect to its origin.
    pub(super) fn unreached(&mut self, request: &RequestId, agent: &str) {
        let fault = Fault::new(Code::OriginRefused, Side::Upstream, "refused");
        let mut reply = Reply::error(request.clone(), &fault);
        reply.upstream_id = Some(agent.parse().unwrap());
        self.feed(Input::Reply { number: request.number(), reply: Box::new(reply) });
    }

    /// This agent refuses the request.
    pub(super) fn refuse(&mut self, request: &RequestId, state: State, agent: &str) {
        let mut ack = Ack::new(request.clone(), state);
        ack.upstream_id = Some(agent.parse().unwrap());
        self.feed(Input::Ack { number: request.number(), ack });
    }

    pub(super) fn taken(&mut self, request: &RequestId, agent: &str, number: u64) {
        let agent: ProcessId = agent.parse().unwrap();
        let mut ack = Ack::new(request.clone(), State::Taken);
        ack.upstream_req_id = Some(RequestId::new(&agent, &upstream(), number));
        ack.upstream_id = Some(agent);
        self.feed(Input::Ack { number: request.number(), ack });
    }

    pub(super) fn held(&mut self, request: &RequestId, broker: &str, number: u64) -> RequestId {
        let broker: ProcessId = broker.parse().unwrap();
        let hold = RequestId::new(&broker, &upstream(), number);
        let mut ack = Ack::new(request.clone(), State::Held);
        ack.broker_req_id = Some(hold.clone());
        ack.broker_id = Some(broker);
        self.feed(Input::Ack { number: request.number(), ack });
        hold
    }

    pub(super) fn respond(&mut self, request: &RequestId) {
        let reply = Reply::response(request.clone(), StatusCode::OK, Headers::new(), Bytes::new());
        self.feed(Input::Reply { number: request.number(), reply: Box::new(reply) });
    }

    pub(super) fn respond_streamed(&mut self, request: &RequestId) {
        let mut reply = Reply::response(request.clone(), StatusCode::OK, Headers::new(), Bytes::new());
        reply.stream = true;
        self.feed(Input::Reply { number: request.number(), reply: Box::new(reply) });
    }

    pub(super) fn fault(
        &mut self,
        request: &RequestId,
        code: Code,
        hold: Option<&RequestId>,
        at_agent: Option<&RequestId>,
    ) {
        let side = if hold.is_some() { Side::Broker } else { Side::Upstream };
        let mut reply = Reply::error(request.clone(), &Fault::new(code, side, "told"));
        reply.broker_req_id = hold.cloned();
        reply.upstream_req_id = at_agent.cloned();
        self.feed(Input::Reply { number: request.number(), reply: Box::new(reply) });
    }

    /// An agent takes the request, a broker watches it, and finds that the agent is gone.
    pub(super) fn gone(&mut self, request: &RequestId, number: u64) {
        self.taken(request, "agent.a", number);
        self.pass(250);
        let hold = self.held(request, "broker.a", number);
        self.fault(request, Code::AgentGone, Some(&hold), None);
    }

    /// What it does, in words, except for probes.
    pub(super) fn does(&mut self) -> Vec<String> {
        self.act();
        std::mem::take(&mut self.did)
    }

    /// Lets it do what it wants; agents that are not frozen answer its probes at once.
    fn act(&mut self) {
        while let Some(command) = self.machine.poll_command() {
            let Command::Probe { agent, .. } = &command else {
                self.did.push(words(command));
                continue;
            };
            let agent = agent.to_string();
            if let (false, Some(&accepting)) = (self.frozen.contains(&agent), self.accepting.get(&agent)) {
                self.announce(&agent, accepting);
            }
        }
    }
}

fn words(command: Command<()>) -> String {
    let known = |hold: Hold| match hold.known {
        Known::Nobody => "nobody",
        Known::Refused => "refused",
        Known::Sent => "sent",
        Known::Taken => "taken",
    };
    match command {
        Command::Publish { to: Some(agent), .. } => format!("publish to {agent}"),
        Command::Publish { refused: false, .. } => "publish".to_owned(),
        Command::Probe { .. } => unreachable!("it is answered"),
        Command::Who { .. } => "who".to_owned(),
        Command::Publish { refused: true, .. } => "publish alone".to_owned(),
        Command::Hold(hold) => format!("hold {}", known(hold)),
        Command::Update { hold, .. } => format!("update {}", known(hold)),
        Command::Renew { broker, lease, .. } => format!("renew {broker} {:?}", lease.holds),
        Command::Connect { id, to } => format!("connect {} to {}", id.number(), to.number()),
        Command::Cancel { to } => format!("cancel {}", to.number()),
        Command::Answer { answer: Answer::Response(_), .. } => "answer: response".to_owned(),
        Command::Answer { answer: Answer::Fault(fault), .. } => {
            format!("answer: {}, {}", fault.code, if fault.maybe_seen { "seen" } else { "unseen" })
        }
    }
}

pub(super) fn upstream() -> Name {
    "hello".parse().unwrap()
}
