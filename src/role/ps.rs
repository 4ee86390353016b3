//! `relay ps`: asks every process what it is and what it does.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{inquiry, service::Report};
use crate::{bus::Bus, config::Inquiry as Settings};

#[derive(Deserialize)]
struct Stats {
    name: String,
    version: String,
    metadata: Option<BTreeMap<String, String>>,
    endpoints: Option<Vec<Endpoint>>,
}

#[derive(Deserialize)]
struct Endpoint {
    data: Option<serde_json::Value>,
}

/// One process, as `--json` prints it.
#[derive(Debug, Serialize)]
pub struct Row {
    /// Its id.
    pub process: String,
    /// The program's version.
    pub version: String,
    /// What it says of itself.
    #[serde(flatten)]
    pub report: Report,
}

/// Prints who is there.
///
/// # Errors
/// When NATS can't be reached.
pub async fn run(settings: Settings) -> anyhow::Result<()> {
    let asking = inquiry::connect(&settings.operator, "relay ps").await?;
    let rows = rows(&asking.ask(QUESTION.into(), Bytes::new(), settings.timeout).await?);
    inquiry::print(&rows, settings.json, table)
}

/// What everybody says of himself.
///
/// # Errors
/// When the question can't be sent.
pub async fn ask(bus: &Bus, wait: Duration) -> anyhow::Result<Vec<Row>> {
    let asked = inquiry::ask(bus, None, QUESTION.into(), Bytes::new(), wait).await?;
    Ok(rows(&asked.answers))
}

fn rows(answers: &[Bytes]) -> Vec<Row> {
    let mut rows: Vec<Row> = answers.iter().filter_map(|answer| row(answer)).collect();
    rows.sort_by(|a, b| key(a).cmp(&key(b)));
    rows
}

fn row(payload: &[u8]) -> Option<Row> {
    let stats: Stats =
        serde_json::from_slice(payload).ok().filter(|s: &Stats| s.name.starts_with("relay-"))?;
    let data = stats.endpoints?.into_iter().next()?.data?;
    let process = stats.metadata?.remove("process")?;
    Some(Row { process, version: stats.version, report: serde_json::from_value(data).ok()? })
}

fn key(row: &Row) -> (&str, &str, &str) {
    (&row.report.role, row.report.upstream.as_deref().unwrap_or_default(), &row.process)
}

fn table(rows: &[Row]) -> String {
    if rows.is_empty() {
        return "nobody is there: start `relay client`, `relay upstream` and `relay broker`\n".into();
    }
    let mut lines = vec![
        [
            "ROLE",
            "UPSTREAM",
            "PROCESS",
            "STATE",
            "IN FLIGHT",
            "REQUESTS",
            "FAILED",
            "RESPONSE",
            "WEIGHT",
            "UP",
            "VERSION",
        ]
        .map(String::from),
    ];
    for Row { process, version, report } in rows {
        lines.push([
            report.role.clone(),
            upstream(report),
            process.clone(),
            state(report),
            format!("{}/{}", report.in_flight, report.limit),
            report.requests.to_string(),
            report.failed.to_string(),
            response(report),
            report.agent.as_ref().map_or_else(nothing, |agent| agent.weight.to_string()),
            humantime::format_duration(Duration::from_secs(report.uptime)).to_string(),
            version.clone(),
        ]);
    }
    inquiry::table(&lines)
}

fn upstream(report: &Report) -> String {
    let variant = report.agent.as_ref().and_then(|agent| agent.variant.as_ref());
    match (&report.upstream, variant) {
        (Some(upstream), Some(variant)) => format!("{upstream} ({variant})"),
        (Some(upstream), None) => upstream.clone(),
        (None, _) => nothing(),
    }
}

fn state(report: &Report) -> String {
    match &report.agent {
        Some(agent) if agent.failing => format!("{}, failing", agent.state),
        Some(agent) => agent.state.clone(),
        None if report.accepting => nothing(),
        None => "stopping".into(),
    }
}

/// What a response typically takes.
fn response(report: &Report) -> String {
    match report.agent.as_ref().and_then(|agent| agent.response) {
        Some(micros) => format!("{:.1}ms", micros as f64 / 1e3),
        None => nothing(),
    }
}

fn nothing() -> String {
    "-".into()
}

/// What every process is asked, on this subject.
pub const QUESTION: &str = "$SRV.STATS";
