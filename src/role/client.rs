//! The client agent: HTTP in, exchanges over NATS, answers out.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{Semaphore, mpsc},
    task::JoinSet,
};

use super::{
    asker::{self, Asker},
    core::{self, Core, Role},
    service::{Report, Service},
    signals::Signals,
};
use crate::{
    bus::{Event, Message},
    cache::store::Limits,
    config::{self, Client as Settings, Switch},
    front::{
        self,
        body::Limits as BodyLimits,
        cached::Shared,
        entrance::Listener,
        http::Front,
        jobs::{self, Desk},
        listen,
        opening::Opening,
        tls::{self, Tls},
    },
    panics,
    proto::exchange,
    store::StoreClient,
    stream,
    wire::{Kind, Name, headers::Credentials, job::Reach, subjects::Address},
};

mod asking;
mod caching;
mod sessions;

use asking::Asking;
use sessions::Sessions;

/// One client agent.
pub struct Client {
    core: Arc<Core>,
    asker: Arc<Asker>,
    callers_name_upstreams: bool,
    limit: usize,
    access_log: bool,
    connections: AtomicUsize,
    cache: Option<Arc<Shared>>,
    /// The way to what brokers store, for jobs and sessions.
    store: Option<Arc<StoreClient>>,
    desk: Option<Arc<Desk>>,
    sessions: Option<Arc<Sessions>>,
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
            () = tokio::time::sleep(panics::grace(settings.process.grace)) => tracing::warn!("the grace period is over"),
            () = signals.stop() => tracing::warn!("stopping at once"),
        }
    };
    tokio::select! {
        ended = serving => ended,
        () = stop => {
            client.asker.streams().cut_all();
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
        let asker = Asker::new(
            &core,
            asker::Settings {
                upstream: settings.upstream.clone(),
                only: settings.only.clone(),
                routed: settings.upstream.is_none(),
                rules,
                streams: stream::Limits {
                    streams: settings.max_streams,
                    stall: settings.send_timeout,
                    idle: settings.stream_idle,
                },
                egress: Vec::new(),
            },
        );
        let stores = settings.jobs == Switch::On || settings.sessions.sessions.is_some();
        let store =
            stores.then(|| StoreClient::new(core.bus.clone(), core.subjects.clone(), core.id.clone()));
        let sessions =
            store.as_ref().and_then(|store| Sessions::new(&settings.sessions, &core, &asker, store));
        let client = Arc::new(Client {
            sessions,
            asker,
            callers_name_upstreams: settings.allow_upstream_header == Switch::On,
            limit: settings.max_in_flight,
            cache: cache(settings),
            desk: store.as_ref().and_then(|store| desk(settings, &core, store)),
            store,
            access_log: settings.access_log == Switch::On,
            connections: AtomicUsize::new(0),
            core,
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
        self.asker.follow_agents().await?;
        let questions = self.core.bus.subscribe(self.core.subjects.every(Kind::Cache)).await?;
        tokio::spawn(Arc::clone(self).read_cache_questions(questions));
        core::start(self, &settings.process, events).await?;
        self.asker.run();
        if let Some(sessions) = &self.sessions {
            tokio::spawn(Arc::clone(sessions).count());
        }
        let rules = front::http::Settings {
            upstream: settings.upstream.clone(),
            allow_upstream_header: settings.allow_upstream_header == Switch::On,
            ttl: settings.ttl,
            max_connections: settings.max_connections,
            max_header_bytes: config::bytes(settings.max_header_bytes),
            fault_details: settings.fault_details,
            body: BodyLimits {
                max: settings.max_body.map_or(usize::MAX, config::bytes),
                pause: settings.body_timeout,
            },
            stream_idle: settings.stream_idle,
            send_timeout: settings.send_timeout,
            header_timeout: settings.header_timeout,
            keep_alive: settings.keep_alive,
            cache: self.cache.clone(),
            jobs: self.desk.clone(),
        };
        if let Some(tls) = opening.tls.clone() {
            let hangup = signal(SignalKind::hangup())?;
            tokio::spawn(async move { tls.follow(hangup).await });
        }
        let front =
            Front::new(rules, opening, config::bytes(settings.max_buffered), Asking(Arc::clone(self)));
        let mut connections = JoinSet::new();
        listen::accept(listener, self.core.stopping(), |stream, peer| {
            let (front, client) = (Arc::clone(&front), Arc::clone(self));
            let serving = async move {
                // Made here: what is handed over takes the room of it twice.
                let drain = std::pin::pin!(client.core.stopping());
                front.serve(stream, peer, drain).await;
            };
            // A task's cell is aligned to 128 bytes, which the allocator has at hand only in small sizes.
            connections.spawn(Box::pin(serving));
            while connections.try_join_next().is_some() {}
        })
        .await;
        while connections.join_next().await.is_some() {}
        // Upgraded connections are none of HTTP's any more.
        while !self.asker.streams().is_empty() {
            tokio::time::sleep(DRAIN_CHECK).await;
        }
        self.core.bus.flush().await;
        Ok(())
    }
}

/// The shared cache, when the settings ask for one.
fn cache(settings: &Settings) -> Option<Arc<Shared>> {
    let total = settings.cache?.as_u64();
    Some(Shared::new(Limits { total, object: settings.cache_object.as_u64() })).filter(|_| total > 0)
}

/// Where jobs are taken, when the settings ask for it.
fn desk(settings: &Settings, core: &Core, store: &Arc<StoreClient>) -> Option<Arc<Desk>> {
    let any = settings.forward_to.iter().any(|name| name.as_str() == ANY);
    // Without a word of it, a job goes where its caller could go himself: where routes lead, or to the one upstream.
    let (forward_to, reach) = match (settings.forward_to.as_slice(), &settings.upstream) {
        (_, _) if any => (Vec::new(), Reach::Names),
        ([], Some(upstream)) => (vec![upstream.clone()], Reach::Names),
        ([], None) => (settings.only.clone(), Reach::Routes),
        (named, _) => (named.to_vec(), Reach::Names),
    };
    let desk = Desk {
        store: Arc::clone(store),
        process: core.id.clone(),
        unsettled: Arc::new(Semaphore::new(jobs::MAX_UNSETTLED)),
        settings: jobs::Settings {
            max_body: config::bytes(settings.max_job_body),
            max_hops: settings.max_hops,
            forward_to,
            reach,
            credentials: Credentials::with(&settings.credential_header),
        },
    };
    (settings.jobs == Switch::On).then(|| Arc::new(desk))
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
        underscores: settings.underscore_headers == Switch::On,
        proxy_protocol,
        tls: files.map(Tls::load).transpose()?.map(Arc::new),
        patience: settings.header_timeout,
    })
}

impl Service for Client {
    fn process(&self) -> &Core {
        &self.core
    }

    fn service_name(&self) -> String {
        "relay-client".into()
    }

    fn report(&self) -> Report {
        let upstream = self.asker.upstream().map(Name::to_string);
        Report { upstream, ..Report::of(&self.core, self.asker.open().0, self.limit) }
    }
}

impl Role for Client {
    fn core(&self) -> &Core {
        &self.core
    }

    fn on_message(&self, address: Address<'_>, message: &Message) {
        match (&address, &self.sessions) {
            (Address::Request { kind: Kind::Meet, number, .. }, Some(sessions)) => {
                sessions.on_message(*number, message);
            }
            (Address::Request { kind: kind @ (Kind::Stored | Kind::Body), number, .. }, _)
                if self.store.as_ref().is_some_and(|store| store.on_message(*kind, *number, message)) => {}
            _ => self.asker.on_message(&address, message),
        }
    }

    fn page(&self, path: &str) -> Option<String> {
        // Texts and numbers; they can always be written.
        (path == "/routes")
            .then(|| serde_json::to_string_pretty(&self.asker.routing().rows()).unwrap_or_default())
    }

    fn unready(&self) -> Option<&'static str> {
        let learns = self.asker.upstream().is_none() && !self.asker.routing().is_known();
        learns.then_some("asking the agents for their routes")
    }

    fn on_link(&self, up: bool) {
        self.asker.on_link(up);
    }

    fn is_busy(&self) -> bool {
        self.asker.open().0 > 0
    }

    fn on_publish_denied(&self, subject: &str) {
        self.asker.on_publish_denied(subject);
        if let Some(store) = &self.store {
            store.on_publish_denied(subject);
        }
    }

    fn refresh_metrics(&self) {
        let (in_flight, held) = self.asker.open();
        self.core.metrics.in_flight.set(in_flight as i64);
        self.core.metrics.held.set(held as i64);
        self.core.metrics.streams.set(self.asker.streams().len() as i64);
        self.core.metrics.routes.set(self.asker.routing().size() as i64);
        self.refresh_cache_metrics();
        let waits = self.sessions.as_ref().map_or(0, |sessions| sessions.waits());
        self.core.metrics.session_waits.set(waits as i64);
        self.core.metrics.connections.set(self.connections.load(Ordering::Relaxed) as i64);
    }
}

/// What stands for every upstream.
const ANY: &str = "any";
const DRAIN_CHECK: Duration = Duration::from_millis(20);
