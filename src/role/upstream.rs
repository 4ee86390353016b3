//! The upstream agent: takes requests from its queue group and issues them to the origin.

use std::{
    pin::pin,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::{
    sync::{mpsc, watch},
    task::AbortHandle,
    time::timeout,
};

use super::{
    core::{self, Core, Role},
    service::Report,
    shell::{Driver, Shell},
    signals::Signals,
};
use crate::{
    bus::{Event, Message, Subscription},
    config::Upstream as Settings,
    origin::Origin,
    proto::serving::{self, Command, Input, Serving},
    stream::{self, Streams, Told},
    wire::{
        Code, Fault, Kind, Name, Reply, Request, Side, StreamMessage, codec,
        ids::{ByNumber, Numbers},
        subjects::Address,
    },
};

mod call;

/// One upstream agent.
pub struct Upstream {
    core: Core,
    name: Name,
    limit: usize,
    origin: Origin,
    driver: Driver<Serving>,
    calls: Mutex<ByNumber<AbortHandle>>,
    streams: Arc<Streams>,
    /// Bytes of a response's body at most.
    max_body: usize,
    /// How long an upgraded connection may be silent.
    stream_idle: Duration,
    /// Whether this agent is to be a member of the queue group.
    member: watch::Sender<bool>,
    /// Itself, for the tasks it starts.
    this: std::sync::Weak<Upstream>,
}

/// Runs an upstream agent until it is told to stop and has finished.
///
/// # Errors
/// When it can't start.
pub async fn run(settings: Settings) -> anyhow::Result<()> {
    let mut signals = Signals::listen()?;
    let (agent, events) = Upstream::connect(&settings).await?;
    let grace = settings.process.grace;
    let leaving = agent.start(&settings, events).await?;
    signals.stop().await;
    tracing::info!("stopping: requests in flight may finish");
    tokio::select! {
        () = agent.finish(leaving) => {}
        () = tokio::time::sleep(grace) => tracing::warn!("the grace period is over"),
        () = signals.stop() => tracing::warn!("stopping at once"),
    }
    agent.streams.cut_all();
    agent.core.bus.flush().await;
    Ok(())
}

impl Upstream {
    /// Connects to NATS, or starts trying to.
    ///
    /// # Errors
    /// When a setting can't be used.
    pub async fn connect(settings: &Settings) -> anyhow::Result<(Arc<Self>, mpsc::Receiver<Event>)> {
        let (core, events) = Core::connect(&settings.process, "upstream", "agent").await?;
        let max_body = settings.origin.max_body.map_or(u64::MAX, |size| size.as_u64());
        let origin = Origin::new(&settings.origin)?;
        let (bus, subjects) = (core.bus.clone(), core.subjects.clone());
        let streams = Streams::new(bus, subjects, Side::Upstream, settings.max_in_flight);
        let rules = serving::Settings {
            upstream: settings.name.clone(),
            ttl: settings.ttl,
            ack_delay: settings.ack_delay,
            max_in_flight: settings.max_in_flight,
        };
        let serving = Serving::new(rules, core.id.clone(), Numbers::new(std::hash::RandomState::new()));
        let agent = Arc::new_cyclic(|this| Upstream {
            core,
            name: settings.name.clone(),
            limit: settings.max_in_flight,
            origin,
            driver: Driver::new(serving),
            calls: Mutex::new(ByNumber::default()),
            streams,
            max_body: usize::try_from(max_body).unwrap_or(usize::MAX),
            stream_idle: settings.origin.stream_idle,
            member: watch::Sender::new(true),
            this: this.clone(),
        });
        Ok((agent, events))
    }

    /// The process.
    pub fn process(&self) -> &Core {
        &self.core
    }

    /// Starts serving; what is returned ends when the agent has left the queue group for good.
    ///
    /// # Errors
    /// When the admin address can't be had or the connection to NATS is closed for good.
    pub async fn start(
        self: &Arc<Self>,
        settings: &Settings,
        events: mpsc::Receiver<Event>,
    ) -> anyhow::Result<tokio::task::JoinHandle<()>> {
        // Before the process says that it is ready: the round trip it waits for then shows that this
        // subscription is in force too.
        let requests = self.core.bus.join(self.core.subjects.req(&self.name)).await?;
        let leaving = tokio::spawn(Arc::clone(self).read_requests(requests));
        for subject in [self.core.subjects.who(), self.core.subjects.who_of(&self.name)] {
            let questions = self.core.bus.subscribe(subject).await?;
            tokio::spawn(Arc::clone(self).answer_who(questions));
        }
        core::start(self, &settings.process, events).await?;
        let timers = Arc::clone(self);
        tokio::spawn(async move { timers.run_timers().await });
        tokio::spawn(Arc::clone(self).close_idle());
        tokio::spawn(Arc::clone(&self.streams).run());
        tracing::info!(upstream = %self.name, origin = %settings.origin.to, "upstream agent starts");
        Ok(leaving)
    }

    /// Takes nothing new, finishes what it has, and says goodbye.
    pub async fn finish(&self, leaving: tokio::task::JoinHandle<()>) {
        self.core.tell_to_stop();
        self.feed(Input::Drain);
        // Whatever NATS sends here until then is refused, so that it goes to another agent.
        leaving.await.ok();
        while self.driver.with(|serving| serving.unfinished()) > 0 {
            tokio::time::sleep(DRAIN_CHECK).await;
        }
        self.core.bus.flush().await;
    }

    /// Takes what the queue group has for it, until it is to leave.
    async fn read_requests(self: Arc<Self>, mut requests: Subscription) {
        let mut member = self.member.subscribe();
        loop {
            tokio::select! {
                biased;
                message = requests.next() => match message {
                    Some(message) => self.on_request(&message),
                    None => return,
                },
                () = stopped_being(&mut member) => break,
            }
        }
        // Without NATS nothing is on its way.
        if self.core.bus.is_connected() {
            self.leave(requests).await;
        }
    }

    /// Leaves the queue group without losing what NATS has already sent: whoever asked would wait in vain,
    /// and may not ask anybody else. So NATS is asked for some more messages and then none, which both
    /// sides count. What comes during a round trip tells how many are on their way; where none come for a
    /// while none are, most likely, and the subscription can end.
    async fn leave(&self, mut requests: Subscription) {
        let started = Instant::now();
        let mut arrived = 0;
        let round_trip = timeout(LONGEST_ROUND_TRIP, self.core.round_trip());
        let mut round_trip = pin!(round_trip);
        loop {
            tokio::select! {
                biased;
                message = requests.next() => match message {
                    Some(message) => self.on_request(&message),
                    None => return,
                },
                _ = &mut round_trip => break,
            }
            arrived += 1;
        }
        let silence = (started.elapsed() * 10).clamp(SILENCE, LONGEST_ROUND_TRIP);
        for more in [2 * arrived + SLACK, 1] {
            requests.end_after(more).await;
            while let Ok(message) = timeout(silence, requests.next()).await {
                match message {
                    Some(message) => self.on_request(&message),
                    None => return,
                }
            }
        }
        requests.end().await;
        while let Ok(Some(message)) = timeout(LONGEST_ROUND_TRIP, requests.next()).await {
            self.on_request(&message);
        }
    }

    fn on_request(&self, message: &Message) {
        let read = codec::decode_request(&message.payload);
        if let Err(malformed) = &read {
            self.refuse_malformed(message, &malformed.to_string());
        }
        let own = read.map(|request| is_own(&request, &self.name).then_some(Input::Request(request)));
        if let Some(input) = self.core.accept(message, own) {
            self.feed(input);
        }
    }

    /// Whoever asked in words this agent does not understand gets told so, if its reply subject is one.
    fn refuse_malformed(&self, message: &Message, why: &str) {
        let subject = message.reply.as_ref().map(|reply| reply.as_str()).unwrap_or_default();
        let Some(id) = self.core.subjects.id_of(Kind::Ack, subject) else { return };
        if id.upstream() != self.name.as_str() {
            return;
        }
        let detail = format!("the upstream agent could not read the request: {why}");
        let fault = Fault::new(Code::BadMessage, Side::Upstream, detail);
        let reply = Reply::error(id.clone(), &fault);
        self.core.publish(self.core.subjects.of_request(Kind::Resp, &id), codec::encode(&reply));
    }

    async fn answer_who(self: Arc<Self>, mut questions: Subscription) {
        while questions.next().await.is_some() {
            self.feed(Input::Who);
        }
    }

    async fn close_idle(self: Arc<Self>) {
        let mut tick = tokio::time::interval(CLOSE_IDLE);
        loop {
            tick.tick().await;
            self.origin.close_idle();
        }
    }
}

async fn stopped_being(member: &mut watch::Receiver<bool>) {
    // It fails when the agent is gone, and then it is no member either.
    member.wait_for(|member| !*member).await.ok();
}

/// Whether a request's ids belong together, so that the answer goes where the request came from.
fn is_own(request: &Request, upstream: &Name) -> bool {
    request.upstream_target == *upstream && request.client_req_id.is_of(&request.client_id, upstream)
}

impl Shell for Upstream {
    type Machine = Serving;

    fn driver(&self) -> &Driver<Serving> {
        &self.driver
    }

    fn perform(&self, command: Command) -> Option<Input> {
        let core = &self.core;
        match command {
            Command::Call { number, request, .. } => return self.call(number, *request),
            Command::Abort { number } => {
                let call = self.calls.lock().expect("no panic while calls are listed").remove(&number);
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
                core.metrics.answered.inc();
                if failed {
                    core.metrics.failed.inc();
                }
                let unheard = core.subjects.of_own(Kind::Resp, &core.id, &self.name, number);
                core.ask(core.subjects.of_request(Kind::Resp, &to), unheard, payload);
            }
            Command::Join(here) => {
                if let Some(agent) = self.this.upgrade() {
                    // Said only when it is true: others would send requests into the void.
                    tokio::spawn(async move {
                        agent.core.round_trip().await;
                        agent.announce(&here);
                    });
                }
            }
            Command::Leave => drop(self.member.send_replace(false)),
            Command::Announce(here) => self.announce(&here),
            Command::Farewell => core.publish(core.subjects.gone(&self.name, &core.id), Bytes::new()),
        }
        None
    }
}

impl Upstream {
    fn on_stream_message(&self, number: u64, message: &Message) {
        let about =
            |said: StreamMessage| self.core.subjects.is_about(&message.subject, &said.to).then_some(said);
        let Some(said) = self.core.accept(message, stream::read(message).map(about)) else { return };
        match self.streams.hear(number, said, message.reply.as_deref()) {
            Told::Stream => {}
            Told::Progress => self.feed(Input::Progress { number }),
            Told::Cancelled => self.feed(Input::Cancel { number }),
        }
    }

    fn announce(&self, here: &crate::wire::Here) {
        self.core.publish(self.core.subjects.here(&self.name, &self.core.id), codec::encode(here));
    }
}

impl Role for Upstream {
    fn core(&self) -> &Core {
        &self.core
    }

    fn service_name(&self) -> String {
        format!("relay-upstream-{}", self.name)
    }

    fn on_message(&self, address: Address<'_>, message: &Message) {
        match address {
            Address::Request { kind: Kind::Body, number, .. } if message.nobody => {
                self.streams.unheard(number);
            }
            Address::Request { kind: Kind::Body, upstream, number } if upstream == self.name.as_str() => {
                self.on_stream_message(number, message);
            }
            Address::Request { kind: Kind::Resp, number, .. } if message.nobody => {
                self.feed(Input::ReplyUnheard { number });
            }
            Address::Probed { upstream } if upstream == self.name.as_str() => {
                // Only to where probes are answered: a prober must not aim this agent's words elsewhere.
                if let Some(reply) =
                    message.reply.as_ref().filter(|r| self.core.subjects.kind(r) == Some(Kind::Probe))
                {
                    let here = self.driver.with(|serving| serving.here());
                    self.core.publish(reply.to_string(), codec::encode(&here));
                }
            }
            Address::Request { .. }
            | Address::Probed { .. }
            | Address::Probe { .. }
            | Address::Renewal
            | Address::Lost { .. }
            | Address::Claimed { .. }
            | Address::Ready => {}
        }
    }

    fn on_link(&self, up: bool) {
        self.feed(Input::Link { up });
    }

    fn on_publish_denied(&self, _: &str) {}

    fn report(&self) -> Report {
        let here = self.driver.with(|serving| serving.here());
        Report {
            role: "upstream".into(),
            upstream: Some(self.name.to_string()),
            in_flight: here.in_flight,
            limit: self.limit as u64,
            requests: self.core.metrics.answered.get(),
            failed: self.core.metrics.failed.get(),
            uptime: self.core.started.elapsed().as_secs(),
            accepting: here.accepting,
            admin: self.core.admin.get().cloned(),
            endpoint: self.core.subjects.req(&self.name),
        }
    }

    fn refresh_metrics(&self) {
        let in_flight = self.driver.with(|serving| serving.in_flight());
        self.core.metrics.in_flight.set(in_flight as i64);
        self.core.metrics.streams.set(self.streams.len() as i64);
    }
}

/// How long no request may come until none is on its way: so long at least, and ten round trips.
const SILENCE: Duration = Duration::from_millis(50);
/// How long to wait for NATS when leaving.
const LONGEST_ROUND_TRIP: Duration = Duration::from_secs(1);
/// Messages that may be on their way beyond what a round trip tells.
const SLACK: u64 = 64;
const DRAIN_CHECK: Duration = Duration::from_millis(20);
const CLOSE_IDLE: Duration = Duration::from_secs(5);
