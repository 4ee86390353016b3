//! What every process has: an id, one connection, one private subscription, metrics, an admin listener,
//! and a life: connect, be ready, lose NATS and find it again, drain, end.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use bytes::Bytes;
use futures_util::future::OptionFuture;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    time::timeout,
};

use crate::{
    bus::{Batching, Bus, Credentials, Event, Foreign, Message},
    config::{self, Admin, Listen, Process},
    front::{admin, listen},
    panics,
    role::{
        discovery, link, ps,
        service::{self, Service},
    },
    telemetry::{Metrics, Throttle},
    wire::{
        Here, Kind, Name, ProcessId, Subjects, codec,
        codec::Malformed,
        subjects::{self, Address},
    },
};

/// One process of a role.
pub struct Core {
    /// What it is: `client`, `upstream`, `broker` or `socket`.
    pub role: &'static str,
    /// Its id, new at every start.
    pub id: ProcessId,
    /// Its connection.
    pub bus: Bus,
    /// Its subjects.
    pub subjects: Subjects,
    /// Its metrics.
    pub metrics: Metrics,
    /// When it started.
    pub started: Instant,
    /// Where others find its admin listener.
    pub admin: OnceLock<String>,
    state: AtomicU8,
    login_refused: AtomicBool,
    warned_of_version: AtomicBool,
    /// Round trips so far, and the last one whose message came back.
    trips: AtomicU64,
    heard: watch::Sender<u64>,
    stop: watch::Sender<bool>,
}

/// What an agent announces.
pub enum Announced {
    /// It is here.
    Here(Here),
    /// It leaves.
    Gone {
        /// The upstream.
        upstream: Name,
        /// The agent.
        agent: ProcessId,
    },
}

/// What a role does with what happens to its process.
pub trait Role: Send + Sync + 'static {
    /// The process.
    fn core(&self) -> &Core;
    /// A message to the process's private subjects.
    fn on_message(&self, address: Address<'_>, message: &Message);
    /// Whether it can do nothing without NATS.
    fn needs_nats(&self) -> bool {
        true
    }
    /// What it waits for, once it is connected, before it is ready.
    fn unready(&self) -> Option<&'static str> {
        None
    }
    /// A page of its admin listener, in JSON.
    fn page(&self, _path: &str) -> Option<String> {
        None
    }
    /// The connection came (after a round trip) or went.
    fn on_link(&self, up: bool);
    /// Whether a request waits for a message over NATS.
    fn is_busy(&self) -> bool {
        false
    }
    /// It is about to connect to another server: nothing may be on its way here that would be lost.
    fn before_moving(&self) -> impl Future<Output = ()> + Send {
        async {}
    }
    /// NATS refused a publication.
    fn on_publish_denied(&self, subject: &str);
    /// Brings the gauges up to date.
    fn refresh_metrics(&self);
}

const CONNECTING: u8 = 0;
const READY: u8 = 1;
const AWAY: u8 = 2;
const REFUSED: u8 = 3;
const STOPPING: u8 = 4;

impl Core {
    /// Connects (or starts trying to) as `role`.
    ///
    /// # Errors
    /// When a setting names something that can't be read.
    pub async fn connect(
        settings: &Process,
        role: &'static str,
        realm: &str,
    ) -> anyhow::Result<(Core, mpsc::Receiver<Event>)> {
        let realm: Name = match &settings.realm {
            Some(realm) => realm.clone(),
            None => realm.parse().context("the role's own realm is a name")?,
        };
        let id = ProcessId::random(&realm);
        let credentials = Credentials {
            inbox: Some(subjects::inbox_of(&realm)),
            ..settings.nats.credentials(format!("relay {role} {id}"))?
        };
        let (bus, events) = Bus::connect(&credentials).await?;
        let core = Core {
            role,
            id,
            bus,
            subjects: Subjects::new(settings.nats.prefix.clone()),
            metrics: Metrics::new(role),
            started: Instant::now(),
            admin: OnceLock::new(),
            state: AtomicU8::new(CONNECTING),
            login_refused: AtomicBool::new(false),
            warned_of_version: AtomicBool::new(false),
            trips: AtomicU64::new(0),
            heard: watch::Sender::new(0),
            stop: watch::Sender::new(false),
        };
        Ok((core, events))
    }

    /// Publishes a message, or counts that it could not.
    pub fn publish(&self, subject: String, payload: Bytes) {
        if self.bus.publish(subject, payload).is_err() {
            self.metrics.drop_message("queue_full");
        }
    }

    /// Publishes a message whose "no responders" matters, or counts that it could not.
    pub fn ask(&self, subject: String, reply: String, payload: Bytes) {
        if self.bus.ask(subject, reply, payload).is_err() {
            self.metrics.drop_message("queue_full");
        }
    }

    /// [`Core::ask`], perhaps in one message with others.
    pub fn ask_batched(&self, batching: Batching, subject: String, reply: String, payload: Bytes) {
        if self.bus.ask_batched(batching, subject, reply, payload).is_err() {
            self.metrics.drop_message("queue_full");
        }
    }

    /// Answers a question that was not asked by a process of relay, on its reply subject if that is an inbox. Anything else is
    /// dropped: the asker would have this process publish where it may not publish itself.
    pub fn answer(&self, question: &Message, payload: Bytes) {
        match &question.reply {
            Some(reply) if subjects::is_reply_inbox(reply) => self.publish(reply.to_string(), payload),
            Some(_) => self.metrics.drop_message("misaddressed"),
            None => {}
        }
    }

    /// What a message says, when it could be read and its ids are those of its subject; otherwise it is
    /// counted and dropped. A message whose id is not its subject's would let one upstream's agent speak
    /// for another's: NATS permissions are about subjects.
    pub fn accept<I>(&self, message: &Message, read: Result<Option<I>, Malformed>) -> Option<I> {
        let (reason, why) = match read {
            Ok(Some(input)) => return Some(input),
            Ok(None) => ("misaddressed", Malformed::new("its ids are not its subject's")),
            Err(malformed) => ("malformed", malformed),
        };
        self.metrics.drop_message(reason);
        if why.is_version() && !self.warned_of_version.swap(true, Ordering::Relaxed) {
            tracing::warn!(subject = %message.subject, %why, "somebody speaks another version; messages are dropped");
        }
        tracing::debug!(subject = %message.subject, %why, "a message was dropped");
        None
    }

    /// What an announcement says, when it is its sender's own.
    pub fn announcement(&self, kind: Kind, message: &Message) -> Option<Announced> {
        let named = self.subjects.announced(&message.subject);
        let read = match (kind, named) {
            (_, None) => Ok(None),
            // JetStream answers in JSON, on whatever reply subject it is given.
            (Kind::Gone, _) if !message.payload.is_empty() => Err(Malformed::new("a goodbye has no payload")),
            (Kind::Gone, Some((upstream, agent))) => Ok(Some(Announced::Gone { upstream, agent })),
            (_, Some((upstream, agent))) => codec::decode::<Here>(&message.payload).map(|here| {
                let own = here.upstream_target == upstream && here.upstream_id == agent;
                own.then_some(Announced::Here(here))
            }),
        };
        self.accept(message, read)
    }

    /// Brings the count of foreign messages up to date. They are counted where they are dropped, below the metrics.
    fn count_foreign(&self) {
        for foreign in Foreign::ALL {
            self.metrics.dropped_in_all(foreign.as_str(), self.bus.foreign(foreign));
        }
    }

    /// Waits until what was sent to NATS so far has come back from it: only then is a subscription in
    /// force. (A flush is no round trip: others may still get "no responders" after it.)
    pub async fn round_trip(&self) {
        let mut heard = self.heard.subscribe();
        loop {
            // Numbered, as several may be on their way: the message of an earlier one proves less.
            let trip = self.begin_trip();
            if timeout(ROUND_TRIP, heard.wait_for(|heard| *heard >= trip)).await.is_ok() {
                return;
            }
        }
    }

    /// Begins a round trip: which one it is.
    pub fn begin_trip(&self) -> u64 {
        let trip = self.trips.fetch_add(1, Ordering::Relaxed) + 1;
        self.publish(self.subjects.ready(&self.id), Bytes::copy_from_slice(&trip.to_be_bytes()));
        trip
    }

    /// The last round trip that has ended.
    pub fn last_trip(&self) -> u64 {
        *self.heard.borrow()
    }

    /// Whether there is a connection, over which round trips should end.
    pub fn is_watched(&self) -> bool {
        self.bus.is_connected() && self.state.load(Ordering::Relaxed) != REFUSED
    }

    /// The connection is of no use any more.
    pub fn lost(&self) {
        self.set_state(AWAY);
    }

    fn hear_itself(&self, payload: &[u8]) {
        if let Ok(trip) = payload.try_into().map(u64::from_be_bytes) {
            self.heard.send_if_modified(|heard| {
                let news = trip > *heard;
                *heard = trip.max(*heard);
                news
            });
        }
    }

    /// Whether NATS is there and what is sent arrives.
    pub fn is_ready(&self) -> bool {
        self.state.load(Ordering::Relaxed) == READY
    }

    /// Whether NATS refused to let this process in when it last tried.
    pub fn is_login_refused(&self) -> bool {
        self.login_refused.load(Ordering::Relaxed)
    }

    /// Whether the process is being stopped.
    pub fn is_stopping(&self) -> bool {
        *self.stop.borrow()
    }

    /// Is done when the process is told to stop.
    pub fn stopping(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut stop = self.stop.subscribe();
        async move {
            // It fails when the process is gone, which is a way of being told.
            stop.wait_for(|stop| *stop).await.ok();
        }
    }

    /// Tells everything in the process to stop.
    pub fn tell_to_stop(&self) {
        self.state.store(STOPPING, Ordering::Relaxed);
        self.stop.send_replace(true);
    }

    fn set_state(&self, state: u8) {
        if !self.is_stopping() {
            self.state.store(state, Ordering::Relaxed);
        }
        self.metrics.connected.set(i64::from(state == READY));
    }
}

/// Starts what every process runs beside its own work, and the one service that it is to NATS.
///
/// # Errors
/// When the admin address can't be had.
pub async fn start<R: Role + Service>(
    role: &Arc<R>,
    settings: &Process,
    events: mpsc::Receiver<Event>,
) -> anyhow::Result<()> {
    // The life of the process is the service's.
    service::start(role).await?.detach_all();
    run(role, settings, events).await
}

/// Starts what every process runs beside its own work.
///
/// # Errors
/// When the admin address can't be had.
pub async fn run<R: Role>(
    role: &Arc<R>,
    settings: &Process,
    events: mpsc::Receiver<Event>,
) -> anyhow::Result<()> {
    let core = role.core();
    if let Some(listener) = admin_listener(settings.admin, core.role)? {
        let address = listener.local_addr()?;
        tracing::info!(%address, "admin listener");
        core.admin.set(discovery::found_at(address, settings.admin_host.as_deref())).ok();
        let stopped = std::future::pending();
        tokio::spawn(admin::serve(listener, Arc::new(AdminStatus(Arc::clone(role))), stopped));
    }
    let inbox = core.bus.subscribe(core.subjects.inbox(&core.id)).await?;
    tokio::spawn(read_inbox(Arc::clone(role), inbox));
    tokio::spawn(follow_link(Arc::clone(role), events));
    tokio::spawn(link::watch(Arc::clone(role)));
    Ok(())
}

async fn read_inbox<R: Role>(role: Arc<R>, mut inbox: crate::bus::Subscription) {
    while let Some(message) = inbox.next().await {
        let core = role.core();
        match core.subjects.address(&core.id, &message.subject) {
            Some(Address::Ready) => core.hear_itself(&message.payload),
            Some(address) => role.on_message(address, &message),
            None => core.metrics.drop_message("misaddressed"),
        }
    }
    // The connection is closed for good: nothing reaches this process any more.
    role.core().set_state(AWAY);
}

async fn follow_link<R: Role>(role: Arc<R>, mut events: mpsc::Receiver<Event>) {
    let mut ever = false;
    // What has been said of attempts to connect since there was a connection: of each trouble once.
    let mut told: Vec<String> = Vec::new();
    let mut told_of_inboxes = false;
    // Runs from a connection until it has proved itself; one at a time, whatever else happens meanwhile.
    let mut proof = std::pin::pin!(None);
    loop {
        let event = tokio::select! {
            event = events.recv() => event,
            _ = OptionFuture::from(proof.as_mut().as_pin_mut()), if proof.is_some() => {
                proof.set(None);
                link_up(&*role, &mut ever);
                continue;
            }
        };
        let core = role.core();
        match event {
            None => return,
            Some(Event::Connected) => {
                told.clear();
                told_of_inboxes = false;
                core.login_refused.store(false, Ordering::Relaxed);
                proof.set(Some(core.round_trip()));
            }
            Some(Event::Disconnected) => {
                proof.set(None);
                core.set_state(AWAY);
                role.on_link(false);
                if !core.is_stopping()
                    && let Some(held_back) = GONE.pass(Instant::now())
                {
                    tracing::warn!(held_back, "the connection to NATS is gone; trying again");
                }
            }
            // Whoever asks for /sd is told.
            Some(Event::PublishDenied(subject)) if subject == ps::QUESTION => {
                tracing::debug!(%subject, "NATS permissions refuse a publication");
            }
            Some(Event::PublishDenied(subject)) => {
                if let Some(held_back) = DENIED.pass(Instant::now()) {
                    tracing::warn!(%subject, held_back, "NATS permissions refuse a publication");
                }
                role.on_publish_denied(&subject);
            }
            // Without them it knows less of who is there, and works.
            Some(Event::SubscribeDenied(subject))
                if matches!(core.subjects.kind(&subject), Some(Kind::Here | Kind::Gone | Kind::Who)) =>
            {
                tracing::warn!(%subject, "NATS permissions hide which agents there are");
            }
            Some(Event::SubscribeDenied(subject)) if core.subjects.kind(&subject) == Some(Kind::Cache) => {
                tracing::warn!(%subject, "NATS permissions keep purges from this process");
            }
            // A broker that uses JetStream over this connection needs them, and /sd; all else works.
            Some(Event::SubscribeDenied(subject)) if subjects::is_inbox(&subject) => {
                if !std::mem::replace(&mut told_of_inboxes, true) {
                    tracing::warn!(%subject, "NATS permissions keep answers to what this process asks from it");
                }
                role.on_publish_denied(&subject);
            }
            Some(Event::SubscribeDenied(subject))
                if matches!(core.subjects.kind(&subject), Some(Kind::Session | Kind::Ended)) =>
            {
                tracing::warn!(%subject, "NATS permissions keep news of sessions or jobs from this process: callers who wait for one learn late");
            }
            Some(Event::SubscribeDenied(subject)) => {
                // It may be told after the round trip; the state says so until there is a new connection.
                proof.set(None);
                core.set_state(REFUSED);
                role.on_link(false);
                tracing::error!(%subject, "NATS permissions refuse a subscription this process needs; is --realm right?");
            }
            Some(Event::LameDuck) => drop(tokio::spawn(link::move_away(Arc::clone(&role)))),
            Some(Event::Dropped) => {
                core.metrics.drop_message("slow_reader");
                if let Some(held_back) = SLOW.pass(Instant::now()) {
                    tracing::warn!(held_back, "messages were dropped: this process can't keep up");
                }
            }
            // Told again at every attempt to connect, of each server; once is enough.
            Some(Event::LoginRefused(what) | Event::Unreachable(what) | Event::Trouble(what))
                if told.contains(&what) =>
            {
                tracing::debug!(%what, "NATS");
            }
            Some(Event::LoginRefused(what)) => {
                tracing::warn!(%what, "NATS refuses the credentials");
                core.login_refused.store(true, Ordering::Relaxed);
                tell_once(&mut told, what);
            }
            Some(Event::Unreachable(what)) => {
                tokio::spawn(say_why_unreachable(core.bus.clone(), what.clone()));
                tell_once(&mut told, what);
            }
            Some(Event::Trouble(what)) => {
                tracing::warn!(%what, "NATS");
                tell_once(&mut told, what);
            }
        }
    }
}

/// Notes that `what` has been said.
fn tell_once(told: &mut Vec<String>, what: String) {
    if told.len() >= MOST_TOLD {
        told.remove(0);
    }
    told.push(what);
}

async fn say_why_unreachable(bus: Bus, what: String) {
    let why = bus.why_unreachable().await.unwrap_or(what);
    let server = config::shown(bus.servers());
    tracing::warn!(%server, %why, "NATS can't be reached; trying again");
}

fn link_up<R: Role>(role: &R, ever: &mut bool) {
    let core = role.core();
    let version = core.bus.server_version();
    if std::mem::replace(ever, true) {
        core.metrics.reconnects.inc();
        if let Some(held_back) = AGAIN.pass(Instant::now()) {
            tracing::info!(id = %core.id, server = %version, held_back, "connected to NATS again");
        }
    } else {
        tracing::info!(id = %core.id, server = %version, "connected to NATS");
        if let Some(advice) = old_server(&version) {
            tracing::warn!(server = %version, "{advice}");
        }
    }
    core.set_state(READY);
    role.on_link(true);
}

/// What to say about a server's version. Below these, a queue subscription can slip past permissions
/// (GHSA-jx8g-9g95-6322).
fn old_server(version: &str) -> Option<&'static str> {
    let mut numbers = version.split(['.', '-', '+']).map(|n| n.parse::<u32>().unwrap_or(0));
    let version = (numbers.next()?, numbers.next()?, numbers.next()?);
    let fixed = match version {
        (2, ..=10, _) => {
            return Some("this NATS server is older than 2.11 and no longer maintained; please upgrade it");
        }
        (2, 11, patch) => patch >= 16,
        (2, 12, patch) => patch >= 7,
        (2, 13, _) => false,
        _ => true,
    };
    (!fixed).then_some(
        "this NATS server has known holes in its permissions; please upgrade it to its newest patch",
    )
}

/// The admin listener: the address asked for or nothing; without one, the role's own port or a free one.
fn admin_listener(admin: Option<Admin>, role: &str) -> anyhow::Result<Option<TcpListener>> {
    let port = match role {
        "client" => 9180,
        "broker" => 9181,
        "socket" => 9183,
        _ => 9182,
    };
    match admin {
        Some(Admin::Off) => Ok(None),
        Some(Admin::On(Listen(address))) => listen::bind(address).map(Some),
        None => {
            let usual = listen::bind(([127, 0, 0, 1], port).into());
            usual.or_else(|_| listen::bind(([127, 0, 0, 1], 0).into())).map(Some)
        }
    }
}

struct AdminStatus<R>(Arc<R>);

impl<R: Role> admin::Status for AdminStatus<R> {
    fn unready(&self) -> Option<&'static str> {
        match self.0.core().state.load(Ordering::Relaxed) {
            _ if panics::begun() => Some("code has panicked, see the log; the process stops"),
            READY => self.0.unready(),
            CONNECTING | AWAY | REFUSED if !self.0.needs_nats() => None,
            CONNECTING => Some("not yet connected to NATS"),
            AWAY => Some("the connection to NATS is gone"),
            REFUSED => Some("NATS permissions refuse a subscription this process needs"),
            _ => Some("shutting down"),
        }
    }

    fn metrics(&self) -> String {
        self.0.refresh_metrics();
        self.0.core().count_foreign();
        self.0.core().metrics.text()
    }

    async fn page(&self, path: &str) -> Option<Result<String, String>> {
        match path {
            "/sd" => Some(discovery::targets(&self.0.core().bus).await),
            path => self.0.page(path).map(Ok),
        }
    }
}

const ROUND_TRIP: Duration = Duration::from_secs(1);
/// Troubles with connecting that are remembered.
const MOST_TOLD: usize = 16;
static GONE: Throttle = Throttle::per_second_after_some();
static AGAIN: Throttle = Throttle::per_second_after_some();
static SLOW: Throttle = Throttle::per_second();
static DENIED: Throttle = Throttle::per_second();

#[cfg(test)]
mod tests {
    use super::old_server;

    #[test]
    fn servers_with_known_holes_are_warned_about() {
        for old in ["2.9.10", "2.10.29", "2.11.15", "2.12.6", "2.13.1"] {
            assert!(old_server(old).is_some(), "{old}");
        }
        for good in ["2.11.16", "2.12.7", "2.14.0", "2.15.2", "3.0.0", ""] {
            assert!(old_server(good).is_none(), "{good}");
        }
    }
}
