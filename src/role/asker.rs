//! Whoever asks upstream agents: the exchanges of one process, their streams, and what it knows of agents and
//! routes. A client agent asks for its callers, a broker for jobs whose callers have gone.

use std::{future::Future, sync::Arc, time::Instant};

use bytes::Bytes;
use tokio::sync::oneshot;

use super::{
    core::{Announced, Core},
    shell::{Driver, Shell},
};
use crate::{
    bus::{Batching, Message, Subscription},
    front::{http::Answered, interim},
    proto::{
        exchange::{self, Answer, Command, Exchanges, Input},
        flow,
        outside::Outside,
        routes,
    },
    stream::{self, Streams},
    sync::{Mutex, MutexGuard},
    wire::{
        Ack, Code, Fault, Here, Kind, Lost, Name, ProcessId, Reply, Request, RequestId, Side, State,
        StreamMessage, Target, Word, batch, codec,
        ids::Numbers,
        subjects::{self, Address},
    },
};

mod answering;
mod caller;
mod routing;
mod whole;

use caller::{Caller, Came};
pub use routing::Routing;
use routing::announcements;
pub use whole::Arriving;

/// Whom a process asks, and how.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The upstream that all requests are for; without one, they are routed.
    pub upstream: Option<Name>,
    /// The upstreams whose agents matter; none stands for all.
    pub only: Vec<Name>,
    /// Whether requests are routed by host and path, so that routes must be known.
    pub routed: bool,
    /// What the exchanges are held to.
    pub rules: exchange::Settings,
    /// What streamed bodies are held to.
    pub streams: stream::Limits,
    /// The upstreams whose agents may be asked for outside hosts.
    pub egress: Vec<Name>,
}

/// The asking side of one process.
pub struct Asker {
    core: Arc<Core>,
    upstream: Option<Name>,
    only: Vec<Name>,
    routed: bool,
    /// Where requests go when they are routed.
    routing: Arc<Routing>,
    streams: Arc<Streams>,
    outside: Mutex<Outside>,
    driver: Driver<Exchanges<Caller>>,
}

impl Asker {
    /// The asking side of the process that `core` is.
    pub fn new(core: &Arc<Core>, settings: Settings) -> Arc<Self> {
        let numbers = Numbers::new(std::hash::RandomState::new());
        let exchanges = Exchanges::new(settings.rules, core.id.clone(), numbers);
        let streams = Streams::new(core.bus.clone(), core.subjects.clone(), Side::Client, settings.streams);
        Arc::new(Asker {
            routing: Routing::new(Arc::clone(core)),
            core: Arc::clone(core),
            only: settings.upstream.iter().chain(&settings.only).cloned().collect(),
            upstream: settings.upstream,
            routed: settings.routed,
            streams,
            outside: Mutex::new(Outside::new(settings.egress)),
            driver: Driver::new(exchanges),
        })
    }

    /// Listens to what agents say of themselves and, where requests are routed, of their routes.
    ///
    /// # Errors
    /// When the connection to NATS is closed for good.
    pub async fn follow_agents(self: &Arc<Self>) -> anyhow::Result<()> {
        let core = &self.core;
        for kind in [Kind::Here, Kind::Gone] {
            for subject in announcements(&core.subjects, kind, &self.only) {
                let announced = core.bus.subscribe(subject).await?;
                tokio::spawn(Arc::clone(self).read_announcements(kind, announced));
            }
        }
        if !self.routed {
            return Ok(());
        }
        for subject in announcements(&core.subjects, Kind::Route, &self.only) {
            let claims = core.bus.subscribe(subject).await?;
            tokio::spawn(Arc::clone(&self.routing).read_claims(claims));
        }
        let routing = Arc::clone(&self.routing);
        tokio::spawn(async move { routing.run_timers().await });
        Ok(())
    }

    /// Starts the timers of exchanges and streams.
    pub fn run(self: &Arc<Self>) {
        let timers = Arc::clone(self);
        tokio::spawn(async move { timers.run_timers().await });
        tokio::spawn(Arc::clone(&self.streams).run());
    }

    /// The id for a new request to `upstream`.
    pub fn mint(&self, upstream: &Name) -> RequestId {
        self.driver.with(|exchanges| exchanges.mint(upstream))
    }

    /// Gets `request` answered. Dropping the future abandons it.
    pub fn ask(self: &Arc<Self>, request: Request) -> impl Future<Output = Answered> + Send {
        let (caller, answer) = Caller::new();
        let number = request.client_req_id.number();
        let upstream = request.upstream_target.clone();
        let waiting = Waiting { asker: self, number, upstream, answer, answered: false };
        // Opened at once: what waits does not hold the request.
        self.feed(Input::Open { request: Box::new(request), caller });
        async move {
            let mut waiting = waiting;
            let answered = loop {
                match (&mut waiting.answer).await {
                    Ok(Came::Interim(came)) => {
                        let (said, answer) = *came;
                        waiting.answer = answer;
                        interim::tell(said);
                    }
                    Ok(Came::Answer(answered)) => break Some(answered),
                    Err(_) => break None,
                }
            };
            waiting.answered = true;
            answered.unwrap_or_else(|| {
                let lost = "the request was dropped without an answer";
                let fault = Fault::new(Code::Internal, Side::Client, lost);
                Answered { answer: Answer::Fault(fault), reader: None, writer: None }
            })
        }
    }

    /// Bytes of a body that ride in one message at most.
    pub fn inline(&self) -> usize {
        flow::INLINE.min(self.core.bus.max_payload() / 2)
    }

    /// The upstream that all requests are for.
    pub fn upstream(&self) -> Option<&Name> {
        self.upstream.as_ref()
    }

    /// Where requests go.
    pub fn routing(&self) -> &Arc<Routing> {
        &self.routing
    }

    /// The streams of the process.
    pub fn streams(&self) -> &Arc<Streams> {
        &self.streams
    }

    /// The upstream whose agents may call this outside host.
    pub fn egress_to(&self, target: &Target) -> Option<Name> {
        self.outside().find(target, Instant::now())
    }

    fn outside(&self) -> MutexGuard<'_, Outside> {
        self.outside.lock()
    }

    /// Whether an agent of this upstream has been heard of, or a request is open for it.
    pub fn knows(&self, upstream: &Name) -> bool {
        self.driver.with(|exchanges| exchanges.knows(upstream))
    }

    /// Whether a request waits for an agent to come.
    pub fn waits(&self, number: u64) -> bool {
        self.driver.with(|exchanges| exchanges.waits(number))
    }

    /// Requests that are not answered, and how many of them a broker holds.
    pub fn open(&self) -> (usize, usize) {
        self.driver.with(|exchanges| (exchanges.in_flight(), exchanges.held()))
    }

    /// A message to this process that may be about what it asked.
    pub fn on_message(&self, address: &Address<'_>, message: &Message) {
        match address {
            Address::Request { kind, number, .. } => self.on_request_message(*kind, *number, message),
            Address::Batch { kind: Kind::Ack, numbers, .. } if message.nobody => {
                subjects::numbers(numbers).for_each(|number| self.feed(Input::NobodyGotIt { number }));
            }
            Address::Lost { broker } => self.on_lost(broker.clone(), message),
            Address::Probe { upstream, agent } => self.on_probe(upstream, agent.clone(), message),
            Address::Batch { .. }
            | Address::Renewal
            | Address::Probed { .. }
            | Address::Asked { .. }
            | Address::Refused { .. }
            | Address::Ready => {}
        }
    }

    /// The connection to NATS came or went.
    pub fn on_link(&self, up: bool) {
        self.feed(Input::Link { up });
        if self.routed {
            self.routing.feed(routes::Input::Link { up });
        } else if up {
            self.ask_who(self.upstream.as_ref());
        }
    }

    /// Asks the agents of an upstream, or all, to announce themselves. A process that neither routes nor has an upstream of its
    /// own may ask all of them only.
    fn ask_who(&self, upstream: Option<&Name>) {
        let subjects = &self.core.subjects;
        let one = upstream.filter(|_| self.routed || self.upstream.is_some());
        self.core.publish(one.map_or_else(|| subjects.who(), |name| subjects.who_of(name)), Bytes::new());
    }

    /// NATS refused a publication.
    pub fn on_publish_denied(&self, subject: &str) {
        let subjects = &self.core.subjects;
        if subjects.is_req_to(subject) {
            self.feed(Input::MemberForbidden);
            return;
        }
        let asked = [Kind::Req, Kind::Hold].into_iter().find_map(|kind| subjects.upstream_of(kind, subject));
        if let Some(upstream) = asked {
            self.feed(Input::Forbidden { upstream });
        }
    }

    async fn read_announcements(self: Arc<Self>, kind: Kind, mut announced: Subscription) {
        while let Some(message) = announced.next().await {
            match self.core.announcement(kind, &message) {
                Some(Announced::Here(here)) => self.here(here),
                Some(Announced::Gone { upstream, agent }) => self.gone(upstream, agent),
                None => {}
            }
        }
    }

    fn here(&self, here: Here) {
        if self.routed {
            self.routing.here(&here);
        }
        self.outside().here(&here, Instant::now());
        self.feed(Input::Here(here));
    }

    fn gone(&self, upstream: Name, agent: ProcessId) {
        self.outside().gone(&upstream, &agent);
        self.routing.feed(routes::Input::Gone { upstream: upstream.clone(), agent: agent.clone() });
        self.feed(Input::Gone { upstream, agent });
    }

    /// An agent whose heartbeat was late answers, or NATS says that it is gone.
    fn on_probe(&self, upstream: &str, agent: ProcessId, message: &Message) {
        let Ok(upstream) = upstream.parse::<Name>() else { return };
        if message.nobody {
            self.gone(upstream, agent);
            return;
        }
        let here = codec::decode::<Here>(&message.payload);
        let own =
            here.map(|here| (here.upstream_target == upstream && here.upstream_id == agent).then_some(here));
        if let Some(here) = self.core.accept(message, own) {
            self.here(here);
        }
    }

    fn on_lost(&self, broker: ProcessId, message: &Message) {
        if message.nobody {
            self.feed(Input::BrokerGone { broker });
            return;
        }
        let lost = codec::decode::<Lost>(&message.payload);
        let input = lost.map(|lost| Some(Input::Lost { broker, holds: lost.holds }));
        if let Some(input) = self.core.accept(message, input) {
            self.feed(input);
        }
    }

    fn on_request_message(&self, kind: Kind, number: u64, message: &Message) {
        let is_about = |id: &RequestId| self.core.subjects.is_about(&message.subject, id);
        let input = match (kind, message.nobody) {
            (Kind::Ack, true) => Some(Input::NobodyGotIt { number }),
            (Kind::Hold, true) => Some(Input::NoBroker { number }),
            (Kind::Body, true) => {
                self.streams.unheard(number);
                None
            }
            (Kind::Body, false) => {
                let said = stream::read(message).map(|said| is_about(&said.to).then_some(said));
                if let Some(said) = self.core.accept(message, said) {
                    self.streams.hear(number, said, message.reply.as_deref());
                }
                None
            }
            (Kind::Ack, false) => {
                let ack = codec::decode::<Ack>(&message.payload);
                let own = ack.map(|ack| {
                    let own = is_about(&ack.client_req_id) && names_its_upstream(&ack);
                    own.then_some(ack)
                });
                match self.core.accept(message, own) {
                    Some(ack) if ack.state == State::Interim => {
                        self.driver.with(|exchanges| caller::hear(exchanges, number, ack));
                        None
                    }
                    ack => ack.map(|ack| Input::Ack { number, ack }),
                }
            }
            (Kind::Resp, false) => {
                let read = batch::each(&message.payload, |at, payload| {
                    self.on_reply(message, number, at, &payload);
                });
                if let Err(why) = &read {
                    self.feed(Input::Unreadable { number, why: why.to_string() });
                }
                self.core.accept(message, read.map(Some));
                None
            }
            _ => None,
        };
        if let Some(input) = input {
            self.feed(input);
        }
    }

    /// The reply at this place of a message on the subject of the request `number`, which is the first one's.
    fn on_reply(&self, message: &Message, number: u64, at: usize, payload: &Bytes) {
        let subjects = &self.core.subjects;
        // Boxed at once: it is handed on several times.
        let reply = codec::decode_reply(payload).map(Box::new);
        if let (0, Err(why)) = (at, &reply) {
            self.feed(Input::Unreadable { number, why: why.to_string() });
        }
        let own = reply.map(|reply| {
            let (subject, id) = (&message.subject, &reply.client_req_id);
            // The subject has the id of the first.
            let own = if at == 0 { subjects.is_about(subject, id) } else { subjects.is_beside(subject, id) };
            let peer = reply.upstream_req_id.as_ref().filter(|_| reply.stream);
            let own = own && peer.is_none_or(|peer| peer.is_beside(id));
            own.then_some(Input::Reply { number: id.number(), reply })
        });
        if let Some(input) = self.core.accept(message, own) {
            self.feed(input);
        }
    }

    fn publish(
        &self,
        id: &RequestId,
        upstream: &Name,
        to: Option<ProcessId>,
        payload: Bytes,
        refused: bool,
    ) -> Option<Input<Caller>> {
        let max = self.core.bus.max_payload();
        if payload.len() > max {
            let detail = format!(
                "the request's headers do not fit in one message: {} bytes, the NATS server's max_payload is {max}",
                payload.len()
            );
            return Some(failed(id, Code::HeadersTooLarge, detail));
        }
        let subject = match to {
            Some(agent) => self.core.subjects.req_to(&agent, upstream),
            None => self.core.subjects.req(upstream),
        };
        let reply = self.core.subjects.of_request(Kind::Ack, id);
        // What one agent had no room for is spread over the others.
        let batching = if refused { Batching::Never } else { Batching::Subject { most: REQUESTS } };
        match self.core.bus.ask_batched(batching, subject, reply, payload) {
            Ok(()) => None,
            Err(full) => Some(failed(id, Code::ClientFull, full.to_string())),
        }
    }
}

impl Shell for Asker {
    type Machine = Exchanges<Caller>;

    fn driver(&self) -> &Driver<Self::Machine> {
        &self.driver
    }

    fn perform(&self, command: Command<Caller>) -> Option<Input<Caller>> {
        let core = &self.core;
        match command {
            Command::Publish { id, upstream, to, payload, refused } => {
                return self.publish(&id, &upstream, to, payload, refused);
            }
            Command::Probe { upstream, agent } => {
                let reply = core.subjects.probe_reply(&core.id, &upstream, &agent);
                core.ask(core.subjects.probe(&agent, &upstream), reply, Bytes::new());
            }
            Command::Who { upstream } => self.ask_who(Some(&upstream)),
            Command::Hold(hold) => core.ask(
                core.subjects.hold(&hold.upstream_target),
                core.subjects.of_request(Kind::Hold, &hold.client_req_id),
                codec::encode(&hold),
            ),
            Command::Update { to, hold } => {
                core.publish(core.subjects.of_request(Kind::Lease, &to), codec::encode(&hold));
            }
            Command::Renew { broker, upstream, lease } => core.ask(
                core.subjects.renew(&broker, &upstream),
                core.subjects.lost(&core.id, &broker),
                codec::encode(&lease),
            ),
            Command::Connect { id, to } => {
                if let Some(stream) = self.streams.get(id.number()) {
                    stream.connect(&to);
                }
            }
            Command::Cancel { to } => {
                let cancel = StreamMessage { to, word: Word::Cancel };
                core.publish(core.subjects.of_request(Kind::Body, &cancel.to), cancel.encode());
            }
            Command::Answer { caller, number, answer } => return self.answer(caller, number, answer),
        }
        None
    }
}

/// Whether the ids that an ack brings, to which this process will send something, are for the upstream of its request.
fn names_its_upstream(ack: &Ack) -> bool {
    let brought = [&ack.upstream_req_id, &ack.broker_req_id];
    brought.into_iter().flatten().all(|id| id.is_beside(&ack.client_req_id))
}

fn failed(id: &RequestId, code: Code, detail: String) -> Input<Caller> {
    let reply = Reply::error(id.clone(), &Fault::new(code, Side::Client, detail));
    Input::Reply { number: id.number(), reply: Box::new(reply) }
}

/// Requests in one message at most: it goes to one agent, whatever the others have to do.
const REQUESTS: usize = 4;

/// Abandons a request whose caller goes away before its answer.
struct Waiting<'a> {
    asker: &'a Arc<Asker>,
    number: u64,
    upstream: Name,
    answer: oneshot::Receiver<Came>,
    answered: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        let last = loop {
            match self.answer.try_recv() {
                Ok(Came::Interim(came)) => self.answer = came.1,
                last => break last,
            }
        };
        match last {
            // It came in the last moment; what it began ends with it.
            Ok(Came::Answer(Answered { reader: Some(_), .. })) => {
                let upstream = self.upstream.clone();
                self.asker.feed(Input::StreamEnded { upstream });
            }
            Ok(_) => {}
            Err(_) => {
                self.asker.feed(Input::Abandon { number: self.number });
                if let Some(upload) = self.asker.streams.get(self.number) {
                    upload.fail(Fault::new(Code::StreamCut, Side::Client, "the caller went away"));
                }
            }
        }
    }
}
