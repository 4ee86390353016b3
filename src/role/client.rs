//! The client agent: HTTP in, exchanges over NATS, answers out.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, oneshot},
    task::JoinSet,
};

use super::{
    core::{self, Announced, Core, Role},
    service::{Report, Service},
    shell::{Driver, Shell},
    signals::Signals,
};
use crate::{
    bus::{Event, Message, Subscription},
    cache::store::Limits,
    config::{Client as Settings, Switch},
    front::{
        self,
        body::Limits as BodyLimits,
        cached::Shared,
        entrance::Listener,
        http::{Answered, Front},
        listen,
        opening::Opening,
        tls::{self, Tls},
    },
    proto::{
        exchange::{self, Command, Exchanges, Input},
        routes,
    },
    stream::{self, Streams},
    wire::{
        Ack, Code, Fault, Here, Kind, Lost, Name, ProcessId, Reply, RequestId, Side, StreamMessage, Word,
        codec, ids::Numbers, subjects::Address,
    },
};

mod answering;
mod asking;
mod caching;
mod routing;

use asking::Asking;
use routing::{Routing, announcements};

type Caller = oneshot::Sender<Answered>;

/// One client agent.
pub struct Client {
    core: Arc<Core>,
    /// The upstream that all requests are for.
    upstream: Option<Name>,
    /// The upstreams whose agents matter; none stands for all.
    only: Vec<Name>,
    /// Where requests go when they are not all for one upstream.
    routing: Arc<Routing>,
    callers_name_upstreams: bool,
    limit: usize,
    access_log: bool,
    connections: AtomicUsize,
    streams: Arc<Streams>,
    cache: Option<Arc<Shared>>,
    driver: Driver<Exchanges<Caller>>,
}

/// Runs a client agent until it is told to stop and has finished.
///
/// # Errors
/// When it can't start: a setting, the listener's address, the admin address.
pub async fn run(settings: Settings) -> anyhow::Result<()> {
    let opening = opening(&settings)?;
    let listener = Listener::bind(&settings.listen, settings.listen_mode)?;
    let mut signals = Signals::listen()?;
    let (client, events) = Client::connect(&settings).await?;
    let upstream = settings.upstream.as_ref().map_or("by route", Name::as_str);
    tracing::info!(address = %listener.address()?, upstream, "client agent listens");
    let serving = client.serve(listener, opening, &settings, events);
    let stopper = Arc::clone(&client);
    let stop = async {
        signals.stop().await;
        tracing::info!("stopping: requests in flight may finish");
        stopper.core.tell_to_stop();
        tokio::select! {
            () = tokio::time::sleep(settings.process.grace) => tracing::warn!("the grace period is over"),
            () = signals.stop() => tracing::warn!("stopping at once"),
        }
    };
    tokio::select! {
        ended = serving => ended,
        () = stop => {
            client.streams.cut_all();
            client.core.bus.flush().await;
            Ok(())
        }
    }
}

impl Client {
    /// Connects to NATS, or starts trying to.
    ///
    /// # Errors
    /// When a setting can't be used.
    pub async fn connect(settings: &Settings) -> anyhow::Result<(Arc<Self>, mpsc::Receiver<Event>)> {
        let (core, events) = Core::connect(&settings.process, "client", "client").await?;
        let core = Arc::new(core);
        let rules = exchange::Settings {
            ttl: settings.ttl,
            patience: settings.patience,
            max_in_flight: settings.max_in_flight,
            max_per_upstream: settings.max_in_flight_per_upstream,
        };
        let exchanges = Exchanges::new(rules, core.id.clone(), Numbers::new(std::hash::RandomState::new()));
        let streams =
            Streams::new(core.bus.clone(), core.subjects.clone(), Side::Client, settings.max_streams);
        let client = Arc::new(Client {
            routing: Routing::new(Arc::clone(&core)),
            callers_name_upstreams: settings.allow_upstream_header == Switch::On,
            core,
            streams,
            only: settings.upstream.iter().chain(&settings.only).cloned().collect(),
            upstream: settings.upstream.clone(),
            limit: settings.max_in_flight,
            cache: cache(settings),
            access_log: settings.access_log == Switch::On,
            connections: AtomicUsize::new(0),
            driver: Driver::new(exchanges),
        });
        Ok((client, events))
    }

    /// The process.
    pub fn process(&self) -> &Core {
        &self.core
    }

    /// Serves until the process is told to stop and every connection has had its answer.
    ///
    /// # Errors
    /// When the admin address can't be had or the connection to NATS is closed for good.
    pub async fn serve(
        self: &Arc<Self>,
        listener: Listener,
        opening: Opening,
        settings: &Settings,
        events: mpsc::Receiver<Event>,
    ) -> anyhow::Result<()> {
        self.follow_agents().await?;
        let questions = self.core.bus.subscribe(self.core.subjects.every(Kind::Cache)).await?;
        tokio::spawn(Arc::clone(self).read_cache_questions(questions));
        core::start(self, &settings.process, events).await?;
        let timers = Arc::clone(self);
        tokio::spawn(async move { timers.run_timers().await });
        tokio::spawn(Arc::clone(&self.streams).run());
        let rules = front::http::Settings {
            upstream: settings.upstream.clone(),
            allow_upstream_header: settings.allow_upstream_header == Switch::On,
            ttl: settings.ttl,
            max_connections: settings.max_connections,
            max_header_bytes: size(settings.max_header_bytes),
            body: BodyLimits {
                max: settings.max_body.map_or(usize::MAX, size),
                pause: settings.body_timeout,
            },
            stream_idle: settings.stream_idle,
            header_timeout: settings.header_timeout,
            cache: self.cache.clone(),
        };
        if let Some(tls) = opening.tls.clone() {
            let hangup = signal(SignalKind::hangup())?;
            tokio::spawn(async move { tls.follow(hangup).await });
        }
        let front = Front::new(rules, opening, size(settings.max_buffered), Asking(Arc::clone(self)));
        let mut connections = JoinSet::new();
        listen::accept(listener, self.core.stopping(), |stream, peer| {
            let drain = self.core.stopping();
            // A task's cell is aligned to 128 bytes, which the allocator has at hand only in small sizes.
            connections.spawn(Box::pin(Arc::clone(&front).serve(stream, peer, drain)));
            while connections.try_join_next().is_some() {}
        })
        .await;
        while connections.join_next().await.is_some() {}
        // Upgraded connections are none of HTTP's any more.
        while !self.streams.is_empty() {
            tokio::time::sleep(DRAIN_CHECK).await;
        }
        self.core.bus.flush().await;
        Ok(())
    }

    fn publish(&self, id: &RequestId, upstream: &Name, payload: Bytes) -> Option<Input<Caller>> {
        let max = self.core.bus.max_payload();
        if payload.len() > max {
            let detail = format!(
                "the request's headers do not fit in one message: {} bytes, the NATS server's max_payload is {max}",
                payload.len()
            );
            return Some(failed(id, Code::HeadersTooLarge, detail));
        }
        let subject = self.core.subjects.req(upstream);
        let reply = self.core.subjects.of_request(Kind::Ack, id);
        match self.core.bus.ask(subject, reply, payload) {
            Ok(()) => None,
            Err(full) => Some(failed(id, Code::ClientFull, full.to_string())),
        }
    }

    /// Listens to what agents say of themselves and, where requests are routed, of their routes.
    async fn follow_agents(self: &Arc<Self>) -> anyhow::Result<()> {
        let core = &self.core;
        for kind in [Kind::Here, Kind::Gone] {
            for subject in announcements(&core.subjects, kind, &self.only) {
                let announced = core.bus.subscribe(subject).await?;
                tokio::spawn(Arc::clone(self).read_announcements(kind, announced));
            }
        }
        if self.upstream.is_some() {
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
        if self.upstream.is_none() {
            self.routing.here(&here);
        }
        self.feed(Input::Here(here));
    }

    fn gone(&self, upstream: Name, agent: ProcessId) {
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
                let own = ack.map(|ack| is_about(&ack.client_req_id).then_some(Input::Ack { number, ack }));
                self.core.accept(message, own)
            }
            (Kind::Resp, false) => {
                // Boxed at once: it is handed on several times.
                let reply = codec::decode_reply(&message.payload).map(Box::new);
                let own = reply
                    .map(|reply| is_about(&reply.client_req_id).then_some(Input::Reply { number, reply }));
                self.core.accept(message, own)
            }
            _ => None,
        };
        if let Some(input) = input {
            self.feed(input);
        }
    }
}

/// The shared cache, when the settings ask for one.
fn cache(settings: &Settings) -> Option<Arc<Shared>> {
    let total = settings.cache?.as_u64();
    Some(Shared::new(Limits { total, object: settings.cache_object.as_u64() })).filter(|_| total > 0)
}

/// How the connections of a client agent with these settings open.
///
/// # Errors
/// When the certificate can't be used, or anybody could say that he is somebody else.
pub fn opening(settings: &Settings) -> anyhow::Result<Opening> {
    let proxy_protocol = settings.proxy_protocol == Switch::On;
    anyhow::ensure!(
        !proxy_protocol || !settings.trusted_proxy.is_empty(),
        "--proxy-protocol on needs --trusted-proxy, the networks of the proxies that are believed"
    );
    let files = tls::Files::of(settings.tls_cert.as_deref(), settings.tls_key.as_deref())?;
    Ok(Opening {
        trusted: settings.trusted_proxy.clone(),
        proxy_protocol,
        tls: files.map(Tls::load).transpose()?.map(Arc::new),
        patience: settings.header_timeout,
    })
}

fn failed(id: &RequestId, code: Code, detail: String) -> Input<Caller> {
    let reply = Reply::error(id.clone(), &Fault::new(code, Side::Client, detail));
    Input::Reply { number: id.number(), reply: Box::new(reply) }
}

fn size(size: bytesize::ByteSize) -> usize {
    usize::try_from(size.as_u64()).unwrap_or(usize::MAX)
}

impl Shell for Client {
    type Machine = Exchanges<Caller>;

    fn driver(&self) -> &Driver<Self::Machine> {
        &self.driver
    }

    fn perform(&self, command: Command<Caller>) -> Option<Input<Caller>> {
        let core = &self.core;
        match command {
            Command::Publish { id, upstream, payload } => return self.publish(&id, &upstream, payload),
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

impl Service for Client {
    fn process(&self) -> &Core {
        &self.core
    }

    fn service_name(&self) -> String {
        "relay-client".into()
    }

    fn report(&self) -> Report {
        let metrics = &self.core.metrics;
        Report {
            role: "client".into(),
            upstream: self.upstream.as_ref().map(Name::to_string),
            in_flight: self.driver.with(|exchanges| exchanges.in_flight()) as u64,
            limit: self.limit as u64,
            requests: metrics.answered.get(),
            failed: metrics.failed.get(),
            uptime: self.core.started.elapsed().as_secs(),
            accepting: !self.core.is_stopping(),
            admin: self.core.admin.get().cloned(),
            endpoint: self.core.subjects.inbox(&self.core.id),
            agent: None,
        }
    }
}

impl Role for Client {
    fn core(&self) -> &Core {
        &self.core
    }

    fn on_message(&self, address: Address<'_>, message: &Message) {
        match address {
            Address::Request { kind, number, .. } => self.on_request_message(kind, number, message),
            Address::Lost { broker } if message.nobody => self.feed(Input::BrokerGone { broker }),
            Address::Lost { broker } => {
                let lost = codec::decode::<Lost>(&message.payload);
                let input = lost.map(|lost| Some(Input::Lost { broker, holds: lost.holds }));
                if let Some(input) = self.core.accept(message, input) {
                    self.feed(input);
                }
            }
            Address::Probe { upstream, agent } => self.on_probe(upstream, agent, message),
            Address::Renewal | Address::Probed { .. } | Address::Refused { .. } | Address::Ready => {}
        }
    }

    fn page(&self, path: &str) -> Option<String> {
        // Texts and numbers; they can always be written.
        (path == "/routes").then(|| serde_json::to_string_pretty(&self.routing.rows()).unwrap_or_default())
    }

    fn unready(&self) -> Option<&'static str> {
        let learns = self.upstream.is_none() && !self.routing.is_known();
        learns.then_some("asking the agents for their routes")
    }

    fn on_link(&self, up: bool) {
        self.feed(Input::Link { up });
        match &self.upstream {
            None => self.routing.feed(routes::Input::Link { up }),
            Some(upstream) if up => self.core.publish(self.core.subjects.who_of(upstream), Bytes::new()),
            Some(_) => {}
        }
    }

    fn on_publish_denied(&self, subject: &str) {
        let subjects = &self.core.subjects;
        let asked = [Kind::Req, Kind::Hold].into_iter().find_map(|kind| subjects.upstream_of(kind, subject));
        if let Some(upstream) = asked {
            self.feed(Input::Forbidden { upstream });
        }
    }

    fn refresh_metrics(&self) {
        let (in_flight, held) = self.driver.with(|exchanges| (exchanges.in_flight(), exchanges.held()));
        self.core.metrics.in_flight.set(in_flight as i64);
        self.core.metrics.held.set(held as i64);
        self.core.metrics.streams.set(self.streams.len() as i64);
        self.core.metrics.routes.set(self.routing.len() as i64);
        self.refresh_cache_metrics();
        self.core.metrics.connections.set(self.connections.load(Ordering::Relaxed) as i64);
    }
}

const DRAIN_CHECK: Duration = Duration::from_millis(20);
