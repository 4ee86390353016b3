//! What a process tells its operator: log lines and metrics.
//!
//! Metrics have one prefix, base units, and labels of few values: never a path, never an id.

use std::fmt;

use http::Method;
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::Registry,
};

use crate::{
    output,
    sync::Mutex,
    wire::{Code, Name, Side},
};

mod logs;
mod throttle;

pub use logs::init_logs;
pub use throttle::Throttle;

/// The metrics of one process.
pub struct Metrics {
    registry: Mutex<Registry>,
    /// Requests that were answered, at the client agent.
    pub requests: Family<Requests, Counter>,
    /// How long they took.
    pub durations: Family<OfUpstream, Histogram>,
    /// Faults by code and side.
    pub faults: Family<Faulted, Counter>,
    /// All requests answered and all that failed, for `relay ps` and `nats micro stats`; not scraped.
    pub answered: Counter,
    /// See `answered`.
    pub failed: Counter,
    /// Callers that went away.
    pub abandoned: Counter,
    /// Requests to the origin by outcome, at the upstream agent.
    pub calls: Family<Called, Counter>,
    /// Messages that were dropped, by reason.
    pub dropped: Family<Dropped, Counter>,
    /// Reconnections to NATS.
    pub reconnects: Counter,
    /// 1 while the connection to NATS stands.
    pub connected: Gauge,
    /// Requests in flight.
    pub in_flight: Gauge,
    /// Bodies that are streamed.
    pub streams: Gauge,
    /// Requests that a broker watches.
    pub held: Gauge,
    /// Agents known to a broker.
    pub agents: Gauge,
    /// Routes in the client agent's table.
    pub routes: Gauge,
    /// Claims of routes that were refused, by reason.
    pub claims_refused: Family<ClaimRefused, Counter>,
    /// Connections at the client agent.
    pub connections: Gauge,
    /// 1 while the origin of an upstream is believed to work.
    pub healthy: Family<OfUpstream, Gauge>,
    /// Checks of an origin that failed.
    pub checks_failed: Family<OfUpstream, Counter>,
    /// Times that an origin was given up because it could not be connected to.
    pub ejections: Family<OfUpstream, Counter>,
    /// Times that an agent left the work to its siblings because it was slower.
    pub stand_bys: Family<OfUpstream, Counter>,
    /// Named requests of the socket, by how they ended.
    pub named_requests: Family<NamedEnd, Counter>,
    /// How long they took.
    pub named_durations: Family<Named, Histogram>,
    /// Lines that the socket refused, by reason.
    pub lines_refused: Family<LineRefused, Counter>,
    /// Connections to the socket that have ended, by reason.
    pub sockets_closed: Family<SocketClosed, Counter>,
    /// Connections that were closed before their first request, by reason.
    pub turned_away: Family<TurnedAway, Counter>,
    /// Callers that took nothing of their response for too long.
    pub send_timeouts: Counter,
    /// What became of requests at the cache.
    pub cached: Family<Cached, Counter>,
    /// Responses that had to make room in it.
    pub cache_evictions: Counter,
    /// Responses in it.
    pub cache_entries: Gauge,
    /// Bytes it takes.
    pub cache_bytes: Gauge,
    /// Requests that wait there for what another fetches.
    pub cache_waiting: Gauge,
    /// Jobs that were accepted, by kind.
    pub jobs_accepted: Family<JobAccepted, Counter>,
    /// Jobs that are worked on.
    pub jobs_running: Gauge,
    /// Hops of jobs that are done.
    pub job_hops: Counter,
    /// Jobs that ended, by state.
    pub jobs_ended: Family<JobEnded, Counter>,
    /// Jobs that were kept as dead letters.
    pub dead_letters: Counter,
    /// Rendezvous sessions, at all client agents.
    pub sessions: Gauge,
    /// Requests that wait in sessions.
    pub session_waits: Gauge,
    /// Bytes that have gone out to receivers.
    pub session_bytes: Counter,
    log_lines_lost: Counter,
}

/// Labels of a job that was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct JobAccepted {
    /// `chain` or `request`.
    pub kind: &'static str,
}

/// Labels of a job that ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct JobEnded {
    /// `done`, `failed` or `cancelled`.
    pub state: &'static str,
}

/// Labels of an answered request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Requests {
    /// The upstream.
    pub upstream: Label<Name>,
    /// The method; uncommon ones are `OTHER`.
    pub method: &'static str,
    /// `2xx` and so on.
    pub status: &'static str,
}

/// The upstream as a label.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OfUpstream {
    /// The upstream.
    pub upstream: Label<Name>,
}

/// Labels of a fault.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Faulted {
    /// The code.
    pub code: Label<Code>,
    /// Whose side.
    pub raised_by: Label<Side>,
}

/// Labels of a call to the origin.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Called {
    /// `answered`, `failed`, `cancelled` or `refused`.
    pub outcome: &'static str,
}

/// Labels of a dropped message.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Dropped {
    /// `malformed`, `misaddressed`, `headers`, `status`, `jetstream_reply`, `queue_full` or `slow_reader`.
    pub reason: &'static str,
}

/// Labels of a claim that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ClaimRefused {
    /// `taken`, `limit` or `malformed`.
    pub reason: &'static str,
}

/// Labels of a connection that was closed before its first request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct TurnedAway {
    /// `proxy_header` or `tls_handshake`.
    pub reason: &'static str,
}

/// Labels of a named request that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct NamedEnd {
    /// Its name.
    pub request: String,
    /// `ok` or `error`.
    pub status: &'static str,
}

/// A named request as a label.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Named {
    /// Its name.
    pub request: String,
}

/// Labels of a line that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LineRefused {
    /// The code in its reply.
    pub reason: &'static str,
}

/// Labels of a connection to the socket that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SocketClosed {
    /// Why.
    pub reason: &'static str,
}

/// Labels of a request at the cache.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Cached {
    /// `hit`, `collapsed`, `stale`, `revalidated`, `miss` or `bypass`.
    pub result: &'static str,
}

/// Anything that shows itself, as a label.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Label<T>(pub T);

impl<T: fmt::Display> EncodeLabelValue for Label<T> {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        EncodeLabelValue::encode(&self.0.to_string().as_str(), encoder)
    }
}

impl Metrics {
    /// All at zero.
    pub fn new(role: &'static str) -> Self {
        let metrics = Metrics {
            registry: Mutex::new(Registry::with_prefix("relay")),
            requests: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            faults: Family::default(),
            answered: Counter::default(),
            failed: Counter::default(),
            abandoned: Counter::default(),
            calls: Family::default(),
            dropped: Family::default(),
            reconnects: Counter::default(),
            connected: Gauge::default(),
            in_flight: Gauge::default(),
            streams: Gauge::default(),
            held: Gauge::default(),
            agents: Gauge::default(),
            routes: Gauge::default(),
            claims_refused: Family::default(),
            connections: Gauge::default(),
            healthy: Family::default(),
            checks_failed: Family::default(),
            ejections: Family::default(),
            stand_bys: Family::default(),
            named_requests: Family::default(),
            named_durations: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            lines_refused: Family::default(),
            sockets_closed: Family::default(),
            turned_away: Family::default(),
            send_timeouts: Counter::default(),
            cached: Family::default(),
            cache_evictions: Counter::default(),
            cache_entries: Gauge::default(),
            cache_bytes: Gauge::default(),
            cache_waiting: Gauge::default(),
            jobs_accepted: Family::default(),
            jobs_running: Gauge::default(),
            job_hops: Counter::default(),
            jobs_ended: Family::default(),
            dead_letters: Counter::default(),
            sessions: Gauge::default(),
            session_waits: Gauge::default(),
            session_bytes: Counter::default(),
            log_lines_lost: Counter::default(),
        };
        metrics.register(role);
        metrics
    }

    fn register(&self, role: &'static str) {
        let mut registry = self.registry.lock();
        let build = Info::new([("version", env!("CARGO_PKG_VERSION")), ("role", role)]);
        registry.register("build", "What runs here", build);
        registry.register("requests", "Requests answered", self.requests.clone());
        registry.register("request_duration_seconds", "Time to answer a request", self.durations.clone());
        registry.register("faults", "Requests that failed in the relay", self.faults.clone());
        registry.register("requests_abandoned", "Callers that went away", self.abandoned.clone());
        registry.register("origin_calls", "Requests to the origin", self.calls.clone());
        registry.register("messages_dropped", "Messages dropped", self.dropped.clone());
        registry.register("nats_reconnects", "Reconnections to NATS", self.reconnects.clone());
        registry.register("nats_connected", "1 while the connection to NATS stands", self.connected.clone());
        registry.register("requests_in_flight", "Requests in flight", self.in_flight.clone());
        registry.register("streams", "Bodies that are streamed", self.streams.clone());
        registry.register("requests_held", "Requests that a broker watches", self.held.clone());
        registry.register("agents", "Upstream agents known", self.agents.clone());
        registry.register("routes", "Routes in the table", self.routes.clone());
        registry.register("claims_refused", "Claims of routes refused", self.claims_refused.clone());
        registry.register("origin_healthy", "1 while the origin is believed to work", self.healthy.clone());
        registry.register("health_checks_failed", "Checks that failed", self.checks_failed.clone());
        registry.register("ejections", "Times the origin was given up", self.ejections.clone());
        registry.register("stand_bys", "Times siblings were left the work", self.stand_bys.clone());
        registry.register("connections", "Connections from callers", self.connections.clone());
        registry.register("socket_requests", "Named requests of the socket", self.named_requests.clone());
        registry.register("socket_request_duration_seconds", "Time of them", self.named_durations.clone());
        registry.register("socket_lines_refused", "Lines that were refused", self.lines_refused.clone());
        registry.register("socket_connections_closed", "Connections ended", self.sockets_closed.clone());
        registry.register("send_timeouts", "Callers that stopped reading", self.send_timeouts.clone());
        registry.register("connections_refused", "Connections without a request", self.turned_away.clone());
        registry.register("cache_requests", "What became of requests at the cache", self.cached.clone());
        registry.register("cache_evictions", "Responses that had to make room", self.cache_evictions.clone());
        registry.register("cache_entries", "Responses in the cache", self.cache_entries.clone());
        registry.register("cache_bytes", "Bytes the cache takes", self.cache_bytes.clone());
        registry.register("cache_waiting", "Requests that wait for another's", self.cache_waiting.clone());
        registry.register("jobs_accepted", "Jobs accepted", self.jobs_accepted.clone());
        registry.register("jobs_running", "Jobs that are worked on", self.jobs_running.clone());
        registry.register("job_hops", "Hops of jobs that are done", self.job_hops.clone());
        registry.register("jobs_ended", "Jobs that ended", self.jobs_ended.clone());
        registry.register("dead_letters", "Jobs kept as dead letters", self.dead_letters.clone());
        registry.register("sessions", "Rendezvous sessions in NATS", self.sessions.clone());
        registry.register("session_waits", "Requests that wait in sessions", self.session_waits.clone());
        registry.register("session_bytes", "Bytes received in sessions", self.session_bytes.clone());
        registry.register("log_lines_lost", "Log lines not written", self.log_lines_lost.clone());
    }

    /// Counts a dropped message.
    pub fn drop_message(&self, reason: &'static str) {
        self.dropped.get_or_create(&Dropped { reason }).inc();
    }

    /// So many messages were dropped for this reason since the start.
    pub fn dropped_in_all(&self, reason: &'static str, count: u64) {
        if count > 0 {
            let counter = self.dropped.get_or_create(&Dropped { reason });
            counter.inc_by(count.saturating_sub(counter.get()));
        }
    }

    /// Counts a call to the origin.
    pub fn count_call(&self, outcome: &'static str) {
        self.calls.get_or_create(&Called { outcome }).inc();
    }

    /// Counts a connection that was closed before its first request.
    pub fn turn_away(&self, reason: &'static str) {
        self.turned_away.get_or_create(&TurnedAway { reason }).inc();
    }

    /// The text that Prometheus scrapes.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let registry = self.registry.lock();
        // They are counted below, where they are lost.
        self.log_lines_lost.inc_by(output::lost_log_lines().saturating_sub(self.log_lines_lost.get()));
        // Writing to a String can't fail.
        encode(&mut text, &registry).ok();
        text
    }
}

/// `2xx` and so on.
pub fn status_class(status: http::StatusCode) -> &'static str {
    match status.as_u16() / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    }
}

/// The method as a label of few values.
pub fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        _ => "OTHER",
    }
}

const SECONDS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];
