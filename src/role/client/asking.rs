//! The front's way to the exchanges, and what becomes of a request as logs and metrics have it.

use std::sync::{Arc, atomic::AtomicUsize};

use super::{Client, sessions::Sessions};
use crate::{
    front::{
        http::{Answered, Ask, Sought},
        served::{Decision, Served},
    },
    proto::exchange::Input,
    role::shell::Shell,
    stream::Streams,
    telemetry::{Faulted, JobAccepted, Label, OfUpstream, Requests, method_label, status_class},
    wire::{Fault, Name, ProcessId, Request, RequestId, session},
};

/// The front's way to the exchanges.
pub struct Asking(pub Arc<Client>);

impl Ask for Asking {
    type Sessions = Sessions;

    fn sessions(&self) -> Option<&Arc<Sessions>> {
        self.0.sessions.as_ref()
    }

    fn process(&self) -> ProcessId {
        self.0.core.id.clone()
    }

    fn is_stopping(&self) -> bool {
        self.0.core.is_stopping()
    }

    fn mint(&self, upstream: &Name) -> RequestId {
        self.0.asker.mint(upstream)
    }

    fn waits(&self, request: &RequestId) -> bool {
        self.0.asker.waits(request.number())
    }

    fn seek(&self, host: &str, path: &[u8]) -> Sought {
        self.0.asker.routing().seek(host, path)
    }

    fn has_route(&self, host: &str) -> bool {
        self.0.asker.routing().has_host(host)
    }

    fn ask(&self, request: Request) -> impl Future<Output = Answered> + Send {
        self.0.asker.ask(request)
    }

    fn streams(&self) -> &Arc<Streams> {
        self.0.asker.streams()
    }

    fn inline(&self) -> usize {
        self.0.asker.inline()
    }

    fn progress(&self, number: u64) {
        self.0.asker.feed(Input::Progress { number });
    }

    fn stream_ended(&self, upstream: &Name) {
        self.0.asker.feed(Input::StreamEnded { upstream: upstream.clone() });
    }

    fn accepted(&self, kind: &'static str) {
        self.0.core.metrics.jobs_accepted.get_or_create(&JobAccepted { kind }).inc();
    }

    fn connections(&self) -> &AtomicUsize {
        &self.0.connections
    }

    fn turned_away(&self, reason: &'static str) {
        self.0.core.metrics.turn_away(reason);
    }

    fn stalled(&self) {
        self.0.core.metrics.send_timeouts.inc();
    }

    fn refused(&self, fault: &Fault) {
        let labels = Faulted { code: Label(fault.code), raised_by: Label(fault.raised_by) };
        self.0.core.metrics.faults.get_or_create(&labels).inc();
    }

    fn served(&self, served: &Served) {
        let client = &self.0;
        if client.access_log {
            log(served);
        } else if let Some(detail) = &served.detail {
            tracing::debug!(id = %served.id, decision = %decision(served.decision), detail, "a request failed");
        }
        let metrics = &client.core.metrics;
        if let Decision::Abandoned = served.decision {
            metrics.abandoned.inc();
            return;
        }
        let upstream = client.label_of(&served.upstream);
        let labels = Requests {
            upstream: Label(upstream.clone()),
            method: method_label(&served.method),
            status: status_class(served.status),
        };
        metrics.requests.get_or_create(&labels).inc();
        metrics.answered.inc();
        let upstream = OfUpstream { upstream: Label(upstream) };
        let took = served.answered.unwrap_or_else(|| served.started.elapsed());
        metrics.durations.get_or_create(&upstream).observe(took.as_secs_f64());
        if let Decision::Fault(code, side) | Decision::Cut(code, side) = served.decision {
            metrics.failed.inc();
            metrics.faults.get_or_create(&Faulted { code: Label(code), raised_by: Label(side) }).inc();
        }
    }
}

impl Client {
    /// An upstream as metrics have it: there are only so many, whatever callers name.
    fn label_of(&self, upstream: &Name) -> Name {
        let ours = self.sessions.is_some() && *upstream == session::upstream();
        let stranger = self.callers_name_upstreams && !ours && !self.asker.knows(upstream);
        if stranger { UNKNOWN.parse().expect("it is a name") } else { upstream.clone() }
    }
}

const UNKNOWN: &str = "unknown";

fn log(served: &Served) {
    tracing::info!(
        id = %served.id,
        upstream = %served.upstream,
        method = %served.method,
        status = served.status.as_u16(),
        decision = %decision(served.decision),
        detail = served.detail.as_deref(),
        agent = %served.agent.as_ref().map_or("-", ProcessId::as_str),
        ms = format_args!("{:.1}", served.started.elapsed().as_secs_f64() * 1000.0),
        bytes_in = served.bytes_in,
        bytes_out = served.bytes_out,
        peer = %served.peer,
        "request"
    );
}

fn decision(decision: Decision) -> &'static str {
    match decision {
        Decision::Response => "response",
        Decision::Hit => "hit",
        Decision::Stale => "stale",
        Decision::Revalidated => "revalidated",
        Decision::Job => "job",
        Decision::Fault(code, _) | Decision::Cut(code, _) => code.row().text,
        Decision::Abandoned => "abandoned",
    }
}
