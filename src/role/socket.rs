//! The socket: lines of JSON in, each a named request to a REST API, straight or over NATS. `table` is what may be
//! named, `calling` how it is issued, `reload` how the file of requests is read again.
//!
//! Every request may go straight to its server, so NATS is not always needed: the process connects in any case, and
//! is seen by `relay ps` then, but it is ready without when no request names an upstream.

use std::{path::Path, sync::Arc, time::Duration};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
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
    config::{
        self, Entrance, Listen, Socket as Settings, Switch,
        requests::{MAX_TIMEOUT, Mistakes, Requests},
    },
    descriptors,
    front::{
        entrance::Listener,
        lines::{self, Lines},
        listen,
    },
    panics,
    proto::exchange,
    stream::{self, memory::Budget},
    wire::subjects::Address,
};

mod calling;
mod reload;
mod table;

use calling::Calling;
use table::Table;

/// One socket, or two: TCP and UNIX.
pub struct Socket {
    core: Arc<Core>,
    asker: Arc<Asker>,
    calling: Arc<Calling>,
    lines: Arc<Lines<Calling>>,
    limit: usize,
}

/// Runs a socket until it is told to stop and has finished; or says whether its requests are right.
///
/// # Errors
/// When it can't start: a setting, the requests, an address.
pub async fn run(settings: Settings) -> anyhow::Result<()> {
    let table = load(&settings.requests, None)?;
    if settings.check {
        println!("ok: {} requests in {}", table.requests().len(), settings.requests.display());
        return Ok(());
    }
    let mut signals = Signals::listen()?;
    descriptors::share_with_origins();
    let hangup = signal(SignalKind::hangup())?;
    let listeners = listeners(&settings)?;
    let (socket, events) = Socket::connect(&settings, table).await?;
    for listener in &listeners {
        tracing::info!(address = %listener.address()?, "socket listens");
    }
    tokio::spawn(Arc::clone(&socket.calling).follow(settings.requests.clone(), hangup));
    let stopper = Arc::clone(&socket);
    let stop = async {
        signals.stop().await;
        tracing::info!("stopping: requests in flight may finish");
        stopper.core.tell_to_stop();
        stopper.lines.drain();
        tokio::select! {
            () = tokio::time::sleep(panics::grace(settings.process.grace)) => tracing::warn!("the grace period is over"),
            () = signals.stop() => tracing::warn!("stopping at once"),
        }
        // What is in flight ends with an error, and each connection with its last line.
        stopper.lines.cut();
        tokio::time::sleep(LAST_LINES).await;
    };
    tokio::select! {
        ended = socket.serve(listeners, &settings, events) => ended?,
        () = stop => {}
    }
    socket.asker.streams().cut_all();
    socket.core.bus.flush().await;
    Ok(())
}

/// Reads the requests, and what is needed to call those they name; connections of `before` are kept.
fn load(path: &Path, before: Option<&Table>) -> Result<Table, Mistakes> {
    let requests = Requests::load(path)?;
    Table::new(requests, before).map_err(|all| Mistakes::new(path, all))
}

fn listeners(settings: &Settings) -> anyhow::Result<Vec<Listener>> {
    let mut listeners = Vec::new();
    let usual = settings.unix.is_none().then_some(Listen(USUAL.into()));
    if let Some(address) = settings.tcp.or(usual) {
        listeners.push(Listener::bind(&Entrance::Tcp(address), settings.unix_mode)?);
    }
    if let Some(path) = &settings.unix {
        let place = Entrance::Unix(path.clone());
        listeners.push(Listener::bind_for(&place, settings.unix_mode, settings.unix_owner.as_ref())?);
    }
    Ok(listeners)
}

impl Socket {
    /// Connects to NATS, or starts trying to.
    async fn connect(
        settings: &Settings,
        table: Table,
    ) -> anyhow::Result<(Arc<Self>, mpsc::Receiver<Event>)> {
        let (core, events) = Core::connect(&settings.process, "socket", "socket").await?;
        let core = Arc::new(core);
        let rules = exchange::Settings {
            // Each request has a time of its own, which is shorter.
            ttl: MAX_TIMEOUT,
            patience: settings.patience,
            max_in_flight: settings.max_in_flight,
            max_per_upstream: settings.max_in_flight,
        };
        let asker = asker::Settings {
            upstream: None,
            only: Vec::new(),
            routed: false,
            rules,
            streams: stream::Limits {
                streams: settings.max_in_flight,
                stall: settings.slow_timeout,
                idle: MAX_TIMEOUT,
            },
            egress: Vec::new(),
        };
        let asker = Asker::new(&core, asker);
        let calling = Arc::new(Calling::new(
            Arc::clone(&core),
            Arc::clone(&asker),
            table,
            calling::Limits {
                budget: Budget::new(config::bytes(settings.max_buffered)),
                max_response: config::bytes(settings.max_response),
            },
            settings.access_log == Switch::On,
        ));
        let limits = lines::Settings {
            max_line: config::bytes(settings.max_line),
            max_in_flight: settings.max_in_flight,
            per_connection: settings.max_in_flight_per_connection,
            max_connections: settings.max_connections,
            idle: settings.idle_timeout,
            slow: settings.slow_timeout,
        };
        let lines = Lines::new(limits, Arc::clone(&calling));
        Ok((Arc::new(Socket { core, asker, calling, lines, limit: settings.max_in_flight }), events))
    }

    /// Serves until the process is told to stop and every connection has had its last line.
    async fn serve(
        self: &Arc<Self>,
        listeners: Vec<Listener>,
        settings: &Settings,
        events: mpsc::Receiver<Event>,
    ) -> anyhow::Result<()> {
        self.asker.follow_agents().await?;
        core::start(self, &settings.process, events).await?;
        self.asker.run();
        tokio::spawn(Arc::clone(&self.calling).close_idle());
        let accepting = listeners.into_iter().map(|listener| self.accept(listener));
        futures_util::future::join_all(accepting).await;
        Ok(())
    }

    async fn accept(&self, listener: Listener) {
        let mut connections = JoinSet::new();
        listen::accept(listener, self.core.stopping(), |socket, peer| {
            connections.spawn(Arc::clone(&self.lines).serve(socket, peer));
            while connections.try_join_next().is_some() {}
        })
        .await;
        while connections.join_next().await.is_some() {}
    }
}

impl Service for Socket {
    fn process(&self) -> &Core {
        &self.core
    }

    fn service_name(&self) -> String {
        "relay-socket".into()
    }

    fn report(&self) -> Report {
        Report::of(&self.core, self.lines.in_flight(), self.limit)
    }
}

impl Role for Socket {
    fn core(&self) -> &Core {
        &self.core
    }

    fn on_message(&self, address: Address<'_>, message: &Message) {
        self.asker.on_message(&address, message);
    }

    fn needs_nats(&self) -> bool {
        self.calling.table().requests().need_nats()
    }

    fn on_link(&self, up: bool) {
        self.asker.on_link(up);
    }

    fn is_busy(&self) -> bool {
        self.asker.open().0 > 0
    }

    fn on_publish_denied(&self, subject: &str) {
        self.asker.on_publish_denied(subject);
    }

    fn refresh_metrics(&self) {
        let metrics = &self.core.metrics;
        metrics.in_flight.set(self.lines.in_flight() as i64);
        metrics.held.set(self.asker.open().1 as i64);
        metrics.streams.set(self.asker.streams().len() as i64);
        metrics.connections.set(self.lines.connections() as i64);
    }
}

/// Where it listens when nobody says anything else.
const USUAL: ([u8; 4], u16) = ([127, 0, 0, 1], 9876);
/// How long the last lines may take.
const LAST_LINES: Duration = Duration::from_secs(2);
