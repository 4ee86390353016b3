//! One upstream of an agent: takes requests from its queue group, issues them to the origin, claims its routes.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use anyhow::Context;
use bytes::Bytes;
use prometheus_client::metrics::counter::Counter;
use tokio::task::{AbortHandle, JoinSet};

use super::{callee::Callee, queue::Queue};
use crate::{
    bus::{Batching, Message, Subscription},
    config::{Member as Settings, Switch},
    proto::{
        claims::{Claims, Row},
        serving::{self, Command, Condition, Input, Serving},
    },
    role::{
        core::{Announced, Core},
        service::{self, AgentReport, Report, Service},
        shell::{Driver, Shell},
    },
    stream::{self, Streams, Told},
    sync::{Mutex, RwLock},
    wire::{
        Code, Fault, Here, Kind, Name, Reply, Request, Side, StreamMessage, batch,
        codec::{self, Malformed},
        ids::{ByNumber, Numbers},
    },
};

/// One upstream that the process serves.
pub struct Member {
    pub(super) core: Arc<Core>,
    pub(super) name: Name,
    setup: RwLock<Arc<Setup>>,
    driver: Driver<Serving>,
    pub(super) calls: Mutex<ByNumber<AbortHandle>>,
    pub(super) streams: Arc<Streams>,
    pub(super) claims: Mutex<Claims>,
    pub(super) queue: Queue,
    /// Requests answered, and those of them with an error.
    answered: Counter,
    failed: Counter,
    /// What it runs beside requests.
    tasks: Mutex<JoinSet<()>>,
    /// Itself, for the tasks it starts.
    this: Weak<Member>,
}

/// What a call needs: the settings as they were when it began, and whom they say to call.
pub(super) struct Setup {
    pub settings: Settings,
    pub callee: Callee,
    /// Bytes of a response's body at most.
    pub max_body: usize,
}

impl Setup {
    /// # Errors
    /// When a setting can't be used.
    pub fn new(settings: Settings) -> anyhow::Result<Arc<Self>> {
        let named = || format!("upstream '{}'", settings.name);
        let callee = Callee::new(&settings).with_context(named)?;
        let max_body = settings.origin.max_body.map_or(u64::MAX, |size| size.as_u64());
        Ok(Arc::new(Setup { callee, max_body: usize::try_from(max_body).unwrap_or(usize::MAX), settings }))
    }
}

impl Member {
    /// A member that has not started.
    pub fn new(core: Arc<Core>, setup: Arc<Setup>) -> Arc<Self> {
        let name = setup.settings.name.clone();
        let rules = rules(&setup.settings);
        let serving = Serving::new(rules, core.id.clone(), Numbers::new(std::hash::RandomState::new()));
        let limits = streams(&setup.settings);
        let streams = Streams::new(core.bus.clone(), core.subjects.clone(), Side::Upstream, limits);
        let mut claims = Claims::new(core.id.clone(), name.clone());
        claims.set(&setup.settings.route, setup.settings.strip_prefix == Switch::On, Instant::now());
        Arc::new_cyclic(|this| Member {
            core,
            name,
            setup: RwLock::new(setup),
            driver: Driver::new(serving),
            calls: Mutex::new(ByNumber::default()),
            streams,
            claims: Mutex::new(claims),
            queue: Queue::default(),
            answered: Counter::default(),
            failed: Counter::default(),
            tasks: Mutex::new(JoinSet::new()),
            this: this.clone(),
        })
    }

    /// Joins the queue group and starts serving.
    ///
    /// # Errors
    /// When the connection to NATS is closed for good.
    pub async fn start(self: &Arc<Self>) -> anyhow::Result<()> {
        let subjects = &self.core.subjects;
        let wanted = self.driver.with(|serving| serving.is_wanted());
        let first = if wanted { Some(self.subscribe().await?) } else { None };
        self.queue.want(wanted);
        let here = self.core.bus.subscribe(subjects.every_of(Kind::Here, &self.name)).await?;
        let gone = self.core.bus.subscribe(subjects.every_of(Kind::Gone, &self.name)).await?;
        let questions = self.core.bus.subscribe(subjects.who_of(&self.name)).await?;
        let mut services = service::start(self).await?;
        let mut tasks = self.tasks.lock();
        tasks.spawn(Arc::clone(self).attend(first));
        tasks.spawn(Arc::clone(self).answer_who(questions));
        tasks.spawn(Arc::clone(self).read_siblings(Kind::Here, here));
        tasks.spawn(Arc::clone(self).read_siblings(Kind::Gone, gone));
        tasks.spawn(async move { while services.join_next().await.is_some() {} });
        let timers = Arc::clone(self);
        tasks.spawn(async move { timers.run_timers().await });
        tasks.spawn(Arc::clone(self).close_idle());
        tasks.spawn(Arc::clone(&self.streams).run());
        let settings = &self.setup().settings;
        let (origin, routes) = (settings.shown(), settings.route.len());
        tracing::info!(upstream = %self.name, %origin, routes, "upstream agent starts");
        Ok(())
    }

    /// Itself, for a task; nothing when it is gone.
    pub(super) fn myself(&self) -> Option<Arc<Self>> {
        self.this.upgrade()
    }

    /// How it calls its origin now.
    pub(super) fn setup(&self) -> Arc<Setup> {
        Arc::clone(&self.setup.read())
    }

    /// Takes nothing new, finishes what it has, and says goodbye.
    pub async fn finish(&self) {
        self.feed(Input::Drain);
        self.has_finished().await;
    }

    async fn has_finished(&self) {
        // Whatever NATS sends here until then is refused, so that it goes to another agent.
        self.queue.is_left().await;
        while self.driver.with(|serving| serving.unfinished()) > 0 {
            tokio::time::sleep(DRAIN_CHECK).await;
        }
    }

    /// Finishes what it has although the process goes on; true when it has, and was not told to go on after all.
    pub async fn retire(&self) -> bool {
        self.finish().await;
        self.is_draining()
    }

    /// Whether it takes nothing new.
    pub fn is_draining(&self) -> bool {
        self.driver.with(|serving| serving.condition()) == Condition::Draining
    }

    /// Goes on, after it was told to finish.
    pub fn resume(&self) {
        self.feed(Input::Resume);
        self.claim_all();
    }

    /// Ends all that it runs; it has finished.
    pub fn end(&self) {
        self.tasks.lock().abort_all();
        self.core.metrics.healthy.remove(&self.label());
    }

    /// From now on it is as `setup` says; calls that run keep the origin they began with.
    pub fn change(&self, setup: Arc<Setup>) {
        let settings = setup.settings.clone();
        self.streams.set_limits(streams(&settings));
        let before = self.setup();
        *self.setup.write() = setup;
        let strip = settings.strip_prefix == Switch::On;
        let said = self.claims().set(&settings.route, strip, Instant::now());
        self.publish_claims(&said);
        let how = |settings: &Settings| (settings.weight, settings.variant.clone());
        if how(&before.settings) != how(&settings) {
            self.queue.subscribe_anew();
        }
        self.feed(Input::Configure(rules(&settings)));
        if before.settings.egress != settings.egress {
            // Whoever has something to be called must know at once what this agent calls no more.
            self.feed(Input::Who);
        }
    }

    /// Cuts what is streamed: there is no more time for it.
    pub fn cut_all(&self) {
        self.streams.cut_all();
    }

    /// Brings the gauges up to date.
    pub fn refresh_metrics(&self) {
        let healthy = self.driver.with(|serving| serving.is_healthy());
        self.core.metrics.healthy.get_or_create(&self.label()).set(i64::from(healthy));
    }

    /// Requests at the origin.
    pub fn in_flight(&self) -> usize {
        self.driver.with(|serving| serving.in_flight())
    }

    /// Bodies that are streamed.
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// Somebody asks who is there.
    pub fn introduce_itself(&self) {
        self.claim_all();
        self.feed(Input::Who);
    }

    /// The connection came or went.
    pub fn on_link(&self, up: bool) {
        // Routes first: whoever hears of an agent whose routes it does not know asks for them.
        if up {
            self.claim_all();
        }
        self.feed(Input::Link { up });
    }

    pub(super) fn on_request(&self, message: &Message) {
        let mut heard = 0;
        let read = batch::each(&message.payload, |at, payload| {
            heard = at + 1;
            self.on_one_request(message, at, &payload);
        });
        if let Err(malformed) = &read {
            // Nor can what follows be read.
            (heard..).find(|&at| !self.refuse_malformed(message, at, malformed));
        }
        self.core.accept(message, read.map(Some));
    }

    fn on_one_request(&self, message: &Message, at: usize, payload: &Bytes) {
        let read = codec::decode_request(payload).map(Box::new);
        if let Err(malformed) = &read {
            self.refuse_malformed(message, at, malformed);
        }
        let own = read.map(|request| is_own(&request, &self.name).then_some(Input::Request(request)));
        if let Some(input) = self.core.accept(message, own) {
            self.feed(input);
        }
    }

    /// Whoever asked in words this agent does not understand gets told so, if its reply subject is one. False when it
    /// has no request `at` that place.
    fn refuse_malformed(&self, message: &Message, at: usize, why: &Malformed) -> bool {
        let subject = message.reply.as_ref().map(|reply| reply.as_str()).unwrap_or_default();
        let Some(id) = self.core.subjects.nth_id_of(Kind::Ack, subject, at) else { return false };
        if id.upstream() != self.name.as_str() {
            return false;
        }
        let detail = format!("the upstream agent could not read the request: {why}");
        let fault = Fault::new(Code::BadMessage, Side::Upstream, detail);
        let reply = Reply::error(id.clone(), &fault);
        self.core.publish(self.core.subjects.of_request(Kind::Resp, &id), codec::encode(&reply));
        true
    }

    async fn answer_who(self: Arc<Self>, mut questions: Subscription) {
        while questions.next().await.is_some() {
            self.claim_all();
            self.feed(Input::Sought);
            questions.pause(WHO_PAUSE).await;
        }
    }

    /// Listens to the other agents of this upstream.
    async fn read_siblings(self: Arc<Self>, kind: Kind, mut announcements: Subscription) {
        while let Some(message) = announcements.next().await {
            match self.core.announcement(kind, &message) {
                Some(Announced::Here(here)) => self.feed(Input::Sibling(here)),
                Some(Announced::Gone { agent, .. }) => self.feed(Input::SiblingGone(agent)),
                None => {}
            }
        }
    }

    async fn close_idle(self: Arc<Self>) {
        let mut tick = tokio::time::interval(CLOSE_IDLE);
        loop {
            tick.tick().await;
            self.setup().callee.close_idle();
        }
    }
}

/// Messages to the process that are about this upstream.
impl Member {
    /// About a body.
    pub fn on_stream_message(&self, number: u64, message: &Message) {
        if message.nobody {
            self.streams.unheard(number);
            return;
        }
        let about =
            |said: StreamMessage| self.core.subjects.is_about(&message.subject, &said.to).then_some(said);
        let Some(said) = self.core.accept(message, stream::read(message).map(about)) else { return };
        match self.streams.hear(number, said, message.reply.as_deref()) {
            Told::Stream => {}
            Told::Progress => self.feed(Input::Progress { number }),
            Told::Cancelled => self.feed(Input::Cancel { number }),
        }
    }

    /// Nobody heard a reply.
    pub fn on_reply_unheard(&self, number: u64) {
        self.feed(Input::ReplyUnheard { number });
    }

    /// Somebody asks whether it is there.
    pub fn on_probe(&self, message: &Message) {
        let Core { subjects, id, .. } = &*self.core;
        // Only to where this probe is answered: a prober must not aim this agent's words elsewhere.
        let prober = message.reply.as_ref().map(|reply| subjects.prober(reply, &self.name, id));
        match prober {
            Some(Some(prober)) => {
                let here = self.here(self.driver.with(|serving| serving.here()));
                self.core.publish(subjects.probe_reply(&prober, &self.name, id), codec::encode(&here));
            }
            Some(None) => self.core.metrics.drop_message("misaddressed"),
            None => {}
        }
    }

    /// What it says of itself, with its routes and the hosts that it calls.
    fn here(&self, here: Here) -> Here {
        let routes = self.claims().digest(Instant::now());
        Here { routes, allow: self.setup().settings.egress.allow.clone(), ..here }
    }

    /// Two, where messages from before on another subscription must have been read.
    fn after_round_trips(&self, trips: usize, input: Input) {
        if let Some(member) = self.myself() {
            tokio::spawn(async move {
                for _ in 0..trips {
                    member.core.round_trip().await;
                }
                member.feed(input);
            });
        }
    }

    fn announce(&self, here: Here) {
        self.core
            .publish(self.core.subjects.here(&self.name, &self.core.id), codec::encode(&self.here(here)));
    }
}

fn rules(settings: &Settings) -> serving::Settings {
    let Settings { name, ttl, ack_delay, max_in_flight, health, stand_by, variant, .. } = settings;
    let health = serving::Rules {
        checked: health.path.is_some(),
        interval: health.interval,
        fall: health.fall,
        rise: health.rise,
        // A host that can't be connected to says nothing of the others.
        eject_after: if settings.is_egress() { 0 } else { health.eject_after },
    };
    serving::Settings {
        upstream: name.clone(),
        variant: variant.clone(),
        ttl: *ttl,
        ack_delay: *ack_delay,
        max_in_flight: *max_in_flight,
        health,
        stand_by: *stand_by == Switch::On,
    }
}

fn streams(settings: &Settings) -> stream::Limits {
    let Settings { max_in_flight, origin, .. } = settings;
    stream::Limits { streams: *max_in_flight, stall: origin.send_timeout, idle: origin.stream_idle }
}

/// Whether a request's ids belong together, so that the answer goes where the request came from.
fn is_own(request: &Request, upstream: &Name) -> bool {
    request.upstream_target == *upstream && request.client_req_id.is_of(&request.client_id, upstream)
}

impl Shell for Member {
    type Machine = Serving;

    fn driver(&self) -> &Driver<Serving> {
        &self.driver
    }

    fn perform(&self, command: Command) -> Option<Input> {
        let core = &self.core;
        match command {
            Command::Call { number, request, .. } => return self.call(number, *request),
            Command::Abort { number } => {
                let call = self.calls.lock().remove(&number);
                if let Some(call) = call {
                    call.abort();
                    core.metrics.count_call("cancelled");
                }
                if let Some(stream) = self.streams.get(number) {
                    stream.fail(Fault::new(Code::StreamCut, Side::Upstream, "the request was given up"));
                }
            }
            Command::Ack(ack) => {
                core.publish(core.subjects.of_request(Kind::Ack, &ack.client_req_id), codec::encode(&ack));
            }
            Command::Reply { number, to, payload, failed } => {
                self.answered.inc();
                if failed {
                    self.failed.inc();
                }
                let unheard = core.subjects.of_own(Kind::Resp, &core.id, &self.name, number);
                core.ask_batched(
                    Batching::Addressee,
                    core.subjects.of_request(Kind::Resp, &to),
                    unheard,
                    payload,
                );
            }
            Command::Join { turn } => self.join(turn),
            Command::Leave => self.queue.want(false),
            Command::Check => self.check(),
            Command::Tell(news) => self.tell(news),
            Command::TellTurn(turn) => self.tell_turn(turn),
            Command::Announce(here) => self.announce(here),
            Command::Heartbeat(here) => {
                self.claim_contested();
                self.announce(here);
            }
            Command::Settle { published } => self.after_round_trips(1, Input::Settled { published }),
            Command::CatchUp => {
                tracing::warn!(upstream = %self.name, "the process stood still: requests that waited meanwhile are refused");
                self.after_round_trips(2, Input::CaughtUp);
            }
            Command::Farewell => core.publish(core.subjects.gone(&self.name, &core.id), Bytes::new()),
        }
        None
    }
}

impl Service for Member {
    fn process(&self) -> &Core {
        &self.core
    }

    fn service_name(&self) -> String {
        format!("relay-upstream-{}", self.name)
    }

    fn report(&self) -> Report {
        let (here, state) = self.driver.with(|serving| (serving.here(), serving.condition()));
        let setup = self.setup();
        Report {
            role: "upstream".into(),
            upstream: Some(self.name.to_string()),
            in_flight: here.in_flight,
            limit: here.limit,
            requests: self.answered.get(),
            failed: self.failed.get(),
            uptime: self.core.started.elapsed().as_secs(),
            accepting: here.accepting,
            agent: Some(AgentReport {
                state: state.as_str().into(),
                failing: here.failing,
                response: (here.response > 0).then_some(here.response),
                weight: setup.settings.weight as u64,
                variant: setup.settings.variant.as_ref().map(ToString::to_string),
                routes: setup.settings.route.len() as u64,
                allow: setup.settings.egress.allow.iter().map(ToString::to_string).collect(),
            }),
            admin: self.core.admin.get().cloned(),
            endpoint: self.core.subjects.req(&self.name),
        }
    }

    fn routes(&self) -> Option<Vec<Row>> {
        Some(self.claims().rows())
    }
}

/// How long whoever asks who is there waits, when others have just asked.
pub(super) const WHO_PAUSE: Duration = Duration::from_millis(100);
const DRAIN_CHECK: Duration = Duration::from_millis(20);
const CLOSE_IDLE: Duration = Duration::from_secs(5);
