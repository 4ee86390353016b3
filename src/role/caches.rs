//! `relay cache`: purges the caches of all client agents at once, and shows what they have and have done.

use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;

use super::inquiry;
use crate::{
    config::{CacheCommand, Operator, Purge as PurgeSettings},
    wire::{CacheStats, Purge, Purged, Subjects, codec, message::VERSION, subjects::CacheVerb},
};

/// One client agent, as `--json` prints it.
#[derive(Debug, Serialize)]
struct Row {
    process: String,
    entries: u64,
    bytes: u64,
    limit: u64,
    hits: u64,
    misses: u64,
    /// Of the requests that could be answered from the cache, the part that was.
    hit_ratio: f64,
    stale: u64,
    revalidated: u64,
    collapsed: u64,
    bypassed: u64,
    evictions: u64,
}

/// Asks what the command says.
///
/// # Errors
/// When NATS can't be reached.
pub async fn run(command: CacheCommand) -> anyhow::Result<()> {
    match command {
        CacheCommand::Purge(settings) => purge(settings).await,
        CacheCommand::Stats(settings) => {
            let answers = ask(&settings.operator, settings.timeout, CacheVerb::Stats, Bytes::new()).await?;
            let stats = answers.iter().filter_map(|answer| codec::decode::<CacheStats>(answer).ok());
            let mut rows: Vec<Row> = stats.map(row).collect();
            rows.sort_by(|a, b| a.process.cmp(&b.process));
            inquiry::print(&rows, settings.json, table)
        }
    }
}

async fn purge(settings: PurgeSettings) -> anyhow::Result<()> {
    let PurgeSettings { url, url_prefix, host, tag, all, timeout, operator } = settings;
    let purge = codec::encode(&Purge { v: VERSION, url, prefix: url_prefix, host, tag, all });
    let answers = ask(&operator, timeout, CacheVerb::Purge, purge).await?;
    let purged: Vec<u64> = answers
        .iter()
        .filter_map(|answer| codec::decode::<Purged>(answer).ok())
        .map(|purged| purged.purged)
        .collect();
    println!(
        "{} responses forgotten at {} client agents",
        purged.iter().fold(0, |sum: u64, more| sum.saturating_add(*more)),
        purged.len()
    );
    Ok(())
}

/// What every client agent answers.
async fn ask(
    operator: &Operator,
    wait: Duration,
    verb: CacheVerb,
    question: Bytes,
) -> anyhow::Result<Vec<Bytes>> {
    let asking = inquiry::connect(operator, "relay cache").await?;
    asking.ask(Subjects::new(operator.nats.prefix.clone()).cache(verb), question, wait).await
}

fn row(stats: CacheStats) -> Row {
    let asked = stats.hits.saturating_add(stats.misses);
    Row {
        process: stats.client_id.to_string(),
        entries: stats.entries,
        bytes: stats.bytes,
        limit: stats.limit,
        hits: stats.hits,
        misses: stats.misses,
        hit_ratio: if asked == 0 { 0.0 } else { stats.hits as f64 / asked as f64 },
        stale: stats.stale,
        revalidated: stats.revalidated,
        collapsed: stats.collapsed,
        bypassed: stats.bypassed,
        evictions: stats.evictions,
    }
}

fn table(rows: &[Row]) -> String {
    if rows.is_empty() {
        return "no client agent is there: start `relay client`\n".into();
    }
    let head = ["PROCESS", "ENTRIES", "BYTES", "HITS", "MISSES", "RATIO", "STALE", "EVICTIONS"];
    let mut lines = vec![head.map(String::from)];
    lines.extend(rows.iter().map(|row| {
        [
            row.process.clone(),
            row.entries.to_string(),
            format!("{}/{}", row.bytes, row.limit),
            row.hits.to_string(),
            row.misses.to_string(),
            format!("{:.1}%", row.hit_ratio * 100.0),
            row.stale.to_string(),
            row.evictions.to_string(),
        ]
    }));
    inquiry::table(&lines)
}
