//! Makes a process visible as a NATS service (ADR-32): `nats micro ls`, `info`, `stats` and `relay ps` all
//! ask the same question.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::core::Core;
use crate::{
    bus::{Message, Subscription},
    proto::claims::{Row, Standing},
};

/// What NATS sees as one service.
pub trait Service: Send + Sync + 'static {
    /// The process it runs in.
    fn process(&self) -> &Core;
    /// Its name.
    fn service_name(&self) -> String;
    /// What `relay ps` shows of it.
    fn report(&self) -> Report;
    /// The routes it claims; nothing when it is none that claims any.
    fn routes(&self) -> Option<Vec<Row>> {
        None
    }
}

/// What a process says of itself, in the `data` of its service statistics.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// `client`, `upstream`, `broker` or `socket`.
    pub role: String,
    /// The upstream it serves or asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    /// Requests in flight; at a broker, requests it watches.
    pub in_flight: u64,
    /// At most so many.
    pub limit: u64,
    /// Requests answered since the start.
    pub requests: u64,
    /// Requests that failed since the start.
    pub failed: u64,
    /// Seconds since the start.
    pub uptime: u64,
    /// Whether it takes requests.
    pub accepting: bool,
    /// Where its admin listener is found, as `host:port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin: Option<String>,
    /// What an upstream agent says besides.
    #[serde(flatten)]
    pub agent: Option<AgentReport>,
    /// The subject of its endpoint, for `nats micro info`.
    #[serde(skip)]
    pub endpoint: String,
}

impl Report {
    /// What every process says of itself: that it has `in_flight` of at most `limit` requests.
    pub fn of(core: &Core, in_flight: usize, limit: usize) -> Self {
        Report {
            role: core.role.into(),
            upstream: None,
            in_flight: in_flight as u64,
            limit: limit as u64,
            requests: core.metrics.answered.get(),
            failed: core.metrics.failed.get(),
            uptime: core.started.elapsed().as_secs(),
            accepting: !core.is_stopping(),
            admin: core.admin.get().cloned(),
            agent: None,
            endpoint: core.subjects.inbox(&core.id),
        }
    }
}

/// What an upstream agent says of itself besides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentReport {
    /// `accepting`, `full`, `unhealthy`, `standby`, `joining` or `draining`.
    pub state: String,
    /// Whether it accepts requests although its origin cannot be reached.
    pub failing: bool,
    /// Microseconds that a response typically takes it, once that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<u64>,
    /// Its share beside the other agents' shares.
    pub weight: u64,
    /// The variant of the upstream that it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Routes it claims.
    pub routes: u64,
    /// Outside hosts that it calls, when it is an egress agent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
}

#[derive(Serialize)]
struct Identity<'a> {
    name: &'a str,
    id: &'a str,
    version: &'static str,
    metadata: BTreeMap<&'static str, String>,
    r#type: &'static str,
}

#[derive(Serialize)]
struct Info<'a> {
    #[serde(flatten)]
    identity: Identity<'a>,
    description: String,
    endpoints: Vec<EndpointInfo<'a>>,
}

#[derive(Serialize)]
struct EndpointInfo<'a> {
    name: &'a str,
    subject: &'a str,
    queue_group: &'static str,
    metadata: BTreeMap<&'static str, String>,
}

#[derive(Serialize)]
struct Stats<'a> {
    #[serde(flatten)]
    identity: Identity<'a>,
    started: String,
    endpoints: Vec<EndpointStats<'a>>,
}

#[derive(Serialize)]
struct EndpointStats<'a> {
    name: &'a str,
    subject: &'a str,
    queue_group: &'static str,
    num_requests: u64,
    num_errors: u64,
    last_error: &'static str,
    processing_time: u64,
    average_processing_time: u64,
    data: &'a Report,
}

/// The routes of one upstream agent: the answer to `$SRV.ROUTES`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Routes {
    /// The service.
    pub name: String,
    /// The service's id.
    pub id: String,
    /// The process.
    pub process: String,
    /// The upstream.
    pub upstream: String,
    /// What it claims.
    pub routes: Vec<Claimed>,
}

/// One route in [`Routes`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Claimed {
    /// The route.
    pub route: String,
    /// Whether its path is stripped from the requests.
    pub strip: bool,
    /// `served`, `taken` or `refused`.
    pub standing: String,
    /// The upstream that has it instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why it is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl From<Row> for Claimed {
    fn from(row: Row) -> Self {
        let (standing, by, why) = match row.standing {
            Standing::Served => (SERVED, None, None),
            Standing::Taken { by } => ("taken", Some(by.to_string()), None),
            Standing::Refused { why } => ("refused", None, Some(why)),
        };
        Claimed { route: row.route.to_string(), strip: row.strip, standing: standing.into(), by, why }
    }
}

/// Answers `$SRV.PING`, `$SRV.INFO`, `$SRV.STATS` and `$SRV.ROUTES`, for all, for the name, for the id, until
/// what is returned is dropped.
///
/// # Errors
/// When the connection is closed for good.
pub async fn start<S: Service>(service: &Arc<S>) -> anyhow::Result<JoinSet<()>> {
    let core = service.process();
    let name = service.service_name();
    let id = core.id.as_str().replace('.', "-");
    let mut tasks = JoinSet::new();
    for subject in ["$SRV.*".to_owned(), format!("$SRV.*.{name}"), format!("$SRV.*.{name}.{id}")] {
        let questions = core.bus.subscribe(subject).await?;
        tasks.spawn(answer_all(Arc::clone(service), name.clone(), id.clone(), questions));
    }
    Ok(tasks)
}

async fn answer_all<S: Service>(service: Arc<S>, name: String, id: String, mut questions: Subscription) {
    while let Some(question) = questions.next().await {
        answer(&*service, &name, &id, &question);
    }
}

fn answer<S: Service>(service: &S, name: &str, id: &str, question: &Message) {
    let Some(verb) = question.subject.split('.').nth(1) else { return };
    let core = service.process();
    let report = service.report();
    let identity = |kind| Identity {
        name,
        id,
        version: env!("CARGO_PKG_VERSION"),
        metadata: BTreeMap::from([("role", report.role.clone()), ("process", core.id.to_string())]),
        r#type: kind,
    };
    let text = match verb {
        "PING" => serde_json::to_vec(&identity("io.nats.micro.v1.ping_response")),
        "INFO" => serde_json::to_vec(&Info {
            identity: identity("io.nats.micro.v1.info_response"),
            description: format!("relay {}", report.role),
            endpoints: vec![EndpointInfo {
                name: "requests",
                subject: &report.endpoint,
                queue_group: "relay",
                metadata: BTreeMap::new(),
            }],
        }),
        "STATS" => serde_json::to_vec(&Stats {
            identity: identity("io.nats.micro.v1.stats_response"),
            started: started(report.uptime),
            endpoints: vec![EndpointStats {
                name: "requests",
                subject: &report.endpoint,
                queue_group: "relay",
                num_requests: report.requests,
                num_errors: report.failed,
                last_error: "",
                processing_time: 0,
                average_processing_time: 0,
                data: &report,
            }],
        }),
        "ROUTES" => {
            for text in routes(service, name, id, report.upstream) {
                core.answer(question, Bytes::from(text));
            }
            return;
        }
        _ => return,
    };
    if let Ok(text) = text {
        core.answer(question, Bytes::from(text));
    }
}

/// The routes, so many in a message as surely fit.
fn routes<S: Service>(service: &S, name: &str, id: &str, upstream: Option<String>) -> Vec<Vec<u8>> {
    let (Some(rows), Some(upstream)) = (service.routes(), upstream) else { return Vec::new() };
    let message = |rows: &[Row]| Routes {
        name: name.to_owned(),
        id: id.to_owned(),
        process: service.process().id.to_string(),
        upstream: upstream.clone(),
        routes: rows.iter().cloned().map(Claimed::from).collect(),
    };
    rows.chunks(ROUTES_OF_MESSAGE).filter_map(|rows| serde_json::to_vec(&message(rows)).ok()).collect()
}

fn started(uptime: u64) -> String {
    let now = std::time::SystemTime::now();
    let at = now.checked_sub(std::time::Duration::from_secs(uptime)).unwrap_or(now);
    humantime::format_rfc3339_seconds(at).to_string()
}

/// The standing of a claim whose requests come.
pub const SERVED: &str = "served";
/// A route takes 800 bytes at most; NATS takes messages of 1 MiB, if it is not told otherwise.
const ROUTES_OF_MESSAGE: usize = 500;
