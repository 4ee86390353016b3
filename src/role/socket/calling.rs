//! Requests on their way: straight to their servers, or over NATS to upstream agents. Responses are gathered whole.

use std::{sync::Arc, time::Duration};

use http::{HeaderValue, StatusCode, header};

use super::table::{Table, Way};
use crate::{
    config::requests::Definition,
    front::lines::{Call, Came, Closed, End, Prepared, Refused, Served},
    origin::{self, Origin, Outgoing},
    role::{asker::Asker, core::Core},
    stream::{
        collector::{Collected, Collector, Rules, Uncollected},
        memory::{Budget, Share},
    },
    sync::RwLock,
    telemetry::{Faulted, Label, LineRefused, Named, NamedEnd, SocketClosed},
    wire::{Code, Fault, Headers, Name, Request, Side},
};

/// What responses are held to.
pub struct Limits {
    /// The memory of all of them.
    pub budget: Budget,
    /// Bytes of one at most, where its request says nothing else.
    pub max_response: usize,
}

/// Issues requests.
pub struct Calling {
    core: Arc<Core>,
    asker: Arc<Asker>,
    table: RwLock<Arc<Table>>,
    limits: Limits,
    access_log: bool,
}

impl Calling {
    /// Issues what `table` has.
    pub fn new(core: Arc<Core>, asker: Arc<Asker>, table: Table, limits: Limits, access_log: bool) -> Self {
        Calling { core, asker, table: RwLock::new(Arc::new(table)), limits, access_log }
    }

    /// What may be named now.
    pub fn table(&self) -> Arc<Table> {
        Arc::clone(&self.table.read())
    }

    /// From now on, `table` is what may be named; requests in flight go on as they began.
    pub fn change(&self, table: Table) {
        *self.table.write() = Arc::new(table);
    }

    /// Closes idle connections, as long as it is polled.
    pub async fn close_idle(self: Arc<Self>) {
        let mut tick = tokio::time::interval(CLOSE_IDLE);
        loop {
            tick.tick().await;
            self.table().close_idle();
        }
    }

    /// For a response of which `announced` bytes are announced, if any are.
    fn collector(&self, most: usize, announced: Option<u64>) -> Collector<Share> {
        Collector::new(Rules { most, announced, pause: None }, self.limits.budget.share())
    }

    async fn straight(&self, origin: &Origin, prepared: Prepared) -> Result<Came, Fault> {
        let Prepared { method, url, headers, body, timeout: _, max_response } = prepared;
        let body = Outgoing::Whole { body, trailers: None };
        let mut answer =
            origin.call(origin::Call { method, url: url.into(), headers, upgrade: None, body }, None).await?;
        let most = max_response.unwrap_or(self.limits.max_response);
        let collector = self.collector(most, answer.body.size_hint().exact());
        let kind = answer.headers.get(header::CONTENT_TYPE).cloned();
        came(answer.status, kind, most, collector.all(&mut answer.body).await)
    }

    async fn over_nats(&self, upstream: Name, prepared: Prepared) -> Result<Came, Fault> {
        let Prepared { method, url, mut headers, body, timeout, max_response } = prepared;
        let id = self.asker.mint(&upstream);
        if body.len() > self.asker.inline() {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        }
        let request = Request::new(self.core.id.clone(), id, upstream, timeout);
        let request = Request { method, url: url.into(), headers, body, ..request };
        // It counts as in flight until it has been read.
        let mut arriving = self.asker.ask_with_body(request).await?;
        let reply = &mut arriving.reply;
        let most = max_response.unwrap_or(self.limits.max_response);
        let first = reply.body.take().unwrap_or_default();
        let status = reply.status_code.unwrap_or(StatusCode::BAD_GATEWAY);
        let kind = reply.headers.get(header::CONTENT_TYPE).cloned();
        let mut collector = self.collector(most, declared(&reply.headers));
        let collected = match (collector.push(first), &mut arriving.rest) {
            (Err(why), _) => Err(why),
            (Ok(()), Some(rest)) => collector.all(rest).await,
            (Ok(()), None) => collector.collected(),
        };
        came(status, kind, most, collected)
    }
}

/// What comes of a response that was collected, or not.
fn came(
    status: StatusCode,
    content_type: Option<HeaderValue>,
    most: usize,
    collected: Result<Collected<Share>, Uncollected<Fault>>,
) -> Result<Came, Fault> {
    let Collected { bytes, hold, .. } = collected.map_err(|why| {
        why.fault(|| {
            let detail = format!("the response has more than {most} bytes, the limit of max-response");
            Fault::new(Code::ResponseTooLarge, Side::Client, detail)
        })
    })?;
    Ok(Came { status, content_type, body: bytes, share: hold })
}

impl Call for Calling {
    type Way = Way;

    fn find(&self, name: &str) -> Option<(Arc<Definition>, Way)> {
        self.table().find(name)
    }

    async fn call(&self, way: Way, prepared: Prepared) -> Result<Came, Fault> {
        match way {
            Way::Straight(origin) => self.straight(&origin, prepared).await,
            Way::Upstream(upstream) => self.over_nats(upstream, prepared).await,
        }
    }

    fn served(&self, served: &Served) {
        if self.access_log {
            log(served);
        }
        let metrics = &self.core.metrics;
        if served.end == End::Abandoned {
            metrics.abandoned.inc();
            return;
        }
        let request = served.definition.name.clone();
        let status = if served.end == End::Ok { "ok" } else { "error" };
        metrics.named_requests.get_or_create(&NamedEnd { request: request.clone(), status }).inc();
        metrics.named_durations.get_or_create(&Named { request }).observe(served.took.as_secs_f64());
        metrics.answered.inc();
        if served.end != End::Ok {
            metrics.failed.inc();
        }
        if let End::Fault(fault) = &served.end {
            let labels = Faulted { code: Label(fault.code), raised_by: Label(fault.raised_by) };
            metrics.faults.get_or_create(&labels).inc();
        }
    }

    fn refused(&self, why: Refused) {
        self.core.metrics.lines_refused.get_or_create(&LineRefused { reason: why.as_str() }).inc();
    }

    fn closed(&self, why: Closed) {
        self.core.metrics.sockets_closed.get_or_create(&SocketClosed { reason: why.as_str() }).inc();
        if why == Closed::SlowReader {
            tracing::debug!("a connection took nothing of its replies and was closed");
        }
    }
}

/// Who asked what, and what it came to: neither parameters nor data.
fn log(served: &Served) {
    let decision = match &served.end {
        End::Ok => "response",
        End::Unexpected => "unexpected_status",
        End::Unreadable => "bad_response",
        End::Fault(fault) => fault.code.row().text,
        End::Cancelled => "cancelled",
        End::Stopped => "shutdown",
        End::Abandoned => "abandoned",
    };
    tracing::info!(
        connection = served.connection,
        id = served.id,
        request = served.definition.name,
        status = if served.end == End::Ok { "ok" } else { "error" },
        decision,
        http_status = served.status.map(|status| status.as_u16()),
        ms = format_args!("{:.1}", served.took.as_secs_f64() * 1000.0),
        peer = %served.peer,
        "request"
    );
}

/// The length that a response tells.
fn declared(headers: &Headers) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

const CLOSE_IDLE: Duration = Duration::from_secs(5);
