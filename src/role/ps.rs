//! `relay ps`: asks every process what it is and what it does.

use std::{collections::BTreeMap, fmt::Write, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::service::Report;
use crate::{
    bus::{Bus, Event},
    config::Ps as Settings,
};

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
struct Row {
    process: String,
    version: String,
    #[serde(flatten)]
    report: Report,
}

/// Prints who is there.
///
/// # Errors
/// When NATS can't be reached.
pub async fn run(settings: Settings) -> anyhow::Result<()> {
    let credentials = settings.nats.credentials("relay ps".into())?;
    let (bus, mut events) = Bus::connect(&credentials).await?;
    let connected = async {
        while let Some(event) = events.recv().await {
            match event {
                Event::Connected => return Ok(()),
                Event::LoginRefused(why) | Event::Trouble(why) => {
                    anyhow::bail!("cannot connect to NATS at {}: {why}", credentials.servers)
                }
                Event::Unreachable(what) => {
                    let why = bus.why_unreachable().await.unwrap_or(what);
                    anyhow::bail!("cannot connect to NATS at {}: {why}", credentials.servers)
                }
                _ => {}
            }
        }
        Ok(())
    };
    let late =
        || anyhow::anyhow!("cannot reach NATS at {}: is it running? set --server", credentials.servers);
    timeout(CONNECT, connected).await.map_err(|_| late())??;
    let rows = ask(&bus, settings.timeout).await?;
    let text = if settings.json { serde_json::to_string_pretty(&rows)? + "\n" } else { table(&rows) };
    print!("{text}");
    Ok(())
}

async fn ask(bus: &Bus, wait: Duration) -> anyhow::Result<Vec<Row>> {
    let inbox = bus.new_inbox();
    let mut answers = bus.subscribe(inbox.clone()).await?;
    bus.ask("$SRV.STATS".into(), inbox, Bytes::new())?;
    let mut rows = Vec::new();
    // Everybody answers at once; the wait ends when nobody has for that long.
    while let Ok(Some(answer)) = timeout(wait, answers.next()).await {
        if answer.nobody {
            break;
        }
        rows.extend(row(&answer.payload));
    }
    rows.sort_by(|a, b| key(a).cmp(&key(b)));
    Ok(rows)
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
        ["ROLE", "UPSTREAM", "PROCESS", "IN FLIGHT", "REQUESTS", "FAILED", "UP", "VERSION", ""]
            .map(String::from),
    ];
    for Row { process, version, report } in rows {
        lines.push([
            report.role.clone(),
            report.upstream.clone().unwrap_or_else(|| "-".into()),
            process.clone(),
            format!("{}/{}", report.in_flight, report.limit),
            report.requests.to_string(),
            report.failed.to_string(),
            humantime::format_duration(Duration::from_secs(report.uptime)).to_string(),
            version.clone(),
            if report.accepting { "" } else { "not accepting" }.into(),
        ]);
    }
    let width = |column: usize| lines.iter().map(|line| line[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..lines[0].len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let cells = line.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        // Writing to a String can't fail.
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

const CONNECT: Duration = Duration::from_secs(5);
