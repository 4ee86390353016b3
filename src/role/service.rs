//! Makes a process visible as a NATS service (ADR-32): `nats micro ls`, `info`, `stats` and `relay ps` all
//! ask the same question.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::core::Role;
use crate::bus::Message;

/// What a process says of itself, in the `data` of its service statistics.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// `client`, `upstream` or `broker`.
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
    /// The subject of its endpoint, for `nats micro info`.
    #[serde(skip)]
    pub endpoint: String,
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

/// Answers `$SRV.PING`, `$SRV.INFO` and `$SRV.STATS`, for all, for the name, for the id.
///
/// # Errors
/// When the connection is closed for good.
pub async fn start<R: Role>(role: &Arc<R>) -> anyhow::Result<()> {
    let core = role.core();
    let name = role.service_name();
    let id = core.id.as_str().replace('.', "-");
    for subject in ["$SRV.*".to_owned(), format!("$SRV.*.{name}"), format!("$SRV.*.{name}.{id}")] {
        let mut questions = core.bus.subscribe(subject).await?;
        let role = Arc::clone(role);
        let (name, id) = (name.clone(), id.clone());
        tokio::spawn(async move {
            while let Some(question) = questions.next().await {
                answer(&*role, &name, &id, &question);
            }
        });
    }
    Ok(())
}

fn answer<R: Role>(role: &R, name: &str, id: &str, question: &Message) {
    let (Some(reply), Some(verb)) = (&question.reply, question.subject.split('.').nth(1)) else { return };
    let report = role.report();
    let identity = |kind| Identity {
        name,
        id,
        version: env!("CARGO_PKG_VERSION"),
        metadata: BTreeMap::from([("role", report.role.clone()), ("process", role.core().id.to_string())]),
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
        _ => return,
    };
    if let Ok(text) = text {
        role.core().publish(reply.to_string(), Bytes::from(text));
    }
}

fn started(uptime: u64) -> String {
    let now = std::time::SystemTime::now();
    let at = now.checked_sub(std::time::Duration::from_secs(uptime)).unwrap_or(now);
    humantime::format_rfc3339_seconds(at).to_string()
}
